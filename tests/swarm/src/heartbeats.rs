//! Node heartbeats: each kubelet writes the status of its Node every five minutes.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};

use crate::population;

/// How often one node is written.
const EVERY: Duration = Duration::from_secs(300);

/// Writes one node after the other, evenly spread, for as long as it is polled.
pub(crate) async fn beat(client: Client, nodes: Vec<String>) {
    let gap = EVERY / u32::try_from(nodes.len().max(1)).unwrap_or(u32::MAX);
    let mut clock = tokio::time::interval(gap);
    loop {
        for node in &nodes {
            clock.tick().await;
            if let Err(error) = beat_once(&client, node).await {
                eprintln!("heartbeat of {node}: {error}");
            }
        }
    }
}

/// Writes one node.
pub(crate) async fn beat_once(client: &Client, node: &str) -> kube::Result<()> {
    let patch = Patch::Merge(population::status(&population::now()));
    Api::<Node>::all(client.clone()).patch_status(node, &PatchParams::default(), &patch).await?;
    Ok(())
}
