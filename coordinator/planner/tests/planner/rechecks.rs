//! Registries are asked again: at intervals, when a node brings the image along, after failures, by a new leader.

use std::time::Duration;

use drop_planner::CheckOutcome;
use drop_protocol::ImagePullPolicy::IfNotPresent;
use drop_protocol::failure::{FailureReason, FailureScope};

use crate::checks::{HOUR, MINUTE, UNAVAILABLE, confirmed, granted, rig, says};
use crate::rig::{Rig, SECOND};

#[test]
fn under_a_repull_interval_one_question_an_interval_stands_for_all_nodes() {
    let mut rig = confirmed(&["a", "b", "c"], Some(HOUR));
    rig.run_with(5 * HOUR + MINUTE, Rig::eager);
    assert_eq!(rig.checked.len(), 1 + 5);
    assert!(rig.issued.is_empty());
}

#[test]
fn a_repull_asks_for_images_that_are_only_to_be_present_too() {
    let mut rig = rig(&["a", "b"]);
    let mut policy = rig.policy("p", 10, Duration::ZERO);
    policy.repull_interval = Some(HOUR);
    rig.set_policy(policy);
    rig.image("app", |image| image.pull_policy = IfNotPresent);
    rig.registry_says("app", says("sha256:one"));
    for node in ["a", "b"] {
        rig.present(node, "app", "sha256:one");
    }
    rig.run_with(HOUR - MINUTE, Rig::eager);
    assert!(rig.checked.is_empty());
    rig.run_with(2 * MINUTE, Rig::eager);
    assert_eq!((rig.checked.len(), rig.issued.len()), (1, 0));
}

#[test]
fn when_the_tag_has_moved_the_nodes_that_lag_are_granted_and_stay_ready_meanwhile() {
    let mut rig = confirmed(&["a", "b", "c"], Some(HOUR));
    rig.registry_says("app", says("sha256:two"));
    rig.run(10 * MINUTE);
    // A pod brings the new one to one node.
    rig.present("c", "app", "sha256:two");
    let (before, checked) = (rig.statuses.len(), rig.checked.len());
    rig.run_with(HOUR + MINUTE, |rig| {
        for node in ["a", "b"] {
            if rig.grant(node).is_some() {
                rig.work(node, |image| {
                    assert!(image.refresh);
                    Ok("sha256:two")
                });
            }
        }
    });
    assert_eq!(granted(&rig), ["a", "b"]);
    assert_eq!(rig.checked.len() - checked, 2, "when it appeared, and an interval later");
    // What node c shows has to be confirmed, that is all.
    let rows: Vec<&str> = rig.statuses[before..].iter().map(|write| write.status.ready.as_str()).collect();
    assert!(rows.iter().all(|ready| ["2/3", "3/3"].contains(ready)), "{rows:?}");
    assert_eq!(rig.status("app").ready, "3/3");
    assert_eq!(rig.status("app").resolved_digest.as_deref(), Some("sha256:two"));
}

#[test]
fn a_failed_check_leaves_a_due_repull_to_the_nodes() {
    let mut rig = confirmed(&["a", "b"], Some(HOUR));
    rig.registry_says("app", UNAVAILABLE);
    let before = rig.statuses.len();
    rig.run_with(HOUR + MINUTE, Rig::eager);
    assert_eq!(granted(&rig), ["a", "b"]);
    assert!(rig.statuses[before..].iter().all(|write| write.status.ready == "2/2"), "never unready");
}

#[test]
fn a_registry_that_never_answers_is_left_alone_once_the_nodes_have_confirmed_the_image_themselves() {
    let mut rig = rig(&["a", "b"]);
    for reference in ["reg.test/app:1", "reg.test/app:2"] {
        rig.image("app", |image| image.reference = reference.to_owned());
        rig.registry_says("app", UNAVAILABLE);
        for node in ["a", "b"] {
            rig.present(node, "app", "sha256:one");
        }
        rig.run_with(20 * SECOND, Rig::eager);
        assert_eq!(rig.status("app").ready, "2/2");
    }
    rig.run(24 * HOUR);
    assert_eq!(rig.checked.len(), 2, "one question a reference, the second after the first one's backoff");
}

