//! The coordinator that leads, as its Lease tells.

use anyhow::{Context as _, Result};
use drop_protocol::names;

use crate::{Cluster, processes};

/// Who leads; `None` if nobody does.
///
/// # Errors
/// If the leader Lease can't be read.
pub async fn identity(cluster: &Cluster) -> Result<Option<String>> {
    let lease = cluster.leases().get(names::LEADER_LEASE).await?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).filter(|identity| !identity.is_empty()))
}

/// Name of the Pod that leads.
///
/// # Errors
/// If nobody leads.
pub async fn pod(cluster: &Cluster) -> Result<String> {
    let identity = identity(cluster).await?.context("nobody leads")?;
    let (pod, _) = identity.rsplit_once('_').context("an identity without a Pod's name")?;
    Ok(pod.to_owned())
}

/// Process id of the coordinator that leads.
///
/// # Errors
/// If nobody leads or its process is gone.
pub async fn process(cluster: &Cluster) -> Result<u32> {
    let leading = pod(cluster).await?;
    processes::with_environment("drop-coordinator", "POD_NAME", |pod| pod == leading)
}
