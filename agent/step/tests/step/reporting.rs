//! What is told, when, and that silence is the rule.

use std::collections::BTreeSet;

use crate::node::{DIGEST, Node, OTHER_DIGEST, catalog, grant, image, secs};
use drop_agent_step::{Effect, Input, WriteKind, WriteResult};
use drop_protocol::names::REPORT_MAX_BYTES;
use drop_protocol::{Catalog, GrantedImage, ImagePullPolicy, Report};

/// An idle node that holds and has told the image `a`.
fn holding_a() -> Node {
    let mut node = Node::idle();
    node.images.insert(image("a").reference, DIGEST.to_owned());
    node.images_changed();
    node.step(Input::Catalog(catalog(2, &[image("a")])));
    node.advance(secs(4));
    node.apply(WriteKind::Report);
    node.advance(secs(60));
    node
}

#[test]
fn an_idle_node_writes_nothing() {
    let mut node = holding_a();
    let before = node.writes().len();
    node.advance(secs(3600));
    node.images.insert("docker.io/library/unrelated:1".to_owned(), DIGEST.to_owned());
    node.images_changed();
    node.step(Input::Catalog(catalog(9, &[image("a"), image("absent")])));
    node.advance(secs(3600));
    assert_eq!(node.writes().len(), before);
}

#[test]
fn a_restart_alone_writes_nothing() {
    let mut node = holding_a();
    let before = node.writes().len();
    node.restart("process-2");
    node.see_lease();
    node.step(Input::Catalog(catalog(2, &[image("a")])));
    node.answer_list();
    node.advance(secs(600));
    assert_eq!(node.writes().len(), before);
}

#[test]
fn held_images_that_are_newly_listed_are_told_within_the_time_asked_for() {
    let mut node = Node::idle();
    node.images.insert("docker.io/library/nginx:latest".to_owned(), DIGEST.to_owned());
    node.images_changed();
    let mut nginx = image("nginx");
    nginx.reference = "nginx".to_owned();
    node.step(Input::Catalog(catalog(2, &[nginx])));
    node.advance(secs(4));
    node.apply(WriteKind::Report);
    let report = node.report();
    assert_eq!(report.catalog, 2);
    assert_eq!(report.images["uid-nginx"].digest.as_deref(), Some(DIGEST));
    assert_eq!(&*report.images["uid-nginx"].reference, "nginx", "as the user wrote it");
}

#[test]
fn an_evicted_image_is_told_at_once_and_counted() {
    let mut node = holding_a();
    node.images.clear();
    node.images_changed();
    node.apply(WriteKind::Report);
    let entry = node.report().images[image("a").uid.as_str()].clone();
    assert_eq!((entry.digest, entry.evictions.unwrap().count), (None, 1));
}

#[test]
fn evictions_add_up_until_the_image_has_stayed_for_a_day() {
    let mut node = holding_a();
    let round = |node: &mut Node, stays| {
        node.images.insert(image("a").reference, DIGEST.to_owned());
        node.images_changed();
        node.apply(WriteKind::Report);
        node.advance(secs(stays));
        node.images.clear();
        node.images_changed();
        node.apply(WriteKind::Report);
        node.advance(secs(60));
        node.report().images[image("a").uid.as_str()].evictions.as_ref().unwrap().count
    };
    node.images.clear();
    node.images_changed();
    node.apply(WriteKind::Report);
    node.advance(secs(60));
    assert_eq!(round(&mut node, 600), 2);
    assert_eq!(round(&mut node, 600), 3);
    assert_eq!(round(&mut node, 23 * 3600), 4);
    assert_eq!(round(&mut node, 24 * 3600), 1);
}

#[test]
fn how_long_an_image_stayed_is_told_by_its_pull_to_the_process_that_comes_later() {
    for (hours, count) in [(23, 2), (24, 1)] {
        let mut node = holding_a();
        node.images.clear();
        node.images_changed();
        node.apply(WriteKind::Report);
        node.advance(secs(60));
        node.issue(&grant(1, &[image("a")]));
        node.answer_leader();
        node.apply(WriteKind::Take);
        node.pull_succeeds();
        node.apply(WriteKind::Finish);
        node.elapsed += secs(hours * 3600);
        node.images.clear();
        node.restart("process-2");
        node.see_lease();
        node.step(Input::Catalog(catalog(2, &[image("a")])));
        node.answer_list();
        node.apply(WriteKind::Report);
        let evictions = node.report().images["uid-a"].evictions.clone().unwrap();
        assert_eq!(evictions.count, count, "after {hours} hours");
    }
}

