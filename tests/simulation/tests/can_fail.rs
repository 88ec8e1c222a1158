//! Every deliberate break is noticed by the invariant that it breaks, before many seeds have run.

use clap::ValueEnum;
use drop_simulation::breaks::Break;
use drop_simulation::run::{Options, run};

/// So many seeds notice every break.
const ENOUGH: u64 = 2_000;

/// The first seed that notices `broken`, and what it says.
fn noticed(broken: Break) -> Result<(u64, String), String> {
    let mut others = Vec::new();
    for seed in 0..ENOUGH {
        match run(seed, Options { broken: Some(broken), ..Options::default() }) {
            Err(violation) if violation.invariant == broken.breaks() => {
                return Ok((seed, violation.to_string()));
            }
            Err(violation) => others.push(violation.to_string()),
            Ok(_) => {}
        }
    }
    Err(format!("{broken:?} was not noticed by {ENOUGH} seeds; others noticed: {others:?}"))
}

#[test]
fn every_break_is_noticed_by_the_invariant_that_it_breaks() {
    let threads: Vec<_> = (0..2)
        .map(|half| {
            std::thread::spawn(move || {
                let mine = Break::value_variants().iter().enumerate().filter(|(n, _)| n % 2 == half);
                mine.map(|(_, broken)| (*broken, noticed(*broken))).collect::<Vec<_>>()
            })
        })
        .collect();
    let found: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    for (broken, outcome) in &found {
        println!("{broken:?}: {outcome:?}");
    }
    let unnoticed: Vec<_> = found.iter().filter_map(|(_, outcome)| outcome.as_ref().err()).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}

#[test]
fn every_invariant_has_a_break() {
    for invariant in 1..=6 {
        assert!(Break::value_variants().iter().any(|broken| broken.breaks() == invariant));
    }
}
