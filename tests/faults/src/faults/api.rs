//! An API server that refuses Drop's requests or answers them late. Others, such as the kubelets, notice nothing.

use std::time::Duration;

use anyhow::Result;
use drop_harness::api_door::{ApiDoor, Trouble};

use crate::packets::Rule;
use crate::stage::{Stage, last};

/// Every request is answered with this status for 20 s.
pub(crate) async fn answers(stage: &Stage<'_>, status: u16) -> Result<()> {
    through_a_door(stage, Trouble::Status(status), Duration::from_secs(20)).await
}

/// Every answer comes 3 s late for 40 s.
pub(crate) async fn slow(stage: &Stage<'_>) -> Result<()> {
    through_a_door(stage, Trouble::Slow(Duration::from_secs(3)), Duration::from_secs(40)).await
}

async fn through_a_door(stage: &Stage<'_>, trouble: Trouble, time: Duration) -> Result<()> {
    let info = &stage.cluster.info;
    let door = ApiDoor::open(info).await?;
    let led = Rule::lead_to(info, door.port)?;
    let hung_up = Rule::hang_up(info)?;
    door.fail(trouble);
    last(time).await;
    door.fail(Trouble::None);
    anyhow::ensure!(door.troubled() > 0, "no request of Drop's came through the door");
    drop(hung_up);
    drop(led);
    // Closes what still leads through it.
    tokio::task::spawn_blocking(move || drop(door)).await?;
    Ok(())
}
