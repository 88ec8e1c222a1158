//! Which children a set has, and what becomes of them.

use std::collections::BTreeSet;

use drop_planner::memory::WriteOutcome;
use drop_planner::plan::ChildWriteKind;
use drop_planner::set::{ChildSpec, DiscoveryState, WrittenImage, WrittenToleration};
use drop_protocol::ImagePullPolicy;

use crate::rig::{Rig, SECOND};
use crate::set_rig::{failing, images};

const DIGEST: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";

/// A set `s` that lists `reg.test/listed:1` and relies on a DiscoveryPolicy that found `reg.test/found:1` and `:2`.
fn discovering() -> Rig {
    let mut rig = Rig::new();
    rig.discovery("d", DiscoveryState::Synced, &["reg.test/found:1", "reg.test/found:2"]);
    rig.set("s", |set| {
        set.images = images(&["reg.test/listed:1"]);
        set.discovery = Some("d".to_owned());
    });
    rig.settle_sets();
    assert_eq!(rig.references("s"), ["reg.test/found:1", "reg.test/found:2", "reg.test/listed:1"]);
    rig
}

#[test]
fn each_image_becomes_one_child_that_carries_what_was_written() {
    let mut rig = Rig::new();
    let pinned = format!("reg.test:5000/app@{DIGEST}");
    rig.listing("s", &["nginx", "reg.test:5000/app:v1", &pinned]);
    let written = rig.settle_sets();
    assert_eq!(written.len(), 3, "{written:?}");
    let child = rig.child_spec(&rig.child_of("s", "nginx:latest"));
    assert_eq!((child.image.tag, child.image.digest, child.priority), (None, None, None));
    let child = rig.child_spec(&rig.child_of("s", &pinned));
    assert_eq!(
        (child.image.image.as_str(), child.image.digest.as_deref()),
        ("reg.test:5000/app", Some(DIGEST))
    );
}

#[test]
fn one_that_is_named_twice_is_one_child_spelled_as_the_set_spells_it() {
    let mut rig = Rig::new();
    rig.discovery(
        "d",
        DiscoveryState::Synced,
        &["docker.io/library/nginx:latest", "redis", "docker.io/library/redis"],
    );
    rig.set("s", |set| {
        set.images = images(&["nginx", "index.docker.io/library/nginx"]);
        set.discovery = Some("d".to_owned());
    });
    rig.settle_sets();
    assert_eq!(rig.references("s"), ["docker.io/library/redis:latest", "nginx:latest"]);
    // The ranking changes with every sync, and nothing is written for it.
    rig.discovery(
        "d",
        DiscoveryState::Synced,
        &["docker.io/library/redis", "redis", "docker.io/library/nginx:latest"],
    );
    assert!(rig.settle_sets().is_empty());
}

#[test]
fn every_edit_of_the_settings_reaches_the_children_and_so_does_its_removal() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1"]);
    rig.settle_sets();
    let name = rig.child_of("s", "reg.test/app:1");
    rig.policy("p", 1, SECOND);
    rig.set("s", |set| {
        set.settings.policy = Some("p".to_owned());
        set.settings.pull_policy = ImagePullPolicy::IfNotPresent;
        set.settings.secrets = vec!["secret".to_owned()];
        set.settings.node_selector = [("pool".to_owned(), "build".to_owned())].into();
        set.settings.tolerations =
            vec![WrittenToleration { seconds: Some(5), ..WrittenToleration::default() }];
    });
    assert_eq!(rig.settle_sets(), [name.as_str()], "one write, whatever was edited");
    assert_eq!(rig.child_spec(&name).settings, rig.world.cluster.sets["s"].settings);
    rig.set("s", |set| set.settings = ChildSpec::default().settings);
    assert_eq!(rig.settle_sets(), [name.as_str()]);
    assert_eq!(rig.child_spec(&name).settings, ChildSpec::default().settings);
    let (_, write) = rig.child_writes.last().unwrap();
    let ChildWriteKind::Patch { unselected, .. } = &write.kind else { panic!("{write}") };
    assert_eq!(unselected, &["pool"]);
}

