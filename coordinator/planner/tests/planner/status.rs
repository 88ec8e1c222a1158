//! What people read.

use drop_planner::status::Phase;
use drop_protocol::failure::{FailureReason, FailureScope};

use crate::rig::{Rig, SECOND};

fn ready(rig: &Rig, image: &str) -> (String, String) {
    let condition = rig.status(image).condition("Ready").unwrap();
    (condition.reason.clone(), condition.message.clone())
}

fn events(rig: &Rig) -> Vec<&str> {
    rig.events.iter().map(|event| event.reason.as_str()).collect()
}

#[test]
fn a_missing_policy_is_named_and_the_image_heals_when_it_appears() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |image| image.policy = Some("slow".to_owned()));
    rig.run(30 * SECOND);
    let (reason, message) = ready(&rig, "app");
    assert_eq!(reason, "PolicyNotFound");
    assert!(message.contains("PullPolicy slow does not exist"), "{message}");
    assert!(rig.issued.is_empty(), "not pulled under the built-in policy");
    rig.policy("slow", 1, SECOND);
    rig.run_with(10 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").phase, Some(Phase::Ready));
}

#[test]
fn a_spec_that_can_t_be_acted_on_says_why_and_others_go_on() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("bad", |image| {
        image.problem = Some("spec.tag and spec.digest are both set: remove one".to_owned());
    });
    rig.image("good", |_| {});
    rig.run_with(30 * SECOND, Rig::eager);
    let (reason, message) = ready(&rig, "bad");
    assert_eq!(reason, "InvalidSpec");
    assert_eq!(message, "spec.tag and spec.digest are both set: remove one");
    assert_eq!(rig.status("good").ready, "1/1");
}

#[test]
fn failing_is_degraded_with_the_reason_and_goes_away_with_its_cause() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run_with(20 * SECOND, |rig| {
        if rig.grant("a").is_some() {
            rig.work("a", |_| Err((FailureScope::Image, FailureReason::Unauthorized)));
        }
    });
    assert_eq!(rig.status("app").phase, Some(Phase::Degraded));
    assert_eq!(ready(&rig, "app").0, "Unauthorized");
    assert_eq!(rig.status("app").failed_nodes[0].node, "a");
    assert_eq!(rig.status("app").consecutive_failures, 1);
    rig.run_with(40 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").phase, Some(Phase::Ready));
    assert_eq!(rig.status("app").failed_nodes_total, 0);
    assert_eq!(events(&rig), ["Unauthorized", "Recovered"]);
}

#[test]
fn a_node_that_fails_again_and_again_has_failed_since_the_first_time() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run(2 * SECOND);
    let first = rig.now.wall;
    rig.run_with(200 * SECOND, |rig| {
        if rig.grant("a").is_some() {
            rig.work("a", |_| Err((FailureScope::Image, FailureReason::Unauthorized)));
        }
    });
    let failed = &rig.status("app").failed_nodes[0];
    assert_eq!((failed.attempts, failed.since), (3, Some(first)));
}

#[test]
fn what_a_silent_node_reported_counts_for_five_minutes_and_then_is_missing() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.image("app", |_| {});
    rig.run_with(30 * SECOND, Rig::eager);
    rig.agent_ready("b", false);
    rig.run(299 * SECOND);
    assert_eq!(rig.status("app").ready, "2/2");
    rig.run(3 * SECOND);
    assert_eq!(rig.status("app").ready, "1/2");
    assert_eq!(rig.status("app").waiting[0].reason, "AgentNotReady");
    rig.agent_ready("b", true);
    rig.run(3 * SECOND);
    assert_eq!(rig.status("app").ready, "2/2");
    assert_eq!(rig.issued.len(), 2, "nothing is pulled for it");
}

#[test]
fn also_what_a_node_reported_that_is_not_ready_though_its_agent_is() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.image("app", |_| {});
    rig.run_with(30 * SECOND, Rig::eager);
    rig.node("b", |node| node.ready = false);
    rig.run(302 * SECOND);
    assert_eq!(rig.status("app").ready, "1/2");
    assert_eq!(rig.waiting()["app/b"], "AgentNotReady");
    assert_eq!(rig.issued.len(), 2, "nothing is pulled for it");
}

