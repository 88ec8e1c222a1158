//! The parts of the development cluster, ended and started again.

use std::time::Duration;

use anyhow::Result;
use drop_devtools::daemon::Daemons;
use drop_devtools::state::{ClusterInfo, NodeInfo};
use drop_devtools::{cluster as devtools, files, node, settings::Settings, teardown};
use drop_protocol::names;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::Api;

use crate::Cluster;

const PATIENCE: Duration = Duration::from_secs(60);
/// New nodes fetch the agent's image first.
const AGENTS_PATIENCE: Duration = Duration::from_secs(120);

/// Ends a part, such as `containerd-node-1`, with SIGTERM.
///
/// # Errors
/// If it does not end.
pub fn stop(cluster: &Cluster, part: &str) -> Result<()> {
    end(cluster, part, PATIENCE)
}

/// Ends a part without giving it time.
///
/// # Errors
/// If it does not end.
pub fn kill(cluster: &Cluster, part: &str) -> Result<()> {
    end(cluster, part, Duration::ZERO)
}

/// Ends a part with SIGTERM, and with SIGKILL after this grace.
///
/// # Errors
/// If it does not end.
pub fn end(cluster: &Cluster, part: &str, grace: Duration) -> Result<()> {
    Ok(Daemons::new(&cluster.info.state).stop(part, grace)?)
}

/// Starts again what has ended, and waits until all nodes are ready.
///
/// # Errors
/// If something does not start.
pub async fn bring_up(cluster: &Cluster) -> Result<()> {
    up(cluster, u8::try_from(cluster.info.nodes.len())?).await.map(drop)
}

async fn up(cluster: &Cluster, nodes: u8) -> Result<ClusterInfo> {
    let settings = settings(cluster)?;
    let up = move || devtools::up(&settings, devtools::Wanted::whole(nodes));
    Ok(tokio::task::spawn_blocking(up).await??)
}

fn settings(cluster: &Cluster) -> Result<Settings> {
    Ok(Settings::new(&cluster.info.name, Some(cluster.info.state.clone()))?)
}

/// Ends a part and starts it again.
///
/// # Errors
/// If it does not end or start.
pub async fn restart(cluster: &Cluster, part: &str) -> Result<()> {
    stop(cluster, part)?;
    bring_up(cluster).await
}

/// The same cluster with so many nodes, and an agent at work on each.
///
/// # Errors
/// If a node or an agent does not come.
pub async fn grow(cluster: &Cluster, nodes: u8) -> Result<Cluster> {
    let info = up(cluster, nodes).await?;
    let grown = Cluster::connect(info, &cluster.prefix).await?;
    wait_for_agents(&grown).await?;
    Ok(grown)
}

/// Takes the last nodes away again, down to those that `cluster` knows.
///
/// # Errors
/// If something of them does not end.
pub async fn shrink(cluster: &Cluster) -> Result<()> {
    let (settings, nodes) = (settings(cluster)?, cluster.nodes.len());
    tokio::task::spawn_blocking(move || teardown::shrink(&settings, nodes)).await??;
    Ok(())
}

/// Waits until an agent is ready on every node.
///
/// # Errors
/// If one does not get ready.
pub async fn wait_for_agents(cluster: &Cluster) -> Result<()> {
    let agents: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), names::DEFAULT_NAMESPACE);
    let wanted = i32::try_from(cluster.nodes.len())?;
    cluster
        .wait_until(AGENTS_PATIENCE, "an agent on every node", async || {
            let status = agents.get(names::AGENT_APP).await?.status.unwrap_or_default();
            Ok(status.desired_number_scheduled == wanted && status.number_ready == wanted)
        })
        .await
}

/// A piece of a kubelet's configuration beside the usual one, until this is dropped.
#[derive(Debug)]
pub struct KubeletSetting {
    file: std::path::PathBuf,
}

impl KubeletSetting {
    /// The kubelet of `node` reads it when it starts the next time: YAML without `apiVersion` and `kind`.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(node: &NodeInfo, yaml: &str) -> Result<Self> {
        let file = node::kubelet_drop_ins(node).join("50-test.conf");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        files::write(&file, format!("{head}{yaml}\n"))?;
        Ok(Self { file })
    }
}

impl Drop for KubeletSetting {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}