/// The image is evicted and the node says so; returns how many evictions it has told of.
fn evict(node: &mut Node) -> u32 {
    node.images.clear();
    node.images_changed();
    node.apply(WriteKind::Report);
    let entry = &node.report().images["uid-a"];
    assert_eq!(entry.digest, None, "nothing else was to be reported before");
    entry.evictions.as_ref().unwrap().count
}

/// Somebody else brings the image back, and the node says so.
fn bring_back(node: &mut Node) {
    node.images.insert(image("a").reference, DIGEST.to_owned());
    node.images_changed();
    node.apply(WriteKind::Report);
}

#[test]
fn an_image_that_came_back_by_itself_has_not_stayed_since_it_was_pulled() {
    let mut node = Node::working(&[image("a")]);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    node.advance(secs(48 * 3600));
    assert_eq!(evict(&mut node), 1);
    node.advance(secs(60));
    bring_back(&mut node);
    node.advance(secs(60));
    assert_eq!(evict(&mut node), 2);
}

#[test]
fn news_of_something_else_makes_no_stay_look_shorter() {
    let mut node = holding_a();
    evict(&mut node);
    node.advance(secs(60));
    bring_back(&mut node);
    node.advance(secs(23 * 3600));
    node.free_percent = Some(10);
    node.step(Input::DiskFree(10));
    node.apply(WriteKind::Report);
    node.advance(secs(3600));
    assert_eq!(evict(&mut node), 1);
}

#[test]
fn nor_does_news_of_a_lease_whose_report_another_process_wrote_once() {
    let mut node = holding_a();
    evict(&mut node);
    node.advance(secs(60));
    bring_back(&mut node);
    let report = Report { agent: "pod-2".to_owned(), ..node.report() };
    for hours in [23, 1] {
        let patch = node.lease().report_patch(&report);
        assert!(node.patch(&patch));
        node.see_lease();
        node.advance(secs(hours * 3600));
    }
    assert_eq!(evict(&mut node), 1);
}

#[test]
fn what_an_ended_grant_named_and_no_catalog_lists_is_told_no_more() {
    let mut node = Node::idle();
    for (n, name) in [(1, "z"), (2, "b")] {
        node.issue(&grant(n, &[image(name)]));
        node.answer_leader();
        node.apply(WriteKind::Take);
        node.step(Input::Catalog(catalog(n + 1, &[image("b")])));
        node.pull_succeeds();
        node.apply(WriteKind::Finish);
        assert!(node.report().images.contains_key(&*image(name).uid));
    }
    assert!(!node.report().images.contains_key("uid-z"));
}

#[test]
fn an_idle_node_tells_at_once_that_its_disk_is_low_and_that_it_is_not() {
    let mut node = holding_a();
    node.step(Input::DiskFree(10));
    node.apply(WriteKind::Report);
    assert_eq!(node.report().low_disk.unwrap().free_percent, 10);
    node.advance(secs(1));
    node.step(Input::DiskFree(80));
    node.apply(WriteKind::Report);
    assert_eq!(node.report().low_disk, None);
}

#[test]
fn before_the_runtime_was_asked_what_the_lease_says_stands() {
    let mut node = holding_a();
    node.free_percent = Some(10);
    node.step(Input::DiskFree(10));
    node.apply(WriteKind::Report);
    let before = node.writes().len();
    node.restart("process-2");
    node.see_lease();
    node.step(Input::Catalog(catalog(2, &[image("a")])));
    assert_eq!(node.writes().len(), before, "it does not know yet whether the disk is low");
    node.answer_list();
    node.advance(secs(60));
    assert_eq!(node.writes().len(), before);
}

#[test]
fn outside_of_grants_reports_are_a_second_apart() {
    let mut node = holding_a();
    node.step(Input::DiskFree(10));
    node.apply(WriteKind::Report);
    node.step(Input::DiskFree(80));
    node.elapsed += std::time::Duration::from_millis(999);
    assert_eq!(node.step(Input::Tick), []);
    node.elapsed += std::time::Duration::from_millis(1);
    node.step(Input::Tick);
    node.apply(WriteKind::Report);
}

#[test]
fn what_is_newly_listed_waits_for_the_nodes_own_moment_and_a_new_catalog_changes_none() {
    let mut node = Node::idle();
    node.images.insert(image("a").reference, DIGEST.to_owned());
    node.images_changed();
    assert_eq!(node.step(Input::Catalog(catalog(2, &[image("a")]))), []);
    assert_eq!(node.step(Input::Catalog(catalog(3, &[image("a"), image("b")]))), []);
    node.advance(secs(3));
    node.apply(WriteKind::Report);
    assert_eq!(node.report().catalog, 3);
}

