//! One question to the registry instead of one grant for each node that holds the image.

use std::time::Duration;

use drop_planner::CheckOutcome;
use drop_protocol::ImagePullPolicy::{Always, Never};

use crate::rig::{Rig, SECOND};

/// So long after it is wanted the catalog lists an image: others may come with it.
const LISTED: Duration = Duration::from_millis(400);
/// So long after that agents have answered.
const ANSWERED: Duration = Duration::from_millis(100);
/// How long a registry is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn says(digest: &str) -> CheckOutcome {
    CheckOutcome::Digest(digest.to_owned())
}

pub(crate) const UNAVAILABLE: CheckOutcome = CheckOutcome::Unavailable { retry_after: None };

/// Nodes, and an image under `Always` that none of them has told of yet.
pub(crate) fn rig(nodes: &[&str]) -> Rig {
    wanted(Rig::with_nodes(nodes))
}

fn wanted(mut rig: Rig) -> Rig {
    rig.world.checks = true;
    rig.policy("p", 10, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(LISTED + ANSWERED);
    rig
}

/// All nodes hold the image and were confirmed by the registry's word, without any grant.
pub(crate) fn confirmed(nodes: &[&str], repull: Option<Duration>) -> Rig {
    let mut rig = rig(nodes);
    let mut policy = rig.policy("p", 10, Duration::ZERO);
    policy.repull_interval = repull;
    rig.set_policy(policy);
    rig.registry_says("app", says("sha256:one"));
    for node in nodes {
        rig.present(node, "app", "sha256:one");
    }
    rig.run(10 * SECOND);
    assert_eq!(rig.status("app").ready, format!("{0}/{0}", nodes.len()));
    assert!(rig.issued.is_empty());
    rig
}

pub(crate) fn granted(rig: &Rig) -> Vec<&str> {
    rig.issued.iter().map(|(_, _, node)| node.as_str()).collect()
}

#[test]
fn five_nodes_that_hold_the_image_are_confirmed_by_one_question_and_no_grant() {
    let nodes = ["a", "b", "c", "d", "e"];
    let mut rig = rig(&nodes);
    rig.registry_says("app", says("sha256:one"));
    for node in nodes {
        rig.present(node, "app", "sha256:one");
    }
    rig.run_with(3 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "5/5");
    assert_eq!(rig.checked.len(), 1);
    assert!(rig.issued.is_empty());
    assert_eq!(rig.status("app").registry_check.as_ref().unwrap().digest, "sha256:one");
    rig.run(24 * HOUR);
    assert_eq!(rig.checked.len(), 1, "nothing asks again");
}

#[test]
fn nodes_whose_image_is_to_be_confirmed_from_now_on_are_not_granted_either() {
    let mut rig = rig(&["a", "b"]);
    rig.image("app", |image| image.pull_policy = Never);
    for node in ["a", "b"] {
        rig.present(node, "app", "sha256:one");
    }
    rig.run(HOUR);
    assert_eq!((rig.status("app").ready.as_str(), rig.checked.len()), ("2/2", 0));
    rig.registry_says("app", says("sha256:one"));
    rig.image("app", |image| image.pull_policy = Always);
    rig.run(3 * SECOND);
    assert_eq!((rig.status("app").ready.as_str(), rig.checked.len()), ("2/2", 1));
    assert!(rig.issued.is_empty());
}

#[test]
fn of_nodes_that_hold_something_else_or_nothing_each_is_granted() {
    let mut rig = rig(&["a", "b", "c"]);
    rig.registry_says("app", says("sha256:two"));
    rig.present("a", "app", "sha256:two");
    rig.present("b", "app", "sha256:one");
    rig.run_with(20 * SECOND, |rig| {
        for node in ["b", "c"] {
            if rig.grant(node).is_some() {
                rig.work(node, |_| Ok("sha256:two"));
            }
        }
    });
    let mut nodes = granted(&rig);
    nodes.sort_unstable();
    assert_eq!(nodes, ["b", "c"]);
    assert_eq!((rig.status("app").ready.as_str(), rig.checked.len()), ("3/3", 1));
}

#[test]
fn a_node_waits_with_a_reason_while_the_registry_is_asked() {
    let mut rig = rig(&["a"]);
    rig.present("a", "app", "sha256:one");
    rig.run(SECOND);
    assert_eq!(rig.waiting()["app/a"], "CheckingRegistry");
}

#[test]
fn who_is_known_to_lack_the_image_does_not_wait_for_the_registry() {
    let mut rig = rig(&["a", "b"]);
    rig.present("a", "app", "sha256:one");
    rig.report("b", |_| {});
    rig.step();
    assert_eq!((granted(&rig), rig.checked.len()), (vec!["b"], 1));
}

#[test]
fn nodes_that_lack_the_image_wait_no_longer_than_one_that_holds_it_needs_to_say_so() {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.world.checks = true;
    rig.policy("p", 10, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    while rig.world.cluster.catalog.as_ref().is_none_or(|stored| stored.catalog.wanted.is_empty()) {
        rig.run(Duration::from_millis(100));
    }
    rig.run(SECOND);
    assert_eq!(granted(&rig), ["a", "b"]);
    assert!(rig.checked.is_empty(), "nobody holds it");
}

#[test]
fn without_an_answer_nodes_ask_the_registry_themselves() {
    let mut silent = rig(&["a"]);
    silent.present("a", "app", "sha256:one");
    silent.step();
    let asked = silent.checked[0].0;
    silent.run_with(MINUTE, Rig::eager);
    assert_eq!((granted(&silent), silent.checked.len()), (vec!["a"], 1));
    assert_eq!(silent.issued[0].0.since(asked), PATIENCE);
    for outcome in [UNAVAILABLE, CheckOutcome::Unknown] {
        let mut rig = rig(&["a"]);
        rig.registry_says("app", outcome);
        rig.present("a", "app", "sha256:one");
        rig.run_with(SECOND, Rig::eager);
        assert_eq!(granted(&rig), ["a"], "at once");
        rig.run(10 * MINUTE);
        assert_eq!((rig.status("app").ready.as_str(), rig.checked.len()), ("1/1", 1));
    }
}

#[test]
fn an_answer_that_comes_late_still_confirms_whoever_has_no_grant_yet() {
    let mut rig = rig(&["a", "b"]);
    rig.policy("p", 1, 20 * SECOND);
    for node in ["a", "b"] {
        rig.present(node, "app", "sha256:one");
    }
    rig.run(5 * SECOND);
    assert_eq!(granted(&rig), ["a"]);
    let reference = rig.checked[0].1.clone();
    rig.world.memory.check_settled("uid-app", &reference, says("sha256:one"), rig.now);
    rig.run(3 * SECOND);
    assert_eq!((rig.status("app").ready.as_str(), rig.issued.len()), ("2/2", 1));
}

#[test]
fn while_a_registry_is_known_to_fail_nobody_waits_for_it() {
    let mut rig = rig(&["a"]);
    rig.registry_says("app", UNAVAILABLE);
    rig.present("a", "app", "sha256:one");
    rig.run_with(5 * SECOND, Rig::eager);
    rig.image("bpp", |image| image.policy = Some("p".to_owned()));
    let issued = rig.issued.len();
    while rig.issued.len() == issued {
        rig.run(Duration::from_millis(100));
    }
    assert!(rig.world.cluster.catalog.as_ref().unwrap().catalog.wanted.contains_key("reg.test/bpp:1"));
    assert!(rig.waiting().is_empty(), "the node was granted it with the listing");
    assert_eq!(rig.checked.len(), 1);
}

#[test]
fn the_fewer_nodes_there_are_the_sooner_silence_means_absence() {
    for (nodes, within) in [(2, 160), (40, 350), (500, 1000)] {
        let mut rig = Rig::with_many(nodes);
        rig.world.checks = true;
        let wanted = rig.now.monotonic;
        rig.image("app", |_| {});
        rig.run(2 * SECOND);
        let waited = rig.issued[0].0.since(wanted).saturating_sub(LISTED);
        assert_eq!(waited, Duration::from_millis(within), "{nodes} nodes");
    }
}

#[test]
fn in_a_large_cluster_all_answers_are_waited_for_only_once_a_node_holds_the_image() {
    let mut fresh = wanted(Rig::with_many(1000));
    fresh.run(3 * SECOND);
    assert!(!fresh.issued.is_empty());
    let mut held = wanted(Rig::with_many(1000));
    held.registry_says("app", says("sha256:one"));
    held.present("n500", "app", "sha256:one");
    held.run(3 * SECOND);
    assert!(held.issued.is_empty());
}

#[test]
fn nobody_is_asked_where_no_node_holds_the_image() {
    let mut rig = rig(&["a", "b"]);
    rig.run_with(30 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "2/2");
    assert!(rig.checked.is_empty());
}

#[test]
fn nobody_is_asked_while_checks_are_off() {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.image("app", |_| {});
    rig.run(SECOND);
    rig.present("a", "app", "sha256:one");
    rig.run_with(5 * SECOND, Rig::eager);
    assert_eq!(granted(&rig), ["a"]);
    assert!(rig.checked.is_empty());
}

#[test]
fn a_registry_that_asks_for_patience_gets_it_and_others_are_asked() {
    let mut rig = rig(&["a"]);
    rig.policy("p", 1, Duration::ZERO);
    rig.image("bpp", |image| image.policy = Some("p".to_owned()));
    rig.image("other", |image| {
        image.policy = Some("p".to_owned());
        image.reference = "other.test/app:1".to_owned();
    });
    let until = Duration::from_secs(900);
    for image in ["app", "bpp"] {
        rig.registry_says(image, CheckOutcome::Unavailable { retry_after: Some(until) });
    }
    rig.registry_says("other", says("sha256:one"));
    rig.run(SECOND);
    rig.present("a", "app", "sha256:one");
    rig.run(SECOND);
    rig.present("a", "bpp", "sha256:one");
    rig.present("a", "other", "sha256:one");
    rig.run(until - MINUTE);
    let asked: Vec<&str> = rig.checked.iter().map(|(_, reference)| reference.as_str()).collect();
    assert_eq!(asked, ["reg.test/app:1", "other.test/app:1"], "one 429 tells enough");
    assert!(!rig.issued.is_empty(), "nodes ask themselves");
}

#[test]
fn that_one_fails_is_remembered_for_as_long_as_an_image_is_on_it() {
    let mut rig = rig(&["a"]);
    rig.image("other", |image| image.reference = "other.test/app:1".to_owned());
    rig.run(6 * SECOND);
    for image in ["app", "other"] {
        rig.registry_says(image, UNAVAILABLE);
        rig.present("a", image, "sha256:one");
    }
    rig.run(SECOND);
    assert_eq!(rig.checked.len(), 2);
    rig.delete_image("other");
    rig.run(SECOND);
    rig.image("bpp", |_| {});
    rig.run(10 * SECOND);
    rig.present("a", "bpp", "sha256:one");
    rig.run(10 * SECOND);
    assert_eq!(rig.checked.len(), 2, "{:?}", rig.checked);
}

#[test]
fn and_is_forgotten_with_the_last_of_them() {
    let mut rig = rig(&["a"]);
    rig.registry_says("app", UNAVAILABLE);
    rig.present("a", "app", "sha256:one");
    rig.run(SECOND);
    rig.delete_image("app");
    rig.run(SECOND);
    rig.image("bpp", |_| {});
    rig.run(10 * SECOND);
    rig.present("a", "bpp", "sha256:one");
    rig.run(SECOND);
    assert_eq!(rig.checked.len(), 2, "{:?}", rig.checked);
}

/// One node, and images of so many registries that it has not told of yet; their names.
fn standing_in_line(images: usize, registries: usize) -> (Rig, Vec<String>) {
    let mut rig = Rig::with_nodes(&["a"]);
    rig.world.checks = true;
    let names: Vec<String> = (0..images).map(|n| format!("app{n:02}")).collect();
    for (n, name) in names.iter().enumerate() {
        rig.image(name, |image| image.reference = format!("reg{}.test/{name}:1", n % registries));
    }
    rig.run(LISTED + ANSWERED);
    (rig, names)
}

#[test]
fn few_questions_are_under_way_to_one_registry_and_none_holds_up_others_for_long() {
    let (mut rig, names) = standing_in_line(30, 1);
    for name in &names {
        rig.present("a", name, "sha256:one");
    }
    rig.run(SECOND);
    assert_eq!(rig.checked.len(), 8);
    assert!(rig.issued.is_empty(), "the others stand in line");
    rig.run(PATIENCE);
    assert_eq!(rig.checked.len(), 8);
    assert_eq!(rig.granted("a").len(), 30, "nobody waits for registries that do not answer");
}

#[test]
fn few_questions_are_under_way_to_all_registries_together() {
    let (mut rig, names) = standing_in_line(40, 40);
    for name in &names {
        rig.present("a", name, "sha256:one");
    }
    rig.run(SECOND);
    assert_eq!((rig.checked.len(), rig.issued.len()), (32, 0));
    rig.run(PATIENCE);
    assert_eq!((rig.checked.len(), rig.granted("a").len()), (32, 40));
}

#[test]
fn questions_in_line_are_asked_as_others_are_answered() {
    let (mut rig, names) = standing_in_line(30, 1);
    for name in &names {
        rig.registry_says(name, says("sha256:one"));
        rig.present("a", name, "sha256:one");
    }
    rig.run(SECOND);
    assert_eq!((rig.checked.len(), rig.issued.len()), (30, 0));
}

#[test]
fn questions_about_images_that_were_deleted_take_no_place_in_line() {
    let (mut rig, names) = standing_in_line(30, 1);
    for name in &names {
        rig.present("a", name, "sha256:one");
    }
    rig.run(SECOND);
    assert_eq!(rig.checked.len(), 8);
    for name in &names[..8] {
        rig.delete_image(name);
    }
    rig.run(SECOND);
    assert_eq!(rig.checked.len(), 16);
}
