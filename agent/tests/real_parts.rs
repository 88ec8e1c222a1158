//! The agent's process against a real API server and a real containerd.
#![cfg(feature = "real-parts")]
#![allow(clippy::unwrap_used)] // all of this is test code

mod real;

use std::time::{Duration, Instant};

use drop_protocol::{FailureReason, GrantState, GrantedImage, Outcome, names};
use nix::sys::signal::Signal;
use real::registry::Registry;
use real::{SOON, Stage, catalog, eventually, image, on_stage, uid};
use serde_json::json;

const MINUTE: Duration = Duration::from_secs(60);

async fn downloading(registry: &Registry) {
    eventually("a download begins", SOON, async || (registry.downloads() > 0).then_some(())).await;
}

/// How long it takes until nothing is downloaded.
async fn silence(registry: &Registry) -> Duration {
    let started = Instant::now();
    eventually("the download ends", SOON, async || (registry.downloads() == 0).then_some(())).await;
    started.elapsed()
}

async fn present(stage: &Stage, reference: &str) -> bool {
    stage.cri.image(reference).await.unwrap().is_some()
}

#[test]
fn a_granted_image_is_pulled_and_told_with_its_manifest_digest() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        let (a, b) = (registry.add("a"), registry.add("b"));
        stage.create_lease(MINUTE).await;
        stage.publish(&catalog(1, &[&a.reference, &b.reference])).await;
        stage.ready_agent().await;
        let grant = stage.grant(MINUTE, &[&a.reference, &b.reference, "127.0.0.1:1/nothing:1"]).await;
        let report = stage.ended(&grant).await;
        assert_eq!(report.grant.unwrap().outcome, Outcome::Finished);
        for served in [&a, &b] {
            let entry = &report.images[uid(&served.reference).as_str()];
            assert_eq!(entry.digest.as_deref(), Some(served.digest.as_str()));
            assert!(present(&stage, &served.reference).await);
        }
        let failure = report.images[uid("127.0.0.1:1/nothing:1").as_str()].failure.clone().unwrap();
        assert_eq!(failure.reason, FailureReason::ConnectionRefused, "{}", failure.message);
        let metrics = stage.page("/metrics").await.unwrap();
        assert!(metrics.contains("drop_pull_duration_seconds_count{result=\"Pulled\"} 2"), "{metrics}");
        let refused = "drop_pull_duration_seconds_count{result=\"ConnectionRefused\"} 1";
        assert!(metrics.contains(refused), "{metrics}");
        let bytes = metrics.lines().find_map(|line| line.strip_prefix("drop_agent_pulled_bytes_total "));
        assert!(bytes.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
        assert!(metrics.contains("drop_agent_grant_to_pull_seconds_count 1"), "{metrics}");
    });
}

#[test]
fn an_image_that_comes_and_goes_without_drop_is_noticed() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        let served = registry.add("baked-in");
        stage.cri.pull(&served.reference, None).await.unwrap();
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        stage.publish(&catalog(1, &[&served.reference])).await;
        let entry =
            async |stage: &Stage| stage.lease().await.report?.images.remove(uid(&served.reference).as_str());
        eventually("presence is told", SOON, async || {
            entry(&stage).await?.digest.filter(|digest| **digest == *served.digest)
        })
        .await;
        let removed = Instant::now();
        stage.remove(&served.reference).await;
        eventually("the eviction is told", SOON, async || entry(&stage).await?.evictions).await;
        assert!(removed.elapsed() < Duration::from_secs(4), "{:?}", removed.elapsed());
    });
}

#[test]
fn losing_the_grant_ends_the_download_at_once() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        registry.serve_slowly(true);
        let served = registry.add("slow");
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        stage.grant(MINUTE, &[&served.reference]).await;
        downloading(&registry).await;
        let remove = stage.lease().await.remove_grant_patch();
        stage.patch(remove).await;
        let took = silence(&registry).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        assert!(!present(&stage, &served.reference).await);
    });
}