#[test]
fn an_eviction_shows_at_once_and_is_one_event() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.image("app", |_| {});
    rig.run_with(60 * SECOND, Rig::eager);
    rig.evicted("a", "app");
    rig.step();
    assert_eq!(rig.status("app").ready, "1/2");
    assert_ne!(rig.status("app").phase, Some(Phase::Ready));
    rig.run_with(30 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "2/2");
    assert_eq!(events(&rig), ["Cached", "Evicted"]);
}

#[test]
fn a_node_that_joins_makes_no_event() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run_with(30 * SECOND, Rig::eager);
    rig.node("b", |_| {});
    rig.run_with(30 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "2/2");
    assert_eq!(events(&rig), ["Cached"]);
}

#[test]
fn a_node_s_clock_that_runs_ahead_shows_no_time_in_the_future_and_causes_no_writes() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run_with(30 * SECOND, Rig::eager);
    let ahead = rig.now.wall + jiff::SignedDuration::from_hours(5);
    rig.entry("a", "app", |entry| entry.pulled_at = Some(ahead));
    rig.run(5 * SECOND);
    assert!(rig.status("app").last_pulled_at.unwrap() <= rig.now.wall);
    let writes = rig.statuses.len();
    rig.run(60 * SECOND);
    rig.elect(2);
    rig.run(60 * SECOND);
    assert_eq!(rig.statuses.len(), writes);
}

#[test]
fn transitions_are_dated_when_the_condition_changes_and_not_otherwise() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.image("app", |_| {});
    rig.run(3 * SECOND);
    let first = rig.status("app").condition("Ready").unwrap().last_transition_time;
    rig.run_with(30 * SECOND, |rig| {
        if rig.grant("a").is_some() {
            rig.work("a", |_| Ok("sha256:one"));
        }
        if rig.grant("b").is_some() {
            rig.take("b");
        }
    });
    let now = rig.status("app").condition("Ready").unwrap();
    assert_eq!((now.reason.as_str(), now.last_transition_time), ("InProgress", first));
}

/// So many nodes, with this much padding in their names, all of which hold the image `app`; and the names.
fn held_by(nodes: usize, padding: usize) -> (Rig, Vec<String>) {
    let mut rig = Rig::new();
    let names: Vec<String> = (0..nodes).map(|n| format!("node-{n:04}-{}", "x".repeat(padding))).collect();
    for name in &names {
        rig.node(name, |_| {});
    }
    rig.image("app", |image| image.pull_policy = drop_protocol::ImagePullPolicy::IfNotPresent);
    rig.run(2 * SECOND);
    for name in &names {
        rig.present(name, "app", "sha256:one");
    }
    (rig, names)
}

#[test]
fn a_status_for_five_thousand_nodes_stays_below_its_bound() {
    let (mut rig, _) = held_by(5000, 200);
    rig.run(30 * SECOND);
    let status = rig.status("app");
    assert_eq!(status.nodes_ready, 5000);
    let bytes: usize = status.cached_nodes.iter().map(|name| name.len() + 3).sum();
    assert!((300_000..460_000).contains(&bytes), "{bytes}");
}

#[test]
fn the_first_change_after_quiet_is_written_at_once_and_large_statuses_less_often() {
    let (mut rig, names) = held_by(2000, 100);
    rig.run(60 * SECOND);
    // 2,000 names of 110 bytes: about 220 KiB, and a second for every 20 of them.
    let mut written = Vec::new();
    rig.statuses.clear();
    for name in names.iter().take(60) {
        rig.present(name, "app", "sha256:two");
        rig.step();
        if !rig.statuses.is_empty() {
            rig.statuses.clear();
            written.push(rig.now.monotonic);
        }
        rig.advance(SECOND);
    }
    assert_eq!(rig.elapsed(written[0]), 60 * SECOND, "the first at once");
    let gaps: Vec<u64> = written.windows(2).map(|pair| pair[1].since(pair[0]).as_secs()).collect();
    assert!(gaps.iter().all(|gap| (10..=14).contains(gap)), "{gaps:?}");
    assert!(gaps.len() >= 3, "{gaps:?}");
}

