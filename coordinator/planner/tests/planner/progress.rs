//! What people read while nodes pull, and how often it is written.

use std::time::Duration;

use drop_planner::status::Phase;
use drop_protocol::failure::{FailureReason, FailureScope};

use crate::rig::{Rig, SECOND};

#[test]
fn it_is_pulling_from_the_first_grant_on_until_all_have_it() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    for node in ["a", "b"] {
        rig.agent_ready(node, false);
    }
    rig.image("app", |_| {});
    rig.run(15 * SECOND);
    assert_eq!(rig.status("app").phase, Some(Phase::Pending));
    rig.agent_ready("a", true);
    rig.run(3 * SECOND);
    rig.take("a");
    rig.run(15 * SECOND);
    assert_eq!((rig.status("app").ready.as_str(), rig.status("app").phase), ("0/2", Some(Phase::Pulling)));
    rig.work("a", |_| Ok("sha256:one"));
    rig.run(15 * SECOND);
    assert_eq!((rig.status("app").ready.as_str(), rig.status("app").phase), ("1/2", Some(Phase::Pulling)));
}

#[test]
fn while_a_grant_is_worked_on_each_of_its_images_shows_how_far_it_is() {
    let mut rig = Rig::with_nodes(&["a"]);
    for image in ["one", "two", "three"] {
        rig.image(image, |_| {});
    }
    rig.run(3 * SECOND);
    rig.take("a");
    rig.pulled("a", "one", "sha256:one");
    rig.failed("a", "two", FailureScope::Image, FailureReason::NotFound);
    rig.run(15 * SECOND);
    let shown = ["one", "two", "three"].map(|image| {
        let status = rig.status(image);
        (status.nodes_ready, status.nodes_failing, status.nodes_pulling)
    });
    assert_eq!(shown, [(1, 0, 0), (0, 1, 0), (0, 0, 1)]);
}

#[test]
fn progress_tells_from_two_seconds_on_how_long_the_delay_makes_it_last() {
    let mut rig = Rig::with_nodes(&["a", "b", "c", "d"]);
    rig.policy("p", 1, SECOND);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(2 * SECOND);
    rig.take("a");
    rig.run(15 * SECOND);
    let progress = rig.status("app").condition("PullProgress").unwrap();
    assert_eq!(progress.message, "pulling on 1 node, 0/4 done; 3 nodes left, at least 2 s at 1 node per 1s");
}

#[test]
fn progress_tells_what_stands_in_the_way_of_others_also_when_nobody_is_in_line() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.agent_ready("b", false);
    rig.image("app", |_| {});
    rig.run(3 * SECOND);
    rig.take("a");
    rig.run(15 * SECOND);
    let progress = rig.status("app").condition("PullProgress").unwrap();
    assert_eq!(
        progress.message,
        "pulling on 1 node, 0/2 done; b has no ready agent: see the drop-agent Pod there"
    );
}

/// Nobody pulls yet: `a` waits for the delay, and `b` has no agent.
fn nobody_pulls_yet() -> Rig {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.agent_ready("b", false);
    rig.policy("p", 1, 120 * SECOND);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(20 * SECOND);
    rig
}

#[test]
fn also_while_nobody_pulls_yet() {
    let rig = nobody_pulls_yet();
    let progress = rig.status("app").condition("PullProgress").unwrap();
    assert_eq!(
        progress.message,
        "nothing is being pulled, 0/2 done; 1 node left; b has no ready agent: see the drop-agent Pod there"
    );
}

#[test]
fn while_nodes_report_one_after_another_writes_are_spaced() {
    let mut rig = Rig::with_many(50);
    rig.policy("p", 50, Duration::from_millis(200));
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run_with(20 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "50/50");
    assert!(rig.statuses.len() <= 8, "{}", rig.statuses.len());
}

#[test]
fn while_more_is_soon_to_be_told_progress_is_written_every_ten_seconds() {
    let mut rig = Rig::with_many(100);
    rig.policy("p", 5, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(5 * SECOND);
    rig.statuses.clear();
    let start = rig.now.monotonic;
    rig.run_with(60 * SECOND, |rig| {
        // A pull takes some seconds.
        if rig.elapsed(start).as_secs() % 4 == 3 {
            rig.eager();
        }
    });
    assert!(rig.status("app").nodes_ready > 50, "{}", rig.status("app").ready);
    assert!((5..=8).contains(&rig.statuses.len()), "{}", rig.statuses.len());
}

#[test]
fn a_new_pace_changes_no_status_but_those_that_tell_of_it() {
    let mut rig = Rig::with_nodes(&["a", "b", "c"]);
    let mut policy = rig.policy("p", 1, 10 * SECOND);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run_with(60 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "3/3");
    rig.statuses.clear();
    policy.min_delay = 20 * SECOND;
    rig.set_policy(policy);
    rig.run(30 * SECOND);
    assert!(rig.statuses.is_empty(), "{:?}", rig.statuses);
}

#[test]
fn a_rollout_that_waits_for_its_delay_writes_no_more_than_it_has_to_tell() {
    let mut rig = Rig::with_many(20);
    rig.policy("p", 1, 60 * SECOND);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run_with(65 * SECOND, Rig::eager);
    let progress = |rig: &Rig| rig.status("app").condition("PullProgress").unwrap().message.clone();
    assert!(progress(&rig).contains("nodes left, at least"), "{}", progress(&rig));
    rig.statuses.clear();
    rig.run_with(600 * SECOND, Rig::eager);
    // Ten nodes began and were done: two statuses each, whatever the figure in the message.
    assert!((18..=22).contains(&rig.statuses.len()), "{}", rig.statuses.len());
}

#[test]
fn what_waits_for_its_turn_is_in_progress_whatever_stands_in_the_way_of_others() {
    let mut rig = nobody_pulls_yet();
    assert_eq!(rig.waiting()["app/a"], "MinDelay");
    assert_eq!(rig.status("app").condition("Ready").unwrap().reason, "InProgress");
}
