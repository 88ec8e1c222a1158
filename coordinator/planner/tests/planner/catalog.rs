//! What agents are told to look for, and when.

use std::time::Duration;

use drop_planner::cluster::CachedImage;
use drop_protocol::ImagePullPolicy;

use crate::rig::{Rig, SECOND};

fn listed(rig: &Rig) -> Vec<&str> {
    rig.world.cluster.catalog.as_ref().unwrap().catalog.wanted.keys().map(String::as_str).collect()
}

#[test]
fn what_no_agent_could_read_or_pull_is_not_listed() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("good", |_| {});
    rig.image("problem", |image| image.problem = Some("tag and digest".to_owned()));
    rig.image("empty", |image| image.reference = String::new());
    rig.image("space", |image| image.reference = "reg.test/a b:1".to_owned());
    rig.image("lines", |image| image.reference = "reg.test/a\nb:1".to_owned());
    rig.run(SECOND);
    assert_eq!(listed(&rig), ["reg.test/good:1"]);
}

#[test]
fn images_by_the_same_reference_share_a_line_and_every_change_of_them_is_told() {
    let mut rig = Rig::with_nodes(&["a"]);
    let same = |image: &mut CachedImage| image.reference = "reg.test/app:1".to_owned();
    rig.image("one", same);
    rig.run(SECOND);
    rig.image("two", same);
    rig.run(10 * SECOND);
    let catalog = rig.world.cluster.catalog.as_ref().unwrap().catalog.clone();
    let uids: Vec<_> = catalog.wanted["reg.test/app:1"].iter().map(String::as_str).collect();
    assert_eq!((listed(&rig), uids), (vec!["reg.test/app:1"], vec!["uid-one", "uid-two"]));
    rig.image("two", |image| image.reference = "reg.test/two:1".to_owned());
    rig.run(10 * SECOND);
    assert_eq!(listed(&rig), ["reg.test/app:1", "reg.test/two:1"]);
    let later = rig.world.cluster.catalog.as_ref().unwrap().catalog.generation;
    assert_eq!(later, catalog.generation + 1);
    rig.run(60 * SECOND);
    assert_eq!(rig.world.cluster.catalog.as_ref().unwrap().catalog.generation, later, "and then nothing");
}

#[test]
fn agents_have_two_seconds_and_five_milliseconds_a_node_to_answer() {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    rig.node("windows", |node| node.os = "windows".to_owned());
    rig.image("app", |_| {});
    rig.run(SECOND);
    let within = rig.world.cluster.catalog.as_ref().unwrap().catalog.answer_within;
    assert_eq!(within, Duration::from_millis(2015));
}

#[test]
fn while_things_change_it_is_rewritten_every_five_seconds() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("one", |_| {});
    rig.run(SECOND);
    let written = rig.now.monotonic;
    rig.image("two", |_| {});
    while listed(&rig).len() < 2 {
        rig.run(SECOND / 10);
    }
    let waited = rig.elapsed(written);
    assert!(waited > 3 * SECOND && waited <= 5 * SECOND, "{waited:?}");
}

#[test]
fn images_that_come_in_a_stream_are_waited_for_two_seconds_at_most() {
    let mut rig = Rig::with_nodes(&["a"]);
    let start = rig.now.monotonic;
    for n in 0.. {
        rig.image(&format!("app{n}"), |_| {});
        rig.run(SECOND / 5);
        if !listed(&rig).is_empty() {
            break;
        }
    }
    let waited = rig.elapsed(start);
    assert!(waited >= 2 * SECOND && waited < 3 * SECOND, "{waited:?}");
}

#[test]
fn one_that_was_deleted_by_hand_comes_back_above_what_agents_have_answered() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run(SECOND);
    rig.report("a", |_| {});
    rig.world.cluster.catalog = None;
    rig.run(10 * SECOND);
    let answered = rig.world.cluster.leases["a"].report.as_ref().unwrap().catalog;
    assert!(rig.world.cluster.catalog.as_ref().unwrap().catalog.generation > answered, "{answered}");
}

#[test]
fn what_finds_no_room_is_left_out_by_name_and_says_so() {
    let mut rig = Rig::with_nodes(&["a"]);
    let room = 900 * 1024;
    for n in 0..8 {
        rig.image(&format!("app{n}"), |image| {
            let taken = format!("reg.test/{n}:1 {}\n", image.uid).len();
            image.reference = format!("reg.test/{n}{}:1", "x".repeat(room / 6 - taken));
            image.pull_policy = ImagePullPolicy::IfNotPresent;
        });
    }
    rig.run(SECOND);
    let lines = &rig.world.cluster.catalog.as_ref().unwrap().catalog.encode()["wanted"];
    assert_eq!((lines.lines().count(), lines.len()), (6, room), "to the last byte");
    let waiting = rig.waiting();
    assert_eq!(waiting["app6/a"], "CatalogFull");
    assert_eq!(waiting["app5/a"], "NotYetAnswered");
}
