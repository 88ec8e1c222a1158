//! What keeps nodes from an image and does not pass by itself: in words that name one of them and the cure.

use super::tally::{Reason, Tally};
use super::words::{listed, nodes_like};
use crate::policy::Pacing;
use crate::pull_secrets;
use crate::survey::{ImageFacts, Survey};
use crate::waiting::WaitReason;

/// The obstacle of most nodes, if there is any.
pub(super) fn of_most(tally: &Tally<'_>) -> Option<Reason> {
    let obstacles = tally.reasons.values().rev().filter(|reason| !passes(reason.why));
    obstacles.max_by_key(|reason| reason.nodes).copied()
}

/// Whether nodes wait for nothing but obstacles.
pub(super) fn is_all(tally: &Tally<'_>) -> bool {
    tally.reasons.values().all(|reason| !passes(reason.why))
}

/// Whether waiting for this is part of an ordinary rollout.
const fn passes(why: WaitReason) -> bool {
    why.is_in_line() || matches!(why, WaitReason::NotYetAnswered | WaitReason::CheckingRegistry)
}

/// An obstacle in words.
pub(super) fn text(survey: &Survey<'_>, facts: &ImageFacts<'_>, obstacle: Reason) -> String {
    let one = obstacle.nodes == 1;
    let node = survey.nodes.get(obstacle.first);
    let name = node.map_or("", |node| node.name);
    let who = nodes_like(obstacle.nodes, name);
    let has = if one { "has" } else { "have" };
    match obstacle.why {
        WaitReason::ErrImageNeverPull => {
            let lack = if one { "lacks" } else { "lack" };
            format!("{who} {lack} it, and nothing is pulled: imagePullPolicy is Never")
        }
        WaitReason::LeasePending => format!("{who} {has} no node Lease yet: the coordinator creates it"),
        WaitReason::AgentNotReady => format!("{who} {has} no ready agent: see the drop-agent Pod there"),
        WaitReason::ReportUnreadable => {
            format!(
                "{who} {has} a report that can't be read: bring coordinator and agents to the same release"
            )
        }
        WaitReason::ReportFull => {
            format!("{who} {has} no room for it in the report: cache fewer images there")
        }
        WaitReason::CatalogFull => {
            "the catalog has no room for it: cache fewer images, or under shorter names".to_owned()
        }
        WaitReason::LowDisk => match node.and_then(|node| node.report?.low_disk) {
            Some(disk) if one => format!(
                "{name} has {}% of its image file system free, and pulls start at {}%: free some space there",
                disk.free_percent, disk.wanted_percent
            ),
            Some(disk) => format!(
                "{who} have less than {}% of their image file systems free: free some space there",
                disk.wanted_percent
            ),
            None => format!("{who} {has} too little free disk space: free some there"),
        },
        WaitReason::PullSecretsPending => {
            let secrets = listed(pull_secrets::pending(&survey.world.cluster, facts.image));
            format!("agents may not read Secrets {secrets} yet: their Role is about to name them")
        }
        WaitReason::NotAnswering { .. } => {
            let take = if one {
                "does not take its grants, or gives them back undone"
            } else {
                "do not take their grants, or give them back undone"
            };
            format!("{who} {take}: see the log of the drop-agent Pod there")
        }
        WaitReason::InvalidSpec => facts.image.problem.clone().unwrap_or_default(),
        WaitReason::PolicyNotFound | WaitReason::InvalidPolicy => {
            survey.pacings.all.get(facts.pacing).and_then(policy).unwrap_or_default()
        }
        why => format!("{who} {has} to wait: {}", why.as_str()),
    }
}

/// What is wrong with a PullPolicy, if anything is.
pub(super) fn policy(pacing: &Pacing<'_>) -> Option<String> {
    pacing.obstacle?;
    let name = pacing.name;
    Some(match pacing.object.and_then(|policy| policy.problem.as_ref()) {
        Some(problem) => format!("PullPolicy {name}: {problem}"),
        None => format!("PullPolicy {name} does not exist: create it, or change policyRef"),
    })
}
