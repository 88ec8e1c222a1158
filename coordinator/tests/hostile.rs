//! Objects of the API server as nobody should store them: each becomes a row that says what is wrong with it, by field, and
//! spoils no other.
#![allow(clippy::unwrap_used)] // all of this is test code

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::Parser as _;
use drop_coordinator::discover::row;
use drop_coordinator::lead::lease::record;
use drop_coordinator::settings::Settings;
use drop_coordinator::watch::{self, Stored, catalog, images, nodes, objects, pull_secrets, sets};
use drop_coordinator::{set_status, status};
use drop_crds::{CachedImageSetStatus, CachedImageStatus};
use drop_hostile::cases;
use drop_hostile::json::{any_json, damaged_json, each_replaced};
use drop_hostile::text::{any_bytes, texts_like};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::Role;
use kube::core::DeserializeGuard;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn spec() -> Value {
    json!({
        "image": "registry.example:5000/team/app", "tag": "v1", "imagePullPolicy": "IfNotPresent", "priority": 3,
        "imagePullSecrets": [{ "name": "s" }], "nodeSelector": { "a": "b" }, "policyRef": { "name": "p" },
        "tolerations": [{ "key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule" }],
        "images": [{ "image": "nginx", "tag": "1" }], "discoveryPolicyRef": { "name": "d" },
        "minDelayBetweenPulls": "10s", "maxConcurrentNodes": 1, "failureBackoff": { "initial": "1s", "max": "2s" },
        "sources": [{ "type": "prometheus", "prometheus": { "endpoint": "http://p", "query": "up" } }],
    })
}