#[test]
fn what_was_told_along_with_other_news_needs_no_moment_of_its_own_any_more() {
    let mut node = Node::idle();
    node.images.insert(image("a").reference, DIGEST.to_owned());
    node.images_changed();
    node.step(Input::Catalog(Catalog { answer_within: secs(4000), ..catalog(2, &[image("a")]) }));
    node.free_percent = Some(10);
    node.step(Input::DiskFree(10));
    node.apply(WriteKind::Report);
    assert!(node.report().images.contains_key("uid-a"));
    node.images.clear();
    node.images_changed();
    node.apply(WriteKind::Report);
    assert_eq!(node.report().images["uid-a"].digest, None);
}

#[test]
fn an_eviction_that_a_new_process_finds_is_told_at_once_whichever_comes_first_lease_or_catalog() {
    let listed = Catalog { answer_within: secs(4000), ..catalog(2, &[image("a")]) };
    for catalog_first in [true, false] {
        let mut node = holding_a();
        node.images.clear();
        node.restart("process-2");
        if catalog_first {
            node.step(Input::Catalog(listed.clone()));
            node.see_lease();
        } else {
            node.see_lease();
            node.step(Input::Catalog(listed.clone()));
        }
        node.answer_list();
        node.apply(WriteKind::Report);
    }
}

#[test]
fn of_images_that_nobody_wants_any_more_a_thousand_are_remembered() {
    let images: Vec<GrantedImage> = (0..1100).map(|n| image(&format!("a{n:04}"))).collect();
    let mut node = Node::idle();
    node.images = images.iter().map(|image| (image.reference.clone(), DIGEST.to_owned())).collect();
    node.images_changed();
    node.step(Input::Catalog(catalog(2, &images)));
    node.advance(secs(4));
    node.images.clear();
    node.images_changed();
    node.step(Input::Catalog(catalog(3, &[])));
    node.step(Input::Catalog(catalog(4, &images)));
    node.apply(WriteKind::Report);
    node.advance(secs(60));
    node.apply(WriteKind::Report);
    let report = node.report();
    assert_eq!(report.images.len() + usize::try_from(report.left_out).unwrap(), 1024);
}

#[test]
fn who_hears_of_a_newer_lease_after_a_lost_answer_or_a_conflict_need_not_read_it() {
    for result in [WriteResult::Unknown("timeout".to_owned()), WriteResult::Conflict] {
        let mut node = holding_a();
        node.step(Input::DiskFree(10));
        let issue = node.lease().issue_patch(&grant(1, &[image("b")]), secs(60));
        assert!(node.patch(&issue));
        if result == WriteResult::Conflict {
            node.see_lease();
            node.refuse_write(WriteKind::Report, result);
        } else {
            node.refuse_write(WriteKind::Report, result);
            node.see_lease();
        }
        assert_eq!(node.count(&Effect::ReadLease), 0);
        node.apply(WriteKind::Refuse);
    }
}

#[test]
fn the_lease_is_read_by_one_request_at_a_time() {
    let mut node = holding_a();
    node.step(Input::DiskFree(10));
    node.refuse_write(WriteKind::Report, WriteResult::Unknown("timeout".to_owned()));
    node.advance(secs(20));
    assert_eq!(node.count(&Effect::ReadLease), 1);
    node.answer_read();
    node.apply(WriteKind::Report);
}

#[test]
fn an_image_that_went_while_no_agent_ran_is_an_eviction_too() {
    let mut node = holding_a();
    node.images.clear();
    node.restart("process-2");
    node.see_lease();
    node.step(Input::Catalog(catalog(2, &[image("a")])));
    node.answer_list();
    node.apply(WriteKind::Report);
    assert_eq!(node.report().images[image("a").uid.as_str()].evictions.as_ref().unwrap().count, 1);
}

#[test]
fn a_pull_that_finishes_while_images_are_listed_is_no_eviction() {
    let mut node = Node::working(&[image("a"), image("b")]);
    node.step(Input::ImagesChanged);
    node.elapsed += secs(1);
    node.step(Input::Tick);
    let before = drop_agent_step::Inventory::default();
    node.pull_succeeds();
    node.open.retain(|effect| *effect != Effect::ListImages);
    node.step(Input::Inventory(before));
    node.answer_list();
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    let entry = node.report().images[image("a").uid.as_str()].clone();
    assert_eq!((entry.digest.as_deref(), entry.evictions), (Some(DIGEST), None));
}

#[test]
fn while_a_grant_lives_reports_are_five_seconds_apart() {
    let images: Vec<_> = (0..12).map(|n| image(&format!("i{n:02}"))).collect();
    let mut node = Node::working(&images);
    for _ in &images {
        node.advance(secs(1));
        node.pull_succeeds();
        if node.open.iter().any(|e| matches!(e, Effect::WriteLease { kind: WriteKind::Renew, .. })) {
            node.apply(WriteKind::Renew);
        }
    }
    node.apply(WriteKind::Finish);
    assert_eq!(node.writes(), [WriteKind::Take, WriteKind::Renew, WriteKind::Renew, WriteKind::Finish]);
}

