//! When a pair counts as cached, and what it takes if it does not.

use drop_planner::cluster::CachedImage;
use drop_protocol::ImagePullPolicy::{Always, IfNotPresent, Never};

use crate::rig::{Rig, SECOND};

fn pinned(name: &str) -> String {
    format!("reg.test/{name}@sha256:{}", "0".repeat(64))
}

#[test]
fn under_if_not_present_an_image_that_is_there_is_cached_without_a_grant() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |image| image.pull_policy = IfNotPresent);
    rig.run(SECOND);
    rig.present("a", "app", "sha256:baked");
    rig.run(30 * SECOND);
    assert_eq!(rig.status("app").ready, "1/1");
    assert!(rig.issued.is_empty());
    assert_eq!(rig.status("app").resolved_digest.as_deref(), Some("sha256:baked"));
}

#[test]
fn under_always_an_image_that_is_there_needs_one_confirmation() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |image| image.pull_policy = Always);
    rig.run(SECOND);
    rig.present("a", "app", "sha256:baked");
    rig.run(5 * SECOND);
    assert_eq!(rig.status("app").ready, "0/1");
    assert_eq!(rig.granted("a"), ["app"]);
}

#[test]
fn a_digest_reference_that_is_there_is_cached_under_always_too() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |image| image.reference = pinned("app"));
    rig.run(SECOND);
    rig.present("a", "app", "sha256:baked");
    rig.run(30 * SECOND);
    assert_eq!(rig.status("app").ready, "1/1");
    assert!(rig.issued.is_empty());
}

#[test]
fn an_image_that_is_never_pulled_says_so_where_it_is_missing() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.image("app", |image| image.pull_policy = Never);
    rig.run(SECOND);
    rig.present("a", "app", "sha256:baked");
    rig.run(30 * SECOND);
    assert!(rig.issued.is_empty());
    assert_eq!(rig.status("app").ready, "1/2");
    assert_eq!(rig.status("app").condition("Ready").unwrap().reason, "ErrImageNeverPull");
    assert_eq!(rig.waiting()["app/b"], "ErrImageNeverPull");
    let waiting = rig.plan().waiting;
    assert_eq!(waiting.counts().into_iter().collect::<Vec<_>>(), [("ErrImageNeverPull", 1)]);
    assert_eq!((waiting.len(), waiting.is_empty()), (1, false));
}

#[test]
fn also_where_its_policy_is_missing_too() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |image| {
        image.pull_policy = Never;
        image.policy = Some("slow".to_owned());
    });
    rig.run(30 * SECOND);
    assert_eq!(rig.waiting()["app/a"], "ErrImageNeverPull");
}

#[test]
fn a_newly_listed_reference_is_not_pulled_until_the_node_could_answer() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |image| image.pull_policy = IfNotPresent);
    rig.run(2 * SECOND);
    assert_eq!(rig.waiting()["app/a"], "NotYetAnswered");
    assert!(rig.issued.is_empty());
    rig.run(SECOND);
    assert_eq!(rig.granted("a"), ["app"]);
}

/// A node whose report tells of the second of three images and had no room for one: that is the third.
fn the_last_is_left_out(change: impl Fn(&mut CachedImage)) {
    let mut rig = Rig::with_nodes(&["a"]);
    for image in ["b", "m", "z"] {
        rig.image(image, |image| {
            image.pull_policy = IfNotPresent;
            change(image);
        });
    }
    rig.run(SECOND);
    rig.present("a", "m", "sha256:baked");
    rig.report("a", |report| report.left_out = 1);
    rig.run(SECOND);
    assert_eq!(rig.waiting()["z/a"], "ReportFull");
    assert_eq!(rig.granted("a"), ["b"]);
}

#[test]
fn what_a_report_had_no_room_for_is_unknown_and_comes_last_by_reference() {
    the_last_is_left_out(|_| {});
}

#[test]
fn of_images_by_the_same_reference_it_comes_last_by_uid() {
    the_last_is_left_out(|image| image.reference = "reg.test/app:1".to_owned());
}

#[test]
fn an_edited_reference_is_simply_not_there_yet() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run_with(30 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "1/1");
    rig.image("app", |image| image.reference = "reg.test/app:2".to_owned());
    rig.run(3 * SECOND);
    assert_eq!(rig.status("app").ready, "0/1");
    assert_eq!(rig.status("app").resolved_digest, None);
    assert_eq!(rig.grant("a").unwrap().images[0].reference, "reg.test/app:2");
}