#[test]
fn a_second_eviction_while_the_first_is_not_mended_makes_no_event() {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    rig.image("app", |_| {});
    rig.run_with(60 * SECOND, Rig::eager);
    for node in ["a", "b"] {
        rig.evicted(node, "app");
        rig.run(5 * SECOND);
    }
    assert_eq!(rig.status("app").ready, "1/3");
    assert_eq!(events(&rig), ["Cached", "Evicted"]);
}

#[test]
fn cached_nodes_are_the_right_ones_also_when_their_number_stays() {
    let mut rig = Rig::with_nodes(&["0", "a", "b"]);
    for node in ["0", "a", "b"] {
        rig.agent_ready(node, false);
    }
    rig.image("app", |image| image.pull_policy = drop_protocol::ImagePullPolicy::IfNotPresent);
    rig.run(5 * SECOND);
    rig.present("a", "app", "sha256:one");
    rig.run(15 * SECOND);
    assert_eq!(rig.status("app").cached_nodes, ["a".into()]);
    rig.entry("a", "app", |entry| entry.digest = None);
    rig.present("b", "app", "sha256:one");
    rig.run(15 * SECOND);
    assert_eq!(rig.status("app").cached_nodes, ["b".into()]);
}

#[test]
fn two_nodes_that_fail_in_different_ways_share_no_reason() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.image("app", |_| {});
    rig.run(SECOND);
    rig.failed("a", "app", FailureScope::Node, FailureReason::DiskError);
    rig.failed("b", "app", FailureScope::Registry, FailureReason::Timeout);
    rig.run(5 * SECOND);
    assert_eq!(ready(&rig, "app").0, "PullFailed");
}

#[test]
fn what_others_say_in_conditions_stays() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run_with(30 * SECOND, Rig::eager);
    let mut other = rig.status("app").condition("Ready").unwrap().clone();
    other.kind = "Audited".to_owned();
    rig.image("app", |image| image.status.conditions.push(other.clone()));
    rig.run(30 * SECOND);
    assert_eq!(rig.status("app").condition("Audited"), Some(&other));
}

#[test]
fn a_failed_attempt_is_the_last_one_attempted_and_not_the_last_one_pulled() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run(3 * SECOND);
    rig.work("a", |_| Err((FailureScope::Image, FailureReason::NotFound)));
    let at = rig.now.wall;
    rig.run(10 * SECOND);
    assert_eq!((rig.status("app").last_attempted_at, rig.status("app").last_pulled_at), (Some(at), None));
}

#[test]
fn the_digest_stays_known_after_the_last_node_has_lost_the_image() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run_with(10 * SECOND, Rig::eager);
    rig.agent_ready("a", false);
    rig.evicted("a", "app");
    rig.run(10 * SECOND);
    assert_eq!(
        (&*rig.status("app").ready, rig.status("app").resolved_digest.as_deref()),
        ("0/1", Some("sha256:one"))
    );
}

#[test]
fn a_pull_in_the_second_of_an_election_is_told_by_the_new_leader() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run(3 * SECOND);
    rig.pulled("a", "app", "sha256:one");
    let at = rig.now.wall;
    rig.elect(2);
    rig.run(20 * SECOND);
    assert_eq!(rig.status("app").last_pulled_at, Some(at));
}

#[test]
fn one_that_recovers_on_one_node_while_another_still_pulls_has_recovered_in_the_end() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.policy("p", 2, std::time::Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(3 * SECOND);
    rig.take("b");
    rig.work("a", |_| Err((FailureScope::Image, FailureReason::NotFound)));
    rig.run(10 * SECOND);
    assert_eq!(rig.status("app").phase, Some(Phase::Degraded));
    for _ in 0..60 {
        rig.run(SECOND);
        rig.renew("b");
        if rig.grant("a").is_some() {
            rig.work("a", |_| Ok("sha256:one"));
        }
    }
    assert_eq!((rig.status("app").phase, rig.status("app").nodes_ready), (Some(Phase::Pulling), 1));
    rig.pulled("b", "app", "sha256:one");
    rig.finish("b");
    rig.run(10 * SECOND);
    assert_eq!(rig.events.last().map(|event| event.reason.as_str()), Some("Recovered"));
}
