//! A tag is asked for once: the coordinator's process on a real API server asks a real registry on behalf of all nodes
//! that hold the image. The nodes are the test's.
#![cfg(feature = "real-parts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of this is test code

mod crowd;
mod stage;

use std::net::SocketAddr;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crowd::Crowd;
use drop_devtools::sources::{Access, Registry};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use stage::{Stage, eventually, on_stage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Digest of `{}`, the configuration of the image that is pushed.
const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// One HTTP request; the head of the answer.
async fn send(address: SocketAddr, head: &str, login: Option<&str>, body: &str) -> String {
    let authorization =
        login.map_or(String::new(), |login| format!("Authorization: Basic {}\r\n", STANDARD.encode(login)));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (line, headers) = head.split_once('\n').unwrap_or((head, "X-Test: 1"));
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n{authorization}{headers}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 2"), "{head}: {answer}");
    answer
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let lines = answer.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).unwrap().1
}

/// Pushes an image without layers as `app:1`; its digest.
async fn push(registry: &Registry, login: Option<&str>) -> String {
    let address = registry.address();
    let opened = send(address, "POST /v2/app/blobs/uploads/", login, "").await;
    let location = header(&opened, "Location").trim_start_matches(&format!("http://{address}"));
    let upload = format!("PUT {location}&digest={EMPTY}\nContent-Type: application/octet-stream");
    send(address, &upload, login, "{}").await;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": EMPTY, "size": 2 },
        "layers": [],
    });
    let put = "PUT /v2/app/manifests/1\nContent-Type: application/vnd.oci.image.manifest.v1+json";
    let answer = send(address, put, login, &manifest.to_string()).await;
    header(&answer, "Docker-Content-Digest").to_owned()
}

/// Requests for the manifest that the registry has answered, as it logs them.
fn asked(state: &Path) -> Vec<String> {
    let log = std::fs::read_to_string(state.join("log")).unwrap();
    let reads = |line: &&str| {
        line.contains("response completed")
            && line.contains("/v2/app/manifests/")
            && ["HEAD", "GET"].iter().any(|method| line.contains(&format!("http.request.method={method}")))
    };
    log.lines().filter(reads).map(str::to_owned).collect()
}

/// The status once all nodes are ready by the word of the registry.
async fn ready(crowd: &Crowd, stage: &Stage, count: &str) -> Value {
    let status = eventually("all nodes are ready", async || {
        let status = crowd.status().await;
        (status["ready"] == count && status["registryCheck"].is_object()).then_some(status)
    });
    match tokio::time::timeout(std::time::Duration::from_secs(50), status).await {
        Ok(status) => status,
        Err(_) => panic!("{}\n{}", crowd.status().await, stage.log()),
    }
}

#[test]
fn five_nodes_that_hold_the_image_are_confirmed_by_one_request_and_no_grant() {
    on_stage(async |stage: &mut Stage| {
        let state = stage.directory().join("r");
        let registry = Registry::start(&state, &Access::Anonymous, None).unwrap();
        let digest = push(&registry, None).await;
        let host = registry.address().to_string();
        stage.start_coordinator_with(&["--plain-http-registries", &host]);
        let crowd = Crowd::join(stage, 5).await;
        crowd.hold(&format!("{host}/app"), &digest, &json!({})).await;
        assert!(asked(&state).is_empty());
        crowd.confirm().await;

        let status = ready(&crowd, stage, "5/5").await;
        assert_eq!(status["registryCheck"]["digest"], digest, "{status}");
        assert_eq!(status["resolvedDigest"], digest, "{status}");
        let asked = asked(&state);
        assert!(asked.len() == 1 && asked[0].contains("HEAD"), "{asked:#?}");
        assert_eq!(crowd.granted().await, 0);
        let metrics = stage.metrics().await;
        assert!(metrics.contains("drop_registry_checks_total{outcome=\"Digest\"} 1"), "{metrics}");
        assert!(!metrics.contains("kind=\"Issue\""), "{metrics}");
    });
}

#[test]
fn a_private_registry_is_asked_with_the_images_pull_secret() {
    on_stage(async |stage: &mut Stage| {
        let state = stage.directory().join("r");
        let access = Access::Login { username: "user".to_owned(), password: "right-one".to_owned() };
        let registry = Registry::start(&state, &access, None).unwrap();
        let digest = push(&registry, Some("user:right-one")).await;
        let host = registry.address().to_string();
        let login = json!({ "auths": { host.clone(): { "username": "user", "password": "right-one" } } });
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login" },
            "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": login.to_string() },
        });
        let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.namespace);
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
        stage.start_coordinator_with(&["--plain-http-registries", &host]);
        let crowd = Crowd::join(stage, 2).await;
        let secret = json!({ "imagePullSecrets": [{ "name": "login" }] });
        crowd.hold(&format!("{host}/app"), &digest, &secret).await;
        crowd.confirm().await;

        ready(&crowd, stage, "2/2").await;
        assert_eq!(crowd.granted().await, 0);
        assert!(!stage.log().contains("right-one"));
    });
}

#[test]
fn where_the_registry_cannot_be_asked_nodes_are_granted_what_they_hold() {
    on_stage(async |stage: &mut Stage| {
        let registry = Registry::start(&stage.directory().join("r"), &Access::Anonymous, None).unwrap();
        let digest = push(&registry, None).await;
        let host = registry.address().to_string();
        // Nobody told the coordinator that this registry speaks plain http.
        stage.start_coordinator();
        let crowd = Crowd::join(stage, 1).await;
        crowd.hold(&format!("{host}/app"), &digest, &json!({})).await;
        crowd.confirm().await;
        eventually("a grant", async || (crowd.granted().await == 1).then_some(())).await;
        assert!(!stage.metrics().await.contains("drop_registry_checks_total{outcome=\"Digest\"}"));
    });
}
