//! Leases that come and go.

use std::time::Duration;

use drop_planner::WriteKey;

use crate::rig::{Rig, SECOND};

fn rig() -> Rig {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.policy("p", 1, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(2 * SECOND);
    rig.take("a");
    rig.step();
    rig
}

/// The slot of a grant that has gone out of sight is given out after one duration.
fn keeps_its_slot(mut rig: Rig) {
    rig.run(59 * SECOND);
    assert!(rig.live().is_empty());
    rig.run(2 * SECOND);
    assert_eq!(rig.live().len(), 1);
}

#[test]
fn a_deleted_lease_with_a_live_grant_keeps_its_slot_for_one_duration() {
    let mut rig = rig();
    rig.world.cluster.leases.remove("a");
    rig.run(59 * SECOND);
    assert!(rig.live().is_empty());
    assert!(!rig.world.cluster.leases.contains_key("a"), "a new Lease would hide it from the next leader");
    rig.run(2 * SECOND);
    assert_eq!(rig.live().len(), 1);
    assert!(rig.world.cluster.leases.contains_key("a"));
}

#[test]
fn a_slot_that_outlives_its_node_is_given_out_in_time() {
    let mut rig = rig();
    rig.world.cluster.leases.remove("a");
    rig.world.cluster.nodes.remove("a");
    let ghost = rig.now.monotonic;
    loop {
        let plan = rig.step();
        if !rig.live().is_empty() {
            break;
        }
        let wake = plan.wake_at.expect("somebody waits for the slot");
        rig.advance(wake.since(rig.now.monotonic).max(SECOND / 10));
    }
    assert_eq!(rig.elapsed(ghost).as_secs(), 60);
}

#[test]
fn a_deleted_lease_without_a_grant_comes_back_at_once() {
    let mut rig = rig();
    rig.world.cluster.leases.remove("b");
    rig.step();
    assert!(rig.world.cluster.leases.contains_key("b"));
}

#[test]
fn one_that_could_not_be_made_is_made_at_once_when_its_node_comes_back() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.node("b", |_| {});
    for _ in 0..10 {
        rig.world.memory.write_failed(&WriteKey::CreateLease("b".to_owned()), rig.now);
    }
    assert!(rig.plan().create_leases.is_empty(), "not again at once");
    rig.world.cluster.nodes.remove("b");
    rig.plan();
    rig.node("b", |node| node.uid = "another".to_owned());
    assert_eq!(rig.plan().create_leases.len(), 1);
}

#[test]
fn a_lease_deleted_and_made_again_by_hand_still_keeps_the_slot() {
    let mut rig = rig();
    rig.world.cluster.leases.remove("a");
    rig.create_lease("a", "node-a");
    keeps_its_slot(rig);
}

#[test]
fn a_live_grant_that_somebody_erases_keeps_the_slot() {
    let mut rig = rig();
    rig.change_lease("a", |lease| lease.grant = None);
    keeps_its_slot(rig);
}

#[test]
fn also_one_that_was_asked_to_finish() {
    let mut rig = rig();
    rig.image("app", |image| image.reference = "reg.test/app:2".to_owned());
    rig.step();
    assert!(rig.grant("a").unwrap().withdrawn.is_some());
    rig.change_lease("a", |lease| lease.grant = None);
    keeps_its_slot(rig);
}

#[test]
fn a_node_that_comes_back_under_its_name_starts_from_nothing() {
    let mut rig = rig();
    rig.work("a", |_| Ok("sha256:one"));
    rig.run(SECOND);
    rig.work("b", |_| Ok("sha256:one"));
    rig.run(10 * SECOND);
    assert_eq!(rig.status("app").ready, "2/2");
    rig.node("a", |node| node.uid = "another".to_owned());
    let plan = rig.step();
    assert_eq!(plan.delete_leases.len(), 1);
    rig.run(3 * SECOND);
    assert_eq!(rig.status("app").ready, "1/2");
    assert_eq!(rig.world.cluster.leases["a"].node_uid.as_deref(), Some("another"));
    assert_eq!(rig.live(), ["a"]);
}

#[test]
fn no_lease_is_made_for_a_node_that_holds_no_images() {
    let mut rig = Rig::new();
    rig.node("drop-coordinator", |_| {});
    rig.node("virtual", |node| node.virtual_kubelet = true);
    rig.node("win", |node| node.os = "windows".to_owned());
    rig.image("app", |_| {});
    rig.run(10 * SECOND);
    assert!(rig.world.cluster.leases.is_empty());
    assert_eq!(rig.status("app").nodes_targeted, 0);
    assert_eq!(rig.status("app").condition("Ready").unwrap().reason, "NoTargets");
}

#[test]
fn a_grant_that_can_t_be_read_counts_for_every_policy_while_somebody_holds_it() {
    let mut rig = rig();
    rig.change_lease("a", |lease| {
        lease.grant = None;
        lease.grant_error = Some("format version 9 is newer than 1".to_owned());
    });
    rig.elect(2);
    rig.run(59 * SECOND);
    assert_eq!(rig.issued.len(), 1, "its policy may be any");
    rig.run(2 * SECOND);
    assert!(rig.world.cluster.leases["a"].holder.is_none(), "expired and removed");
    assert_eq!(rig.issued.len(), 2);
}

#[test]
fn a_grant_that_can_t_be_read_and_that_nobody_holds_is_overwritten() {
    let mut rig = rig();
    rig.change_lease("b", |lease| lease.grant_error = Some("not readable".to_owned()));
    rig.work("a", |_| Ok("sha256:one"));
    rig.run(2 * SECOND);
    assert_eq!(rig.live(), ["b"]);
}

#[test]
fn why_a_pair_waits_is_told_of_the_nodes_that_there_are() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    assert_eq!(rig.waiting().len(), 1);
    rig.world.cluster.nodes.remove("a");
    rig.node("b", |_| {});
    assert_eq!(rig.waiting().into_keys().collect::<Vec<_>>(), ["app/b"]);
}

#[test]
fn pairs_that_wait_are_counted() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    let counted = |rig: &mut Rig| {
        let waiting = rig.plan().waiting;
        (waiting.len(), waiting.is_empty())
    };
    assert_eq!(counted(&mut rig), (0, true));
    rig.image("app", |_| {});
    assert_eq!(counted(&mut rig), (2, false));
}
