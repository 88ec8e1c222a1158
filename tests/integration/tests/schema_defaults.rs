//! What the API server fills in.

use drop_crds::{CachedImageSpec, DiscoveryPolicySpec, PullPolicySpec};
use drop_integration::{cluster, definitions};
use serde_json::{Value, json};

/// What an object's spec looks like once the API server has taken it.
fn defaulted(kind: &str, spec: Option<&Value>) -> anyhow::Result<Value> {
    let mut result = Value::Null;
    cluster::test(async |cluster| {
        definitions::install(cluster).await?;
        let api = definitions::api(cluster, kind)?;
        result = definitions::dry_run(&api, kind, spec).await?["spec"].take();
        Ok(())
    })?;
    Ok(result)
}

#[test]
fn an_image_is_pulled_always_unless_it_says_otherwise() -> anyhow::Result<()> {
    let spec = defaulted("CachedImage", Some(&json!({ "image": "nginx" })))?;
    assert_eq!(spec, json!({ "image": "nginx", "imagePullPolicy": "Always" }));
    assert_eq!(serde_json::from_value::<CachedImageSpec>(spec)?.reference(), "nginx:latest");
    Ok(())
}

#[test]
fn a_set_needs_nothing() -> anyhow::Result<()> {
    assert_eq!(defaulted("CachedImageSet", Some(&json!({})))?, json!({ "imagePullPolicy": "Always" }));
    assert_eq!(defaulted("CachedImageSet", None)?, json!({ "imagePullPolicy": "Always" }));
    Ok(())
}

#[test]
fn a_policy_needs_nothing() -> anyhow::Result<()> {
    let expected = json!({ "maxConcurrentNodes": 1, "minDelayBetweenPulls": "10s" });
    assert_eq!(defaulted("PullPolicy", Some(&json!({})))?, expected);
    assert_eq!(defaulted("PullPolicy", None)?, expected);
    assert_eq!(serde_json::from_value::<PullPolicySpec>(expected)?, PullPolicySpec::default());
    Ok(())
}

#[test]
fn a_backoff_that_is_begun_is_completed() -> anyhow::Result<()> {
    let spec = defaulted("PullPolicy", Some(&json!({ "failureBackoff": { "max": "1h" } })))?;
    assert_eq!(spec["failureBackoff"], json!({ "initial": "30s", "max": "1h" }));
    let spec = defaulted("PullPolicy", Some(&json!({ "failureBackoff": { "initial": "1s" } })))?;
    assert_eq!(spec["failureBackoff"], json!({ "initial": "1s", "max": "5m" }));
    Ok(())
}

#[test]
fn a_discovery_syncs_every_half_hour_and_keeps_fifty_images() -> anyhow::Result<()> {
    let sources = json!([{
        "type": "prometheus",
        "prometheus": { "endpoint": "http://prometheus:9090", "query": "up" },
        "secretRef": {},
    }]);
    let spec = defaulted("DiscoveryPolicy", Some(&json!({ "sources": sources })))?;
    assert_eq!(spec["syncInterval"], "30m");
    assert_eq!(spec["maxImages"], 50);
    assert_eq!(spec["sources"][0]["prometheus"]["step"], "5m");
    assert_eq!(spec["sources"][0]["secretRef"]["name"], "");
    serde_json::from_value::<DiscoveryPolicySpec>(spec)?;
    Ok(())
}

#[test]
fn what_is_defaulted_reads_back_the_same() -> anyhow::Result<()> {
    let spec = defaulted(
        "CachedImageSet",
        Some(&json!({ "images": [{ "image": "a" }], "imagePullSecrets": [{}] })),
    )?;
    assert_eq!(spec["images"], json!([{ "image": "a" }]));
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "" }]));
    Ok(())
}
