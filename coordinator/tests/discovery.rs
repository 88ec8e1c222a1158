//! Discovery end to end: a manifest goes to a real API server, the coordinator's process asks a real Prometheus and a
//! real registry, and the status tells what they hold. `coordinator/discovery/README.md` says how to run it.
#![cfg(feature = "real-parts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of this is test code

mod stage;

use std::time::Duration;

use drop_devtools::sources::{Access, Prometheus, Registry, Sample, free_address};
use jiff::Timestamp;
use serde_json::{Value, json};
use stage::{Stage, condition, on_stage};

fn sample(image: &str, value: &str) -> Sample {
    Sample {
        series: format!("runs{{image=\"{image}\"}}"),
        time: Timestamp::now().as_second() - 1,
        value: value.to_owned(),
    }
}

fn prometheus_source(address: impl std::fmt::Display) -> Value {
    json!({ "type": "prometheus", "prometheus": { "endpoint": format!("http://{address}"), "query": "runs" } })
}

fn listed(status: &Value) -> Vec<String> {
    let images = status["discoveredImages"].as_array().cloned().unwrap_or_default();
    images.iter().map(|i| format!("{} {}", i["image"].as_str().unwrap(), i["score"])).collect()
}

#[test]
fn a_manifest_becomes_a_status_and_edits_take_effect_at_once() {
    on_stage(async |stage: &mut Stage| {
        let state = stage.directory();
        let prometheus = Prometheus::start(
            &state.join("p"),
            &[sample("r.io/a:1", "7"), sample("r.io/b:1", "2")],
            &[],
            None,
        )
        .unwrap();
        let registry = Registry::start(&state.join("r"), &Access::Anonymous, None).unwrap();
        registry.tag("team/app", "v1").unwrap();
        stage.start_coordinator();
        let host = registry.address().to_string();
        let spec = json!({ "maxImages": 2, "sources": [
            prometheus_source(prometheus.address()),
            { "type": "registry", "registry": { "url": format!("http://{host}"), "repositories": ["team/app"] } },
        ] });
        let name = stage.apply("popular", &spec).await;
        let status = stage.status(&name, |status| status["imageCount"] == 2).await;
        assert_eq!(listed(&status), ["r.io/a:1 7", "r.io/b:1 2"]);
        assert_eq!(
            status["discoveredImages"][0]["source"],
            format!("prometheus http://{}", prometheus.address())
        );
        assert_eq!(condition(&status, "Ready"), "True Synced: 2 images from 2 sources");
        assert_eq!(condition(&status, "SourceHealthy"), "True AllSourcesHealthy: all 2 sources answered");
        assert_eq!(status["sourceCount"], 2);
        assert!(status["lastSyncTime"].is_string());

        let mut edited = spec.clone();
        edited["maxImages"] = json!(50);
        stage.apply("popular", &edited).await;
        let status = stage.status(&name, |status| status["imageCount"] == 3).await;
        assert_eq!(
            listed(&status),
            ["r.io/a:1 7".to_owned(), "r.io/b:1 2".to_owned(), format!("{host}/team/app:v1 1")]
        );
        let metrics = stage.metrics().await;
        for line in [
            format!("drop_discovery_images_found{{policy=\"{name}\",source_type=\"prometheus\"}} 2"),
            format!("drop_discovery_images_found{{policy=\"{name}\",source_type=\"registry\"}} 1"),
            format!(
                "drop_discovery_source_health{{policy=\"{name}\",source_type=\"registry\",endpoint=\"http://{host}\"}} 1"
            ),
            format!(
                "drop_discovery_source_latency_seconds_count{{policy=\"{name}\",source_type=\"prometheus\"}} 2"
            ),
            "drop_writes_total{kind=\"DiscoveryStatus\",outcome=\"Applied\"} 2".to_owned(),
        ] {
            assert!(metrics.contains(&line), "{line} is missing in\n{metrics}");
        }

        stage.delete(&name).await;
        stage::eventually("series of a deleted policy disappear", async || {
            (!stage.metrics().await.contains(&name)).then_some(())
        })
        .await;
    });
}

