//! Pieces of what conditions and events say.

use std::collections::BTreeMap;

use drop_protocol::ImagePullPolicy;

use super::tally::Tally;
use crate::status::reason;
use crate::survey::{ImageFacts, Survey};
use crate::targets;
use crate::waiting::WaitReason;

/// So many names are listed.
const NAMES: usize = 3;

pub(super) fn nodes(n: u32) -> String {
    if n == 1 { "1 node".to_owned() } else { format!("{n} nodes") }
}

/// So many nodes, of which this is one.
pub(super) fn nodes_like(n: u32, name: &str) -> String {
    if n == 1 { name.to_owned() } else { format!("{}, {name} for one,", nodes(n)) }
}

/// The first of these names.
pub(super) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<&str> = names.by_ref().take(NAMES).collect();
    let more = names.count();
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{and_more}", first.join(", "))
}

/// Why no node is to have the image.
pub(super) fn no_targets(survey: &Survey<'_>, facts: &ImageFacts<'_>) -> String {
    let image = facts.image;
    let policy = survey.pacings.all.get(facts.pacing).and_then(|pacing| pacing.object);
    let whose =
        policy.map_or(String::new(), |policy| format!(" of the image or of PullPolicy {}", policy.name));
    if survey.nodes.is_empty() {
        return "the cluster has no Linux node".to_owned();
    }
    let selected = survey.nodes.iter().find(|node| targets::is_selected(image, policy, node.node));
    let Some(selected) = selected.map(|selected| selected.node) else {
        let of_policy = policy.into_iter().flat_map(|policy| &policy.node_selector);
        let labels: Vec<String> = image
            .node_selector
            .iter()
            .chain(of_policy)
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let labels = listed(labels.iter().map(String::as_str));
        return format!("no node has the labels that nodeSelector{whose} asks for: {labels}");
    };
    let taint = targets::repelling_taint(image, policy, selected).map_or("", |taint| taint.key.as_str());
    let name = &selected.name;
    format!("tolerations{whose} don't cover the taints of any selected node: {name} has {taint}")
}

/// How many nodes hold something older than the newest digest, and what becomes of it if not a new pull.
pub(super) fn older_digests(survey: &Survey<'_>, facts: &ImageFacts<'_>) -> String {
    let older: u32 = facts.digests.held.iter().skip(1).map(|(_, nodes)| nodes).sum();
    if older == 0 {
        return String::new();
    }
    let holds = if older == 1 { "holds" } else { "hold" };
    let repull = survey.pacings.all.get(facts.pacing).is_some_and(|pacing| pacing.repull.is_some());
    let stays = match facts.image.pull_policy {
        ImagePullPolicy::IfNotPresent if repull => "",
        ImagePullPolicy::Always => "",
        ImagePullPolicy::IfNotPresent => ", and keeps it under IfNotPresent",
        ImagePullPolicy::Never => ", and keeps it under Never",
    };
    let stays = if older == 1 { stays.to_owned() } else { stays.replace("keeps", "keep") };
    format!("; {older} of them {holds} an older digest{stays}")
}

/// Nodes that have not been heard of since the reference was listed.
pub(super) fn unanswered(tally: &Tally<'_>) -> String {
    let unanswered = tally.reasons.get(WaitReason::NotYetAnswered.as_str());
    unanswered.map_or(String::new(), |reason| {
        let have = if reason.nodes == 1 { "has" } else { "have" };
        format!("; {} {have} not said yet what is there", nodes(reason.nodes))
    })
}

/// A reason for all failures on nodes that have the image, or on those that lack it, and what they say: the reason that
/// most of them share, and the message on the first node that has the most frequent one.
pub(super) fn failed(survey: &Survey<'_>, tally: &Tally<'_>, cached: bool) -> Option<(&'static str, String)> {
    let failures = || tally.failures.iter().filter(|failing| failing.cached == cached);
    let mut counts = BTreeMap::new();
    for failing in failures() {
        *counts.entry(failing.failure.reason).or_insert(0_usize) += 1;
    }
    let all = counts.values().sum::<usize>();
    let (&most, &count) = counts.iter().rev().max_by_key(|(_, count)| **count)?;
    let failing = failures().find(|failing| failing.failure.reason == most)?;
    let name = survey.nodes.get(failing.node).map_or("", |facts| facts.node.name.as_str());
    let reason = if count * 2 > all { most.as_str() } else { reason::PULL_FAILED };
    let on = nodes_like(super::count(all), name);
    Some((reason, format!("failed on {}: {}", on.trim_end_matches(','), failing.failure.message)))
}
