//! `repullInterval`, and nodes that lag behind a moved tag.

use std::time::Duration;

use drop_planner::cluster::CachedImage;
use drop_protocol::ImagePullPolicy;
use drop_protocol::failure::{FailureReason, FailureScope};

use crate::rig::{Rig, SECOND};

const HOUR: Duration = Duration::from_secs(3600);

fn rig(nodes: &[&str], repull: Option<Duration>) -> Rig {
    let mut rig = Rig::with_nodes(nodes);
    let mut policy = rig.policy("p", 10, Duration::ZERO);
    policy.repull_interval = repull;
    rig.set_policy(policy);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run_with(10 * SECOND, Rig::eager);
    rig
}

#[test]
fn each_pair_is_checked_again_one_interval_after_its_last_pull() {
    let mut rig = rig(&["a", "b"], Some(HOUR));
    let first = rig.issued.len();
    rig.run_with(HOUR - 60 * SECOND, Rig::eager);
    assert_eq!(rig.issued.len(), first);
    rig.run_with(60 * SECOND, Rig::eager);
    assert_eq!(rig.issued.len(), first + 2);
    assert!(rig.statuses.iter().skip(2).all(|write| write.status.ready == "2/2"), "never unready");
}

#[test]
fn a_due_check_asks_the_registry_though_the_image_is_there() {
    let mut rig = rig(&["a"], Some(HOUR));
    rig.image("app", |image| image.pull_policy = ImagePullPolicy::IfNotPresent);
    rig.run(HOUR);
    assert!(rig.grant("a").unwrap().images[0].refresh);
}

#[test]
fn what_is_being_checked_waits_for_nothing_also_for_a_new_leader() {
    let mut rig = rig(&["a"], Some(HOUR));
    while rig.live().is_empty() {
        rig.run(SECOND);
    }
    rig.take("a");
    rig.run(SECOND);
    assert!(rig.waiting().is_empty());
    rig.elect(2);
    rig.run(SECOND);
    assert!(rig.waiting().is_empty());
}

#[test]
fn without_an_interval_nothing_is_pulled_again() {
    let mut rig = rig(&["a"], None);
    let first = rig.issued.len();
    rig.run(100 * HOUR / 100);
    assert_eq!(rig.issued.len(), first);
}

#[test]
fn what_names_exact_content_and_what_is_never_pulled_is_not_checked_again() {
    let mut rig = rig(&["a"], Some(HOUR));
    let pinned = format!("reg.test/app@sha256:{}", "0".repeat(64));
    rig.image("app", |image| image.reference = pinned);
    rig.run_with(10 * SECOND, Rig::eager);
    let first = rig.issued.len();
    rig.run_with(2 * HOUR, Rig::eager);
    assert_eq!(rig.issued.len(), first);
    rig.image("app", |image| image.reference = "reg.test/app:1".to_owned());
    rig.run_with(10 * SECOND, Rig::eager);
    rig.image("app", |image| image.pull_policy = ImagePullPolicy::Never);
    let first = rig.issued.len();
    rig.run_with(2 * HOUR, Rig::eager);
    assert_eq!(rig.issued.len(), first);
}

#[test]
fn a_failed_check_keeps_the_pair_cached_and_says_so() {
    let mut rig = rig(&["a"], Some(HOUR));
    rig.run_with(HOUR, |rig| {
        if rig.grant("a").is_some() {
            rig.work("a", |_| Err((FailureScope::Registry, FailureReason::Timeout)));
        }
    });
    rig.run(5 * SECOND);
    let ready = rig.status("app").condition("Ready").unwrap();
    assert_eq!(ready.reason, "Cached");
    assert!(ready.message.contains("Timeout happened"), "{}", ready.message);
}

#[test]
fn the_age_of_a_pull_survives_a_change_of_leader() {
    let mut rig = rig(&["a"], Some(HOUR));
    let first = rig.issued.len();
    rig.run(HOUR / 2);
    rig.elect(2);
    rig.run(HOUR / 2 - 60 * SECOND);
    assert_eq!(rig.issued.len(), first);
    rig.run(61 * SECOND);
    assert_eq!(rig.issued.len(), first + 1);
}

