//! Reads the agents' metrics.

use anyhow::{Context as _, Result};
use kube::api::ListParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use drop_harness::Cluster;

/// The text that the agent on `node` serves under `/metrics`.
pub(crate) async fn of_agent(bench: &Cluster, node: &str) -> Result<String> {
    let selector = format!("app.kubernetes.io/name={}", drop_protocol::names::AGENT_APP);
    let pods = bench.pods().list(&ListParams::default().labels(&selector)).await?;
    let address = pods
        .items
        .iter()
        .filter(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node))
        .find_map(|pod| pod.status.as_ref()?.pod_ip.clone())
        .with_context(|| format!("no agent Pod with an address on {node}"))?;
    let mut stream = TcpStream::connect((address.as_str(), 8080)).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
