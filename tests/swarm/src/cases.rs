//! The cases that are measured, and what they have to reach.

use std::time::Duration;

use anyhow::Result;
use drop_harness::figure::Figure;
use serde::Serialize;

use crate::aftermath::{self, Aftermath};
use crate::rollout::{self, Rollout};
use crate::scenario::{RuntimeModel, Scenario, Spread};
use crate::{run, swarm::Swarm};

/// What a case has to reach; `None`: shown for information.
#[derive(Debug, Clone, Copy, Default)]
struct Bounds {
    writes_a_pair: Option<f64>,
    cpu_a_pair_ms: Option<f64>,
    against_ideal: Option<f64>,
    peak_mb: Option<f64>,
    plan_ms: Option<f64>,
    object_bytes: Option<usize>,
}

/// One rollout, measured with an audit log and once more without, and perhaps what came after it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measured {
    /// With an audit log: counts.
    pub(crate) counted: Rollout,
    /// Without: time and processor time.
    pub(crate) timed: Rollout,
    /// What came after the counted one.
    pub(crate) aftermath: Option<Aftermath>,
}

/// The three sizes that have bounds.
pub(crate) fn small() -> Scenario {
    scenario(200, 10, 500.0, 50)
}

pub(crate) fn middle() -> Scenario {
    scenario(1000, 20, 500.0, 100)
}

pub(crate) fn large() -> Scenario {
    scenario(5000, 50, 200.0, 250)
}

/// A hundred nodes.
pub(crate) fn short() -> Scenario {
    scenario(100, 10, 200.0, 25)
}

/// The same per node, whatever their number, and slow enough that two cores have time to spare.
pub(crate) fn on_the_curve(nodes: usize) -> Scenario {
    scenario(nodes, 10, 500.0, (nodes / 20).max(5))
}

fn scenario(nodes: usize, images: usize, pull_ms: f64, cap: usize) -> Scenario {
    let runtime = RuntimeModel {
        pull_ms: Spread::Fixed(pull_ms),
        image_mb: Spread::Fixed(0.0),
        node_mbps: 100,
        failures_per_mille: 0,
        evictions_per_minute: 0,
    };
    Scenario { nodes, images, cap, delay_ms: 1, runtime }
}

/// Measures a rollout with and without an audit log; `idle` asks for what comes after it.
pub(crate) fn measure(scenario: &Scenario, idle: Option<Duration>) -> Result<Measured> {
    let mut after = None;
    let counted = run(scenario, true, async |swarm: &mut Swarm| {
        let rollout = rollout::measure(swarm, true).await?;
        if let Some(idle) = idle {
            after = Some(aftermath::measure(swarm, true, idle).await?);
        }
        Ok(rollout)
    })?;
    let timed = run(scenario, false, async |swarm: &mut Swarm| rollout::measure(swarm, false).await)?;
    Ok(Measured { counted, timed, aftermath: after })
}

/// The figures of a case.
pub(crate) fn figures(measured: &Measured) -> Vec<Figure> {
    let scenario = &measured.counted.scenario;
    let bounds = bounds(scenario);
    let title = scenario.title();
    let (counted, timed) = (&measured.counted, &measured.timed);
    let bounded = |what: &str, value: f64, unit: &'static str, at_most: Option<f64>| Figure {
        at_most,
        ..Figure::shown(format!("{title}: {what}"), value, unit)
    };
    let mut figures = vec![
        Figure {
            count: true,
            ..bounded(
                "API writes a pair",
                counted.writes_a_pair().unwrap_or(f64::NAN),
                "",
                bounds.writes_a_pair,
            )
        },
        bounded("API server CPU a pair", timed.cpu_a_pair_ms(), "ms", bounds.cpu_a_pair_ms),
        bounded(
            "time to cached against the ideal schedule",
            timed.against_ideal(),
            "×",
            bounds.against_ideal,
        ),
        bounded("time until status says so", timed.status_seconds, "s", None),
        bounded("coordinator memory at its highest", timed.coordinator_peak_mb, "MB", bounds.peak_mb),
        bounded("coordinator CPU", timed.coordinator_cpu_seconds, "s", None),
        bounded("snapshot, plan and status diff, median", timed.plan_ms.0, "ms", bounds.plan_ms),
        bounded(
            "largest object",
            largest(timed) / 1024.0,
            "KiB",
            bounds.object_bytes.map(|b| b as f64 / 1024.0),
        ),
        bounded("requests that the API server turned away", timed.traffic.rejected, "", Some(0.0)),
        bounded(
            "nodes that pulled at the same time",
            counted.most_nodes.max(timed.most_nodes) as f64,
            "",
            Some(scenario.cap as f64),
        ),
    ];
    if let Some(after) = &measured.aftermath {
        figures.extend(after_figures(after));
    }
    figures
}

fn after_figures(after: &Aftermath) -> Vec<Figure> {
    let writes = |writes: Option<u64>| writes.map_or(f64::NAN, |writes| writes as f64);
    vec![
        Figure::counted(
            format!("idle for {} s: API writes", after.idle_seconds),
            writes(after.idle_writes),
            "",
            0.0,
        ),
        Figure::bounded("… coordinator CPU", after.idle_coordinator_percent, "% of a core", 0.5),
        Figure::shown("… coordinator memory", after.idle_coordinator_mb, "MB"),
        Figure::bounded("coordinators restarted: until the first plan", after.restart_seconds, "s", 10.0),
        Figure::counted("… pulls that were not due", after.restart_pulls as f64, "", 0.0),
        Figure::shown("everything known: plan, median", after.known_plan_ms.0, "ms"),
        Figure::bounded("image that all nodes hold: known as cached", after.held_seconds, "s", 60.0),
        Figure::counted("… pulls for it", after.held_pulls as f64, "", 0.0),
        Figure::shown("… API writes for it", writes(after.held_writes), ""),
        Figure::shown("node joins: until its last image is cached", after.join_seconds, "s"),
        Figure::shown("image evicted: until it is back", after.recached_seconds, "s"),
        Figure::shown("leader killed: until the next pull", after.failover_seconds, "s"),
    ]
}

fn largest(rollout: &Rollout) -> f64 {
    rollout.largest.values().copied().max().unwrap_or_default() as f64
}

fn bounds(scenario: &Scenario) -> Bounds {
    match (scenario.nodes, scenario.images) {
        (200, 10) => Bounds {
            writes_a_pair: Some(0.5),
            cpu_a_pair_ms: Some(1.5),
            against_ideal: Some(1.15),
            peak_mb: Some(40.0),
            ..Bounds::default()
        },
        (1000, 20) => Bounds { writes_a_pair: Some(0.4), against_ideal: Some(1.15), ..Bounds::default() },
        (5000, 50) => Bounds {
            peak_mb: Some(300.0),
            plan_ms: Some(30.0),
            object_bytes: Some(512 * 1024),
            ..Bounds::default()
        },
        _ => Bounds::default(),
    }
}
