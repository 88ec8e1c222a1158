//! Seeds that must pass: `DROP_SEEDS` of them, 500 unless told.

use std::sync::atomic::{AtomicU64, Ordering};

use drop_simulation::run::{Options, run};

#[test]
fn no_seed_breaks_an_invariant() {
    let seeds = std::env::var("DROP_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut broken = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return broken;
            }
            if let Err(violation) = run(seed, Options::default()) {
                broken.push(format!("{violation}\n  replay: cargo run -p drop-simulation -- --seed {seed}"));
            }
        }
    };
    let broken: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let options = Options::default();
    for seed in 0..5 {
        let first = run(seed, options).map(|outcome| (outcome.converged, outcome.writes, outcome.simulated));
        let second = run(seed, options).map(|outcome| (outcome.converged, outcome.writes, outcome.simulated));
        assert_eq!(first, second);
    }
}