#[test]
fn an_edited_reference_begins_without_history() {
    let mut node = holding_a();
    let mut edited = image("a");
    edited.reference = "registry.test/a:2".to_owned();
    edited.pull_policy = ImagePullPolicy::Always;
    node.images.insert(edited.reference.clone(), OTHER_DIGEST.to_owned());
    node.images_changed();
    node.step(Input::Catalog(catalog(3, std::slice::from_ref(&edited))));
    node.advance(secs(4));
    node.apply(WriteKind::Report);
    let entry = node.report().images[edited.uid.as_str()].clone();
    assert_eq!(*entry.reference, *edited.reference);
    assert_eq!((entry.digest.as_deref(), entry.pulled_at), (Some(OTHER_DIGEST), None));
}

#[test]
fn what_is_no_longer_wanted_costs_no_write() {
    let mut node = holding_a();
    let before = node.writes().len();
    node.step(Input::Catalog(catalog(3, &[])));
    node.advance(secs(60));
    assert_eq!(node.writes().len(), before);
}

#[test]
fn a_replaced_lease_starts_from_nothing() {
    let mut node = Node::working(&[image("a")]);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert!(node.report().images[image("a").uid.as_str()].pulled_at.is_some());
    node.create_lease("lease-2");
    node.advance(secs(60));
    node.see_lease();
    node.apply(WriteKind::Report);
    let entry = node.report().images[image("a").uid.as_str()].clone();
    assert_eq!((entry.digest.as_deref(), entry.pulled_at), (Some(DIGEST), None));
}

#[test]
fn a_report_that_conflicts_is_decided_again() {
    let mut node = holding_a();
    node.images.clear();
    node.images_changed();
    let issue = node.lease().issue_patch(&grant(1, &[image("b")]), secs(60));
    assert!(node.patch(&issue));
    node.refuse_write(WriteKind::Report, WriteResult::Conflict);
    node.answer_read();
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert_eq!(node.report().images[image("a").uid.as_str()].digest, None);
}

#[test]
fn a_report_stays_within_its_size_and_says_how_many_were_left_out() {
    let mut node = Node::idle();
    let mut wanted = Catalog { generation: 2, answer_within: secs(4), ..Catalog::default() };
    for n in 0..2000 {
        let reference = format!("registry.test/{}{n:04}:1", "x".repeat(100));
        node.images.insert(reference.clone(), DIGEST.to_owned());
        wanted.wanted.insert(reference, BTreeSet::from([format!("uid-{n}")]));
    }
    node.images_changed();
    node.step(Input::Catalog(wanted));
    node.advance(secs(4));
    node.apply(WriteKind::Report);
    let report = node.report();
    assert!(report.encode().len() < REPORT_MAX_BYTES);
    assert!(report.encode().len() > REPORT_MAX_BYTES - 1024, "no more is left out than has to be");
    assert_eq!(report.left_out as usize + report.images.len(), 2000);
    assert!(report.images.contains_key("uid-0") && !report.images.contains_key("uid-1999"));
    let before = node.writes().len();
    node.advance(secs(600));
    assert_eq!(node.writes().len(), before, "and it is not written again and again");
}

#[test]
fn a_lost_catalog_forgets_nothing() {
    let mut node = holding_a();
    let before = node.writes().len();
    node.step(Input::CatalogGone);
    node.advance(secs(60));
    assert_eq!(node.writes().len(), before);
}

#[test]
fn a_restarted_agent_that_finishes_before_it_has_a_catalog_drops_no_entry() {
    let mut node = holding_a();
    node.issue(&grant(1, &[image("b")]));
    node.answer_leader();
    node.apply(WriteKind::Take);
    node.restart("process-2");
    node.see_lease();
    node.answer_list();
    node.apply(WriteKind::Take);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    let names: Vec<_> = node.report().images.into_keys().collect();
    assert_eq!(names, [image("a").uid.into(), image("b").uid.into()]);
}

#[test]
fn during_the_last_pull_of_a_grant_a_report_waits_for_its_end_though_not_for_long() {
    let mut node = Node::working(&[image("a"), image("b"), image("c")]);
    node.advance(secs(6));
    node.pull_succeeds();
    node.apply(WriteKind::Renew);
    node.advance(secs(6));
    node.pull_succeeds();
    assert!(node.open.iter().all(|effect| !matches!(effect, Effect::WriteLease { .. })), "c is the last");
    node.advance(secs(4));
    node.apply(WriteKind::Renew);
    assert!(node.report().images.contains_key(image("b").uid.as_str()));
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    assert!(node.report().images.contains_key(image("c").uid.as_str()));
}
