//! Only the holder of a live grant pulls: renewals, lapses, and Leases that show somebody else.

use crate::node::{Node, grant, image, secs};
use drop_agent_step::{Effect, Input, PullError, WriteKind, WriteResult};
use drop_protocol::{GrantState, Monotonic};

fn unknown() -> WriteResult {
    WriteResult::Unknown("connection refused".to_owned())
}

fn armed(node: &Node) -> Vec<Monotonic> {
    node.log
        .iter()
        .filter_map(|effect| match effect {
            Effect::ArmTimer { deadline } => Some(*deadline),
            _ => None,
        })
        .collect()
}

fn cancelled(node: &Node) -> bool {
    node.log.iter().any(|effect| matches!(effect, Effect::CancelPull { .. }))
}

/// Fails every write and read for `seconds`.
fn outage(node: &mut Node, seconds: u64) {
    for _ in 0..seconds {
        node.advance(secs(1));
        let effects = std::mem::take(&mut node.open);
        for effect in effects {
            match effect {
                Effect::WriteLease { write, .. } => {
                    node.step(Input::WriteDone { write, result: unknown() });
                }
                Effect::ReadLease => {
                    node.step(Input::LeaseUnknown("connection refused".to_owned()));
                }
                other => node.open.push(other),
            }
        }
    }
}

#[test]
fn a_grant_is_renewed_every_15_seconds_while_it_pulls() {
    let mut node = Node::working(&[image("a")]);
    for _ in 0..4 {
        node.advance(secs(14));
        assert!(node.open.iter().all(|e| !matches!(e, Effect::WriteLease { .. })));
        node.advance(secs(1));
        node.apply(WriteKind::Renew);
    }
    assert!(!cancelled(&node));
}

#[test]
fn the_deadline_counts_from_the_sending_of_the_renewal() {
    let mut node = Node::working(&[image("a")]);
    let taken = node.now().monotonic;
    node.advance(secs(15));
    let sent = node.now().monotonic;
    node.advance(secs(9));
    node.apply(WriteKind::Renew);
    assert_eq!(armed(&node), [taken.after(secs(57)), sent.after(secs(57))]);
}

#[test]
fn a_lease_of_short_duration_has_its_deadlines_closer_together() {
    let mut node = Node::idle();
    let issue = node.lease().issue_patch(&grant(1, &[image("a")]), secs(8));
    assert!(node.patch(&issue));
    node.see_lease();
    node.answer_leader();
    node.apply(WriteKind::Take);
    let taken = node.now().monotonic;
    assert_eq!(armed(&node), [taken.after(secs(7))]);
    node.advance(secs(2));
    node.refuse_write(WriteKind::Renew, unknown());
    outage(&mut node, 3);
    assert!(!cancelled(&node));
    outage(&mut node, 1);
    assert!(cancelled(&node));
}

#[test]
fn an_outage_shorter_than_the_duration_cancels_nothing() {
    let mut node = Node::working(&[image("a")]);
    outage(&mut node, 45);
    assert!(!cancelled(&node));
    node.advance(secs(3));
    node.answer_read();
    node.apply(WriteKind::Renew);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
}

#[test]
fn a_pull_is_cancelled_before_the_grant_can_expire() {
    let mut node = Node::working(&[image("a")]);
    outage(&mut node, 53);
    assert!(!cancelled(&node));
    outage(&mut node, 2);
    assert!(cancelled(&node));
    assert_eq!(node.count(&Effect::DisarmTimer), 0, "the kernel watches until the pull has really ended");
    node.finish_pull(Err(PullError::Cancelled));
    assert_eq!(node.count(&Effect::DisarmTimer), 1);
    assert_eq!(node.pull_in_flight(), None);
}

#[test]
fn a_lapsed_grant_that_still_stands_is_taken_again_and_its_pull_begun_again() {
    let mut node = Node::working(&[image("a")]);
    outage(&mut node, 56);
    node.finish_pull(Err(PullError::Cancelled));
    node.advance(secs(3));
    node.answer_read();
    node.apply(WriteKind::Take);
    assert_eq!(node.open_pull().1, image("a"));
}

#[test]
fn a_grant_that_expired_and_was_removed_is_given_up() {
    let mut node = Node::working(&[image("a")]);
    let remove = node.lease().remove_grant_patch();
    assert!(node.patch(&remove));
    let effects = node.see_lease();
    assert!(matches!(effects[..], [Effect::CancelPull { .. }]), "{effects:?}");
    node.finish_pull(Err(PullError::Cancelled));
    node.advance(secs(40));
    assert_eq!(node.writes(), [WriteKind::Take]);
}

#[test]
fn a_deleted_lease_ends_the_pull() {
    let mut node = Node::working(&[image("a")]);
    node.lease = None;
    let effects = node.see_lease();
    assert!(matches!(effects[0], Effect::CancelPull { .. }), "{effects:?}");
    node.finish_pull(Err(PullError::Cancelled));
    assert_eq!(node.count(&Effect::DisarmTimer), 1);
}

#[test]
fn a_renewal_that_finds_no_lease_ends_the_pull() {
    let mut node = Node::working(&[image("a")]);
    node.advance(secs(15));
    let effects = node.refuse_write(WriteKind::Renew, WriteResult::Gone);
    assert!(matches!(effects[0], Effect::CancelPull { .. }), "{effects:?}");
}

#[test]
fn the_next_grant_waits_for_the_old_pull_to_have_ended() {
    let mut node = Node::working(&[image("a")]);
    let remove = node.lease().remove_grant_patch();
    assert!(node.patch(&remove));
    node.see_lease();
    let (pull, _) = node.open_pull();
    node.open.clear();
    node.issue(&grant(2, &[image("b")]));
    node.answer_leader();
    node.apply(WriteKind::Take);
    assert_eq!(node.pull_in_flight(), None);
    node.step(Input::PullFinished { pull, result: Err(PullError::Cancelled) });
    assert_eq!(node.open_pull().1, image("b"));
}

#[test]
fn late_and_repeated_lease_events_do_no_harm() {
    let mut node = Node::working(&[image("a")]);
    let taken = node.lease();
    let mut before = taken.clone();
    before.resource_version -= 1;
    before.holder = None;
    assert_eq!(node.step(Input::Lease(before)), []);
    assert_eq!(node.step(Input::Lease(taken)), []);
}

#[test]
fn a_finish_of_unknown_outcome_is_not_sent_twice_if_it_was_applied() {
    let mut node = Node::working(&[image("a")]);
    node.pull_succeeds();
    let (write, patch) = node.open_write(WriteKind::Finish);
    assert!(node.patch(&patch));
    node.step(Input::WriteDone { write, result: unknown() });
    node.advance(secs(3));
    node.answer_read();
    node.advance(secs(40));
    assert_eq!(node.writes(), [WriteKind::Take, WriteKind::Finish]);
    assert!(matches!(node.lease().state(), GrantState::Ended(_)));
}
