//! The registry away.

use std::time::Duration;

use anyhow::Result;
use drop_devtools::registry::REGISTRY;
use drop_harness::machine;

use crate::stage::{Stage, last};

/// It ends, with it what it is sending, and is back after 20 s.
pub(crate) async fn away(stage: &Stage<'_>) -> Result<()> {
    machine::stop(stage.cluster, REGISTRY)?;
    last(Duration::from_secs(20)).await;
    machine::bring_up(stage.cluster).await
}