fn image_status() -> Value {
    json!({
        "observedGeneration": 2, "phase": "Degraded", "ready": "1/3", "resolvedDigest": "sha256:aa", "nodesTargeted": 3,
        "cachedNodes": ["a"], "lastPulledAt": "2026-01-01T00:00:00Z", "digests": [{ "digest": "sha256:aa", "nodes": 1, "newest": true }],
        "failedNodes": [{ "node": "b", "reason": "NotFound", "message": "m", "attempts": 4, "since": "2026-01-01T00:00:00Z" }],
        "waiting": [{ "reason": "BackingOff", "nodes": 1 }], "discoveredImages": [{ "image": "a:1", "score": 7, "source": "s" }],
        "conditions": [{ "type": "Ready", "status": "False", "reason": "r", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
    })
}

fn object() -> Value {
    json!({
        "metadata": {
            "name": "n", "uid": "u", "generation": 2, "resourceVersion": "7", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": { "drop.corewire.io/imageset": "s" }, "ownerReferences": [
                { "apiVersion": "drop.corewire.io/v1alpha1", "kind": "CachedImageSet", "name": "s", "uid": "o", "controller": true },
            ],
        },
        "spec": spec(), "status": image_status(),
    })
}

fn read<T: DeserializeOwned>(object: &Value) -> Option<T> {
    // What a watch can't decode as an object of its kind never becomes a row.
    serde_json::from_value(object.clone()).ok()
}

/// What a row says is wrong: short, and with the field in it.
fn is_told(problem: Option<&String>) {
    if let Some(problem) = problem {
        assert!(problem.contains("spec") && problem.len() < 4000, "{problem}");
        assert!(!problem.chars().any(char::is_control), "{problem:?}");
    }
}

fn rows(object: &Value) {
    if let Some(object) = read::<Stored<drop_crds::CachedImage>>(object) {
        let row = images::image(object);
        assert!(row.problem.is_some() || !row.reference.is_empty());
        is_told(row.problem.as_ref());
    }
    if let Some(object) = read::<Stored<drop_crds::CachedImageSet>>(object) {
        let row = sets::set(object);
        is_told(row.problem.as_ref());
        assert!(row.images.malformed.iter().all(|told| told.len() < 4000));
    }
    if let Some(object) = read::<DeserializeGuard<drop_crds::PullPolicy>>(object) {
        let row = images::policy(object);
        assert!(
            row.max_concurrent_nodes >= 1 && !row.backoff_initial.is_zero() && !row.backoff_max.is_zero()
        );
    }
    if let Some(object) = read::<DeserializeGuard<drop_crds::DiscoveryPolicy>>(object) {
        let row = sets::discovery(object);
        assert!(row.images.malformed.iter().all(|told| told.len() < 4000));
    }
    if let Some(object) = read(object) {
        is_told(row::row(object).spec.as_ref().err());
    }
    if let Some(node) = read::<objects::SlimNode>(object) {
        let _ = nodes::node(node);
    }
    let _ = read::<objects::SlimPod>(object).and_then(nodes::agent);
    if let Some(lease) = read::<Lease>(object) {
        let _ = record(&lease);
        let _ = watch::lease(lease);
    }
    if let Some(map) = read::<ConfigMap>(object) {
        let _ = catalog::row(map);
    }
    if let Some(role) = read::<Role>(object) {
        let _ = pull_secrets::row(role);
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn any_object_becomes_rows_that_say_what_is_wrong(object in any_json(), spec in any_json(), status in any_json()) {
        rows(&object);
        rows(&json!({ "metadata": { "name": "n" }, "spec": spec, "status": status, "rules": spec, "data": status }));
    }

    #[test]
    fn a_damaged_object_too(object in damaged_json(object())) {
        rows(&object);
    }

    #[test]
    fn whatever_status_is_stored_is_read_and_can_be_written(stored in damaged_json(image_status())) {
        if let Some(stored) = read::<CachedImageStatus>(&stored) {
            let _ = status::patch(&status::read(stored));
        }
        if let Some(stored) = read::<CachedImageSetStatus>(&stored) {
            let _ = set_status::patch(&set_status::read(stored));
        }
    }

    #[test]
    fn a_catalog_that_was_not_written_by_a_coordinator_is_damaged_or_has_strays(
        generation in texts_like(&["12"]), wanted in texts_like(&["nginx 5f0c\n"]), key in texts_like(&["wanted"]), text in texts_like(&["x"]),
    ) {
        let data = json!({ "generation": generation, "answerWithinMilliseconds": "2000", "wanted": wanted, key.clone(): text });
        let Some(map) = read::<ConfigMap>(&json!({ "metadata": { "uid": "u", "resourceVersion": "7" }, "data": data })) else { return Ok(()) };
        let known = ["generation", "answerWithinMilliseconds", "wanted"];
        let row = catalog::row(map);
        prop_assert_eq!(row.strays.contains(&key), !known.contains(&key.as_str()));
        prop_assert!(!row.damaged || row.catalog.wanted.is_empty());
    }

    #[test]
    fn any_flags_are_settings_or_an_error(
        flags in prop::collection::vec(any_bytes(), 0..4),
        flag in prop::sample::select(vec!["--listen", "--log-format", "--log-level", "--pod-name", "--pod-namespace"]),
        value in texts_like(&["0.0.0.0:8080", "json"]),
    ) {
        let flags = flags.into_iter().map(OsString::from_vec);
        let _ = Settings::try_parse_from([OsString::from("drop-coordinator")].into_iter().chain(flags));
        if let Err(error) = Settings::try_parse_from(["drop-coordinator", flag, &value]) {
            prop_assert!(error.to_string().starts_with("error: "), "{error}");
        }
    }
}

#[test]
fn a_spec_that_cannot_be_read_is_told_by_its_field() {
    let image = json!({
        "image": "nginx", "tag": "1", "imagePullPolicy": "Never", "priority": 3, "imagePullSecrets": [{ "name": "s" }],
        "nodeSelector": { "a": "b" }, "policyRef": { "name": "p" }, "tolerations": [{ "key": "k", "effect": "NoSchedule" }],
    });
    for (field, damaged) in each_replaced(&image, &json!(["odd", 7])) {
        let object = json!({ "metadata": { "name": "n" }, "spec": damaged });
        let problem = images::image(read(&object).unwrap()).problem;
        let named = problem.as_ref().is_some_and(|problem| problem.contains(&field));
        // A list that has more than this is read as it stands.
        assert!(
            named
                || problem.is_some_and(
                    |problem| problem.contains("imagePullSecrets") || problem.contains("tolerations")
                ),
            "{field}"
        );
    }
}

#[test]
fn a_catalog_in_the_wrong_half_of_its_map_is_damaged() {
    let map = json!({ "metadata": { "uid": "u" }, "binaryData": { "wanted": "AAAA" } });
    assert!(catalog::row(read(&map).unwrap()).damaged);
    let empty = json!({ "data": { "generation": "1", "answerWithinMilliseconds": "2000", "wanted": "" }, "binaryData": {} });
    assert!(!catalog::row(read(&empty).unwrap()).damaged);
}