#[test]
fn names_stay_when_anything_else_is_edited() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1", "nginx"]);
    rig.settle_sets();
    let before: BTreeSet<String> = rig.children("s").into_iter().map(|(name, _)| name).collect();
    rig.set("s", |set| {
        set.images = images(&["docker.io/library/nginx:latest", "reg.test/app:1"]);
        set.settings.secrets = vec!["secret".to_owned()];
    });
    rig.settle_sets();
    let after: BTreeSet<String> = rig.children("s").into_iter().map(|(name, _)| name).collect();
    assert_eq!(before, after);
    assert_eq!(rig.references("s"), ["docker.io/library/nginx:latest", "reg.test/app:1"]);
}

#[test]
fn an_image_that_is_no_longer_listed_goes() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1", "reg.test/other:1"]);
    rig.settle_sets();
    rig.listing("s", &["reg.test/app:2", "reg.test/other:1"]);
    assert_eq!(rig.settle_sets().len(), 2, "one is made, one goes");
    assert_eq!(rig.references("s"), ["reg.test/app:2", "reg.test/other:1"]);
    rig.listing("s", &[]);
    rig.settle_sets();
    assert!(rig.children("s").is_empty());
}

#[test]
fn a_child_that_was_edited_or_deleted_by_hand_is_put_right_at_once() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1"]);
    rig.settle_sets();
    let name = rig.child_of("s", "reg.test/app:1");
    let as_wanted = rig.child_spec(&name);
    rig.edit_child(&name, |spec| spec.priority = Some(-5));
    rig.step();
    assert_eq!(rig.child_spec(&name), as_wanted);
    rig.advance(10 * SECOND);
    rig.edit_child(&name, |spec| spec.image.tag = Some("2".to_owned()));
    rig.step();
    assert_eq!(rig.child_spec(&name), as_wanted);
    rig.advance(10 * SECOND);
    rig.delete_image(&name);
    rig.step();
    assert_eq!(rig.child_spec(&name), as_wanted);
}

#[test]
fn a_child_that_lost_its_label_gets_it_back() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1"]);
    rig.settle_sets();
    let name = rig.child_of("s", "reg.test/app:1");
    let spec = rig.child_spec(&name);
    rig.store_child(&name, "", "set-s", None, spec);
    rig.settle_sets();
    assert_eq!(rig.world.cluster.images[&name].child.as_ref().unwrap().label.as_deref(), Some("s"));
}

#[test]
fn a_discovery_that_tells_nothing_reliable_deletes_nothing() {
    let states: [(&str, Option<DiscoveryState>, &[&str]); 5] = [
        ("missing", None, &[]),
        ("not synced yet", Some(DiscoveryState::NeverSynced), &[]),
        ("failing", Some(failing()), &[]),
        ("failing with a shorter list", Some(failing()), &["reg.test/found:1"]),
        ("empty", Some(DiscoveryState::Synced), &[]),
    ];
    for (what, state, found) in states {
        let mut rig = discovering();
        match state {
            None => drop(rig.world.cluster.discoveries.remove("d")),
            Some(state) => rig.discovery("d", state, found),
        }
        assert!(rig.settle_sets().is_empty(), "{what}");
        // An edit reaches the kept ones all the same.
        rig.set("s", |set| set.settings.secrets = vec!["secret".to_owned()]);
        assert_eq!(rig.settle_sets().len(), 3, "{what}");
        assert_eq!(rig.children("s").len(), 3, "{what}");
    }
}

#[test]
fn what_a_failing_discovery_still_lists_is_made_again() {
    let mut rig = discovering();
    rig.discovery("d", failing(), &["reg.test/found:1", "reg.test/found:2"]);
    let name = rig.child_of("s", "reg.test/found:1");
    rig.delete_image(&name);
    assert_eq!(rig.settle_sets(), [name]);
}

#[test]
fn a_discovery_that_finds_fewer_images_takes_the_others_away() {
    let mut rig = discovering();
    rig.discovery("d", DiscoveryState::Synced, &["reg.test/found:2"]);
    rig.settle_sets();
    assert_eq!(rig.references("s"), ["reg.test/found:2", "reg.test/listed:1"]);
}

