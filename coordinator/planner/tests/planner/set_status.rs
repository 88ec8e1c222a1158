//! What the status of a set says.

use drop_planner::plan::EventType;
use drop_planner::set::{DiscoveryState, SetPhase};
use drop_protocol::failure::{FailureReason, FailureScope};

use crate::rig::{Rig, SECOND};
use crate::set_rig::{failing, images};

/// One node, and a set of three images that is paced by a PullPolicy.
fn three() -> Rig {
    let mut rig = Rig::with_nodes(&["node"]);
    rig.policy("p", 1, SECOND / 10);
    rig.set("s", |set| {
        set.images = images(&["reg.test/a:1", "reg.test/b:1", "reg.test/c:1"]);
        set.settings.policy = Some("p".to_owned());
    });
    rig
}

fn phase(rig: &Rig) -> (SetPhase, u32, u32) {
    let status = rig.set_status("s");
    assert_eq!(status.observed_generation, Some(rig.world.cluster.sets["s"].generation));
    (status.phase.unwrap(), status.images_ready, status.images_managed)
}

#[test]
fn a_set_is_ready_once_every_image_is_everywhere() {
    let mut rig = three();
    rig.run(5 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Pending, 0, 3));
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "Progressing");
    assert!(message.starts_with("0/3 images are ready; s-a-1-"), "{message}");
    assert!(message.ends_with("; 2 others are not ready either"), "{message}");
    rig.run_with(60 * SECOND, Rig::eager);
    assert_eq!(phase(&rig), (SetPhase::Ready, 3, 3));
    assert_eq!(rig.says("s"), ("Ready".to_owned(), "all images are ready: 3".to_owned()));
    let events: Vec<_> = rig.set_statuses.iter().filter_map(|write| write.event.as_ref()).collect();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!((events[0].kind, events[0].reason.as_str()), (EventType::Normal, "Ready"));
}

/// [`three`], where nobody is granted anything: what the node holds is up to the test.
fn unattended() -> Rig {
    let mut rig = three();
    rig.agent_ready("node", false);
    rig.run(20 * SECOND);
    rig
}

fn arrives(rig: &mut Rig, reference: &str) {
    let child = rig.child_of("s", reference);
    rig.pulled("node", &child, "sha256:one");
}

#[test]
fn numbers_alone_are_written_every_ten_seconds_and_all_else_after_two() {
    let mut rig = unattended();
    arrives(&mut rig, "reg.test/a:1");
    rig.run(SECOND);
    assert_eq!(phase(&rig), (SetPhase::Pending, 1, 3), "after quiet at once");
    arrives(&mut rig, "reg.test/b:1");
    rig.run(5 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Pending, 1, 3));
    rig.run(5 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Pending, 2, 3));
    rig.set("s", |_| {});
    rig.run(3 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Pending, 2, 3), "of the new generation");
    arrives(&mut rig, "reg.test/c:1");
    rig.run(3 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Ready, 3, 3));
}

#[test]
fn what_has_just_changed_is_not_explained_by_what_was_said_before() {
    let mut rig = unattended();
    rig.set("s", |set| set.settings.secrets = vec!["secret".to_owned()]);
    rig.run(SECOND);
    let (_, message) = rig.says("s");
    assert!(message.ends_with(": just changed; 2 others are not ready either"), "{message}");
}

#[test]
fn events_tell_that_it_became_degraded_or_ready_and_not_that_it_still_is() {
    let mut rig = unattended();
    let child = rig.child_of("s", "reg.test/b:1");
    rig.failed("node", &child, FailureScope::Image, FailureReason::NotFound);
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Degraded, 0, 3));
    arrives(&mut rig, "reg.test/a:1");
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Degraded, 1, 3));
    arrives(&mut rig, "reg.test/b:1");
    arrives(&mut rig, "reg.test/c:1");
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Ready, 3, 3));
    rig.world.cluster.policies.clear();
    rig.run(20 * SECOND);
    assert!(rig.says("s").1.contains("PullPolicy p does not exist"), "{}", rig.says("s").1);
    let events = rig.set_statuses.iter().filter_map(|write| write.event.as_ref());
    assert_eq!(events.map(|event| event.reason.as_str()).collect::<Vec<_>>(), ["Degraded", "Ready"]);
}

