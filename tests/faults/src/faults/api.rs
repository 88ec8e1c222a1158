//! An API server that refuses Drop's requests or answers them late. Others, such as the kubelets, notice nothing.
//!
//! Drop's Pods are started anew behind a door that lets everything through, so that no connection leads past it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_devtools::demo::install;
use drop_harness::Cluster;
use drop_harness::api_door::{ApiDoor, Trouble};
use kube::api::{DeleteParams, ListParams};

use crate::packets::Rule;
use crate::stage::last;

const PATIENCE: Duration = Duration::from_secs(120);

/// The door, and the rule by which all connections of Drop's lead to it.
pub(crate) struct Behind {
    door: ApiDoor,
    led: Rule,
}

/// Leads all of Drop to a door.
pub(crate) async fn put_door(cluster: &Cluster) -> Result<Behind> {
    let door = ApiDoor::open(&cluster.info).await?;
    let led = Rule::lead_to(&cluster.info, door.port)?;
    start_anew(cluster).await?;
    Ok(Behind { door, led })
}

/// Leads all of Drop to the API server again.
pub(crate) async fn take_door(cluster: &Cluster, behind: Behind) -> Result<()> {
    drop(behind.led);
    start_anew(cluster).await?;
    Ok(tokio::task::spawn_blocking(move || drop(behind.door)).await?)
}

/// Every request is answered with this status for 20 s.
pub(crate) async fn answers(behind: Option<&Behind>, status: u16) -> Result<()> {
    trouble(behind, Trouble::Status(status), Duration::from_secs(20)).await
}

/// Every answer comes 3 s late for 40 s.
pub(crate) async fn slow(behind: Option<&Behind>) -> Result<()> {
    trouble(behind, Trouble::Slow(Duration::from_secs(3)), Duration::from_secs(40)).await
}

async fn trouble(behind: Option<&Behind>, trouble: Trouble, time: Duration) -> Result<()> {
    let door = &behind.context("nobody was led to a door")?.door;
    door.fail(trouble);
    last(time).await;
    door.fail(Trouble::None);
    anyhow::ensure!(door.troubled() > 0, "no request of Drop's came through the door");
    Ok(())
}

/// Replaces all Pods of Drop's.
async fn start_anew(cluster: &Cluster) -> Result<()> {
    let pods = async || {
        let list = cluster.pods().list(&ListParams::default()).await?;
        anyhow::Ok(list.items.into_iter().filter_map(|pod| pod.metadata.name).collect::<BTreeSet<_>>())
    };
    let before = pods().await?;
    for pod in &before {
        cluster.pods().delete(pod, &DeleteParams::default()).await?;
    }
    cluster
        .wait_until(PATIENCE, "the Pods are gone", async || Ok(pods().await?.is_disjoint(&before)))
        .await?;
    let info = cluster.info.clone();
    Ok(tokio::task::spawn_blocking(move || install::wait_ready(&info)).await??)
}