#[test]
fn a_failing_source_keeps_its_images_also_across_a_restart() {
    on_stage(async |stage: &mut Stage| {
        let state = stage.directory();
        let prometheus = Prometheus::start(&state.join("p"), &[sample("r.io/a:1", "7")], &[], None).unwrap();
        let registry = Registry::start(&state.join("r"), &Access::Anonymous, None).unwrap();
        registry.tag("app", "v1").unwrap();
        let (address, host) = (prometheus.address(), registry.address().to_string());
        stage.start_coordinator();
        let spec = json!({ "sources": [
            prometheus_source(address),
            { "type": "registry", "registry": { "url": format!("http://{host}"), "repositories": ["app"] } },
        ] });
        let name = stage.apply("kept", &spec).await;
        stage.status(&name, |status| status["imageCount"] == 2).await;

        drop(prometheus);
        stage.restart_coordinator().await;
        let mut edited = spec.clone();
        edited["syncInterval"] = json!("1h");
        stage.apply("kept", &edited).await;
        let partly = |status: &Value| condition(status, "SourceHealthy").starts_with("False");
        let status = stage.status(&name, partly).await;
        assert_eq!(listed(&status), ["r.io/a:1 7".to_owned(), format!("{host}/app:v1 1")]);
        assert_eq!(
            condition(&status, "Ready"),
            format!(
                "True PartiallyFailed: 2 images from 2 sources; prometheus http://{address}: {address} refuses connections"
            )
        );

        drop(registry);
        edited["syncInterval"] = json!("2h");
        stage.apply("kept", &edited).await;
        let status = stage.status(&name, |status| condition(status, "Ready").starts_with("False")).await;
        assert_eq!(listed(&status).len(), 2);
        assert!(condition(&status, "Ready").starts_with("False ConnectionRefused: "), "{status}");
        assert!(condition(&status, "Ready").ends_with("2 images of earlier answers kept"), "{status}");
    });
}

#[test]
fn an_idle_policy_causes_no_writes() {
    on_stage(async |stage: &mut Stage| {
        let prometheus =
            Prometheus::start(&stage.directory().join("p"), &[sample("r.io/a:1", "7")], &[], None).unwrap();
        stage.start_coordinator();
        let spec = json!({ "syncInterval": "10s", "sources": [prometheus_source(prometheus.address())] });
        let name = stage.apply("idle", &spec).await;
        let first = stage.status(&name, |status| status["imageCount"] == 1).await;
        // Three syncs later nothing has been written.
        let synced = format!(
            "drop_discovery_source_latency_seconds_count{{policy=\"{name}\",source_type=\"prometheus\"}} 4"
        );
        stage::within(Duration::from_secs(90), "four syncs", async || {
            stage.metrics().await.contains(&synced).then_some(())
        })
        .await;
        assert_eq!(stage.status(&name, |_| true).await, first);
        assert!(
            stage
                .metrics()
                .await
                .contains("drop_writes_total{kind=\"DiscoveryStatus\",outcome=\"Applied\"} 1")
        );
    });
}

#[test]
fn secrets_are_read_anew_and_what_is_missing_is_named() {
    on_stage(async |stage: &mut Stage| {
        let state = stage.directory();
        let access = Access::Login { username: "user".to_owned(), password: "right-one".to_owned() };
        let registry = Registry::start(&state.join("r"), &access, None).unwrap();
        registry.tag("app", "v1").unwrap();
        stage.start_coordinator();
        let url = format!("http://{}", registry.address());
        let spec = json!({ "syncInterval": "10s", "sources": [{
            "type": "registry", "registry": { "url": url, "repositories": ["app"] }, "secretRef": { "name": "login" }
        }] });
        let name = stage.apply("private", &spec).await;
        let ready = async |stage: &Stage, words: &str| {
            stage.status(&name, |status| condition(status, "Ready").starts_with(words)).await
        };
        let status = ready(stage, "False SecretNotFound").await;
        let missing = format!("Secret login does not exist in namespace {}", stage.namespace);
        assert_eq!(condition(&status, "Ready"), format!("False SecretNotFound: registry {url}: {missing}"));

        stage.secret("login", &[("username", "user")]).await;
        let status = ready(stage, "False SecretInvalid").await;
        assert!(
            condition(&status, "Ready").ends_with("Secret login: username is there and password is missing")
        );

        stage.secret("login", &[("username", "user"), ("password", "wrong-one")]).await;
        let status = ready(stage, "False Unauthorized").await;
        assert!(!status.to_string().contains("wrong-one"), "{status}");

        stage.secret("login", &[("username", "user"), ("password", "right-one")]).await;
        let status = ready(stage, "True Synced").await;
        assert_eq!(listed(&status), [format!("{}/app:v1 1", registry.address())]);
        assert!(!stage.log().contains("right-one"));
    });
}

#[test]
fn a_slow_source_holds_up_no_other_policy() {
    on_stage(async |stage: &mut Stage| {
        let prometheus =
            Prometheus::start(&stage.directory().join("p"), &[sample("r.io/a:1", "7")], &[], None).unwrap();
        // Accepts connections and never answers.
        let slow = std::net::TcpListener::bind(free_address().unwrap()).unwrap();
        stage.start_coordinator();
        let stuck = json!({ "sources": [prometheus_source(slow.local_addr().unwrap())] });
        stage.apply("stuck", &stuck).await;
        let name =
            stage.apply("quick", &json!({ "sources": [prometheus_source(prometheus.address())] })).await;
        let status = stage.status(&name, |status| status["imageCount"] == 1).await;
        assert_eq!(condition(&status, "Ready"), "True Synced: 1 image from 1 source");
    });
}
