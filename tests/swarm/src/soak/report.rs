//! What was seen in a soak, and what it must not exceed.

use std::collections::BTreeMap;

use drop_harness::figure::Figure;
use serde::Serialize;

use super::Options;
use super::act::{AtRest, Settled, Soak};
use super::churn::Kind;
use super::samples::{Process, Sample, Thirds};

/// Memory may differ by so many MB without being a tenth more.
const SLACK_MB: f64 = 4.0;
/// Files and threads that a process may have more: connections that are being replaced.
const SLACK_FILES: f64 = 8.0;
/// Threads that a process may have more: those for blocking work come and go.
const SLACK_THREADS: f64 = 2.0;

/// Writes by Drop while nothing happened.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Silence {
    /// For how long.
    pub(super) seconds: f64,
    /// By `who verb resource`; the leader's renewals left out.
    pub(super) writes: BTreeMap<String, u64>,
}

/// What a soak has come to.
pub(super) struct Seen<'s> {
    pub(super) options: Options,
    pub(super) seed: u64,
    pub(super) events: BTreeMap<Kind, usize>,
    pub(super) samples: Vec<Sample>,
    pub(super) settled: Settled,
    pub(super) silence: Silence,
    pub(super) rest: (AtRest, AtRest),
    pub(super) series: usize,
    pub(super) stale: Vec<String>,
    pub(super) soak: &'s Soak,
}

/// The same, as it is written.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    options: Options,
    seed: u64,
    /// How often each kind of churn came.
    events: BTreeMap<String, usize>,
    /// Pulls that succeeded, and that failed.
    pulls: (usize, usize),
    /// Grants under which something was pulled; how many of them within twice the delay after another; pulls that
    /// began while their policy was full.
    grants: (usize, usize, usize),
    /// How often an invariant was violated.
    violated: usize,
    /// The first of them, in words.
    pub(super) violations: Vec<String>,
    /// How long it took until all was as wanted.
    settled_seconds: f64,
    /// What was not.
    pub(super) differences: Vec<String>,
    silence: Silence,
    /// Before the churn and after it, with nothing happening.
    rest: (AtRest, AtRest),
    /// Series that the leader shows in the end, and those of what is gone.
    series: usize,
    stale: Vec<String>,
    samples: Vec<Sample>,
}

impl Outcome {
    /// Takes down all of it.
    pub(super) fn new(seen: Seen<'_>) -> Self {
        let (truth, tally) = (seen.soak.fleet.truth.borrow(), &seen.soak.fleet.tally);
        Self {
            options: seen.options,
            seed: seen.seed,
            events: seen.events.iter().map(|(kind, count)| (format!("{kind:?}"), *count)).collect(),
            pulls: (tally.pulled.get(), seen.soak.fleet.failed()),
            grants: (truth.grants, truth.paced, truth.full),
            violated: truth.violated,
            violations: truth.violations.clone(),
            settled_seconds: seen.settled.seconds,
            differences: seen.settled.differences,
            silence: seen.silence,
            rest: seen.rest,
            series: seen.series,
            stale: seen.stale,
            samples: seen.samples,
        }
    }

    fn thirds(&self, of: impl Fn(&Sample) -> f64) -> Thirds {
        let length = self.samples.last().map_or(0.0, |sample| sample.seconds);
        Thirds::of(self.samples.iter().map(|sample| (sample.seconds, of(sample))), length)
    }
}

/// The figures.
pub(super) fn figures(outcome: &Outcome) -> Vec<Figure> {
    let counted = |what: &str, value: usize| Figure::counted(what, value as f64, "", 0.0);
    let events: usize = outcome.events.values().sum();
    let mut figures = vec![
        Figure::shown("events", events as f64, ""),
        Figure::shown("pulls", outcome.pulls.0 as f64, ""),
        Figure::shown("pulls that failed", outcome.pulls.1 as f64, ""),
        Figure::shown("grants under which something was pulled", outcome.grants.0 as f64, ""),
        Figure::shown("… within twice the delay after another", outcome.grants.1 as f64, ""),
        Figure::shown("pulls that began with their policy full", outcome.grants.2 as f64, ""),
        counted("invariants violated: grant, cap, delay", outcome.violated),
        counted("not as wanted after the churn", outcome.differences.len()),
        Figure::shown("… as wanted after", outcome.settled_seconds, "s"),
        Figure::counted(
            format!("silent for {} s: API writes", outcome.silence.seconds),
            outcome.silence.writes.values().sum::<u64>() as f64,
            "",
            0.0,
        ),
        counted("series of what is gone", outcome.stale.len()),
        Figure::counted("requests that were turned away", outcome.rest.1.rejected, "", 0.0),
        Figure::counted(
            "watches more than before the churn",
            outcome.rest.1.surplus_watches(&outcome.rest.0) as f64,
            "",
            0.0,
        ),
    ];
    let ports: Vec<u16> = outcome
        .samples
        .last()
        .map(|sample| sample.coordinators.keys().copied().collect())
        .unwrap_or_default();
    for port in ports {
        let thirds =
            |of: fn(&Process) -> f64| outcome.thirds(|sample| sample.coordinators.get(&port).map_or(0.0, of));
        let name = format!("coordinator {port}");
        figures.extend([
            flat(format!("{name}: memory in the last third"), thirds(|p| p.resident_mb), "MB", SLACK_MB),
            flat(format!("{name}: open files"), thirds(|p| p.files as f64), "", SLACK_FILES),
            flat(format!("{name}: threads"), thirds(|p| p.threads as f64), "", SLACK_THREADS),
        ]);
    }
    let each = |rest: &AtRest| rest.agents.files as f64 / rest.nodes as f64;
    let files = Thirds { middle: each(&outcome.rest.0), last: each(&outcome.rest.1) };
    figures.extend([
        flat("coordinators: series".to_owned(), outcome.thirds(|s| s.series as f64), "", 50.0),
        flat(
            "agents: memory in the last third".to_owned(),
            outcome.thirds(|s| s.agents.resident_mb),
            "MB",
            SLACK_MB,
        ),
        flat("agents: open files for each node, before the churn and after".to_owned(), files, "", 0.2),
    ]);
    figures
}

fn flat(what: String, thirds: Thirds, unit: &'static str, slack: f64) -> Figure {
    Figure::bounded(what, thirds.last, unit, thirds.bound(slack))
}
