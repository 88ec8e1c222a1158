//! What `kubectl get` shows, and in which order: people have scripts and dashboards that rely on it.

use drop_crds::{CachedImage, CachedImageSet, DiscoveryPolicy, PullPolicy};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Columns as `name type path`; those that only `-o wide` shows are in parentheses.
fn columns(definition: &CustomResourceDefinition) -> Vec<String> {
    let columns = definition.spec.versions[0].additional_printer_columns.iter().flatten();
    columns
        .map(|column| {
            let text = format!("{} {} {}", column.name, column.type_, column.json_path);
            if column.priority.unwrap_or(0) > 0 { format!("({text})") } else { text }
        })
        .collect()
}

const REASON: &str = r#".status.conditions[?(@.type=="Ready")].reason"#;
const MESSAGE: &str = r#".status.conditions[?(@.type=="Ready")].message"#;

#[test]
fn an_image_shows_where_it_stands() {
    let expected = [
        "Image string .spec.image",
        "Tag string .spec.tag",
        &format!("Status string {REASON}"),
        "Ready string .status.ready",
        "Age date .metadata.creationTimestamp",
        "(Digest string .status.resolvedDigest)",
        r"(Set string .metadata.labels.drop\.corewire\.io/imageset)",
        &format!("(Message string {MESSAGE})"),
        "(Policy string .spec.policyRef.name)",
    ];
    assert_eq!(columns(&CachedImage::crd()), expected);
}

#[test]
fn a_set_shows_how_many_are_ready() {
    let expected = [
        &format!("Status string {REASON}"),
        "Ready string .status.imagesReady",
        "Managed integer .status.imagesManaged",
        "Source string .spec.discoveryPolicyRef.name",
        &format!("(Message string {MESSAGE})"),
        "Age date .metadata.creationTimestamp",
    ];
    assert_eq!(columns(&CachedImageSet::crd()), expected);
}

#[test]
fn a_discovery_shows_what_it_found() {
    let expected = [
        &format!("Status string {REASON}"),
        "Sources integer .status.sourceCount",
        "Images integer .status.imageCount",
        "LastSync date .status.lastSyncTime",
        &format!("(Message string {MESSAGE})"),
        "Age date .metadata.creationTimestamp",
    ];
    assert_eq!(columns(&DiscoveryPolicy::crd()), expected);
}

#[test]
fn a_policy_shows_its_pace() {
    let expected = [
        "MaxNodes integer .spec.maxConcurrentNodes",
        "MinDelay string .spec.minDelayBetweenPulls",
        "RepullInterval string .spec.repullInterval",
        "Age date .metadata.creationTimestamp",
    ];
    assert_eq!(columns(&PullPolicy::crd()), expected);
}

#[test]
fn every_kind_but_the_policy_has_a_status_of_its_own() {
    let definitions = [CachedImage::crd(), CachedImageSet::crd(), DiscoveryPolicy::crd(), PullPolicy::crd()];
    let with_status = definitions.map(|definition| {
        let subresources = definition.spec.versions[0].subresources.as_ref();
        subresources.is_some_and(|subresources| subresources.status.is_some())
    });
    assert_eq!(with_status, [true, true, true, false]);
}
