//! A rollout to a whole swarm: how long it takes, and what it costs the API server and the coordinator.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use drop_harness::audit::Mark;
use serde::Serialize;
use serde_json::json;

use crate::api_server::{self, Counters, Traffic};
use crate::coordinators;
use crate::scenario::Scenario;
use crate::swarm::Swarm;

/// What one rollout took.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rollout {
    /// What was rolled out.
    pub(crate) scenario: Scenario,
    /// The time that the policy allows, in seconds.
    pub(crate) ideal_seconds: f64,
    /// Until the last image was on its last node, in seconds.
    pub(crate) cached_seconds: f64,
    /// Until every status said so, in seconds.
    pub(crate) status_seconds: f64,
    /// The most nodes that pulled at the same time.
    pub(crate) most_nodes: usize,
    /// Pulls that succeeded, and that failed.
    pub(crate) pulls: (usize, usize),
    /// Writes by Drop; `None` without an audit log.
    pub(crate) writes: Option<BTreeMap<String, u64>>,
    /// Reads by Drop; `None` without an audit log.
    pub(crate) reads: Option<BTreeMap<String, u64>>,
    /// Processor time of the API server, until every status said so, in seconds.
    pub(crate) api_server_cpu_seconds: f64,
    /// Watch traffic and rejected requests.
    pub(crate) traffic: Traffic,
    /// Processor time of all coordinators, in seconds.
    pub(crate) coordinator_cpu_seconds: f64,
    /// Largest resident memory of a coordinator, in MB.
    pub(crate) coordinator_peak_mb: f64,
    /// Time from snapshot to plan with status changes: median and mean, in milliseconds.
    pub(crate) plan_ms: (f64, f64),
    /// Size of the largest objects, in bytes.
    pub(crate) largest: BTreeMap<&'static str, usize>,
}

impl Rollout {
    /// Writes by Drop for each pair.
    pub(crate) fn writes_a_pair(&self) -> Option<f64> {
        let total: u64 = self.writes.as_ref()?.values().sum();
        Some(total as f64 / self.scenario.pairs() as f64)
    }

    /// Processor time of the API server for each pair, in milliseconds.
    pub(crate) fn cpu_a_pair_ms(&self) -> f64 {
        self.api_server_cpu_seconds * 1000.0 / self.scenario.pairs() as f64
    }

    /// The time until everything was cached, in ideal times.
    pub(crate) fn against_ideal(&self) -> f64 {
        self.cached_seconds / self.ideal_seconds
    }
}

/// Rolls all images of the swarm's scenario out.
pub(crate) async fn measure(swarm: &mut Swarm, audit: bool) -> Result<Rollout> {
    let scenario = swarm.scenario.clone();
    let ideal = scenario.ideal();
    println!("{}: at best {:.1} s under this policy", scenario.title(), ideal.as_secs_f64());
    let mark = if audit { Some(Mark::of(&swarm.place.info)?) } else { None };
    let metrics = swarm.coordinators.metrics().await?;
    let usage = swarm.coordinators.usage()?;
    let counters = Counters::read(&swarm.place).await?;
    let started = Instant::now();
    for number in 0..scenario.images {
        swarm.apply_image(number, &json!({})).await?;
    }
    swarm.begin_evictions();
    swarm.wait_ready(ideal * 3 + Duration::from_secs(60)).await?;
    let status = started.elapsed();
    let cached = swarm.agents.tally.last_pulled.get().context("nothing was pulled")? - started;
    let after = Counters::read(&swarm.place).await?;
    println!(
        "  on all nodes after {:.1} s, status says so after {:.1} s",
        cached.as_secs_f64(),
        status.as_secs_f64()
    );
    let most_nodes = swarm.agents.tally.most_running.get();
    ensure!(most_nodes <= scenario.cap, "{most_nodes} nodes pulled at the same time, {} may", scenario.cap);
    swarm.quiet().await;
    // What is written after that counts too: late reports, coalesced status, events.
    let requests = mark.map(|mark| mark.requests()).transpose()?;
    let metrics_after = swarm.coordinators.metrics().await?;
    let usage_after = swarm.coordinators.usage()?;
    let (writes, reads) = requests.map(|requests| (requests.writes, requests.reads)).unzip();
    Ok(Rollout {
        ideal_seconds: ideal.as_secs_f64(),
        cached_seconds: cached.as_secs_f64(),
        status_seconds: status.as_secs_f64(),
        most_nodes,
        pulls: (swarm.agents.tally.pulled.get(), swarm.agents.tally.failed.get()),
        writes,
        reads,
        api_server_cpu_seconds: (after.cpu - counters.cpu).as_secs_f64(),
        traffic: after.since(&counters),
        coordinator_cpu_seconds: (usage_after.cpu - usage.cpu).as_secs_f64(),
        coordinator_peak_mb: usage_after.peak as f64 / 1e6,
        plan_ms: (
            coordinators::plan_median_ms(&metrics, &metrics_after),
            coordinators::plan_mean_ms(&metrics, &metrics_after),
        ),
        largest: api_server::largest_objects(&swarm.place).await?,
        scenario,
    })
}
