//! What Drop's processes show under `/metrics`.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Cluster;

/// Where every process of Drop serves its metrics.
const PORT: u16 = 8080;

/// The text that the agent on `node` serves.
///
/// # Errors
/// If there is no agent, or it doesn't answer.
pub async fn of_agent(cluster: &Cluster, node: &str) -> Result<String> {
    let agents = pods(cluster, drop_protocol::names::AGENT_APP).await?;
    let agent = agents
        .iter()
        .find(|pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node))
        .with_context(|| format!("no agent Pod on {node}"))?;
    page(agent).await
}

/// The texts that both coordinators serve, one after the other: only the leader's tells anything of the cluster.
///
/// # Errors
/// If one doesn't answer.
pub async fn of_coordinators(cluster: &Cluster) -> Result<String> {
    let mut text = String::new();
    for pod in pods(cluster, "drop-coordinator").await? {
        text += &page(&pod).await?;
    }
    Ok(text)
}

async fn pods(cluster: &Cluster, app: &str) -> Result<Vec<Pod>> {
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/name={app}"));
    Ok(cluster.pods().list(&labelled).await?.items)
}

async fn page(pod: &Pod) -> Result<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    let address = address.with_context(|| format!("{name} has no address"))?;
    let mut stream = TcpStream::connect((address, PORT)).await.with_context(|| format!("asking {name}"))?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    ensure!(
        text.starts_with("HTTP/1.1 200"),
        "{name} shows no metrics: {}",
        text.lines().next().unwrap_or_default()
    );
    Ok(text)
}
