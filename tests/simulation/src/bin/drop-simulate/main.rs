//! Runs seeds of the simulation, or replays one with a trace, whole or shrunk.

mod one;
mod seeds;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use drop_simulation::breaks::Break;
use drop_simulation::coverage::report::Format;
use drop_simulation::run::Options;
use drop_simulation::schedule::Schedule;

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
    /// Prints which faults struck in which states, and which combinations never occurred.
    #[arg(long, value_enum, num_args = 0..=1, default_missing_value = "text")]
    coverage: Option<Format>,
    /// Leaves out of the seed whatever its violation does not need, and writes what is left to a file.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// For how many seconds to shrink at most.
    #[arg(long, default_value_t = 120)]
    within: u64,
    /// Where the shrunk schedule goes; `seed-<seed>.json` unless told.
    #[arg(long, requires = "shrink")]
    save: Option<PathBuf>,
    /// Runs the schedule in this file, as `--shrink` writes it, and prints what happens.
    #[arg(long, conflicts_with_all = ["seed", "broken"])]
    replay: Option<PathBuf>,
}

impl Arguments {
    fn options(&self) -> Options {
        Options { faults: Duration::from_secs(self.minutes * 60), broken: self.broken, trace: false }
    }

    fn schedule(&self, seed: u64) -> Schedule {
        let Options { faults, broken, .. } = self.options();
        Schedule::of(seed, faults, broken)
    }

    /// The command that runs this seed alone.
    fn command(&self, seed: u64) -> String {
        let mut command = format!("drop-simulate --seed {seed} --minutes {}", self.minutes);
        if let Some(name) = self.broken.and_then(|broken| broken.to_possible_value()) {
            command.push_str(&format!(" --break {}", name.get_name()));
        }
        command
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let well = match (&arguments.replay, arguments.seed) {
        (Some(file), _) => one::replay_file(file)?,
        (None, Some(seed)) if arguments.shrink => one::shrink_seed(&arguments, seed)?,
        (None, Some(seed)) => one::replay_seed(&arguments, seed)?,
        (None, None) => seeds::run_all(&arguments)?,
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
