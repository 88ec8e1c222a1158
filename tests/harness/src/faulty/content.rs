//! What the cluster's registry holds, changed behind everybody's back: a tag that appears, moves or is for another
//! architecture.

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, StatusCode, header};
use drop_devtools::state::ClusterInfo;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::repository;
use crate::Wanted;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Makes `to` the same image as `from`.
///
/// # Errors
/// If the registry refuses.
pub async fn copy(info: &ClusterInfo, from: &Wanted, to: &Wanted) -> Result<()> {
    let (_, content) = manifest(info, from).await?;
    if repository(from) != repository(to) {
        let parts: Value = serde_json::from_slice(&content)?;
        let layers = parts["layers"].as_array().context("no layers")?;
        for part in layers.iter().chain([&parts["config"]]) {
            let digest = part["digest"].as_str().context("no digest")?;
            let query = format!("uploads/?mount={digest}&from={}", repository(from));
            ask(info, Method::POST, &format!("{}/blobs/{query}", repository(to)), "", Bytes::new()).await?;
        }
    }
    put(info, to, MANIFEST, content).await
}

/// Makes `to`, in the repository of `from`, an image for nodes of this architecture only.
///
/// # Errors
/// If the registry refuses.
pub async fn offer_for(info: &ClusterInfo, architecture: &str, from: &Wanted, to: &Wanted) -> Result<()> {
    let (digest, content) = manifest(info, from).await?;
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{
            "mediaType": MANIFEST, "digest": digest, "size": content.len(),
            "platform": { "architecture": architecture, "os": "linux" },
        }],
    });
    put(info, to, INDEX, index.to_string().into()).await
}

/// Digest and content of an image's manifest.
async fn manifest(info: &ClusterInfo, image: &Wanted) -> Result<(String, Bytes)> {
    let path = format!("{}/manifests/{}", repository(image), image.tag);
    let (digest, content) = ask(info, Method::GET, &path, MANIFEST, Bytes::new()).await?;
    Ok((digest.context("no digest")?, content))
}

async fn put(info: &ClusterInfo, image: &Wanted, media_type: &str, content: Bytes) -> Result<()> {
    let path = format!("{}/manifests/{}", repository(image), image.tag);
    ask(info, Method::PUT, &path, media_type, content).await.map(drop)
}

/// Sends a request to the registry; the digest and the content that it answers with.
async fn ask(
    info: &ClusterInfo,
    method: Method,
    path: &str,
    media_type: &str,
    content: Bytes,
) -> Result<(Option<String>, Bytes)> {
    let url = format!("http://{}/v2/{path}", info.registry);
    let mut request = Request::builder().method(method).uri(&url);
    if !media_type.is_empty() {
        request = request.header(header::ACCEPT, media_type).header(header::CONTENT_TYPE, media_type);
    }
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer = client.request(request.body(Body::from(content))?).await?;
    let (head, body) = answer.into_parts();
    let digest = head.headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
    let content = to_bytes(Body::new(body), usize::MAX).await?;
    let well = matches!(head.status, StatusCode::OK | StatusCode::CREATED);
    anyhow::ensure!(well, "{url}: {} {}", head.status, String::from_utf8_lossy(&content));
    Ok((digest.map(str::to_owned), content))
}
