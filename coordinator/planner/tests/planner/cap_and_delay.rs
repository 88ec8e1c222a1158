//! `maxConcurrentNodes` and `minDelayBetweenPulls`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::rig::{Rig, SECOND};

fn rig(max: u32, delay: Duration) -> Rig {
    let mut rig = Rig::with_nodes(&["a", "b", "c", "d"]);
    rig.policy("p", max, delay);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig
}

#[test]
fn no_more_nodes_pull_than_the_policy_allows() {
    let mut rig = rig(2, SECOND);
    rig.run_with(30 * SECOND, |rig| {
        for node in ["a", "b", "c", "d"] {
            if rig.grant(node).is_some() {
                rig.take(node);
            }
        }
        assert!(rig.live().len() <= 2);
    });
    assert_eq!(rig.issued.len(), 2);
}

#[test]
fn starts_on_different_nodes_are_the_delay_apart_even_if_pulls_are_quicker() {
    let mut rig = rig(4, 7 * SECOND);
    rig.run_with(60 * SECOND, Rig::eager);
    let at: Vec<u64> = rig.issued.iter().map(|(at, ..)| at.since_start().as_secs()).collect();
    assert_eq!(at.len(), 4);
    assert!(at.windows(2).all(|w| w[1] - w[0] == 7), "{at:?}");
}

#[test]
fn with_a_tiny_delay_one_plan_starts_several_nodes() {
    let mut rig = rig(3, Duration::from_millis(50));
    let issues = loop {
        let plan = rig.step();
        if let Some(issues) = plan.issues.first() {
            break issues.clone();
        }
        rig.advance(SECOND / 10);
    };
    assert_eq!(issues.issues.len(), 3);
    assert_eq!(issues.delay, Duration::from_millis(50));
}

#[test]
fn a_lowered_cap_lets_running_grants_finish_and_starts_nobody() {
    let mut rig = rig(2, Duration::ZERO);
    rig.run(2 * SECOND);
    for node in ["a", "b"] {
        rig.take(node);
    }
    rig.policy("p", 1, Duration::ZERO);
    rig.run(5 * SECOND);
    assert_eq!(rig.live(), ["a", "b"]);
    rig.work("a", |_| Ok("sha256:one"));
    rig.run(5 * SECOND);
    assert_eq!(rig.live(), ["b"], "one slot is still taken");
}

#[test]
fn images_without_a_policy_share_one_node_at_a_time_ten_seconds_apart() {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    rig.image("app", |_| {});
    rig.run_with(60 * SECOND, Rig::eager);
    let at: Vec<u64> = rig.issued.iter().map(|(at, ..)| at.since_start().as_secs()).collect();
    assert!(at.len() == 3 && at.windows(2).all(|w| w[1] - w[0] == 10), "{at:?}");
}

#[test]
fn policies_do_not_wait_for_each_other() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.policy("p", 1, 5 * SECOND);
    rig.policy("q", 1, 5 * SECOND);
    rig.image("one", |image| image.policy = Some("p".to_owned()));
    rig.image("two", |image| image.policy = Some("q".to_owned()));
    rig.run(3 * SECOND);
    assert_eq!(rig.live(), ["a", "b"], "one node under each");
    assert_ne!(rig.grant("a").unwrap().policy, rig.grant("b").unwrap().policy);
}

#[test]
fn a_new_leader_waits_one_full_delay_before_its_first_issue() {
    let mut rig = rig(4, 20 * SECOND);
    rig.run_with(SECOND, Rig::eager);
    assert_eq!(rig.issued.len(), 1);
    rig.advance(15 * SECOND);
    rig.elect(2);
    let elected = rig.now.monotonic;
    while rig.issued.len() < 2 {
        rig.run_with(SECOND, Rig::eager);
    }
    assert!(rig.issued[1].0.since(elected) >= 20 * SECOND);
    assert_eq!(rig.issued[1].0.since(elected), 20 * SECOND, "and no longer");
}

#[test]
fn a_grant_withdrawn_before_it_was_taken_starts_no_delay() {
    let mut rig = rig(1, 30 * SECOND);
    rig.run(2 * SECOND);
    assert_eq!(rig.live(), ["a"]);
    rig.run(11 * SECOND);
    assert_eq!(rig.live(), ["b"], "a did not take it, and b need not wait for the delay");
}

#[test]
fn a_node_that_comes_back_under_its_name_is_a_different_node() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.policy("p", 1, 20 * SECOND);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run_with(3 * SECOND, Rig::eager);
    let first = rig.issued[0].0;
    rig.node("a", |node| node.uid = "another".to_owned());
    rig.run_with(40 * SECOND, Rig::eager);
    assert!(rig.issued[1].0.since(first) >= 20 * SECOND);
}

#[test]
fn no_two_grants_of_a_plan_have_the_same_id() {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    rig.policy("p", 3, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(3 * SECOND);
    assert_eq!(rig.live(), ["a", "b", "c"]);
    let ids: BTreeSet<_> = ["a", "b", "c"].iter().map(|node| rig.grant(node).unwrap().id.clone()).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
}