#[test]
fn one_that_failed_makes_it_degraded_and_is_named_first() {
    let mut rig = three();
    rig.run_with(60 * SECOND, |rig| {
        rig.work_where_granted(|image| match image.reference.as_str() {
            "reg.test/b:1" => Err((FailureScope::Image, FailureReason::NotFound)),
            _ => Ok("sha256:one"),
        });
    });
    assert_eq!(phase(&rig), (SetPhase::Degraded, 2, 3));
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "Degraded");
    let name = rig.child_of("s", "reg.test/b:1");
    assert!(message.starts_with(&format!("2/3 images are ready; {name}: ")), "{message}");
    assert!(message.contains("happened"), "{message}");
    rig.run_with(600 * SECOND, Rig::eager);
    assert_eq!(phase(&rig), (SetPhase::Ready, 3, 3), "degraded goes as soon as the cause does");
}

#[test]
fn an_edit_is_not_ready_before_the_children_follow() {
    let mut rig = three();
    rig.run_with(60 * SECOND, Rig::eager);
    rig.set("s", |set| set.images = images(&["reg.test/a:2", "reg.test/b:1", "reg.test/c:1"]));
    let statuses = rig.set_statuses.len();
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Pending, 2, 3));
    assert!(rig.set_statuses[statuses..].iter().all(|write| write.status.phase != Some(SetPhase::Ready)));
}

#[test]
fn a_child_that_is_not_as_wanted_is_not_ready_whatever_it_says_itself() {
    let mut rig = three();
    rig.run_with(60 * SECOND, Rig::eager);
    let child = rig.child_of("s", "reg.test/a:1");
    // Somebody undoes every change, so that it is put right ever more seldom.
    for _ in 0..40 {
        rig.edit_child(&child, |spec| spec.priority = Some(1));
        rig.run_with(SECOND, Rig::eager);
    }
    rig.run_with(12 * SECOND, Rig::eager);
    assert_eq!(rig.status(&child).ready, "1/1");
    assert_eq!(phase(&rig), (SetPhase::Pending, 2, 3));
}

#[test]
fn an_image_without_a_target_makes_nothing_unready() {
    let mut rig = three();
    rig.set("s", |set| set.settings.node_selector = [("pool".to_owned(), "none".to_owned())].into());
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Ready, 0, 3));
    assert_eq!(rig.says("s").1, "all images are ready: 3; 3 images without a node to be on");
}

#[test]
fn a_missing_pull_policy_shows_with_its_name() {
    let mut rig = three();
    rig.world.cluster.policies.clear();
    rig.run(20 * SECOND);
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "PolicyNotFound");
    assert!(message.starts_with("PullPolicy p does not exist"), "{message}");
    rig.policy("p", 1, SECOND / 10);
    rig.run_with(60 * SECOND, Rig::eager);
    assert_eq!(rig.says("s").0, "Ready", "it heals when the policy appears");
    rig.world.cluster.policies.clear();
    rig.run(20 * SECOND);
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "Ready");
    assert!(message.contains("PullPolicy p does not exist"), "{message}");
}

#[test]
fn a_missing_or_failing_discovery_shows_though_every_image_is_there() {
    let mut rig = three();
    rig.discovery("d", DiscoveryState::Synced, &["reg.test/found:1"]);
    rig.set("s", |set| set.discovery = Some("d".to_owned()));
    rig.run_with(60 * SECOND, Rig::eager);
    assert_eq!(phase(&rig), (SetPhase::Ready, 4, 4));
    rig.world.cluster.discoveries.clear();
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Degraded, 4, 4));
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "DiscoveryPolicyNotFound");
    assert!(message.ends_with("; 1 image found earlier kept"), "{message}");
    rig.discovery("d", failing(), &["reg.test/found:1"]);
    rig.run(20 * SECOND);
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "DNSError");
    assert_eq!(message, "DiscoveryPolicy d: no such host: prometheus.test");
    let warnings = rig.set_statuses.iter().filter_map(|write| write.event.as_ref());
    let warnings: Vec<_> = warnings.filter(|event| event.kind == EventType::Warning).collect();
    assert_eq!(warnings.len(), 2, "one for each reason: {warnings:?}");
    rig.discovery("d", DiscoveryState::Synced, &["reg.test/found:1"]);
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Ready, 4, 4));
}

#[test]
fn a_set_without_images_says_what_it_waits_for() {
    let mut rig = Rig::new();
    rig.set("s", |_| {});
    rig.run(20 * SECOND);
    assert!(rig.says("s").1.starts_with("no image: "), "{}", rig.says("s").1);
    rig.set("s", |set| set.discovery = Some("d".to_owned()));
    rig.discovery("d", DiscoveryState::NeverSynced, &[]);
    rig.run(20 * SECOND);
    assert_eq!(rig.says("s"), ("Progressing".to_owned(), "DiscoveryPolicy d has not looked yet".to_owned()));
    rig.discovery("d", DiscoveryState::Synced, &[]);
    rig.run(20 * SECOND);
    assert_eq!(rig.says("s"), ("Progressing".to_owned(), "DiscoveryPolicy d has found no image".to_owned()));
    assert_eq!(phase(&rig), (SetPhase::Pending, 0, 0));
}

