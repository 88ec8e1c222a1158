//! Which differences of a status are worth a write, and which can wait.

use super::*;
use crate::status::{Condition, ConditionStatus};
use jiff::Timestamp;

type Change = fn(&mut ImageStatus);

fn condition(kind: &str) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: ConditionStatus::False,
        reason: "InProgress".to_owned(),
        message: String::new(),
        observed_generation: Some(1),
        last_transition_time: Timestamp::UNIX_EPOCH,
    }
}

/// Five nodes: two have the image, one pulls it, two wait.
fn rollout() -> ImageStatus {
    ImageStatus {
        observed_generation: Some(1),
        phase: Some(Phase::Pulling),
        ready: "2/5".to_owned(),
        nodes_targeted: 5,
        nodes_ready: 2,
        nodes_pulling: 1,
        nodes_waiting: 2,
        waiting: vec![WaitingNodes { reason: "WaitingForSlot".to_owned(), nodes: 2 }],
        conditions: vec![condition(status::READY), condition(status::PULL_PROGRESS)],
        ..ImageStatus::default()
    }
}

fn after(change: Change) -> ImageStatus {
    let mut status = rollout();
    change(&mut status);
    status
}

/// What comes and goes while nodes pull.
const FLICKERS: [Change; 6] = [
    |status| status.phase = Some(Phase::Pending),
    |status| status.nodes_pulling = 0,
    |status| status.nodes_failing = 1,
    |status| status.nodes_waiting = 3,
    |status| status.waiting.clear(),
    |status| status.conditions[1].message = "3 nodes left".to_owned(),
];

/// What people wait for.
const NEWS: [Change; 15] = [
    |status| status.observed_generation = Some(2),
    |status| status.phase = Some(Phase::Degraded),
    |status| status.ready = "5".to_owned(),
    |status| status.resolved_digest = Some("sha256:one".to_owned()),
    |status| status.nodes_targeted = 6,
    |status| status.nodes_ready = 3,
    |status| status.consecutive_failures = 1,
    |status| status.last_pulled_at = Some(Timestamp::UNIX_EPOCH),
    |status| status.last_attempted_at = Some(Timestamp::UNIX_EPOCH),
    |status| status.failed_nodes.push(FailedNode::default()),
    |status| status.failed_nodes_total = 1,
    |status| status.digests.push(DigestNodes::default()),
    |status| status.digests_total = 1,
    |status| status.conditions[0].reason = "NotFound".to_owned(),
    |status| status.conditions[1].kind = "Audited".to_owned(),
];

#[test]
fn each_part_of_a_status_is_worth_a_write_by_itself_but_names_are_compared_elsewhere() {
    for (n, change) in FLICKERS.iter().chain(&NEWS).enumerate() {
        assert!(!same_but_nodes(&rollout(), &after(*change)), "change {n} would never be written");
    }
    assert!(same_but_nodes(&rollout(), &after(|status| status.cached_nodes.push("node-1".into()))));
}

#[test]
fn what_comes_and_goes_while_nodes_pull_can_wait_and_nothing_else_can() {
    for (n, change) in FLICKERS.iter().enumerate() {
        assert!(only_flickers(&rollout(), &after(*change)), "change {n}");
    }
    for (n, change) in NEWS.iter().enumerate() {
        assert!(!only_flickers(&rollout(), &after(*change)), "change {n}");
    }
    let degraded = after(|status| status.phase = Some(Phase::Degraded));
    assert!(!only_flickers(&degraded, &rollout()), "an end of trouble is news");
}

#[test]
fn more_nodes_with_the_image_can_wait_while_others_pull() {
    let progress: [Change; 3] = [
        |status| status.nodes_ready = 3,
        |status| status.phase = Some(Phase::Pending),
        |status| status.nodes_waiting = 1,
    ];
    for (n, change) in progress.iter().enumerate() {
        assert!(only_progress(&rollout(), &after(*change)), "change {n}");
    }
    let news: [Change; 6] = [
        |status| status.phase = Some(Phase::Ready),
        |status| status.nodes_pulling = 0,
        |status| status.nodes_ready = 1,
        |status| status.observed_generation = Some(2),
        |status| status.nodes_targeted = 6,
        |status| status.failed_nodes_total = 1,
    ];
    for (n, change) in news.iter().enumerate() {
        assert!(!only_progress(&rollout(), &after(*change)), "change {n}");
    }
    assert!(!only_progress(&after(|status| status.phase = Some(Phase::Ready)), &rollout()));
}
