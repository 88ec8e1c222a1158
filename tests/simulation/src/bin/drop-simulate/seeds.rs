//! Many seeds, in as many threads as are wanted.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use drop_simulation::coverage::Coverage;
use drop_simulation::run::run;

use super::Arguments;

/// How often it is told how far it has come.
const TELL: Duration = Duration::from_secs(5);

/// What came of some seeds.
#[derive(Default)]
struct Tally {
    coverage: Coverage,
    violations: u64,
    writes: usize,
    converged: Duration,
}

/// Runs all seeds; tells whether no invariant broke.
pub(super) fn run_all(arguments: &Arguments) -> anyhow::Result<bool> {
    let start = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..arguments.jobs.max(1))
            .map(|job| {
                let (next, stop) = (&next, &stop);
                scope.spawn(move || work(arguments, next, stop, job == 0))
            })
            .collect();
        for job in jobs {
            let tally = job.join().ok().context("a thread panicked; see above")??;
            all.coverage.add(&tally.coverage);
            all.violations += tally.violations;
            all.writes += tally.writes;
            all.converged = all.converged.max(tally.converged);
        }
        anyhow::Ok(())
    })?;
    let mut out = std::io::stdout();
    if let Some(format) = arguments.coverage {
        write!(out, "{}", all.coverage.report(format))?;
    }
    let (coverage, seconds) = (&all.coverage, start.elapsed().as_secs_f64());
    let seeds = coverage.seeds + all.violations;
    writeln!(
        std::io::stderr(),
        "{seeds} seeds, {} steps, {} faults, {} violations in {seconds:.0} s: {:.0} seeds/s; {:.0} writes a seed, slowest convergence {:?}",
        coverage.steps,
        coverage.faults,
        all.violations,
        seeds as f64 / seconds,
        all.writes as f64 / seeds.max(1) as f64,
        all.converged,
    )?;
    Ok(all.violations == 0)
}

/// Takes one seed after another.
fn work(arguments: &Arguments, next: &AtomicU64, stop: &AtomicBool, tells: bool) -> anyhow::Result<Tally> {
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut tally = Tally::default();
    while !stop.load(Ordering::Relaxed) {
        let done = next.fetch_add(1, Ordering::Relaxed);
        if done >= arguments.seeds {
            break;
        }
        let seed = arguments.from + done;
        match run(seed, arguments.options()) {
            Ok(outcome) => {
                tally.coverage.add(&outcome.coverage);
                tally.writes += outcome.writes;
                tally.converged = tally.converged.max(outcome.converged);
            }
            Err(violation) => {
                tally.violations += 1;
                let command = arguments.command(seed);
                writeln!(
                    std::io::stdout(),
                    "seed {seed}: {violation}\n  replay: {command}\n  shrink: {command} --shrink"
                )?;
                stop.fetch_or(!arguments.keep_going, Ordering::Relaxed);
            }
        }
        if tells && told.elapsed() > TELL {
            told = Instant::now();
            let rate = done as f64 / start.elapsed().as_secs_f64();
            let left = (arguments.seeds - done) as f64 / rate;
            writeln!(
                std::io::stderr(),
                "{done}/{} seeds, {rate:.0}/s, about {left:.0} s left",
                arguments.seeds
            )?;
        }
    }
    Ok(tally)
}
