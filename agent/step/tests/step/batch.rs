//! The images of a grant: order, what is skipped, what failures end, withdrawal, shutdown, disk.

use crate::node::{DIGEST, Node, OTHER_DIGEST, catalog, failure, grant, image, secs};
use drop_agent_step::{Effect, Input, PullError, WriteKind};
use drop_protocol::failure::Classified;
use drop_protocol::names::FAILURE_TEXT_MAX_BYTES;
use drop_protocol::{FailureReason, FailureScope, GrantState, ImagePullPolicy, Outcome, Withdrawal};

fn pulls(node: &Node) -> Vec<String> {
    node.log
        .iter()
        .filter_map(|effect| match effect {
            Effect::StartPull { image, .. } => Some(image.name.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn images_are_pulled_one_at_a_time_in_the_grants_order_and_told_with_their_digests() {
    let mut node = Node::working(&[image("b"), image("a")]);
    node.pull_succeeds();
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert_eq!(pulls(&node), ["b", "a"]);
    let report = node.report();
    assert_eq!(report.grant.unwrap().outcome, Outcome::Finished);
    for name in ["a", "b"] {
        let entry = &report.images[image(name).uid.as_str()];
        assert_eq!(entry.digest.as_deref(), Some(DIGEST));
        assert!(entry.pulled_at.is_some());
    }
    assert_eq!(node.lease().holder, None);
}

#[test]
fn an_image_that_is_there_is_told_without_a_pull_unless_the_registry_must_be_asked() {
    let mut always = image("always");
    always.pull_policy = ImagePullPolicy::Always;
    let mut refresh = image("refresh");
    refresh.refresh = true;
    let mut never = image("never");
    never.pull_policy = ImagePullPolicy::Never;
    let all = [image("there"), always, refresh, never];
    let mut node = Node::idle();
    for image in &all[..3] {
        node.images.insert(image.reference.clone(), OTHER_DIGEST.to_owned());
    }
    node.images_changed();
    node.issue(&grant(1, &all));
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.pull_succeeds();
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert_eq!(pulls(&node), ["always", "refresh"]);
    let there = &node.report().images[image("there").uid.as_str()];
    assert_eq!((there.digest.as_deref(), there.pulled_at), (Some(OTHER_DIGEST), None));
}

#[test]
fn a_failed_image_does_not_hold_up_the_next() {
    let mut node = Node::working(&[image("a"), image("b")]);
    node.finish_pull(Err(failure(FailureScope::Image, FailureReason::NotFound)));
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    let failed = node.report().images[image("a").uid.as_str()].failure.clone().unwrap();
    assert_eq!((failed.reason, failed.attempts), (FailureReason::NotFound, 1));
}

#[test]
fn a_failing_registry_ends_its_own_images_only() {
    let mut elsewhere = image("elsewhere");
    elsewhere.reference = "other.test/elsewhere:1".to_owned();
    let mut node = Node::working(&[image("a"), image("b"), elsewhere]);
    node.finish_pull(Err(failure(FailureScope::Registry, FailureReason::TooManyRequests)));
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert_eq!(pulls(&node), ["a", "elsewhere"]);
    assert!(!node.report().images.contains_key(image("b").uid.as_str()), "b was not attempted");
}

#[test]
fn a_failing_node_ends_the_whole_grant() {
    let mut node = Node::working(&[image("a"), image("b")]);
    node.finish_pull(Err(failure(FailureScope::Node, FailureReason::DiskError)));
    node.apply(WriteKind::Finish);
    assert_eq!(pulls(&node), ["a"]);
    assert_eq!(node.report().grant.unwrap().reason, "the node failed: DiskError");
}

#[test]
fn attempts_are_counted_on_after_a_restart() {
    let mut node = Node::working(&[image("a")]);
    node.finish_pull(Err(failure(FailureScope::Image, FailureReason::NotFound)));
    node.apply(WriteKind::Finish);
    node.restart("process-2");
    node.see_lease();
    node.answer_list();
    node.issue(&grant(2, &[image("a")]));
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.finish_pull(Err(failure(FailureScope::Image, FailureReason::NotFound)));
    node.apply(WriteKind::Finish);
    assert_eq!(node.report().images[image("a").uid.as_str()].failure.as_ref().unwrap().attempts, 2);
}

#[test]
fn a_success_ends_the_count_of_failures() {
    let mut node = Node::working(&[image("a")]);
    node.finish_pull(Err(failure(FailureScope::Image, FailureReason::NotFound)));
    node.apply(WriteKind::Finish);
    node.issue(&grant(2, &[image("a")]));
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert_eq!(node.report().images[image("a").uid.as_str()].failure, None);
}

#[test]
fn a_withdrawn_grant_ends_after_the_image_in_flight() {
    let mut node = Node::working(&[image("a"), image("b")]);
    assert_eq!(node.withdraw(&[&image("b")]), []);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert_eq!(pulls(&node), ["a"]);
    assert_eq!(node.report().grant.unwrap().reason, "withdrawn: no longer wanted");
}

#[test]
fn a_withdrawn_grant_ends_at_once_if_nobody_wants_the_image_in_flight() {
    let mut node = Node::working(&[image("a"), image("b")]);
    let effects = node.withdraw(&[&image("a")]);
    assert!(matches!(effects[..], [Effect::CancelPull { .. }]), "{effects:?}");
    assert!(!node.writes().contains(&WriteKind::Finish), "the pull has not ended yet");
    node.finish_pull(Err(PullError::Cancelled));
    node.apply(WriteKind::Finish);
    assert_eq!(pulls(&node), ["a"]);
    assert!(node.report().images.is_empty(), "what was cancelled is no failure");
}

#[test]
fn what_is_said_of_a_failure_and_of_an_end_is_short() {
    let mut node = Node::working(&[image("a"), image("b")]);
    let withdrawal = Withdrawal { reason: "x".repeat(400), unwanted: vec![] };
    let mark = node.lease().mark_withdrawn_patch(withdrawal).unwrap();
    assert!(node.patch(&mark));
    node.see_lease();
    node.finish_pull(Err(PullError::Failed(Classified {
        scope: FailureScope::Image,
        reason: FailureReason::NotFound,
        message: "y".repeat(400),
        retry_after_seconds: None,
    })));
    node.apply(WriteKind::Finish);
    let report = node.report();
    assert_eq!(report.grant.unwrap().reason.len(), FAILURE_TEXT_MAX_BYTES - 1);
    let failure = report.images["uid-a"].failure.as_ref().unwrap();
    assert_eq!(failure.message.len(), FAILURE_TEXT_MAX_BYTES - 1);
}

#[test]
fn a_cancelled_pull_that_does_not_end_is_ended_by_the_kernel_though_its_grant_lives_on() {
    let mut node = Node::working(&[image("a")]);
    node.withdraw(&[&image("a")]);
    let armed = node.log.iter().filter(|effect| matches!(effect, Effect::ArmTimer { .. })).count();
    node.advance(secs(15));
    node.apply(WriteKind::Renew);
    assert_eq!(node.log.iter().filter(|effect| matches!(effect, Effect::ArmTimer { .. })).count(), armed);
    assert_eq!(node.count(&Effect::DisarmTimer), 0);
}

#[test]
fn a_pull_confirms_its_reference_for_every_image_that_names_it() {
    let mut twin = image("twin");
    twin.reference = image("a").reference;
    let mut node = Node::idle();
    node.step(Input::Catalog(catalog(2, &[image("a"), twin])));
    node.issue(&grant(1, &[image("a")]));
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert!(node.report().images["uid-a"].pulled_at.is_some());
    assert!(node.report().images["uid-twin"].pulled_at.is_some());
}

#[test]
fn what_a_grant_brings_is_told_though_the_catalog_lists_it_later_or_no_more() {
    let mut node = Node::idle();
    node.issue(&grant(1, &[image("a"), image("b"), image("c")]));
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.pull_succeeds();
    node.step(Input::Catalog(catalog(2, &[])));
    node.pull_succeeds();
    node.step(Input::Catalog(catalog(3, &[image("b")])));
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert_eq!(
        node.report().images.keys().map(|uid| &**uid).collect::<Vec<_>>(),
        ["uid-a", "uid-b", "uid-c"]
    );
    node.step(Input::Catalog(catalog(4, &[image("c")])));
    node.step(Input::DiskFree(10));
    node.advance(secs(10));
    node.apply(WriteKind::Report);
    assert_eq!(node.report().images.keys().map(|uid| &**uid).collect::<Vec<_>>(), ["uid-c"]);
}

#[test]
fn attempts_of_a_reference_that_was_edited_begin_anew() {
    let mut node = Node::working(&[image("a")]);
    node.finish_pull(Err(failure(FailureScope::Image, FailureReason::NotFound)));
    node.apply(WriteKind::Finish);
    let mut edited = image("a");
    edited.reference = "registry.test/a:2".to_owned();
    node.issue(&grant(2, &[edited]));
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.finish_pull(Err(failure(FailureScope::Image, FailureReason::NotFound)));
    node.apply(WriteKind::Finish);
    let entry = node.report().images["uid-a"].clone();
    assert_eq!((&*entry.reference, entry.failure.unwrap().attempts), ("registry.test/a:2", 1));
}

#[test]
fn what_another_process_of_the_node_reports_is_counted_on() {
    let mut node = Node::working(&[image("a")]);
    node.finish_pull(Err(failure(FailureScope::Image, FailureReason::NotFound)));
    node.apply(WriteKind::Finish);
    let mut report = node.report();
    report.agent = "pod-2".to_owned();
    report.images.get_mut("uid-a").unwrap().failure.as_mut().unwrap().attempts = 5;
    let patch = node.lease().report_patch(&report);
    assert!(node.patch(&patch));
    node.see_lease();
    node.issue(&grant(2, &[image("a")]));
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.finish_pull(Err(failure(FailureScope::Image, FailureReason::NotFound)));
    node.apply(WriteKind::Finish);
    assert_eq!(node.report().images["uid-a"].failure.as_ref().unwrap().attempts, 6);
}

#[test]
fn a_process_whose_report_is_on_its_way_waits_for_the_answer_before_it_ends() {
    let mut node = Node::idle();
    node.step(Input::DiskFree(10));
    let deadline = node.now().monotonic.after(secs(100));
    node.step(Input::Shutdown { deadline });
    assert_eq!(node.count(&Effect::Exit), 0);
    node.apply(WriteKind::Report);
    assert_eq!(node.count(&Effect::Exit), 1);
}

#[test]
fn on_shutdown_the_image_in_flight_is_finished_and_the_rest_given_back() {
    let mut node = Node::working(&[image("a"), image("b")]);
    let deadline = node.now().monotonic.after(secs(100));
    assert_eq!(node.step(Input::Shutdown { deadline }), []);
    node.pull_succeeds();
    assert_eq!(node.count(&Effect::Exit), 0);
    node.apply(WriteKind::Finish);
    assert_eq!(node.count(&Effect::Exit), 1);
    assert_eq!(node.lease().state(), GrantState::Ended(Outcome::Finished));
}

#[test]
fn a_pull_that_does_not_end_in_the_grace_period_is_cancelled_and_given_back() {
    let mut node = Node::working(&[image("a")]);
    let deadline = node.now().monotonic.after(secs(10));
    node.step(Input::Shutdown { deadline });
    node.advance(secs(8));
    node.finish_pull(Err(PullError::Cancelled));
    node.apply(WriteKind::Finish);
    assert_eq!(node.count(&Effect::Exit), 1);
}

#[test]
fn an_idle_agent_leaves_at_once_and_a_busy_one_at_its_deadline() {
    let mut node = Node::idle();
    let deadline = node.now().monotonic.after(secs(10));
    assert_eq!(node.step(Input::Shutdown { deadline }), [Effect::Exit]);
    let mut node = Node::working(&[image("a")]);
    let deadline = node.now().monotonic.after(secs(10));
    node.step(Input::Shutdown { deadline });
    node.advance(secs(10));
    assert_eq!(node.count(&Effect::Exit), 1);
}

#[test]
fn no_pull_starts_while_the_disk_is_low() {
    let mut node = Node::working(&[image("a"), image("b")]);
    node.step(Input::DiskFree(19));
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert_eq!(pulls(&node), ["a"]);
    let told = "low disk: 19 % of the image file system free, 20 % wanted";
    assert_eq!(node.report().grant.unwrap().reason, told);
    assert_eq!(node.report().low_disk.unwrap().free_percent, 19);
    node.issue(&grant(2, &[image("b")]));
    node.apply(WriteKind::Refuse);
    assert_eq!(node.report().grant.unwrap().outcome, Outcome::Refused);
    assert_eq!(node.report().grant.unwrap().reason, told);
    node.free_percent = Some(50);
    node.images_changed();
    node.apply(WriteKind::Report);
    assert_eq!(node.report().low_disk, None);
}

#[test]
fn a_pull_without_progress_is_ended_as_stuck() {
    let mut node = Node::working(&[image("a")]);
    let (pull, _) = node.open_pull();
    let minute = |node: &mut Node, mark| {
        node.step(Input::PullProgress { pull, mark });
        for _ in 0..4 {
            node.advance(secs(15));
            node.apply(WriteKind::Renew);
        }
    };
    for mark in 0..20 {
        minute(&mut node, mark);
    }
    assert!(!node.log.iter().any(|e| matches!(e, Effect::CancelPull { .. })), "it moved");
    for _ in 0..10 {
        minute(&mut node, 19);
    }
    assert!(node.log.iter().any(|e| matches!(e, Effect::CancelPull { .. })));
    node.finish_pull(Err(PullError::Cancelled));
    node.apply(WriteKind::Finish);
    let failure = node.report().images[image("a").uid.as_str()].failure.clone().unwrap();
    assert_eq!(failure.reason, FailureReason::Stuck);
    assert!(
        failure.message.ends_with("made no progress for 10 minutes and was ended"),
        "{}",
        failure.message
    );
}
