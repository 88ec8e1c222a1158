//! Whatever stands in the Lease and in the catalog: the agent does nothing harmful, comes to rest, and goes on once it is put
//! right.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::node::{DIGEST, Node, catalog, grant, image, secs};
use drop_agent_step::{Effect, Input, WriteKind, WriteResult};
use drop_hostile::cases;
use drop_hostile::json::damaged_json;
use drop_hostile::text::{any_text, texts_like};
use drop_protocol::names::{GRANT_ANNOTATION, REPORT_ANNOTATION, REPORT_MAX_BYTES};
use drop_protocol::{Catalog, Monotonic, Report};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Writes an annotation behind everybody's back, and tells the agent of it.
fn edit(node: &mut Node, key: &str, text: &str) {
    change(node, |lease| lease["metadata"]["annotations"][key] = json!(text));
}

fn change(node: &mut Node, change: impl FnOnce(&mut Value)) {
    node.version += 1;
    let lease = node.lease.as_mut().unwrap();
    change(lease);
    lease["metadata"]["resourceVersion"] = json!(node.version.to_string());
    node.see_lease();
}

/// Answers everything well for so long; fails if the agent spins. Returns how many writes there were.
fn live(node: &mut Node, time: Duration) -> usize {
    let before = node.writes().len();
    let end = node.elapsed + time;
    let mut rounds = 0;
    loop {
        while let Some(effect) = node.open.first().cloned() {
            match effect {
                Effect::ReadLeader => drop(node.answer_leader()),
                Effect::ReadLease => drop(node.answer_read()),
                Effect::ListImages => drop(node.answer_list()),
                Effect::WriteLease { kind, .. } => write(node, kind),
                Effect::StartPull { .. } => drop(node.pull_succeeds()),
                _ => drop(node.open.remove(0)),
            }
            rounds += 1;
            assert!(rounds < 2000, "the agent spins: {:?}", node.writes());
        }
        match node.agent.wake_at().map(Monotonic::since_start).filter(|at| *at <= end) {
            Some(at) => {
                node.elapsed = node.elapsed.max(at);
                node.step(Input::Tick);
            }
            None => break,
        }
        rounds += 1;
        assert!(rounds < 2000, "the agent spins: {:?}", node.writes());
    }
    node.elapsed = end;
    node.writes().len() - before
}

/// The open write as the API server does it: one that was meant for an earlier version conflicts.
fn write(node: &mut Node, kind: WriteKind) {
    let (write, patch) = node.open_write(kind);
    let result = if node.patch(&patch) { WriteResult::Applied(node.lease()) } else { WriteResult::Conflict };
    node.step(Input::WriteDone { write, result });
}

#[test]
fn a_report_that_cannot_be_read_is_written_anew_once_also_by_a_node_with_nothing_to_tell() {
    for garbage in ["", "{", "null", "[]", "{\"version\":99}", "{\"version\":1}", &"[".repeat(100_000)] {
        let mut node = Node::idle();
        edit(&mut node, REPORT_ANNOTATION, garbage);
        live(&mut node, secs(300));
        assert_eq!(node.writes(), [WriteKind::Report], "{garbage:.20}");
        assert_eq!(node.lease().report_error, None, "{garbage:.20}");
    }
}

#[test]
fn a_grant_that_cannot_be_read_is_left_alone() {
    let nameless = grant(1, &[image("a")]).encode().replace(grant(1, &[]).id.as_str(), "");
    let garbages = ["", "{", "null", "{\"version\":99,\"images\":[]}", "{\"version\":1}", nameless.as_str()];
    for garbage in garbages {
        let mut node = Node::idle();
        edit(&mut node, GRANT_ANNOTATION, garbage);
        live(&mut node, secs(300));
        assert_eq!(node.writes(), [], "{garbage}");
        assert!(!node.log.iter().any(|effect| matches!(effect, Effect::StartPull { .. })));
        node.issue(&grant(1, &[image("a")]));
        live(&mut node, secs(60));
        assert_eq!(
            node.images.values().next().map(String::as_str),
            Some(DIGEST),
            "and the next one is worked on"
        );
    }
}

#[test]
fn a_grant_that_becomes_unreadable_ends_its_pull() {
    let mut node = Node::working(&[image("a")]);
    let (pull, _) = node.open_pull();
    edit(&mut node, GRANT_ANNOTATION, "{");
    assert!(node.open.contains(&Effect::CancelPull { pull }));
}

#[test]
fn lines_that_are_missing_from_the_catalog_for_a_moment_cost_nothing() {
    let images = [image("a"), image("b")];
    let mut node = Node::working(&images);
    live(&mut node, secs(60));
    let before = node.report();
    assert!(before.images.values().all(|entry| entry.pulled_at.is_some()));
    for (generation, lines) in [(3, &images[..1]), (4, &[][..]), (5, &images[..])] {
        node.step(Input::Catalog(catalog(generation, lines)));
        assert_eq!(live(&mut node, secs(5)), 0, "{generation}");
    }
    node.images_changed();
    live(&mut node, secs(60));
    assert_eq!(node.report().images, before.images);
}

