//! What a new leader does with what it finds.

use std::time::Duration;

use drop_planner::plan::{IssueKind, WithdrawKind};

use crate::rig::{Rig, SECOND};

fn rig(max: u32, delay: Duration) -> Rig {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    rig.policy("p", max, delay);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    while rig.issued.is_empty() {
        rig.run(SECOND / 10);
    }
    rig
}

#[test]
fn a_taken_grant_of_an_earlier_leader_keeps_its_slot() {
    let mut rig = rig(1, Duration::ZERO);
    rig.take("a");
    rig.elect(2);
    rig.run(10 * SECOND);
    assert_eq!(rig.live(), ["a"]);
    assert_eq!(rig.grant("a").unwrap().epoch.transitions, 1);
}

#[test]
fn an_untaken_grant_of_an_earlier_leader_is_restamped() {
    let mut rig = rig(1, Duration::ZERO);
    rig.elect(2);
    let plan = rig.step();
    assert_eq!(plan.issues[0].issues[0].kind, IssueKind::Restamp);
    assert_eq!(rig.grant("a").unwrap().epoch.transitions, 2);
    assert_eq!(rig.granted("a"), ["app"]);
    rig.take("a");
    rig.run(30 * SECOND);
    assert_eq!(rig.live(), ["a"]);
    rig.work("a", |_| Ok("sha256:one"));
    rig.run(SECOND);
    assert_eq!(rig.live(), ["b"], "it took one slot, and has given it back");
}

#[test]
fn a_restamped_grant_was_issued_when_it_was_restamped() {
    let mut rig = rig(1, Duration::ZERO);
    rig.advance(5 * SECOND);
    rig.elect(2);
    rig.step();
    assert_eq!(rig.grant("a").unwrap().issued_at, rig.now.wall);
}

#[test]
fn each_of_several_restamped_grants_has_an_id_of_its_own() {
    let mut rig = rig(2, Duration::ZERO);
    rig.elect(2);
    rig.step();
    let ids = ["a", "b"].map(|node| rig.grant(node).unwrap().id.to_string());
    assert_eq!(ids, ["lead.2.0", "lead.2.1"]);
}

#[test]
fn one_whose_node_can_t_take_it_is_withdrawn_instead() {
    let mut rig = rig(1, Duration::ZERO);
    rig.agent_ready("a", false);
    rig.elect(2);
    let plan = rig.step();
    assert!(plan.issues.is_empty(), "{plan}");
    assert_eq!((plan.withdrawals.len(), &plan.withdrawals[0].kind), (1, &WithdrawKind::Remove));
}

#[test]
fn where_there_is_a_delay_an_untaken_grant_is_withdrawn_instead() {
    let mut rig = rig(2, 5 * SECOND);
    rig.run(6 * SECOND);
    assert_eq!(rig.live(), ["a", "b"]);
    rig.take("b");
    rig.elect(2);
    let plan = rig.step();
    assert!(plan.issues.is_empty(), "a would start right after b");
    assert_eq!((plan.withdrawals.len(), &plan.withdrawals[0].kind), (1, &WithdrawKind::Remove));
    assert_eq!(plan.withdrawals[0].node, "a");
}

#[test]
fn an_untaken_grant_above_the_cap_is_withdrawn_instead() {
    let mut rig = rig(2, Duration::ZERO);
    rig.take("a");
    rig.policy("p", 1, Duration::ZERO);
    rig.elect(2);
    let plan = rig.step();
    assert!(plan.issues.is_empty());
    assert_eq!(plan.withdrawals[0].node, "b");
    assert_eq!(plan.withdrawals[0].kind, WithdrawKind::Remove);
}

#[test]
fn an_untaken_grant_that_nobody_wants_any_more_is_not_restamped() {
    let mut rig = rig(1, Duration::ZERO);
    rig.delete_image("app");
    rig.elect(2);
    let plan = rig.step();
    assert!(plan.issues.is_empty());
    assert_eq!(plan.withdrawals[0].kind, WithdrawKind::Remove);
}

/// Node `a` has pulled and `b` is next, but somebody may still be pulling on `b`.
fn b_is_waited_for(rig: &mut Rig) {
    rig.run(59 * SECOND);
    assert_eq!(rig.issued.len(), 1, "somebody may still be pulling on b");
    assert!(!rig.world.cluster.leases.contains_key("b"));
    rig.run(3 * SECOND);
    assert_eq!(rig.issued.len(), 2);
}

#[test]
fn a_node_without_a_lease_counts_as_one_slot_for_one_duration() {
    let mut rig = rig(1, Duration::ZERO);
    rig.work("a", |_| Ok("sha256:one"));
    rig.elect(2);
    rig.world.cluster.leases.remove("b");
    b_is_waited_for(&mut rig);
    assert!(rig.world.cluster.leases.contains_key("b"));
}

#[test]
fn also_where_no_node_has_one() {
    let mut rig = rig(1, Duration::ZERO);
    rig.elect(2);
    rig.world.cluster.leases.clear();
    b_is_waited_for(&mut rig);
    assert!(rig.world.cluster.leases.contains_key("b"));
}

#[test]
fn also_by_a_leader_that_would_be_the_first_but_for_the_leases_that_it_finds() {
    let mut rig = rig(1, Duration::ZERO);
    rig.work("a", |_| Ok("sha256:one"));
    rig.world.leadership.as_mut().unwrap().epoch.lease = "made anew".to_owned();
    rig.world.cluster.leases.remove("b");
    b_is_waited_for(&mut rig);
    assert!(rig.world.cluster.leases.contains_key("b"));
}

#[test]
fn the_agent_s_pod_of_a_deleted_node_counts_as_one_slot_for_one_duration() {
    let mut rig = rig(1, Duration::ZERO);
    rig.work("a", |_| Ok("sha256:one"));
    rig.world.cluster.nodes.remove("b");
    rig.world.cluster.leases.remove("b");
    rig.elect(2);
    b_is_waited_for(&mut rig);
}

#[test]
fn the_very_first_leader_of_an_empty_cluster_does_not_wait() {
    let mut rig = Rig::new();
    rig.node("a", |_| {});
    rig.image("app", |_| {});
    rig.run(12 * SECOND);
    assert_eq!(rig.live(), ["a"]);
}

#[test]
fn without_leadership_nothing_is_planned() {
    let mut rig = rig(1, Duration::ZERO);
    rig.image("other", |_| {});
    rig.world.leadership = None;
    let plan = rig.plan();
    assert!(plan.is_empty() && plan.wake_at.is_none());
}

#[test]
fn a_new_leader_rewrites_no_status_and_repeats_no_event() {
    let mut rig = rig(3, Duration::ZERO);
    rig.run_with(30 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "3/3");
    let (statuses, events) = (rig.statuses.len(), rig.events.len());
    rig.elect(2);
    rig.run(600 * SECOND);
    assert_eq!((rig.statuses.len(), rig.events.len()), (statuses, events));
}