#[test]
fn what_somebody_writes_by_hand_is_told_once_and_harms_nothing() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        let served = registry.add("by-hand");
        stage.create_lease(MINUTE).await;
        stage.publish(&catalog(1, &[&served.reference])).await;
        stage.ready_agent().await;
        let annotate = |key: &str, text: &str| json!({ "metadata": { "annotations": { key: text } } });
        for garbage in ["{", "[]", "{"] {
            stage.patch(annotate(names::REPORT_ANNOTATION, garbage)).await;
            eventually("the report is written anew", SOON, async || stage.lease().await.report).await;
        }
        for note in ["a", "b", "c", "d"] {
            stage.patch(annotate(names::GRANT_ANNOTATION, "{\"version\":99}")).await;
            stage.patch(annotate("example.com/note", note)).await;
        }
        let mut odd = catalog(2, &[]);
        odd.wanted.insert("no-uid\nno-uid-either".to_owned(), ["u".to_owned()].into());
        for generation in 2..6 {
            odd.generation = generation;
            stage.publish(&odd).await;
        }
        stage.publish(&catalog(6, &[&served.reference])).await;
        let grant = stage.grant(MINUTE, &[&served.reference]).await;
        stage.ended(&grant).await;
        assert!(present(&stage, &served.reference).await);
        for said in ["the grant in this node's Lease cannot be read", "the catalog cannot be read"] {
            assert_eq!(stage.log().matches(said).count(), 1, "{said}");
        }
    });
}

#[test]
fn a_paused_agent_is_killed_at_its_deadline_and_its_download_ends() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        registry.serve_slowly(true);
        let served = registry.add("slow");
        let duration = Duration::from_secs(6);
        stage.create_lease(duration).await;
        stage.ready_agent().await;
        let granted = Instant::now();
        stage.grant(duration, &[&served.reference]).await;
        downloading(&registry).await;
        stage.signal(Signal::SIGSTOP);
        assert!(stage.agent_ended().await, "the kernel ends it");
        assert!(granted.elapsed() < duration, "{:?}", granted.elapsed());
        silence(&registry).await;
        assert!(granted.elapsed() < duration, "the download outlived the grant: {:?}", granted.elapsed());
    });
}

#[test]
fn a_killed_agent_ends_its_download_and_its_successor_resumes_the_grant() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        registry.serve_slowly(true);
        let (done, served) = (registry.add("done"), registry.add("slow"));
        stage.cri.pull(&done.reference, None).await.unwrap();
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        let grant = stage.grant(MINUTE, &[&done.reference, &served.reference]).await;
        downloading(&registry).await;
        stage.signal(Signal::SIGKILL);
        stage.agent_ended().await;
        let took = silence(&registry).await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        let before = stage.lease().await;
        assert_eq!(before.state(), GrantState::Taken);
        registry.serve_slowly(false);
        stage.start_agent();
        let report = stage.ended(&grant).await;
        assert_eq!(report.grant.unwrap().outcome, Outcome::Finished);
        assert_eq!(
            report.images[uid(&served.reference).as_str()].digest.as_deref(),
            Some(served.digest.as_str())
        );
        assert_eq!(stage.lease().await.transitions, before.transitions + 1, "it has been taken once more");
    });
}

#[test]
fn on_sigterm_the_image_in_flight_is_finished_and_the_rest_given_back() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        registry.serve_slowly(true);
        let (first, second) = (registry.add("first"), registry.add("second"));
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        let grant = stage.grant(MINUTE, &[&first.reference, &second.reference]).await;
        downloading(&registry).await;
        stage.signal(Signal::SIGTERM);
        registry.serve_slowly(false);
        let report = stage.ended(&grant).await;
        assert!(!stage.agent_ended().await, "it ended by itself");
        assert_eq!(
            report.images[uid(&first.reference).as_str()].digest.as_deref(),
            Some(first.digest.as_str())
        );
        assert!(!report.images.contains_key(uid(&second.reference).as_str()));
    });
}

