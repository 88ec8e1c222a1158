//! Phase and conditions: short, for people, and the same for as long as nothing changes.

use std::collections::BTreeMap;

use super::tally::{FailingPair, Tally};
use crate::cluster::CachedImage;
use crate::status::{Condition, ConditionStatus, PULL_PROGRESS, Phase, READY};
use crate::survey::{ImageFacts, Survey};
use crate::waiting::WaitReason;

/// What a condition says.
struct Saying {
    status: ConditionStatus,
    reason: String,
    message: String,
}

fn saying(status: ConditionStatus, reason: &str, message: String) -> Saying {
    Saying { status, reason: reason.to_owned(), message }
}

pub(super) fn phase(image: &CachedImage, tally: &Tally<'_>) -> Phase {
    if image.problem.is_some() {
        Phase::Degraded
    } else if tally.targeted == 0 {
        Phase::Pending
    } else if tally.missing() == 0 {
        Phase::Ready
    } else if tally.failures.iter().any(|failing| !failing.cached) {
        Phase::Degraded
    } else if tally.pulling > 0 || tally.ready > 0 {
        Phase::Pulling
    } else {
        Phase::Pending
    }
}

/// The conditions, with the times at which their status last changed.
pub(super) fn conditions(
    survey: &Survey<'_>,
    facts: &ImageFacts<'_>,
    tally: &Tally<'_>,
    phase: Phase,
) -> Vec<Condition> {
    let stored = &facts.image.status;
    let ours = [(READY, ready(survey, facts, tally)), (PULL_PROGRESS, progress(tally, phase))];
    let mut conditions: Vec<Condition> = ours
        .into_iter()
        .map(|(kind, saying)| Condition {
            kind: kind.to_owned(),
            status: saying.status,
            reason: saying.reason,
            message: saying.message,
            observed_generation: Some(facts.image.generation),
            last_transition_time: stored
                .condition(kind)
                .filter(|stored| stored.status == saying.status)
                .map_or(survey.now.wall, |stored| stored.last_transition_time),
        })
        .collect();
    let others = stored.conditions.iter().filter(|c| ![READY, PULL_PROGRESS].contains(&c.kind.as_str()));
    conditions.extend(others.cloned());
    conditions
}

fn ready(survey: &Survey<'_>, facts: &ImageFacts<'_>, tally: &Tally<'_>) -> Saying {
    let image = facts.image;
    if let Some(problem) = &image.problem {
        return saying(ConditionStatus::False, WaitReason::InvalidSpec.as_str(), problem.clone());
    }
    let policy = policy_problem(survey, facts);
    if tally.targeted == 0 {
        let text = "no node matches nodeSelector and tolerations".to_owned();
        return saying(ConditionStatus::False, "NoTargets", text);
    }
    let (ready, targeted) = (tally.ready, tally.targeted);
    if tally.missing() == 0 {
        let mut text = format!("cached on {}", nodes(ready));
        if let Some(failing) = most_frequent(tally, true) {
            let on = nodes(super::count(tally.failures.len()));
            text = format!("{text}; the latest check failed on {on}: {}", failing.failure.message);
        }
        if let Some((_, problem)) = policy {
            text = format!("{text}; {problem}");
        }
        return saying(ConditionStatus::True, "Cached", text);
    }
    let so_far = format!("{ready}/{targeted} nodes have the image");
    if let Some((reason, problem)) = policy {
        return saying(ConditionStatus::False, reason, format!("{so_far}; {problem}"));
    }
    if let Some(failing) = most_frequent(tally, false) {
        let node = survey.nodes.get(failing.node).map_or("", |facts| facts.node.name.as_str());
        let text = format!("{so_far}; {node}: {}", failing.failure.message);
        return saying(ConditionStatus::False, failing.failure.reason.as_str(), text);
    }
    if let Some((reason, text)) = blocked(tally) {
        return saying(ConditionStatus::False, reason, format!("{so_far}; {text}"));
    }
    saying(ConditionStatus::False, "InProgress", so_far)
}

fn progress(tally: &Tally<'_>, phase: Phase) -> Saying {
    let (ready, targeted) = (tally.ready, tally.targeted);
    if tally.pulling > 0 {
        let text = format!("pulling on {}, {ready}/{targeted} done", nodes(tally.pulling));
        return saying(ConditionStatus::True, "Pulling", text);
    }
    let (reason, text) = match phase {
        Phase::Ready => ("Complete", "all nodes have the image".to_owned()),
        Phase::Degraded => ("Stalled", format!("waiting to try again, {ready}/{targeted} done")),
        Phase::Pending | Phase::Pulling => {
            ("Idle", format!("nothing is being pulled, {ready}/{targeted} done"))
        }
    };
    saying(ConditionStatus::False, reason, text)
}

/// What is wrong with the image's PullPolicy.
fn policy_problem(survey: &Survey<'_>, facts: &ImageFacts<'_>) -> Option<(&'static str, String)> {
    let pacing = survey.pacings.all.get(facts.pacing)?;
    let reason = pacing.obstacle?;
    let name = pacing.name;
    let text = match pacing.object.and_then(|policy| policy.problem.as_ref()) {
        Some(problem) => format!("PullPolicy {name}: {problem}"),
        None => format!("PullPolicy {name} does not exist: create it or change policyRef"),
    };
    Some((reason.as_str(), text))
}

/// A failure of the most frequent reason, on the first node that has it.
fn most_frequent<'t, 'w>(tally: &'t Tally<'w>, cached: bool) -> Option<&'t FailingPair<'w>> {
    let mut counts = BTreeMap::new();
    for failing in tally.failures.iter().filter(|failing| failing.cached == cached) {
        *counts.entry(failing.failure.reason).or_insert(0_u32) += 1;
    }
    let (reason, _) = counts.into_iter().rev().max_by_key(|(_, count)| *count)?;
    tally.failures.iter().find(|failing| failing.cached == cached && failing.failure.reason == reason)
}

/// What keeps all nodes that lack the image from getting it, where it is not going to pass by itself.
fn blocked(tally: &Tally<'_>) -> Option<(&'static str, String)> {
    if tally.pulling > 0 {
        return None;
    }
    let text = |reason: &str| {
        Some(match reason {
            "ErrImageNeverPull" => "imagePullPolicy is Never, and nobody else has pulled it",
            "LeasePending" => "the others have no node Lease yet",
            "AgentNotReady" => "the others have no ready agent",
            "ReportUnreadable" => "reports of the others can't be read: upgrade the coordinator",
            "ReportFull" => "more images are wanted than a node's report can hold",
            "CatalogFull" => "more images are wanted than the catalog can hold",
            "LowDisk" => "the others have too little free disk space",
            "PullSecretsPending" => {
                "agents may not read its imagePullSecrets: the Role drop-agent-pull-secrets does not name them yet"
            }
            "NotAnswering" => "the others do not take their grants",
            _ => return None,
        })
    };
    if !tally.reasons.keys().all(|reason| text(reason).is_some()) {
        return None;
    }
    let (reason, _) = tally.reasons.iter().rev().max_by_key(|(_, reason)| reason.nodes)?;
    Some((*reason, text(reason)?.to_owned()))
}

fn nodes(n: u32) -> String {
    if n == 1 { "1 node".to_owned() } else { format!("{n} nodes") }
}
