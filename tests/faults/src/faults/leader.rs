//! The leader killed, stopped or cut off while nodes pull.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_harness::{leader, processes};
use drop_protocol::names;
use kube::api::DeleteParams;

use crate::packets::Rule;
use crate::stage::{Stage, last};

/// Another replica leads after 15 s without a sign of life.
const LONGER_THAN_ITS_LEASE: Duration = Duration::from_secs(20);

/// SIGKILL, and the other replica leads.
pub(crate) async fn killed(stage: &Stage<'_>) -> Result<()> {
    let before = leader::identity(stage.cluster).await?;
    processes::kill(leader::process(stage.cluster).await?).await?;
    succeeded(stage, before).await
}

/// SIGSTOP for longer than its lease, then SIGCONT: for a moment it believes that it still leads.
pub(crate) async fn paused(stage: &Stage<'_>) -> Result<()> {
    let before = leader::identity(stage.cluster).await?;
    let leader = leader::process(stage.cluster).await?;
    processes::signal(leader, "STOP").await?;
    last(LONGER_THAN_ITS_LEASE).await;
    let outcome = succeeded(stage, before).await;
    processes::signal(leader, "CONT").await?;
    outcome
}

/// No packet of its reaches the API server, while it can be reached itself.
pub(crate) async fn cut_off(stage: &Stage<'_>) -> Result<()> {
    let before = leader::identity(stage.cluster).await?;
    let pod = stage.cluster.pods().get(&leader::pod(stage.cluster).await?).await?;
    let address = pod.status.and_then(|status| status.pod_ip).context("the leader has no address")?;
    let _cut = Rule::cut_off(&stage.cluster.info, &address)?;
    last(Duration::from_secs(30)).await;
    succeeded(stage, before).await
}

/// Its Lease is deleted under it.
pub(crate) async fn lease_deleted(stage: &Stage<'_>) -> Result<()> {
    let leases = stage.cluster.leases();
    let before = leases.get(names::LEADER_LEASE).await?.metadata.uid;
    leases.delete(names::LEADER_LEASE, &DeleteParams::default()).await?;
    stage
        .wait("somebody leads again", async || {
            let now = leases.get(names::LEADER_LEASE).await?.metadata.uid;
            Ok(now != before && leader::identity(stage.cluster).await?.is_some())
        })
        .await
}

/// Waits until another process leads.
async fn succeeded(stage: &Stage<'_>, before: Option<String>) -> Result<()> {
    stage
        .wait("somebody else leads", async || {
            let now = leader::identity(stage.cluster).await?;
            Ok(now.is_some() && now != before)
        })
        .await
}
