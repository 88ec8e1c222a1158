//! Runs seeds of the simulation, or replays one with a trace.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use drop_simulation::breaks::Break;
use drop_simulation::run::{Options, run};

/// Simulates Drop under faults and checks its invariants after every step.
#[derive(Debug, Parser)]
#[command(name = "drop-simulate")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Replays this seed and prints what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// For how many simulated minutes faults strike. A seed means another run with another value.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Breaks something on purpose: an invariant has to notice.
    #[arg(long = "break", value_enum)]
    broken: Option<Break>,
    /// How many seeds to run at once, each in a thread of its own.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Goes on after a violation, and lists all of them at the end.
    #[arg(long)]
    keep_going: bool,
}

impl Arguments {
    fn options(&self) -> Options {
        Options {
            faults: Duration::from_secs(self.minutes * 60),
            broken: self.broken,
            trace: self.seed.is_some(),
        }
    }

    fn replay(&self, seed: u64) -> String {
        let mut command = format!("drop-simulate --seed {seed} --minutes {}", self.minutes);
        if let Some(name) = self.broken.and_then(|broken| broken.to_possible_value()) {
            command.push_str(&format!(" --break {}", name.get_name()));
        }
        command
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = std::io::stdout();
    if let Some(seed) = arguments.seed {
        return Ok(match run(seed, arguments.options()) {
            Ok(outcome) => {
                writeln!(out, "seed {seed}: no violation; {outcome:?}")?;
                ExitCode::SUCCESS
            }
            Err(violation) => {
                writeln!(out, "seed {seed}: {violation}")?;
                ExitCode::FAILURE
            }
        });
    }
    let violations = if arguments.jobs > 1 {
        let jobs: Vec<_> = (0..arguments.jobs)
            .map(|job| std::thread::spawn(move || seeds(&Arguments::parse(), job)))
            .collect();
        let mut all = 0;
        for job in jobs {
            all += job.join().ok().context("a run panicked; see above")??;
        }
        all
    } else {
        seeds(&arguments, 0)?
    };
    writeln!(out, "{} seeds, {violations} violations", arguments.seeds)?;
    Ok(if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every `jobs`th seed from the `job`th on; tells how many broke an invariant.
fn seeds(arguments: &Arguments, job: u64) -> anyhow::Result<u64> {
    let (start, mut told) = (Instant::now(), Instant::now());
    let mut violations = 0;
    let (mut writes, mut converged) = (0, Duration::ZERO);
    let step = usize::try_from(arguments.jobs.max(1))?;
    for (done, seed) in (arguments.from + job..arguments.from + arguments.seeds).step_by(step).enumerate() {
        match run(seed, arguments.options()) {
            Ok(outcome) => {
                writes += outcome.writes;
                converged = converged.max(outcome.converged);
            }
            Err(violation) => {
                violations += 1;
                writeln!(
                    std::io::stdout(),
                    "seed {seed}: {violation}\n  replay: {}",
                    arguments.replay(seed)
                )?;
                if !arguments.keep_going {
                    return Ok(violations);
                }
            }
        }
        if told.elapsed() > Duration::from_secs(5) && job == 0 {
            told = Instant::now();
            let all = (done + 1) as f64 * arguments.jobs as f64;
            let rate = all / start.elapsed().as_secs_f64();
            let left = (arguments.seeds as f64 - all).max(0.0) / rate;
            writeln!(
                std::io::stderr(),
                "{all:.0}/{} seeds, {rate:.0}/s, about {left:.0} s left; {:.0} writes a seed, slowest convergence {converged:?}",
                arguments.seeds,
                writes as f64 / (done + 1) as f64,
            )?;
        }
    }
    Ok(violations)
}
