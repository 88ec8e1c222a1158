//! What else is on a node: containerd restarted, the kubelet stopped, and the whole node gone and back without its disk.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_devtools::node as parts;
use drop_harness::machine;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams};

use crate::stage::{Stage, last};

/// containerd ends, and the pull with it; then it is back.
pub(crate) async fn containerd_restarted(stage: &Stage<'_>) -> Result<()> {
    let part = parts::containerd_part(stage.pulling_node()?);
    machine::restart(stage.cluster, &part).await
}

/// The kubelet is away; pods and containerd go on without it.
pub(crate) async fn kubelet_stopped(stage: &Stage<'_>) -> Result<()> {
    let part = parts::kubelet_part(stage.pulling_node()?);
    machine::stop(stage.cluster, &part)?;
    last(Duration::from_secs(60)).await;
    machine::bring_up(stage.cluster).await
}

/// The Node is deleted and made again, and none of its images is left.
pub(crate) async fn reborn(stage: &Stage<'_>) -> Result<()> {
    let node = stage.pulling_node()?;
    machine::stop(stage.cluster, &parts::kubelet_part(node))?;
    let nodes: Api<Node> = Api::all(stage.cluster.client.clone());
    nodes.delete(&node.name, &DeleteParams::default()).await?;
    let outcome = async {
        stage
            .wait("its Lease is gone", async || {
                Ok(stage.cluster.leases().get_opt(&node.name).await?.is_none())
            })
            .await?;
        stage.wait("its pull has ended", async || Ok(!stage.door.pulling().contains(&node.name))).await?;
        let (_, cri) =
            stage.cluster.nodes.iter().find(|(name, _)| *name == node.name).context("no such node")?;
        for image in stage.rollout.iter().chain([&stage.kept]) {
            cri.remove(&image.reference()).await?;
        }
        anyhow::Ok(())
    }
    .await;
    machine::bring_up(stage.cluster).await?;
    outcome
}
