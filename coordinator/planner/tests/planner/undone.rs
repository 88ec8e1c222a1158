//! Nodes that give a grant back undone come behind the others; those that only seem to do not.

use drop_protocol::{FailureReason, FailureScope, ImagePullPolicy, LowDisk, Outcome};

use crate::order::{a_is_in_line_before_b, add, one_slot};
use crate::rig::{Rig, SECOND};

/// One slot; `a` has taken a grant of `images`, more urgent than what `b` waits for meanwhile.
fn a_works_and_b_waits(images: &[&str], change: impl Fn(&mut Rig, &str)) -> Rig {
    let mut rig = one_slot();
    for image in images {
        add(&mut rig, image, -1, Some("x"));
        change(&mut rig, image);
    }
    rig.run(4 * SECOND);
    rig.take("a");
    add(&mut rig, "other", 0, Some("y"));
    rig.run(8 * SECOND);
    assert_eq!((rig.live(), rig.granted("a")), (vec!["a"], images.to_vec()));
    assert_eq!(rig.waiting()["other/b"], "WaitingForSlot");
    rig
}

/// The same, before `b` wants anything.
fn a_works() -> Rig {
    let mut rig = one_slot();
    add(&mut rig, "first", 0, Some("x"));
    rig.run(4 * SECOND);
    rig.take("a");
    rig
}

#[test]
fn whoever_did_nothing_lets_the_others_go_first() {
    for pull_policy in [ImagePullPolicy::Always, ImagePullPolicy::IfNotPresent] {
        let mut rig = a_works_and_b_waits(&["first"], |rig, image| {
            rig.image(image, |image| image.pull_policy = pull_policy);
        });
        rig.finish("a");
        rig.run(SECOND);
        assert_eq!(rig.live(), ["b"], "{pull_policy:?}");
    }
}

#[test]
fn also_who_failed_one_image_and_left_out_the_next() {
    let mut rig = a_works_and_b_waits(&["one", "two"], |_, _| {});
    rig.failed("a", "one", FailureScope::Image, FailureReason::NotFound);
    rig.finish("a");
    rig.run(SECOND);
    assert_eq!(rig.live(), ["b"]);
}

#[test]
fn a_failure_that_concerns_the_registry_ends_the_whole_grant() {
    let mut rig = a_works_and_b_waits(&["one", "two"], |_, _| {});
    rig.failed("a", "one", FailureScope::Registry, FailureReason::ConnectionRefused);
    rig.finish("a");
    rig.run(SECOND);
    assert_eq!(rig.granted("a"), ["two"]);
}

#[test]
fn what_was_reported_before_the_end_counts_as_done() {
    let mut rig = a_works();
    rig.pulled("a", "first", "sha256:one");
    rig.run(2 * SECOND);
    rig.finish("a");
    a_is_in_line_before_b(&mut rig);
}

#[test]
fn a_grant_that_was_withdrawn_need_not_be_done() {
    let mut rig = a_works();
    rig.delete_image("first");
    rig.run(SECOND);
    rig.finish("a");
    a_is_in_line_before_b(&mut rig);
}

#[test]
fn nor_one_for_which_there_was_no_room_on_the_disk() {
    let mut rig = a_works();
    rig.report("a", |report| report.low_disk = Some(LowDisk { free_percent: 10, wanted_percent: 20 }));
    rig.end("a", Outcome::Refused);
    rig.run(SECOND);
    rig.delete_image("first");
    rig.report("a", |report| report.low_disk = None);
    a_is_in_line_before_b(&mut rig);
}
