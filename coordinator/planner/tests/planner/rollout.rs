//! From nothing to cached everywhere.

use crate::rig::{Rig, SECOND};

#[test]
fn the_first_plan_creates_leases_and_then_the_catalog() {
    let mut rig = Rig::new();
    rig.node("a", |_| {});
    rig.node("b", |_| {});
    rig.image("app", |_| {});
    insta::assert_snapshot!(rig.step());
    rig.advance(SECOND / 2);
    insta::assert_snapshot!(rig.step());
}

#[test]
fn once_listed_the_first_node_is_granted_and_the_second_waits_its_turn() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.image("app", |_| {});
    rig.image("tool", |_| {});
    rig.step();
    rig.advance(SECOND / 2);
    rig.step();
    rig.advance(SECOND / 2);
    insta::assert_snapshot!(rig.step());
}

#[test]
fn every_node_gets_all_images_with_one_grant_each() {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    for n in 0..10 {
        rig.image(&format!("app{n}"), |_| {});
    }
    rig.run_with(60 * SECOND, Rig::eager);
    for n in 0..10 {
        assert_eq!(rig.status(&format!("app{n}")).ready, "3/3");
    }
    let nodes: Vec<&str> = rig.issued.iter().map(|(_, _, node)| node.as_str()).collect();
    assert_eq!(nodes, ["a", "b", "c"]);
    assert!(rig.statuses.len() <= 45, "{} status writes for 30 pairs", rig.statuses.len());
    assert_eq!(rig.events.len(), 10, "one event an image: cached everywhere");
}

#[test]
fn images_that_come_one_by_one_share_one_grant() {
    let mut rig = Rig::with_nodes(&["a"]);
    for n in 0..5 {
        rig.image(&format!("app{n}"), |_| {});
        rig.run(SECOND / 10);
    }
    rig.run(5 * SECOND);
    assert_eq!(rig.granted("a").len(), 5);
}

#[test]
fn a_cluster_where_all_is_cached_plans_nothing_for_hours() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.image("app", |_| {});
    rig.run_with(60 * SECOND, Rig::eager);
    for _ in 0..10 {
        let plan = rig.plan();
        assert!(plan.is_empty(), "{plan}");
        rig.advance(3600 * SECOND);
    }
}