#[test]
fn behind_a_mirror_that_lags_a_node_pulls_once_and_no_more() {
    let mut rig = rig(&["a", "b"]);
    rig.registry_says("app", says("sha256:two"));
    for node in ["a", "b"] {
        rig.present(node, "app", "sha256:one");
    }
    // Their mirror gives the old digest.
    rig.run_with(12 * HOUR, Rig::eager);
    assert_eq!((rig.issued.len(), rig.checked.len()), (2, 1));
    assert_eq!(rig.status("app").ready, "2/2");
}

#[test]
fn nor_when_the_registry_says_the_same_again() {
    let mut rig = rig(&["a"]);
    rig.registry_says("app", says("sha256:two"));
    rig.present("a", "app", "sha256:one");
    rig.run_with(10 * MINUTE, Rig::eager);
    assert_eq!(granted(&rig), ["a"]);
    rig.node("b", |_| {});
    rig.run(SECOND);
    rig.present("b", "app", "sha256:two");
    rig.run_with(MINUTE, Rig::eager);
    assert_eq!((granted(&rig), rig.checked.len()), (vec!["a"], 2));
}

#[test]
fn behind_a_mirror_that_lags_a_repull_costs_a_pull_an_interval() {
    let mut rig = confirmed(&["a"], Some(HOUR));
    rig.registry_says("app", says("sha256:two"));
    rig.run_with(4 * HOUR + MINUTE, Rig::eager);
    assert!((4..=5).contains(&rig.issued.len()), "{:?}", rig.issued);
    assert!(rig.checked.len() <= 6, "{:?}", rig.checked);
}

#[test]
fn a_node_that_reports_nonsense_is_granted_once_and_makes_nobody_else_ask() {
    let mut rig = confirmed(&["a", "b"], None);
    rig.node("c", |_| {});
    rig.run(5 * SECOND);
    rig.present("c", "app", "garbage");
    rig.run_with(12 * HOUR, |rig| {
        if rig.grant("c").is_some() {
            rig.work("c", |_| Ok("more garbage"));
        }
    });
    assert_eq!(granted(&rig), ["c"]);
    assert_eq!(rig.status("app").ready, "3/3");
    assert!(rig.checked.len() <= 2, "{:?}", rig.checked);
}

#[test]
fn a_new_leader_keeps_what_the_registry_said() {
    let mut rig = confirmed(&["a", "b"], None);
    let before = rig.statuses.len();
    rig.elect(2);
    rig.run_with(HOUR, Rig::eager);
    assert_eq!((rig.checked.len(), rig.issued.len(), rig.statuses.len()), (1, 0, before));
}

#[test]
fn a_new_leader_knows_how_old_the_answer_is() {
    let mut rig = confirmed(&["a"], Some(HOUR));
    rig.run(HOUR / 2);
    rig.elect(2);
    rig.run(HOUR / 2 - MINUTE);
    assert_eq!(rig.checked.len(), 1);
    rig.run(2 * MINUTE);
    assert_eq!(rig.checked.len(), 2);
}

#[test]
fn an_edit_of_the_reference_voids_the_answer() {
    let mut rig = confirmed(&["a"], None);
    rig.image("app", |image| image.reference = "reg.test/app:2".to_owned());
    rig.registry_says("app", CheckOutcome::Unknown);
    rig.run(3 * SECOND);
    rig.present("a", "app", "sha256:one");
    rig.run(3 * SECOND);
    assert_eq!(rig.status("app").ready, "0/1", "the new tag was not confirmed by anybody");
    assert_eq!(rig.status("app").registry_check, None);
    assert_eq!(rig.granted("a"), ["app"]);
}