#[test]
fn a_malformed_discovered_reference_is_told_and_makes_nothing_unready() {
    let mut rig = Rig::with_nodes(&["node"]);
    let mut found = images(&["reg.test/a:1"]);
    found.malformed = vec!["\"sha256:0\": is not an image name".to_owned(), "\"x y\": is none".to_owned()];
    let name = "d".to_owned();
    let discovery = drop_planner::set::Discovery { name, images: found, state: DiscoveryState::Synced };
    rig.world.cluster.discoveries.insert("d".to_owned(), discovery.into());
    rig.set("s", |set| set.discovery = Some("d".to_owned()));
    rig.run_with(60 * SECOND, Rig::eager);
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "Ready");
    assert!(message.contains("\"sha256:0\"") && message.contains("1 more"), "{message}");
}

#[test]
fn a_malformed_image_of_a_stored_set_names_the_field() {
    let mut rig = three();
    rig.set("s", |set| set.images.malformed = vec!["spec.images[3].tag: is not a tag".to_owned()]);
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig).0, SetPhase::Degraded);
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "InvalidSpec");
    assert!(message.starts_with("spec.images[3].tag"), "{message}");
}

#[test]
fn the_rollout_of_many_images_costs_few_statuses_and_then_none() {
    let mut rig = Rig::with_nodes(&["node"]);
    let references: Vec<String> = (0..200).map(|n| format!("reg.test/app-{n}:1")).collect();
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    rig.listing("s", &references);
    rig.run_with(120 * SECOND, Rig::eager);
    assert_eq!(phase(&rig), (SetPhase::Ready, 200, 200));
    assert!(rig.set_statuses.len() <= 15, "{}", rig.set_statuses.len());
    let plan = rig.plan();
    assert!(plan.is_empty(), "{plan}");
}

#[test]
fn what_others_say_in_conditions_stays() {
    let mut rig = three();
    rig.run(5 * SECOND);
    let mut other = rig.set_status("s").conditions[0].clone();
    other.kind = "Audited".to_owned();
    rig.set("s", |set| set.status.conditions.push(other.clone()));
    rig.run(20 * SECOND);
    assert_eq!(rig.set_status("s").condition("Audited"), Some(&other));
}

#[test]
fn a_condition_keeps_its_time_until_it_becomes_another() {
    let mut rig = unattended();
    let since = |rig: &Rig| rig.set_status("s").condition("Ready").unwrap().last_transition_time;
    let first = since(&rig);
    arrives(&mut rig, "reg.test/a:1");
    rig.run(20 * SECOND);
    assert_eq!((phase(&rig), since(&rig)), ((SetPhase::Pending, 1, 3), first));
    arrives(&mut rig, "reg.test/b:1");
    arrives(&mut rig, "reg.test/c:1");
    rig.run(20 * SECOND);
    assert_eq!(phase(&rig), (SetPhase::Ready, 3, 3));
    assert!(since(&rig) > first);
}

#[test]
fn a_plan_in_words_tells_what_becomes_of_a_set() {
    let mut rig = unattended();
    arrives(&mut rig, "reg.test/a:1");
    rig.advance(20 * SECOND);
    let mut told = String::new();
    for _ in 0..3 {
        told += &rig.step().to_string();
        rig.advance(SECOND * 2);
    }
    assert!(told.contains("status of set s: Pending 1/3"), "{told}");
}

#[test]
fn a_child_that_is_about_to_change_gets_no_status_in_the_same_plan() {
    let mut rig = unattended();
    rig.advance(20 * SECOND);
    rig.forget_statuses();
    assert_eq!(rig.plan().statuses.len(), 3);
    rig.set("s", |set| set.settings.secrets = vec!["secret".to_owned()]);
    let plan = rig.plan();
    assert!(!plan.children.is_empty());
    for write in plan.statuses {
        assert!(plan.children.iter().all(|child| child.child != write.image), "{write:?}");
    }
}

#[test]
fn what_happens_to_others_in_the_moment_of_an_edit_is_told() {
    let mut rig = unattended();
    rig.image("app", |_| {});
    rig.run(10 * SECOND);
    rig.pulled("node", "app", "sha256:one");
    rig.advance(20 * SECOND);
    rig.set("s", |set| set.settings.secrets = vec!["secret".to_owned()]);
    let plan = rig.plan();
    assert!(!plan.children.is_empty());
    let told: Vec<_> =
        plan.events.iter().map(|event| (event.image.as_str(), event.reason.as_str())).collect();
    assert_eq!(told, [("app", "Cached")]);
}
