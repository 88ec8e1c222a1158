//! Whom a failure holds up, and for how long.

use std::time::Duration;

use drop_protocol::failure::{FailureReason, FailureScope};

use crate::rig::{Rig, SECOND};

const NOT_FOUND: (FailureScope, FailureReason) = (FailureScope::Image, FailureReason::NotFound);
const REFUSED: (FailureScope, FailureReason) = (FailureScope::Registry, FailureReason::ConnectionRefused);
const PLATFORM: (FailureScope, FailureReason) = (FailureScope::Platform, FailureReason::NoMatchingPlatform);
const BROKEN: (FailureScope, FailureReason) = (FailureScope::Node, FailureReason::RuntimeError);

/// Nodes n0…, policy with room for one of them at a time, no delay.
fn rig(nodes: usize, images: &[&str]) -> Rig {
    let mut rig = Rig::with_many(nodes);
    rig.policy("p", 1, Duration::ZERO);
    for image in images {
        rig.image(image, |image| image.policy = Some("p".to_owned()));
    }
    rig
}

/// Lets agents fail the images that `fails` names, for so long; returns who tried which image when.
fn attempts(
    rig: &mut Rig,
    time: Duration,
    fails: impl Fn(&str, &str) -> Option<(FailureScope, FailureReason)>,
) -> Vec<(u64, String, String)> {
    let start = rig.now.monotonic;
    let mut tried = Vec::new();
    rig.run_with(time, |rig| {
        let nodes: Vec<String> = rig.live().iter().map(|node| (*node).to_owned()).collect();
        for node in nodes {
            for image in rig.granted(&node) {
                tried.push((rig.elapsed(start).as_secs(), node.clone(), image.to_owned()));
            }
            rig.work(&node, |image| fails(&node, &image.name).map_or(Ok("sha256:one"), Err));
        }
    });
    tried
}

#[test]
fn a_failed_pair_is_due_again_after_a_doubling_delay() {
    let mut rig = rig(1, &["app"]);
    let tried = attempts(&mut rig, 800 * SECOND, |_, _| Some(BROKEN));
    let at: Vec<u64> = tried.iter().map(|(at, ..)| *at).collect();
    let gaps: Vec<u64> = at.windows(2).map(|w| w[1] - w[0]).collect();
    assert_eq!(gaps, [30, 60, 120, 240, 300], "{at:?}");
}

#[test]
fn a_failing_node_holds_up_nobody() {
    let mut rig = rig(3, &["app", "tool"]);
    attempts(&mut rig, 60 * SECOND, |node, _| (node == "n0").then_some(BROKEN));
    for image in ["app", "tool"] {
        assert_eq!(rig.status(image).ready, "2/3");
    }
}

#[test]
fn an_image_that_fails_on_two_nodes_is_tried_by_one_node_at_a_time_a_different_one_each_time() {
    let mut rig = rig(6, &["bad"]);
    let tried = attempts(&mut rig, 400 * SECOND, |_, _| Some(NOT_FOUND));
    let nodes: Vec<&str> = tried.iter().map(|(_, node, _)| node.as_str()).collect();
    assert_eq!(nodes[..5], ["n0", "n1", "n2", "n3", "n4"], "{tried:?}");
    let at: Vec<u64> = tried.iter().map(|(at, ..)| *at).collect();
    assert!(at[1] - at[0] <= 1, "two nodes try at once: {tried:?}");
    assert!(at[2] - at[1] >= 30 && at[3] - at[2] >= 60, "then one probe at growing intervals: {tried:?}");
    assert_eq!(rig.waiting()["bad/n5"], "WaitingForProbe");
}

#[test]
fn a_bad_image_does_not_hold_up_a_good_one() {
    let mut rig = rig(4, &["bad", "good"]);
    attempts(&mut rig, 30 * SECOND, |_, image| (image == "bad").then_some(NOT_FOUND));
    assert_eq!(rig.status("good").ready, "4/4");
}

#[test]
fn any_success_releases_an_image_for_all() {
    let mut rig = rig(6, &["app"]);
    attempts(&mut rig, 10 * SECOND, |_, _| Some(NOT_FOUND));
    assert_eq!(rig.waiting()["app/n5"], "WaitingForProbe");
    attempts(&mut rig, 300 * SECOND, |_, _| None);
    assert_eq!(rig.status("app").ready, "6/6");
    assert_eq!(rig.status("app").consecutive_failures, 0);
}

#[test]
fn a_failure_on_one_node_alone_holds_up_no_other() {
    let mut rig = rig(4, &["app"]);
    attempts(&mut rig, 20 * SECOND, |node, _| (node == "n0").then_some(NOT_FOUND));
    assert_eq!(rig.status("app").ready, "3/4");
}

