//! The agent of a node killed or stopped in the middle of its pull.

use std::time::Duration;

use anyhow::Result;
use drop_harness::processes;

use crate::stage::Stage;

/// SIGKILL; the kubelet starts it again.
pub(crate) async fn killed(stage: &Stage<'_>) -> Result<()> {
    let node = stage.puller()?;
    let agent = processes::agent_on(&node)?;
    processes::kill(agent).await?;
    stage.wait("an agent again", async || Ok(processes::agent_on(&node)? != agent)).await
}

/// SIGSTOP, and nobody lets it go on: the kernel ends it when its grant does, and with it the pull.
pub(crate) async fn paused(stage: &Stage<'_>) -> Result<()> {
    let node = stage.puller()?;
    let agent = processes::agent_on(&node)?;
    processes::signal(agent, "STOP").await?;
    stage.pace(Duration::from_secs(4));
    let outcome = stage.wait("an agent again", async || Ok(processes::agent_on(&node)? != agent)).await;
    if outcome.is_err() {
        processes::kill(agent).await?;
    }
    outcome
}