#[test]
fn a_node_that_lags_behind_a_moved_tag_catches_up_once() {
    let mut rig = rig(&["a", "b", "c"], None);
    let first = rig.issued.len();
    rig.pulled("a", "app", "sha256:two");
    rig.run(2 * SECOND);
    assert_eq!(rig.issued.len(), first, "one node alone makes nobody ask again");
    rig.pulled("b", "app", "sha256:two");
    rig.run_with(30 * SECOND, Rig::eager);
    let asked: Vec<&str> = rig.issued[first..].iter().map(|(_, _, node)| node.as_str()).collect();
    assert_eq!(asked, ["c"], "and if the registry still says the old one, that is that");
    assert_eq!(rig.status("app").resolved_digest.as_deref(), Some("sha256:two"));
    assert_eq!(rig.status("app").digests_total, 2);
    let held: Vec<(&str, bool)> =
        rig.status("app").digests.iter().map(|held| (held.digest.as_str(), held.newest)).collect();
    assert_eq!(held, [("sha256:two", true), ("sha256:one", false)]);
}

#[test]
fn also_where_nodes_hold_three_different_ones() {
    let mut rig = rig(&["a", "b", "c", "d"], None);
    let first = rig.issued.len();
    rig.pulled("c", "app", "sha256:zero");
    rig.run(SECOND);
    for node in ["a", "b"] {
        rig.pulled(node, "app", "sha256:two");
    }
    rig.run(2 * SECOND);
    assert_eq!(rig.issued.len(), first + 2);
    assert_eq!(rig.live(), ["c", "d"]);
    assert!(rig.waiting().is_empty(), "{:?}", rig.waiting());
}

#[test]
fn nobody_catches_up_with_what_is_only_to_be_there_or_names_exact_content_or_can_t_be_acted_on() {
    let changes: [fn(&mut CachedImage); 4] = [
        |image| image.pull_policy = ImagePullPolicy::IfNotPresent,
        |image| image.pull_policy = ImagePullPolicy::Never,
        |image| image.reference = format!("reg.test/app@sha256:{}", "0".repeat(64)),
        |image| image.problem = Some("tag and digest".to_owned()),
    ];
    for (n, change) in changes.into_iter().enumerate() {
        let mut rig = rig(&["a", "b", "c"], None);
        rig.image("app", change);
        rig.run_with(10 * SECOND, Rig::eager);
        let before = rig.issued.len();
        for node in ["a", "b"] {
            rig.pulled(node, "app", "sha256:two");
        }
        rig.run(30 * SECOND);
        assert_eq!(rig.issued.len(), before, "change {n}");
    }
}

#[test]
fn after_a_change_of_leader_the_newest_digest_is_still_the_newest() {
    let mut rig = rig(&["a", "b", "c"], None);
    rig.pulled("a", "app", "sha256:a-two");
    rig.run(10 * SECOND);
    assert_eq!(rig.status("app").resolved_digest.as_deref(), Some("sha256:a-two"));
    rig.elect(2);
    rig.run(10 * SECOND);
    assert_eq!(rig.status("app").resolved_digest.as_deref(), Some("sha256:a-two"));
}

#[test]
fn and_the_others_are_in_the_same_order() {
    let mut rig = rig(&["a", "b", "c"], None);
    rig.pulled("a", "app", "sha256:two");
    rig.run(SECOND);
    rig.pulled("b", "app", "sha256:three");
    rig.run(20 * SECOND);
    let order = |rig: &Rig| -> Vec<String> {
        rig.status("app").digests.iter().map(|held| held.digest.clone()).collect()
    };
    assert_eq!(order(&rig), ["sha256:three", "sha256:two", "sha256:one"]);
    rig.elect(2);
    rig.run(60 * SECOND);
    assert_eq!(order(&rig), ["sha256:three", "sha256:two", "sha256:one"]);
}

#[test]
fn under_an_interval_nobody_is_said_to_keep_an_older_one() {
    let mut rig = rig(&["a", "b"], Some(HOUR));
    rig.image("app", |image| image.pull_policy = ImagePullPolicy::IfNotPresent);
    rig.pulled("a", "app", "sha256:two");
    rig.run(20 * SECOND);
    let message = &rig.status("app").condition("Ready").unwrap().message;
    assert_eq!(message, "cached on 2 nodes; 1 of them holds an older digest");
}
