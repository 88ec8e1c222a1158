use serde_json::{Value, json};

use super::*;
use crate::answer::{Scored, Shape};
use crate::failure::{Failure, Reason};

fn policy(spec: Value) -> Policy {
    Policy::read(&serde_json::from_value(spec).unwrap()).unwrap()
}

fn two_sources() -> Value {
    json!({ "sources": [
        { "type": "prometheus", "prometheus": { "endpoint": "http://p", "query": "up" } },
        { "type": "registry", "registry": { "url": "http://r", "repositories": ["app"] } },
    ] })
}

fn found(images: &[(&str, i64)]) -> Answer {
    let images =
        images.iter().map(|(image, score)| Scored { image: (*image).to_owned(), score: *score }).collect();
    Answer { images, ..Answer::default() }
}

fn dns() -> Answer {
    Answer::failed(Failure::new(Reason::DnsError, "the name p does not resolve"))
}

fn refused() -> Answer {
    Answer::failed(Failure::new(Reason::ConnectionRefused, "r refuses connections"))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn sync(old: &DiscoveryPolicyStatus, answers: &[Answer], second: i64) -> DiscoveryPolicyStatus {
    conclude(old, 1, &policy(two_sources()), answers, at(second))
}

fn listed(status: &DiscoveryPolicyStatus) -> Vec<String> {
    status.discovered_images.iter().map(|i| format!("{} {} {}", i.image, i.score, i.source)).collect()
}

fn said(status: &DiscoveryPolicyStatus, kind: &str) -> String {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    format!("{} {}: {}", condition.status, condition.reason, condition.message)
}

#[test]
fn all_sources_are_merged_into_one_list() {
    let status =
        sync(&DiscoveryPolicyStatus::default(), &[found(&[("a:1", 5), ("b:1", 1)]), found(&[("a:1", 9)])], 7);
    assert_eq!(
        listed(&status),
        ["a:1 9 registry http://r, prometheus http://p", "b:1 1 prometheus http://p"]
    );
    assert_eq!((status.image_count, status.source_count), (2, 2));
    assert_eq!(status.last_sync_time, Some(Time(at(7))));
    assert_eq!(said(&status, "Ready"), "True Synced: 2 images from 2 sources");
    assert_eq!(said(&status, "SourceHealthy"), "True AllSourcesHealthy: all 2 sources answered");
    assert_eq!(standing(&status, 1), Standing::Settled);
    assert_eq!(standing(&status, 2), Standing::Outdated);
}

#[test]
fn one_source_that_fails_keeps_its_last_good_images_and_no_others() {
    let before =
        sync(&DiscoveryPolicyStatus::default(), &[found(&[("a:1", 5)]), found(&[("b:1", 2), ("c:1", 1)])], 1);
    let after = sync(&before, &[dns(), found(&[("c:1", 1)])], 2);
    assert_eq!(listed(&after), ["a:1 5 prometheus http://p", "c:1 1 registry http://r"]);
    assert_eq!(
        said(&after, "Ready"),
        "True PartiallyFailed: 2 images from 2 sources; prometheus http://p: the name p does not resolve"
    );
    assert_eq!(
        said(&after, "SourceHealthy"),
        "False SourceError: prometheus http://p: the name p does not resolve"
    );
    assert_eq!(after.last_sync_time, Some(Time(at(2))));
    assert_eq!(standing(&after, 1), Standing::Failing);
}

#[test]
fn an_image_that_two_sources_named_stays_with_the_one_that_fails() {
    let before = sync(&DiscoveryPolicyStatus::default(), &[found(&[("a:1", 5)]), found(&[("a:1", 9)])], 1);
    let after = sync(&before, &[dns(), found(&[])], 2);
    assert_eq!(listed(&after), ["a:1 9 prometheus http://p"]);
}

#[test]
fn when_all_fail_the_list_stays_and_the_reason_is_told() {
    let before = sync(&DiscoveryPolicyStatus::default(), &[found(&[("a:1", 5)]), found(&[("b:1", 2)])], 1);
    let after = sync(&before, &[dns(), refused()], 2);
    assert_eq!(after.discovered_images, before.discovered_images);
    assert_eq!(after.last_sync_time, before.last_sync_time);
    assert_eq!(
        said(&after, "Ready"),
        "False DNSError: prometheus http://p: the name p does not resolve; registry http://r: r refuses connections; 2 images of earlier answers kept"
    );
    let first = sync(&DiscoveryPolicyStatus::default(), &[dns(), refused()], 2);
    assert!(!said(&first, "Ready").contains("kept"));
    assert_eq!(first.last_sync_time, None);
}

#[test]
fn a_registry_that_fails_for_one_repository_keeps_the_images_of_that_one() {
    let before =
        sync(&DiscoveryPolicyStatus::default(), &[found(&[]), found(&[("r/a:1", 2), ("r/b:1", 2)])], 1);
    let partly = Answer {
        failure: Some(Failure::new(Reason::NotFound, "1 of 2 repositories failed: not found: b")),
        keep: vec![Shape { prefix: "r/b:".to_owned(), suffix: String::new() }],
        ..found(&[("r/a:2", 1)])
    };
    let after = sync(&before, &[dns(), partly], 2);
    assert_eq!(listed(&after), ["r/b:1 2 registry http://r", "r/a:2 1 registry http://r"]);
    assert!(said(&after, "Ready").starts_with("True PartiallyFailed"));
}

#[test]
fn the_same_answers_change_nothing_but_the_time() {
    for answers in
        [[found(&[("a:1", 5)]), found(&[("b:1", 2)])], [dns(), found(&[("b:1", 2)])], [dns(), refused()]]
    {
        let first = sync(&DiscoveryPolicyStatus::default(), &answers, 1);
        let second = sync(&first, &answers, 1000);
        assert!(!differs(&first, &second), "{first:?}\n{second:?}");
    }
    let first = sync(&DiscoveryPolicyStatus::default(), &[found(&[("a:1", 5)]), found(&[])], 1);
    assert!(differs(&first, &sync(&first, &[found(&[("a:1", 6)]), found(&[])], 1)));
}

#[test]
fn recovery_moves_the_time_of_the_transition() {
    let healthy = [found(&[]), found(&[])];
    let first = sync(&DiscoveryPolicyStatus::default(), &healthy, 1);
    let failing = sync(&first, &[dns(), found(&[])], 2);
    let recovered = sync(&failing, &healthy, 3);
    let times = |status: &DiscoveryPolicyStatus| {
        status.conditions.iter().map(|c| c.last_transition_time.0.as_second()).collect::<Vec<_>>()
    };
    assert_eq!([times(&first), times(&failing), times(&recovered)], [[1, 1], [1, 2], [1, 3]]);
}

#[test]
fn kept_images_pass_the_filter_and_the_cut_too() {
    let before = sync(
        &DiscoveryPolicyStatus::default(),
        &[found(&[("a:1", 5), ("b:1", 4), ("c:1", 3)]), found(&[])],
        1,
    );
    let mut spec = two_sources();
    spec["imageFilter"] = json!("^[bc]");
    spec["maxImages"] = json!(1);
    let after = conclude(&before, 2, &policy(spec), &[dns(), refused()], at(2));
    assert_eq!(listed(&after), ["b:1 4 prometheus http://p"]);
}

#[test]
fn an_invalid_spec_keeps_the_list_and_names_the_field() {
    let before = sync(&DiscoveryPolicyStatus::default(), &[found(&[("a:1", 5)]), found(&[])], 1);
    let after = invalid(&before, 2, 0, "spec.imageFilter: is not a regular expression".to_owned(), at(2));
    assert_eq!(after.discovered_images, before.discovered_images);
    assert_eq!(said(&after, "Ready"), "False InvalidSpec: spec.imageFilter: is not a regular expression");
    assert_eq!(said(&after, "SourceHealthy"), "Unknown InvalidSpec: no source is asked");
}

#[test]
fn what_was_skipped_is_told_while_all_is_well() {
    let noted =
        Answer { notes: vec!["2 series without label image skipped".to_owned()], ..found(&[("a:1", 1)]) };
    assert_eq!(
        said(&sync(&DiscoveryPolicyStatus::default(), &[noted, found(&[])], 1), "Ready"),
        "True Synced: 1 image from 2 sources; prometheus http://p: 2 series without label image skipped"
    );
}