#[test]
fn a_set_that_no_longer_asks_for_discovery_keeps_what_it_lists() {
    let mut rig = discovering();
    rig.set("s", |set| set.discovery = None);
    rig.settle_sets();
    assert_eq!(rig.references("s"), ["reg.test/listed:1"]);
}

#[test]
fn a_set_that_is_being_deleted_is_left_to_the_garbage_collector() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1", "reg.test/other:1"]);
    rig.settle_sets();
    rig.set("s", |set| set.being_deleted = true);
    let name = rig.child_of("s", "reg.test/app:1");
    rig.delete_image(&name);
    let statuses = rig.set_statuses.len();
    assert!(rig.settle_sets().is_empty(), "none reappears");
    assert_eq!(rig.set_statuses.len(), statuses);
}

#[test]
fn a_set_that_comes_back_waits_for_the_children_of_its_predecessor() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1"]);
    rig.settle_sets();
    let name = rig.child_of("s", "reg.test/app:1");
    rig.set("s", |set| set.uid = "another".to_owned());
    assert!(rig.settle_sets().is_empty());
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "Progressing");
    assert!(message.contains(&name) && message.contains("earlier"), "{message}");
    rig.delete_image(&name);
    assert_eq!(rig.settle_sets(), [name.as_str()]);
    assert_eq!(rig.world.cluster.images[&name].child.as_ref().unwrap().set_uid, "another");
}

#[test]
fn a_child_that_is_being_deleted_is_made_anew_once_it_is_gone() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1"]);
    rig.settle_sets();
    let name = rig.child_of("s", "reg.test/app:1");
    rig.image(&name, |image| image.child.as_mut().unwrap().being_deleted = true);
    assert!(rig.settle_sets().is_empty());
    let told = format!("0/1 images are ready; {name}: waits until the earlier one of this name is deleted");
    assert_eq!(rig.says("s"), ("Progressing".to_owned(), told));
    rig.delete_image(&name);
    assert_eq!(rig.settle_sets(), [name]);
}

#[test]
fn a_cached_image_of_somebody_else_is_not_touched_and_told_of() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1"]);
    rig.settle_sets();
    let name = rig.child_of("s", "reg.test/app:1");
    rig.image(&name, |image| image.child = None);
    assert!(rig.settle_sets().is_empty());
    let (reason, message) = rig.says("s");
    assert_eq!(reason, "NameTaken");
    assert!(message.contains(&name), "{message}");
    rig.delete_image(&name);
    assert_eq!(rig.settle_sets(), [name]);
}

#[test]
fn a_child_of_another_name_stays_and_a_second_one_for_its_image_goes() {
    let mut rig = Rig::new();
    rig.set("s", |_| {});
    let spec = ChildSpec { image: WrittenImage::split("reg.test/app:1"), ..ChildSpec::default() };
    rig.store_child("s-app-1", "old", "set-s", Some("s".to_owned()), spec.clone());
    rig.listing("s", &["docker.io/library/nginx", "reg.test/app:1"]);
    rig.settle_sets();
    assert_eq!(rig.child_of("s", "reg.test/app:1"), "s-app-1", "it was there first");
    rig.store_child("s-app-2", "double", "set-s", Some("s".to_owned()), spec);
    rig.settle_sets();
    assert_eq!(rig.children("s").len(), 2);
}

#[test]
fn a_stored_set_that_breaks_a_rule_keeps_its_children() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1", "reg.test/other:1"]);
    rig.settle_sets();
    rig.set("s", |set| {
        set.images = images(&["reg.test/app:1", "reg.test/new:1"]);
        set.images.malformed = vec!["spec.images[2].tag: is not a tag".to_owned()];
    });
    assert_eq!(rig.settle_sets().len(), 1, "the sound ones go on");
    assert_eq!(rig.references("s"), ["reg.test/app:1", "reg.test/new:1", "reg.test/other:1"]);
    rig.set("s", |set| {
        set.images = images(&[]);
        set.settings.secrets = vec!["new".to_owned()];
        set.problem = Some("spec.tolerations[0].operator: must be Exists or Equal".to_owned());
    });
    assert!(rig.settle_sets().is_empty(), "nothing is done by settings that can't be read");
    assert_eq!(rig.says("s").0, "InvalidSpec");
}

