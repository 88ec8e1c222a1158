//! The parts of the development cluster, ended and started again.

use std::time::Duration;

use anyhow::Result;
use drop_devtools::daemon::Daemons;
use drop_devtools::{cluster as devtools, settings::Settings};

use crate::Cluster;

const PATIENCE: Duration = Duration::from_secs(60);

/// Ends a part, such as `containerd-node-1`, with SIGTERM.
///
/// # Errors
/// If it does not end.
pub fn stop(cluster: &Cluster, part: &str) -> Result<()> {
    Ok(Daemons::new(&cluster.info.state).stop(part, PATIENCE)?)
}

/// Ends a part without giving it time.
///
/// # Errors
/// If it does not end.
pub fn kill(cluster: &Cluster, part: &str) -> Result<()> {
    Ok(Daemons::new(&cluster.info.state).stop(part, Duration::ZERO)?)
}

/// Starts again what has ended, and waits until all nodes are ready.
///
/// # Errors
/// If something does not start.
pub async fn bring_up(cluster: &Cluster) -> Result<()> {
    let info = cluster.info.clone();
    let up = move || {
        let settings = Settings::new(&info.name, Some(info.state.clone()))?;
        devtools::up(&settings, devtools::Wanted::whole(u8::try_from(info.nodes.len())?))?;
        anyhow::Ok(())
    };
    tokio::task::spawn_blocking(up).await?
}

/// Ends a part and starts it again.
///
/// # Errors
/// If it does not end or start.
pub async fn restart(cluster: &Cluster, part: &str) -> Result<()> {
    stop(cluster, part)?;
    bring_up(cluster).await
}