#[test]
fn after_a_failure_on_one_node_alone_the_others_pull_together() {
    let mut rig = rig(1, &["app"]);
    attempts(&mut rig, 5 * SECOND, |_, _| Some(NOT_FOUND));
    rig.policy("p", 4, Duration::ZERO);
    for node in ["n1", "n2", "n3"] {
        rig.node(node, |_| {});
    }
    rig.run(5 * SECOND);
    assert_eq!(rig.live(), ["n1", "n2", "n3"]);
}

#[test]
fn how_often_one_node_alone_has_failed_does_not_keep_the_others_waiting() {
    let mut rig = rig(1, &["app"]);
    attempts(&mut rig, 1000 * SECOND, |_, _| Some(NOT_FOUND));
    rig.node("n1", |_| {});
    attempts(&mut rig, 5 * SECOND, |_, _| Some(NOT_FOUND));
    rig.node("n2", |_| {});
    rig.run(35 * SECOND);
    assert_eq!(rig.live(), ["n2"]);
}

#[test]
fn while_one_node_probes_nobody_else_does_and_its_success_lets_all_others_pull_together() {
    let mut rig = rig(6, &["app"]);
    rig.policy("p", 6, Duration::ZERO);
    attempts(&mut rig, 5 * SECOND, |_, _| Some(NOT_FOUND));
    rig.run_with(400 * SECOND, |rig| {
        let probing: Vec<String> = rig.live().iter().map(|node| (*node).to_owned()).collect();
        for node in &probing {
            rig.take(node);
        }
        assert!(probing.len() <= 1, "{probing:?}");
    });
    assert_eq!(rig.live(), ["n0"]);
    rig.work("n0", |_| Ok("sha256:one"));
    rig.run(SECOND);
    assert_eq!(rig.live(), ["n1", "n2", "n3", "n4", "n5"]);
}

#[test]
fn a_node_that_has_pulled_the_image_and_goes_on_with_others_is_no_probe() {
    let mut rig = rig(4, &["app", "other"]);
    rig.policy("p", 4, Duration::ZERO);
    rig.image("other", |image| image.reference = "other.test/other:1".to_owned());
    rig.run(SECOND);
    rig.take("n0");
    rig.pulled("n0", "app", "sha256:one");
    rig.run(SECOND);
    for node in ["n1", "n2", "n3"] {
        rig.work(node, |image| if image.name == "app" { Err(REFUSED) } else { Ok("sha256:one") });
    }
    let mut probed = false;
    rig.run_with(90 * SECOND, |rig| {
        rig.renew("n0");
        probed |= rig.live().len() > 1;
    });
    assert_eq!(rig.granted("n0"), ["app", "other"], "it goes on all the time");
    assert!(probed);
}

#[test]
fn another_attempt_is_under_way_for_a_new_leader_too() {
    let mut rig = rig(1, &["app"]);
    attempts(&mut rig, 5 * SECOND, |_, _| Some(BROKEN));
    rig.run(30 * SECOND);
    rig.take("n0");
    rig.elect(2);
    rig.run(SECOND);
    assert_eq!(rig.live(), ["n0"]);
    assert_eq!(rig.waiting().get("app/n0"), None);
}

#[test]
fn a_missing_platform_holds_up_only_nodes_of_that_architecture() {
    let mut rig = rig(6, &["app"]);
    for node in ["n0", "n1", "n2"] {
        rig.node(node, |node| node.architecture = "arm64".to_owned());
    }
    let arm = ["n0", "n1", "n2"];
    attempts(&mut rig, 20 * SECOND, |node, _| arm.contains(&node).then_some(PLATFORM));
    assert_eq!(rig.status("app").ready, "3/6");
    assert_eq!(rig.waiting()["app/n2"], "WaitingForPlatformProbe");
}

#[test]
fn a_failing_registry_gets_one_probe_at_a_time_and_other_hosts_go_on() {
    let mut rig = rig(5, &["app", "tool"]);
    rig.image("other", |image| {
        image.policy = Some("p".to_owned());
        image.reference = "other.test/other:1".to_owned();
    });
    let down = |_: &str, image: &str| (image != "other").then_some(REFUSED);
    attempts(&mut rig, 25 * SECOND, down);
    assert_eq!(rig.status("other").ready, "5/5");
    let waiting = rig.waiting();
    assert_eq!(waiting["app/n4"], "WaitingForRegistryProbe");
    assert_eq!(waiting["tool/n4"], "WaitingForRegistryProbe");
    let tried = attempts(&mut rig, 30 * SECOND, down);
    let nodes: std::collections::BTreeSet<&str> = tried.iter().map(|(_, node, _)| node.as_str()).collect();
    assert_eq!(nodes.len(), 1, "one node probes: {tried:?}");
    attempts(&mut rig, 400 * SECOND, |_, _| None);
    assert_eq!((rig.status("app").ready.as_str(), rig.status("tool").ready.as_str()), ("5/5", "5/5"));
}