#[test]
fn the_agent_outlives_a_restart_of_the_runtime_while_idle() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        let (before, after) = (registry.add("before"), registry.add("after"));
        stage.create_lease(MINUTE).await;
        stage.publish(&catalog(1, &[&before.reference, &after.reference])).await;
        stage.ready_agent().await;
        let grant = stage.grant(MINUTE, &[&before.reference]).await;
        stage.ended(&grant).await;
        stage.restart_runtime();
        let grant = stage.grant(MINUTE, &[&after.reference]).await;
        let report = stage.ended(&grant).await;
        assert_eq!(
            report.images[uid(&after.reference).as_str()].digest.as_deref(),
            Some(after.digest.as_str())
        );
        // Events flow again, too.
        stage.remove(&before.reference).await;
        let removed = Instant::now();
        eventually("the eviction is told", SOON, async || {
            stage.lease().await.report?.images.remove(uid(&before.reference).as_str())?.evictions
        })
        .await;
        assert!(removed.elapsed() < Duration::from_secs(4), "{:?}", removed.elapsed());
    });
}

#[test]
fn a_restart_of_the_runtime_in_mid_pull_is_a_failure_of_the_node_and_heals() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        registry.serve_slowly(true);
        let served = registry.add("slow");
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        let grant = stage.grant(MINUTE, &[&served.reference]).await;
        downloading(&registry).await;
        stage.restart_runtime();
        let report = stage.ended(&grant).await;
        let failure = report.images[uid(&served.reference).as_str()].failure.clone().unwrap();
        assert_eq!(failure.scope, drop_protocol::FailureScope::Node, "{failure:?}");
        registry.serve_slowly(false);
        let grant = stage.grant(MINUTE, &[&served.reference]).await;
        let report = stage.ended(&grant).await;
        assert_eq!(
            report.images[uid(&served.reference).as_str()].digest.as_deref(),
            Some(served.digest.as_str())
        );
        assert_eq!(report.images[uid(&served.reference).as_str()].failure, None);
    });
}

#[test]
fn a_private_image_is_pulled_with_its_secret_which_is_never_told_to_anyone() {
    on_stage(async |mut stage| {
        let registry = Registry::start();
        let (private, denied) = (registry.add("private"), registry.add("denied"));
        registry.require_login("somebody", "hunter2-password");
        stage.create_secret("login", registry.address(), "somebody", "hunter2-password").await;
        stage.create_secret("wrong", registry.address(), "somebody", "hunter3-password").await;
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        let with = |served: &real::registry::Served, secrets: &[&str]| GrantedImage {
            secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
            ..image(&served.reference)
        };
        let grant = stage.grant_images(MINUTE, vec![with(&private, &["wrong", "login"])]).await;
        let report = stage.ended(&grant).await;
        assert_eq!(
            report.images[uid(&private.reference).as_str()].digest.as_deref(),
            Some(private.digest.as_str())
        );
        for (secrets, reason, told) in [
            (&["wrong"][..], FailureReason::Unauthorized, "Secret wrong"),
            (&["absent"][..], FailureReason::SecretNotFound, "Secret absent"),
        ] {
            let grant = stage.grant_images(MINUTE, vec![with(&denied, secrets)]).await;
            let failure =
                stage.ended(&grant).await.images[uid(&denied.reference).as_str()].failure.clone().unwrap();
            assert_eq!(failure.reason, reason, "{failure:?}");
            assert!(
                failure.message.contains(told) && failure.message.contains(registry.address()),
                "{failure:?}"
            );
        }
        let lease = format!("{:?}", stage.leases.get("node-1").await.unwrap());
        for text in [stage.log(), lease, stage.page("/metrics").await.unwrap()] {
            assert!(text.len() > 500 && !text.contains("hunter"), "a password got out");
        }
    });
}

#[test]
fn an_idle_agent_is_small() {
    on_stage(async |mut stage| {
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        let pid = stage.agent.as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        println!("idle agent: {kib} KiB resident");
        // An unoptimised build is half as large again as a release.
        assert!(kib < 40 * 1024, "{kib} KiB");
    });
}