#[test]
fn five_hundred_images_are_made_and_changed_without_a_flood() {
    let mut rig = Rig::new();
    let references: Vec<String> = (0..500).map(|n| format!("reg.test/app-{n}:1")).collect();
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    rig.listing("s", &references);
    let mut largest = 0;
    for _ in 0..100 {
        largest = largest.max(rig.step().children.len());
        rig.advance(SECOND / 10);
    }
    assert_eq!(largest, 32, "writes in one pass");
    let names: BTreeSet<&str> = rig.child_writes.iter().map(|(_, write)| write.child.as_str()).collect();
    assert_eq!((rig.child_writes.len(), names.len()), (500, 500), "each is made with one write, within 10 s");
    assert!(rig.settle_sets().is_empty());

    rig.set("s", |set| set.settings.pull_policy = ImagePullPolicy::IfNotPresent);
    assert_eq!(rig.settle_sets().len(), 500, "and put right with one");
}

#[test]
fn a_child_that_the_server_refuses_is_tried_ever_more_seldom_and_holds_up_no_other() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/refused:1", "reg.test/app:1"]);
    let mut tries = 0;
    for _ in 0..600 {
        let plan = rig.plan();
        for write in &plan.children {
            let ChildWriteKind::Create { spec, .. } = &write.kind else { panic!("{write}") };
            if spec.image.image.contains("refused") {
                tries += 1;
                rig.world.memory.child_settled(write, WriteOutcome::Refused, rig.now);
            } else {
                rig.apply_child(write);
            }
        }
        rig.advance(SECOND);
    }
    assert_eq!(rig.references("s"), ["reg.test/app:1"]);
    assert!((8..20).contains(&tries), "{tries} tries in ten minutes");
}

#[test]
fn one_who_undoes_every_change_is_answered_ever_more_seldom() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1"]);
    rig.settle_sets();
    let name = rig.child_of("s", "reg.test/app:1");
    let before = rig.child_writes.len();
    for _ in 0..600 {
        rig.edit_child(&name, |spec| spec.settings.secrets = vec!["injected".to_owned()]);
        rig.step();
        rig.advance(SECOND);
    }
    let answers = rig.child_writes.len() - before;
    assert!((8..20).contains(&answers), "{answers} patches in ten minutes");
    // The user's edit is no part of that.
    rig.set("s", |set| set.settings.secrets = vec!["injected".to_owned(), "own".to_owned()]);
    rig.step();
    assert_eq!(rig.child_spec(&name).settings.secrets, ["injected", "own"]);
}

#[test]
fn a_child_that_is_put_right_gets_no_status_in_the_same_plan_and_others_do() {
    let mut rig = discovering();
    let edited = rig.child_of("s", "reg.test/found:1");
    rig.edit_child(&edited, |spec| spec.priority = Some(1));
    rig.forget_statuses();
    let plan = rig.plan();
    assert_eq!((plan.children.len(), &plan.children[0].child), (1, &edited));
    assert_eq!(plan.statuses.len(), 2, "{plan}");
    assert!(plan.statuses.iter().all(|write| write.image != edited));
}

#[test]
fn a_deletion_is_asked_for_once_however_long_it_takes_to_show() {
    let mut rig = Rig::new();
    rig.listing("s", &["reg.test/app:1"]);
    rig.settle_sets();
    rig.listing("s", &[]);
    let plan = rig.plan();
    assert_eq!(plan.children.len(), 1);
    rig.world.memory.child_settled(&plan.children[0], WriteOutcome::Applied, rig.now);
    for _ in 0..600 {
        rig.advance(SECOND);
        assert!(rig.step().children.is_empty());
    }
}

#[test]
fn a_whole_plan_of_a_set_reads_as_text() {
    let mut rig = discovering();
    rig.set("s", |set| set.images = images(&["nginx"]));
    let name = rig.child_of("s", "reg.test/found:1");
    rig.edit_child(&name, |spec| spec.priority = Some(1));
    let mut plan = rig.plan();
    // Only what is about sets; the rest has tests of its own.
    plan.catalog = None;
    plan.statuses.clear();
    insta::assert_snapshot!(plan.to_string());
}
