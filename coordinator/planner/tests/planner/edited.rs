//! What somebody edits by hand is put right, once, and holds up nobody.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::cluster::StoredCatalog;
use drop_protocol::{GrantId, GrantOutcome, Holder, ImagePullPolicy, Outcome};

use crate::rig::{Rig, SECOND};

fn edit_catalog(rig: &mut Rig, change: impl FnOnce(&mut StoredCatalog)) {
    let mut stored = StoredCatalog::clone(rig.world.cluster.catalog.as_ref().unwrap());
    change(&mut stored);
    stored.resource_version = rig.version();
    rig.world.cluster.catalog = Some(Arc::new(stored));
}

#[test]
fn a_catalog_edited_by_hand_is_put_right_once() {
    type Edit = fn(&mut StoredCatalog);
    let edits: [(&str, Edit); 5] = [
        ("missing lines", |stored| stored.catalog.wanted.clear()),
        ("foreign lines", |stored| {
            stored.catalog.wanted.insert("evil.test/x".to_owned(), ["u".to_owned()].into());
        }),
        ("time", |stored| stored.catalog.answer_within = 3000 * SECOND),
        ("damage", |stored| stored.damaged = true),
        ("strays", |stored| {
            stored.strays.insert("note".to_owned());
        }),
    ];
    for (what, edit) in edits {
        let mut rig = Rig::with_nodes(&["a"]);
        rig.image("app", |image| image.pull_policy = ImagePullPolicy::IfNotPresent);
        rig.run(10 * SECOND);
        let before = rig.world.cluster.catalog.clone().unwrap();
        edit_catalog(&mut rig, edit);
        let mut writes = 0;
        rig.run_with(60 * SECOND, |_| {});
        let after = rig.world.cluster.catalog.clone().unwrap();
        writes += after.catalog.generation - before.catalog.generation;
        assert_eq!((writes, &after.catalog.wanted), (1, &before.catalog.wanted), "{what}");
        assert!(
            !after.damaged && after.strays.is_empty() && after.catalog.answer_within < 30 * SECOND,
            "{what}"
        );
    }
}

#[test]
fn a_catalog_that_gives_agents_far_too_long_holds_up_nothing_that_is_new() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.run(10 * SECOND);
    edit_catalog(&mut rig, |stored| stored.catalog.answer_within = 3000 * SECOND);
    rig.image("app", |image| image.pull_policy = ImagePullPolicy::IfNotPresent);
    rig.run(20 * SECOND);
    assert_eq!(rig.issued.len(), 1, "{:?}", rig.waiting());
}

#[test]
fn a_grant_that_nobody_can_read_or_holds_is_removed_once() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.change_lease("a", |lease| lease.grant_error = Some("not readable".to_owned()));
    let plan = rig.step();
    assert_eq!(plan.to_string().lines().next(), Some("remove grant unreadable from a: not readable"));
    assert_eq!(rig.world.cluster.leases["a"].grant_error, None);
    assert!(rig.step().is_empty());
}

#[test]
fn a_duration_that_was_shortened_by_hand_takes_no_slot_from_its_holder() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.policy("p", 1, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(2 * SECOND);
    rig.take("a");
    rig.change_lease("a", |lease| lease.duration = 5 * SECOND);
    rig.run(58 * SECOND);
    assert_eq!(rig.live(), ["a"], "its holder may not have heard of it");
    rig.run(5 * SECOND);
    assert_eq!(rig.live(), ["b"]);
}

/// `a` holds the only slot, and `b` waits for it.
fn a_holds_the_slot() -> Rig {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.policy("p", 1, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(2 * SECOND);
    rig.take("a");
    rig.run(SECOND);
    assert_eq!(rig.waiting()["app/b"], "WaitingForSlot");
    rig
}

fn outcome(id: &GrantId) -> Option<GrantOutcome> {
    Some(GrantOutcome { id: id.clone(), outcome: Outcome::Finished, reason: String::new() })
}

#[test]
fn a_grant_that_was_replaced_by_one_that_has_ended_keeps_its_slot() {
    let mut rig = a_holds_the_slot();
    let other = GrantId::new(&rig.world.leadership.as_ref().unwrap().epoch, 99);
    rig.report("a", |report| report.grant = outcome(&other));
    rig.change_lease("a", |lease| {
        lease.grant.as_mut().unwrap().id = other;
        lease.holder = None;
    });
    rig.run(50 * SECOND);
    assert_eq!(rig.issued.len(), 1, "its holder may not have heard of it");
    rig.run(15 * SECOND);
    assert_eq!(rig.issued.len(), 2);
}

#[test]
fn a_grant_that_became_unreadable_keeps_its_slot_whatever_its_holder_has_ended_before() {
    let mut rig = a_holds_the_slot();
    let id = rig.grant("a").unwrap().id.clone();
    let earlier = GrantId::new(&rig.world.leadership.as_ref().unwrap().epoch, 99);
    rig.report("a", |report| report.grant = outcome(&earlier));
    rig.change_lease("a", |lease| {
        lease.grant = None;
        lease.grant_error = Some("not readable".to_owned());
        lease.holder = Some(Holder { process: "p".to_owned(), grant: id });
    });
    rig.elect(2);
    rig.run(20 * SECOND);
    assert_eq!(rig.issued.len(), 1);
}