#[test]
fn what_a_registry_asks_to_wait_is_honoured() {
    let mut rig = rig(1, &["app"]);
    rig.run(2 * SECOND);
    rig.take("n0");
    rig.failed("n0", "app", FailureScope::Registry, FailureReason::TooManyRequests);
    rig.entry("n0", "app", |entry| {
        entry.failure.as_mut().unwrap().retry_after_seconds = Some(600);
    });
    rig.finish("n0");
    rig.run(599 * SECOND);
    assert!(rig.live().is_empty());
    rig.run(2 * SECOND);
    assert_eq!(rig.live(), ["n0"]);
}

#[test]
fn what_is_asked_for_by_others_than_registries_lengthens_no_wait() {
    let mut rig = rig(1, &["app"]);
    rig.run(2 * SECOND);
    rig.take("n0");
    rig.failed("n0", "app", FailureScope::Image, FailureReason::Unauthorized);
    rig.entry("n0", "app", |entry| {
        entry.failure.as_mut().unwrap().retry_after_seconds = Some(600);
    });
    rig.finish("n0");
    rig.run(31 * SECOND);
    assert_eq!(rig.live(), ["n0"]);
}

#[test]
fn an_image_that_is_evicted_all_the_time_is_pulled_once_a_day() {
    let mut rig = rig(1, &["app"]);
    rig.run_with(5 * SECOND, Rig::eager);
    rig.evicted("n0", "app");
    rig.entry("n0", "app", |entry| entry.evictions.as_mut().unwrap().count = 40);
    rig.step();
    rig.advance(24 * 3600 * SECOND - SECOND);
    rig.step();
    assert!(rig.live().is_empty());
    rig.advance(SECOND);
    rig.step();
    assert_eq!(rig.live(), ["n0"]);
}

#[test]
fn a_node_on_which_everything_fails_tries_one_image_at_a_time_and_never_starves_a_good_one() {
    let mut rig = rig(1, &["a", "b", "c", "good"]);
    let bad =
        |_: &str, image: &str| (image != "good").then_some((FailureScope::Node, FailureReason::ErrImagePull));
    let tried = attempts(&mut rig, 600 * SECOND, bad);
    assert_eq!(rig.status("good").ready, "1/1", "{tried:?}");
}

#[test]
fn an_edit_is_tried_at_once() {
    let mut rig = rig(1, &["app"]);
    attempts(&mut rig, 200 * SECOND, |_, _| Some(NOT_FOUND));
    assert_eq!(rig.waiting()["app/n0"], "BackingOff");
    let until = rig.plan().waiting.reason("app", "n0").unwrap().until();
    assert!(until > Some(rig.now.monotonic), "{until:?}");
    rig.image("app", |image| image.secrets = vec!["creds".to_owned()]);
    rig.run(SECOND);
    assert_eq!(rig.live(), ["n0"]);
}

#[test]
fn an_evicted_image_is_pulled_at_once_and_then_after_a_doubling_delay() {
    let mut rig = rig(1, &["app"]);
    rig.run_with(5 * SECOND, Rig::eager);
    for expected in [0, 30, 60, 120] {
        rig.evicted("n0", "app");
        let start = rig.now.monotonic;
        while rig.live().is_empty() {
            rig.step();
            if rig.live().is_empty() {
                rig.advance(SECOND);
            }
        }
        assert_eq!(rig.elapsed(start).as_secs(), expected);
        rig.eager();
        rig.run(SECOND);
    }
}

#[test]
fn a_full_disk_stops_pulls_on_its_node_alone() {
    let mut rig = rig(2, &["app"]);
    rig.report("n0", |report| {
        report.low_disk = Some(drop_protocol::LowDisk { free_percent: 10, wanted_percent: 20 });
    });
    rig.run_with(20 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "1/2");
    assert_eq!(rig.waiting()["app/n0"], "LowDisk");
    rig.report("n0", |report| report.low_disk = None);
    rig.run_with(5 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "2/2");
}

#[test]
fn a_busy_node_is_not_waited_for_as_the_next_probe() {
    let mut rig = rig(2, &["bad"]);
    attempts(&mut rig, 5 * SECOND, |_, _| Some(NOT_FOUND));
    rig.policy("q", 1, Duration::ZERO);
    rig.node("n2", |node| drop(node.labels.insert("pool".to_owned(), "x".to_owned())));
    rig.image("long", |image| {
        image.policy = Some("q".to_owned());
        image.node_selector.insert("pool".to_owned(), "x".to_owned());
    });
    rig.run(8 * SECOND);
    assert_eq!(rig.granted("n2"), ["long"]);
    rig.take("n2");
    rig.node("n3", |_| {});
    rig.run(30 * SECOND);
    assert!(rig.issued.iter().any(|(.., node)| node == "n3"), "{:?}", rig.issued);
}

