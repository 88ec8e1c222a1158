//! API server and etcd: restarted, and away for longer than a grant lives.

use std::time::Duration;

use anyhow::Result;
use drop_devtools::control_plane::{API_SERVER, ETCD};
use drop_harness::machine;

use crate::stage::{Stage, last};

/// It is killed and back as soon as it can. Told to end, it would wait for a minute for those who watch.
pub(crate) async fn api_server_restarted(stage: &Stage<'_>) -> Result<()> {
    machine::kill(stage.cluster, API_SERVER)?;
    machine::bring_up(stage.cluster).await
}

/// It is away for two minutes: grants expire, and nobody can say so.
pub(crate) async fn api_server_away(stage: &Stage<'_>) -> Result<()> {
    machine::kill(stage.cluster, API_SERVER)?;
    last(Duration::from_secs(120)).await;
    machine::bring_up(stage.cluster).await
}

/// It is killed and back as soon as it can.
pub(crate) async fn etcd_restarted(stage: &Stage<'_>) -> Result<()> {
    machine::kill(stage.cluster, ETCD)?;
    machine::bring_up(stage.cluster).await
}
