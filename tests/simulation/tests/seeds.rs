//! Seeds that must pass: `DROP_SEEDS` of them, 3,000 unless told.

use std::sync::atomic::{AtomicU64, Ordering};

use drop_simulation::coverage::Coverage;
use drop_simulation::coverage::report::Format;
use drop_simulation::run::{Options, Outcome, run};

/// So many seeds see every combination of fault and state.
const ENOUGH: u64 = 3_000;

#[test]
fn no_seed_breaks_an_invariant_and_every_fault_strikes_in_every_state() {
    let seeds = std::env::var("DROP_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ENOUGH);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let (mut broken, mut coverage) = (Vec::new(), Coverage::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return (broken, coverage);
            }
            match run(seed, Options::default()) {
                Ok(outcome) => coverage.add(&outcome.coverage),
                Err(violation) => broken.push(format!(
                    "{violation}\n  replay: cargo run -p drop-simulation -- --seed {seed}\n  \
                     shrink: cargo run -p drop-simulation -- --seed {seed} --shrink"
                )),
            }
        }
    };
    let (mut broken, mut coverage) = (Vec::new(), Coverage::default());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for (violations, covered) in workers.into_iter().map(|worker| worker.join().unwrap()) {
            broken.extend(violations);
            coverage.add(&covered);
        }
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    println!("{}", coverage.report(Format::Text));
    assert_eq!(coverage.surprising(), [""; 0], "occurred, and is said to be impossible");
    if seeds >= ENOUGH {
        assert_eq!(coverage.missing(), [""; 0], "possible, and never occurred");
    }
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let options = Options::default();
    for seed in 0..5 {
        let what =
            |outcome: Outcome| (outcome.converged, outcome.writes, outcome.simulated, outcome.coverage);
        assert_eq!(run(seed, options).map(what), run(seed, options).map(what));
    }
}