#[test]
fn at_due_checks_too_a_failing_registry_gets_one_probe_at_a_time() {
    let mut rig = rig(5, &["app"]);
    let mut policy = rig.policy("p", 1, Duration::ZERO);
    policy.repull_interval = Some(3600 * SECOND);
    rig.set_policy(policy);
    attempts(&mut rig, 3590 * SECOND, |_, _| None);
    assert_eq!(rig.status("app").ready, "5/5");
    let tried = attempts(&mut rig, 30 * SECOND, |_, _| Some(REFUSED));
    assert_eq!(tried.len(), 2, "{tried:?}");
    assert_eq!(rig.waiting()["app/n4"], "WaitingForRegistryProbe");
}

#[test]
fn a_node_that_fails_with_two_images_tries_no_third_and_others_pull() {
    let mut rig = rig(1, &["a", "b", "c"]);
    attempts(&mut rig, 2 * SECOND, |_, _| Some(BROKEN));
    assert_eq!(rig.waiting()["c/n0"], "WaitingForNodeProbe");
    rig.node("n1", |_| {});
    rig.run(5 * SECOND);
    assert_eq!(rig.granted("n1"), ["a", "b", "c"]);
}

#[test]
fn a_failure_under_a_grant_that_was_taken_back_counts_as_one_that_was_asked_for() {
    let mut rig = Rig::with_many(3);
    rig.policy("p", 2, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.agent_ready("n2", false);
    rig.run(2 * SECOND);
    assert_eq!(rig.live(), ["n0", "n1"]);
    rig.work("n0", |_| Err(NOT_FOUND));
    rig.run(15 * SECOND);
    assert!(rig.live().is_empty(), "n1 has not taken it");
    rig.failed("n1", "app", NOT_FOUND.0, NOT_FOUND.1);
    rig.agent_ready("n2", true);
    rig.run(SECOND);
    assert_eq!(rig.waiting()["app/n2"], "WaitingForProbe");
}

#[test]
fn each_grant_that_fails_counts_anew() {
    let mut rig = Rig::with_many(4);
    rig.policy("p", 4, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.agent_ready("n3", false);
    rig.run(2 * SECOND);
    rig.work("n0", |_| Err(NOT_FOUND));
    rig.run(SECOND);
    rig.work("n1", |_| Ok("sha256:one"));
    rig.take("n2");
    // The success has released the first failure; what comes now is another.
    while rig.grant("n0").is_none() {
        rig.run(SECOND);
        rig.renew("n2");
    }
    rig.work("n0", |_| Err(NOT_FOUND));
    rig.run(SECOND);
    rig.failed("n2", "app", NOT_FOUND.0, NOT_FOUND.1);
    rig.finish("n2");
    rig.agent_ready("n3", true);
    rig.run(SECOND);
    assert_eq!(rig.waiting()["app/n3"], "WaitingForProbe");
}

#[test]
fn what_was_reported_before_the_node_was_seen_counts_with_the_next_report() {
    let mut rig = rig(1, &["app", "other"]);
    rig.run(SECOND);
    rig.take("n0");
    rig.failed("n0", "app", NOT_FOUND.0, NOT_FOUND.1);
    let node = rig.world.cluster.nodes.remove("n0").unwrap();
    rig.elect(2);
    rig.plan();
    rig.world.cluster.nodes.insert("n0".to_owned(), node);
    rig.pulled("n0", "other", "sha256:one");
    rig.finish("n0");
    rig.run(SECOND);
    assert_eq!(rig.waiting()["app/n0"], "BackingOff");
}

#[test]
fn what_two_nodes_were_told_to_wait_is_waited_by_all() {
    let mut rig = rig(3, &["app"]);
    rig.policy("p", 2, Duration::ZERO);
    rig.agent_ready("n2", false);
    rig.run(2 * SECOND);
    for node in ["n0", "n1"] {
        rig.work(node, |_| Err(REFUSED));
        rig.entry(node, "app", |entry| entry.failure.as_mut().unwrap().retry_after_seconds = Some(200));
    }
    rig.agent_ready("n2", true);
    let issued = rig.issued.len();
    rig.run(190 * SECOND);
    assert_eq!(rig.issued.len(), issued, "{:?}", rig.waiting());
    rig.run(20 * SECOND);
    assert_eq!(rig.issued.len(), issued + 1);
}
