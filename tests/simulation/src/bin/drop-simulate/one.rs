//! One run: with a trace, from a seed or a file, or shrunk first.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use drop_simulation::run::run_schedule;
use drop_simulation::schedule::Schedule;
use drop_simulation::shrink::shrink;
use drop_simulation::trace::Trace;

use super::Arguments;

/// How often it is told how far shrinking has come.
const TELL: Duration = Duration::from_secs(2);

/// Runs a seed and prints what happens; tells whether no invariant broke.
pub(super) fn replay_seed(arguments: &Arguments, seed: u64) -> anyhow::Result<bool> {
    let well = traced(&arguments.schedule(seed), &format!("seed {seed}"))?;
    if !well {
        writeln!(std::io::stdout(), "  shrink: {} --shrink", arguments.command(seed))?;
    }
    Ok(well)
}

/// The same for a schedule in a file.
pub(super) fn replay_file(file: &Path) -> anyhow::Result<bool> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("can't read {name}"))?;
    let schedule = Schedule::from_json(&text).with_context(|| format!("can't use {name}"))?;
    traced(&schedule, &name)
}

/// Shrinks a seed; prints the schedule that is left and what happens in it.
pub(super) fn shrink_seed(arguments: &Arguments, seed: u64) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    let whole = arguments.schedule(seed);
    let Err(violation) = run_schedule(&whole, Trace::default()) else {
        writeln!(out, "seed {seed}: no violation, nothing to shrink")?;
        return Ok(true);
    };
    writeln!(std::io::stderr(), "seed {seed}: {violation}")?;
    let (start, mut told) = (Instant::now(), Instant::now());
    let within = Duration::from_secs(arguments.within);
    let size = whole.size();
    let shrunk = shrink(whole, violation, |so_far| {
        if told.elapsed() > TELL {
            told = Instant::now();
            eprintln!("{} runs: {} of {size} parts left", so_far.runs, so_far.schedule.size());
        }
        start.elapsed() < within
    });
    let file = arguments.save.clone().unwrap_or_else(|| PathBuf::from(format!("seed-{seed}.json")));
    std::fs::write(&file, shrunk.schedule.to_json()?)
        .with_context(|| format!("can't write {}", file.display()))?;
    let left = shrunk.schedule.size();
    let seconds = start.elapsed().as_secs_f64();
    traced(&shrunk.schedule, &format!("seed {seed}, shrunk"))?;
    writeln!(out, "{left} of {size} parts are left after {} runs in {seconds:.1} s:", shrunk.runs)?;
    write!(out, "{}", shrunk.schedule)?;
    writeln!(out, "  replay: drop-simulate --replay {}", file.display())?;
    Ok(false)
}

fn traced(schedule: &Schedule, name: &str) -> anyhow::Result<bool> {
    let outcome = run_schedule(schedule, Trace::printing());
    let mut out = std::io::stdout();
    match &outcome {
        Ok(outcome) => writeln!(
            out,
            "{name}: no violation; converged {:?} after the faults, {} writes, {} steps, {:?} in all",
            outcome.converged, outcome.writes, outcome.coverage.steps, outcome.simulated
        )?,
        Err(violation) => writeln!(out, "{name}: {violation}")?,
    }
    Ok(outcome.is_ok())
}
