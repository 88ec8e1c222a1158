//! API server and etcd: restarted, and away for longer than a grant lives.

use std::time::Duration;

use anyhow::Result;
use drop_devtools::control_plane::{API_SERVER, ETCD};
use drop_harness::machine;

use crate::stage::{Stage, last};

/// As long as a kubelet gives it.
const GRACE: Duration = Duration::from_secs(30);

/// It is killed and back as soon as it can.
pub(crate) async fn api_server_restarted(stage: &Stage<'_>) -> Result<()> {
    machine::kill(stage.cluster, API_SERVER)?;
    machine::bring_up(stage.cluster).await
}

/// It is told to end. It takes no new connection from then on, and lets those who watch go on watching, until its time is over.
pub(crate) async fn api_server_terminated(stage: &Stage<'_>) -> Result<()> {
    machine::end(stage.cluster, API_SERVER, GRACE)?;
    machine::bring_up(stage.cluster).await
}

/// It is away for two minutes: grants expire, and nobody can say so.
pub(crate) async fn api_server_away(stage: &Stage<'_>) -> Result<()> {
    machine::kill(stage.cluster, API_SERVER)?;
    last(Duration::from_secs(120)).await;
    // Kubernetes may taint a node for having been silent up to a minute after it is heard again, and end the pull that is
    // begun anew.
    stage.pace(Duration::from_secs(4));
    machine::bring_up(stage.cluster).await
}

/// It is killed and back as soon as it can.
pub(crate) async fn etcd_restarted(stage: &Stage<'_>) -> Result<()> {
    machine::kill(stage.cluster, ETCD)?;
    machine::bring_up(stage.cluster).await
}
