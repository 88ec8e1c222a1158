//! What happens on a swarm that has everything: nothing, a restart, images that are there already, a new node, a lost
//! image, a dead leader.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use drop_harness::audit::Mark;
use serde::Serialize;
use serde_json::json;

use crate::coordinators;
use crate::swarm::{PATIENCE, Swarm, reference};

/// What was seen, in this order. Counts are `None` without an audit log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Aftermath {
    /// For how long nothing happened, in seconds.
    pub(crate) idle_seconds: f64,
    /// Writes by Drop in that time, the leader's renewal left out.
    pub(crate) idle_writes: Option<u64>,
    /// Processor time of all coordinators in that time, in percent of one core.
    pub(crate) idle_coordinator_percent: f64,
    /// Resident memory of the leader after that, in MB.
    pub(crate) idle_coordinator_mb: f64,
    /// From the start of new coordinators, all old ones ended by SIGTERM, to the first plan, in seconds.
    pub(crate) restart_seconds: f64,
    /// Pulls from then on until all is quiet.
    pub(crate) restart_pulls: usize,
    /// Time to decide with everything known, median and mean, in milliseconds.
    pub(crate) known_plan_ms: (f64, f64),
    /// A CachedImage that every node holds already: until status says so, in seconds.
    pub(crate) held_seconds: f64,
    /// Pulls for it.
    pub(crate) held_pulls: usize,
    /// Writes for it.
    pub(crate) held_writes: Option<u64>,
    /// From the creation of a Node to its last image, in seconds.
    pub(crate) join_seconds: f64,
    /// From an eviction until the image is back, in seconds.
    pub(crate) recached_seconds: f64,
    /// From the leader's death to the next pull, in seconds.
    pub(crate) failover_seconds: f64,
}

/// Goes through all of it.
pub(crate) async fn measure(swarm: &mut Swarm, audit: bool, idle: Duration) -> Result<Aftermath> {
    let images = swarm.scenario.images;
    println!("nothing to do for {} s…", idle.as_secs());
    swarm.quiet().await;
    let count = |swarm: &Swarm| if audit { Mark::of(&swarm.place.info).map(Some) } else { Ok(None) };
    let writes = |mark: Option<Mark>| -> Result<Option<u64>> {
        mark.map(|mark| Ok(mark.requests()?.total_writes())).transpose()
    };
    let mark = count(swarm)?;
    let before = swarm.coordinators.usage()?;
    tokio::time::sleep(idle).await;
    let after = swarm.coordinators.usage()?;
    let idle_writes = writes(mark)?;

    println!("all coordinators ended and started again…");
    let pulls = swarm.agents.tally.pulled.get();
    swarm.coordinators.end_all().await?;
    swarm.coordinators.start_missing()?;
    let restarted = swarm.coordinators.wait_planned(PATIENCE).await?;
    let metrics = swarm.coordinators.metrics().await?;
    swarm.quiet().await;
    let restart_pulls = swarm.agents.tally.pulled.get() - pulls;

    println!("one more image, which all nodes hold…");
    for runtime in &swarm.agents.runtimes {
        runtime.bring(&reference(images));
    }
    swarm.quiet().await;
    let mark = count(swarm)?;
    let (started, pulls) = (Instant::now(), swarm.agents.tally.pulled.get());
    swarm.apply_image(images, &json!({ "imagePullPolicy": "IfNotPresent" })).await?;
    swarm.wait_ready(PATIENCE).await?;
    let held = started.elapsed();
    swarm.quiet().await;
    let held_pulls = swarm.agents.tally.pulled.get() - pulls;
    let held_writes = writes(mark)?;
    let metrics_after = swarm.coordinators.metrics().await?;

    println!("a node joins…");
    let started = Instant::now();
    swarm.join().await?;
    swarm.wait_ready(PATIENCE).await?;
    let join = swarm.agents.tally.last_pulled.get().context("nothing was pulled")? - started;

    println!("an image is evicted…");
    let recached = evict_and_wait(swarm, 0).await?;

    println!("the leader dies in mid-rollout…");
    let failover = kill_leader(swarm).await?;
    Ok(Aftermath {
        idle_seconds: idle.as_secs_f64(),
        idle_writes,
        idle_coordinator_percent: (after.cpu - before.cpu).as_secs_f64() / idle.as_secs_f64() * 100.0,
        idle_coordinator_mb: after.resident as f64 / 1e6,
        restart_seconds: restarted.as_secs_f64(),
        restart_pulls,
        known_plan_ms: (
            coordinators::plan_median_ms(&metrics, &metrics_after),
            coordinators::plan_mean_ms(&metrics, &metrics_after),
        ),
        held_seconds: held.as_secs_f64(),
        held_pulls,
        held_writes,
        join_seconds: join.as_secs_f64(),
        recached_seconds: recached.as_secs_f64(),
        failover_seconds: failover.as_secs_f64(),
    })
}

async fn evict_and_wait(swarm: &Swarm, node: usize) -> Result<Duration> {
    let started = Instant::now();
    let runtime = &swarm.agents.runtimes[node];
    runtime.evict(&reference(0));
    while !runtime.has(&reference(0)) {
        anyhow::ensure!(started.elapsed() < PATIENCE, "it does not come back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(started.elapsed())
}

/// Evicts an image from more nodes than may pull at once, kills the leader when the first are pulling, and waits for
/// the first pull after it.
async fn kill_leader(swarm: &mut Swarm) -> Result<Duration> {
    let tally = swarm.agents.tally.clone();
    let victims = (swarm.scenario.cap * 4).min(swarm.agents.runtimes.len());
    let before = tally.last_begun.get();
    for runtime in swarm.agents.runtimes.iter().rev().take(victims) {
        runtime.evict(&reference(1 % swarm.scenario.images));
    }
    let started = Instant::now();
    while tally.last_begun.get() == before {
        anyhow::ensure!(started.elapsed() < PATIENCE, "nobody pulls");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    swarm.coordinators.kill_leader().await?;
    let killed = Instant::now();
    // Grants that are out are still being taken.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let last_of_old = tally.last_begun.get();
    while tally.last_begun.get() == last_of_old {
        anyhow::ensure!(killed.elapsed() < PATIENCE, "nobody takes over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let next = tally.last_begun.get().context("nothing was pulled")? - killed;
    swarm.coordinators.start_missing()?;
    swarm.wait_ready(PATIENCE).await?;
    Ok(next)
}
