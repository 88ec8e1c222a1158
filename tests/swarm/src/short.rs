//! A hundred nodes: part of every test run, and fails when a rollout costs half more than it is known to.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use drop_harness::figure::{Figure, write_json};
use serde_json::{Value, json};

use crate::swarm::Swarm;
use crate::{cases, rollout, run};

/// Writes a pair: a grant costs its node issue, take, finish and sometimes a report for ten images; ten statuses are
/// written a few times each.
const WRITES_A_PAIR: f64 = 0.34;
/// Median of the time to decide, in times of [`reference`].
const PLANNING: f64 = 0.6;

/// Measures it.
pub(crate) fn measure(json: Option<&Path>) -> Result<Vec<Figure>> {
    let scenario = cases::short();
    let before = reference();
    let rollout = run(&scenario, true, async |swarm: &mut Swarm| rollout::measure(swarm, true).await)?;
    let reference = before.min(reference());
    write_json(json, &rollout)?;
    let writes = rollout.writes_a_pair().context("no audit log")?;
    let planning = rollout.plan_ms.0 / (reference.as_secs_f64() * 1000.0);
    Ok(vec![
        Figure::counted(format!("{}: API writes a pair", scenario.title()), writes, "", WRITES_A_PAIR),
        Figure::shown("nodes that pulled at the same time", rollout.most_nodes as f64, ""),
        Figure::counted(
            "median of the time to decide against reading and writing some JSON",
            planning,
            "×",
            PLANNING,
        ),
        Figure::shown("time to cached against the ideal schedule", rollout.against_ideal(), "×"),
    ])
}

/// The quickest of many times to write and read a document of fixed content: what this machine does in this run is
/// measured with what it does.
fn reference() -> Duration {
    let entries: Vec<Value> = (0..1000)
        .map(|n| json!({ "name": format!("node-{n}"), "digest": format!("sha256:{n:064}"), "count": n }))
        .collect();
    let document = Value::from(entries);
    let once = || {
        let started = Instant::now();
        let read: Value = serde_json::from_str(&document.to_string()).unwrap_or_default();
        let took = started.elapsed();
        assert_eq!(read.as_array().map(Vec::len), Some(1000), "it reads what it wrote");
        took
    };
    (0..50).map(|_| once()).min().unwrap_or_default()
}