#[test]
fn what_is_no_longer_listed_is_forgotten_in_time() {
    let mut node = Node::working(&[image("a")]);
    live(&mut node, secs(60));
    node.step(Input::Catalog(catalog(3, &[])));
    live(&mut node, secs(601));
    node.step(Input::Catalog(catalog(4, &[])));
    node.step(Input::Catalog(catalog(5, &[image("a")])));
    live(&mut node, secs(60));
    assert_eq!(node.report().images["uid-a"].pulled_at, None, "wanted anew, never confirmed since");
}

#[test]
fn a_lease_of_no_time_at_all_is_not_renewed_without_a_pause() {
    let mut node = Node::working(&[image("a")]);
    change(&mut node, |lease| lease["spec"]["leaseDurationSeconds"] = json!(1));
    let before = node.writes().len();
    for _ in 0..20 {
        node.advance(secs(1));
        if node.open.iter().any(|effect| matches!(effect, Effect::WriteLease { .. })) {
            node.apply(WriteKind::Renew);
        }
    }
    assert!(node.writes().len() - before <= 20, "{:?}", node.writes());
}

#[test]
fn a_report_fits_its_lease_however_many_images_there_are() {
    let images: Vec<_> = (0..3000).map(|n| image(&format!("{n}-{}", "x".repeat(200)))).collect();
    let mut node = Node::idle();
    node.images = images.iter().map(|image| (image.reference.clone(), DIGEST.to_owned())).collect();
    node.step(Input::Catalog(catalog(2, &images)));
    node.images_changed();
    live(&mut node, secs(60));
    let report = node.report();
    assert!(report.encode().len() < REPORT_MAX_BYTES);
    assert_eq!(report.images.len() + report.left_out as usize, 3000);
}

/// What somebody may do to the objects that the agent reads.
#[derive(Debug, Clone)]
enum Edit {
    Grant(String),
    Report(String),
    Holder(String),
    Duration(i32),
    Transitions(i32),
    Catalog(BTreeMap<String, String>),
    Issue(u64),
    Wait(u64),
}

fn any_edit() -> impl Strategy<Value = Edit> {
    let sound = grant(7, &[image("a"), image("b")]).encode();
    let odd_grant = damaged_json(serde_json::from_str(&sound).unwrap()).prop_map(|grant| grant.to_string());
    let report = Report::empty("pod-1").encode();
    let data = catalog(3, &[image("a"), image("b")]).encode();
    let lines = texts_like(&[data["wanted"].as_str()]);
    prop_oneof![
        3 => texts_like(&[&sound]).prop_map(Edit::Grant),
        3 => odd_grant.prop_map(Edit::Grant),
        3 => texts_like(&[&report]).prop_map(Edit::Report),
        2 => any_text().prop_map(Edit::Holder),
        1 => any::<i32>().prop_map(Edit::Duration),
        1 => any::<i32>().prop_map(Edit::Transitions),
        3 => (lines, texts_like(&["3"])).prop_map(move |(lines, generation)| {
            let mut data = data.clone();
            data.insert("wanted".to_owned(), lines);
            data.insert("generation".to_owned(), generation);
            Edit::Catalog(data)
        }),
        2 => (10..20_u64).prop_map(Edit::Issue),
        3 => (1..90_u64).prop_map(Edit::Wait),
    ]
}

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn whatever_is_written_by_hand_the_agent_goes_on_once_it_is_put_right(
        edits in prop::collection::vec(any_edit(), 1..25),
    ) {
        let mut node = Node::idle();
        for edited in edits {
            match edited {
                Edit::Grant(text) => edit(&mut node, GRANT_ANNOTATION, &text),
                Edit::Report(text) => edit(&mut node, REPORT_ANNOTATION, &text),
                Edit::Holder(text) => change(&mut node, |lease| lease["spec"]["holderIdentity"] = json!(text)),
                Edit::Duration(n) => change(&mut node, |lease| lease["spec"]["leaseDurationSeconds"] = json!(n)),
                Edit::Transitions(n) => change(&mut node, |lease| lease["spec"]["leaseTransitions"] = json!(n)),
                Edit::Catalog(data) => {
                    // One that can't be read does not reach the step.
                    if let Ok(read) = Catalog::decode(&data) {
                        node.step(Input::Catalog(read));
                    }
                }
                Edit::Issue(n) => drop(node.issue(&grant(n, &[image("a")]))),
                Edit::Wait(seconds) => {
                    live(&mut node, secs(seconds));
                }
            }
        }
        // Put right.
        change(&mut node, |lease| {
            lease["spec"] = json!({ "leaseDurationSeconds": 60 });
            lease["metadata"]["annotations"] = json!({});
        });
        node.step(Input::Catalog(catalog(9, &[image("z")])));
        live(&mut node, secs(60));
        node.issue(&grant(99, &[image("z")]));
        live(&mut node, secs(60));
        let report = node.report();
        prop_assert_eq!(report.images["uid-z"].digest.as_deref(), Some(DIGEST));
        prop_assert_eq!(live(&mut node, secs(600)), 0, "at rest");
    }
}
