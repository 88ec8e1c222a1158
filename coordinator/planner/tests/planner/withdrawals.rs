//! Taking grants back.

use std::time::Duration;

use drop_planner::memory::WriteOutcome;
use drop_planner::plan::WithdrawKind;
use drop_protocol::{ImagePullPolicy, Outcome};

use crate::rig::{Rig, SECOND};

/// One node with an untaken grant for `one` and `two`.
fn rig() -> Rig {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.policy("p", 1, Duration::ZERO);
    for name in ["one", "two"] {
        rig.image(name, |image| image.policy = Some("p".to_owned()));
    }
    rig.run(2 * SECOND);
    assert_eq!(rig.granted("a"), ["one", "two"]);
    rig
}

fn marked(rig: &Rig) -> Option<Vec<String>> {
    rig.grant("a").and_then(|grant| grant.withdrawn.as_ref()).map(|mark| mark.unwanted.clone())
}

#[test]
fn an_untaken_grant_is_removed_when_an_image_of_it_is_deleted() {
    let mut rig = rig();
    rig.delete_image("one");
    let plan = rig.step();
    assert_eq!(plan.withdrawals[0].kind, WithdrawKind::Remove);
    assert_eq!(plan.withdrawals[0].to_string(), "remove grant lead.1.0 from a: no longer wanted as granted");
    rig.run(SECOND);
    assert_eq!(rig.granted("a"), ["two"]);
}

#[test]
fn a_taken_grant_is_marked_with_what_is_no_longer_wanted_and_only_once() {
    let mut rig = rig();
    rig.take("a");
    rig.delete_image("one");
    let plan = rig.step();
    let told = "mark grant lead.1.0 of a: no longer wanted as granted, unwanted uid-one";
    assert_eq!(plan.withdrawals[0].to_string(), told);
    assert_eq!(marked(&rig), Some(vec!["uid-one".to_owned()]));
    assert_eq!(plan.withdrawals[0].reason.as_str(), "Unwanted", "for metrics");
    assert!(rig.step().withdrawals.is_empty());
    rig.image("two", |image| image.reference = "reg.test/two:2".to_owned());
    rig.step();
    assert_eq!(marked(&rig), Some(vec!["uid-one".to_owned(), "uid-two".to_owned()]));
    assert_eq!(rig.live(), ["a"], "never removed while it lives");
}

#[test]
fn a_withdrawal_that_did_not_work_is_tried_again_after_a_second() {
    let mut rig = rig();
    rig.delete_image("one");
    let withdraw = rig.plan().withdrawals[0].clone();
    rig.world.memory.withdraw_settled(&withdraw, WriteOutcome::Unknown, rig.now);
    assert!(rig.plan().withdrawals.is_empty());
    rig.advance(SECOND);
    assert_eq!(rig.plan().withdrawals, [withdraw]);
}

#[test]
fn a_grant_is_marked_when_its_node_is_no_target_any_more() {
    let mut rig = rig();
    rig.take("a");
    rig.image("two", |image| {
        image.node_selector.insert("pool".to_owned(), "other".to_owned());
    });
    rig.step();
    assert_eq!(marked(&rig), Some(vec!["uid-two".to_owned()]));
}

#[test]
fn an_image_that_moves_to_another_policy_is_let_to_finish() {
    let mut rig = rig();
    rig.take("a");
    rig.image("two", |image| image.policy = None);
    rig.step();
    assert_eq!(marked(&rig), Some(Vec::new()));
}

#[test]
fn a_grant_is_marked_when_its_image_is_never_to_be_pulled_any_more() {
    let mut rig = rig();
    rig.take("a");
    rig.image("two", |image| image.pull_policy = ImagePullPolicy::Never);
    rig.step();
    assert_eq!(marked(&rig), Some(vec!["uid-two".to_owned()]));
}

#[test]
fn a_grant_that_is_not_taken_in_ten_seconds_is_withdrawn() {
    let mut rig = rig();
    rig.run(9 * SECOND);
    let (first, given) = (rig.now.monotonic, rig.issued[0].0);
    assert!(first.since(given) < 11 * SECOND);
    rig.run(2 * SECOND);
    assert!(rig.live().is_empty());
    assert_eq!(rig.waiting()["one/a"], "NotAnswering");
    rig.run(30 * SECOND);
    assert_eq!(rig.live(), ["a"], "it is asked again after the policy's backoff");
}

#[test]
fn a_taken_grant_expires_once_the_lease_was_watched_unchanged_for_its_duration() {
    let mut rig = rig();
    rig.take("a");
    for _ in 0..10 {
        rig.run(50 * SECOND);
        assert_eq!(rig.live(), ["a"]);
        rig.renew("a");
    }
    rig.step();
    rig.advance(59 * SECOND);
    assert!(rig.step().withdrawals.is_empty());
    rig.advance(SECOND);
    assert_eq!(rig.step().withdrawals[0].kind, WithdrawKind::Remove);
}

#[test]
fn a_new_leader_counts_the_unchanged_time_anew() {
    let mut rig = rig();
    rig.take("a");
    rig.run(50 * SECOND);
    rig.elect(2);
    rig.step();
    rig.advance(59 * SECOND);
    assert!(rig.step().withdrawals.is_empty());
    rig.advance(SECOND);
    assert_eq!(rig.step().withdrawals.len(), 1);
}

#[test]
fn a_refused_grant_frees_its_slot() {
    let mut rig = rig();
    rig.end("a", Outcome::Refused);
    rig.run(SECOND);
    assert_eq!(rig.granted("a"), ["one", "two"], "a fresh grant");
}

#[test]
fn a_holder_that_was_cleared_by_hand_does_not_make_a_taken_grant_untaken() {
    let mut rig = rig();
    rig.take("a");
    rig.step();
    rig.change_lease("a", |lease| lease.holder = None);
    rig.run(30 * SECOND);
    assert_eq!(rig.live(), ["a"], "its holder may be pulling until it has expired");
    rig.run(31 * SECOND);
    assert_eq!(rig.issued.len(), 2);
}