#[test]
fn an_edit_of_anything_else_keeps_the_answer_also_across_a_change_of_leader() {
    let mut rig = confirmed(&["a"], None);
    rig.image("app", |image| image.priority = 7);
    rig.elect(2);
    rig.run(MINUTE);
    assert_eq!((rig.status("app").ready.as_str(), rig.checked.len()), ("1/1", 1));
}

#[test]
fn a_node_that_held_what_the_registry_said_before_stays_ready_and_catches_up_once() {
    let mut rig = confirmed(&["a"], None);
    rig.registry_says("app", says("sha256:two"));
    rig.run(10 * MINUTE);
    assert_eq!(rig.checked.len(), 1);
    // A new node brings the image along: whether it is still the right one, nobody knows.
    rig.node("b", |_| {});
    rig.run(SECOND);
    rig.present("b", "app", "sha256:one");
    let before = rig.statuses.len();
    rig.run_with(MINUTE, |rig| {
        for node in ["a", "b"] {
            if rig.grant(node).is_some() {
                rig.work(node, |_| Ok("sha256:two"));
            }
        }
    });
    assert_eq!((granted(&rig), rig.checked.len()), (vec!["a", "b"], 2));
    let rows: Vec<&str> = rig.statuses[before..].iter().map(|write| write.status.ready.as_str()).collect();
    assert!(rows.iter().all(|ready| *ready == "2/2"), "never unready: {rows:?}");
    rig.elect(2);
    rig.run(HOUR);
    assert_eq!((rig.issued.len(), rig.checked.len()), (2, 2));
}

#[test]
fn an_answer_is_good_for_nodes_that_bring_the_image_within_five_minutes() {
    let mut rig = confirmed(&["a"], None);
    for n in 0..40 {
        let name = format!("b{n:02}");
        rig.node(&name, |_| {});
        rig.run(SECOND);
        rig.present(&name, "app", "sha256:one");
        rig.run(29 * SECOND);
    }
    assert_eq!(rig.status("app").ready, "41/41");
    assert!(rig.issued.is_empty());
    assert!((3..=5).contains(&rig.checked.len()), "{:?}", rig.checked);
}

#[test]
fn a_failure_that_the_registrys_word_came_after_is_not_told_any_more() {
    let mut rig = rig(&["a", "b"]);
    rig.registry_says("app", UNAVAILABLE);
    for node in ["a", "b"] {
        rig.present(node, "app", "sha256:one");
    }
    let fail = |rig: &mut Rig| {
        for node in ["a", "b"] {
            if rig.grant(node).is_some() {
                rig.work(node, |_| Err((FailureScope::Registry, FailureReason::Timeout)));
            }
        }
    };
    rig.run_with(20 * SECOND, fail);
    assert_eq!(rig.status("app").failed_nodes_total, 2);
    rig.registry_says("app", says("sha256:one"));
    rig.run_with(10 * MINUTE, fail);
    let status = rig.status("app");
    assert_eq!((status.ready.as_str(), status.failed_nodes_total), ("2/2", 0));
    assert_eq!(status.condition("Ready").unwrap().message, "cached on 2 nodes");
    rig.elect(2);
    rig.run(HOUR);
    assert_eq!(rig.status("app").failed_nodes_total, 0);
}

#[test]
fn one_that_came_after_the_registrys_word_is_told_by_a_new_leader_too() {
    let mut rig = confirmed(&["a"], Some(HOUR));
    rig.registry_says("app", UNAVAILABLE);
    rig.run_with(HOUR, |rig| {
        if rig.grant("a").is_some() {
            rig.work("a", |_| Err((FailureScope::Registry, FailureReason::Timeout)));
        }
    });
    rig.run(5 * SECOND);
    assert_eq!(rig.status("app").failed_nodes_total, 1);
    rig.elect(2);
    rig.run(MINUTE);
    assert_eq!(rig.status("app").failed_nodes_total, 1);
}
