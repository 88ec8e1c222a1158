//! A seed that breaks an invariant is shrunk to a schedule that is much smaller, and breaks it again when it is replayed.

use std::time::Duration;

use drop_simulation::breaks::Break;
use drop_simulation::faults::Fault;
use drop_simulation::invariants::Violation;
use drop_simulation::run::{Options, run_schedule};
use drop_simulation::schedule::{Planned, Schedule};
use drop_simulation::shrink::shrink;
use drop_simulation::trace::Trace;

/// So many runs are enough to shrink a schedule.
const RUNS: u64 = 600;

/// The first seed with a lot in it whose run breaks the invariant that `broken` is about.
fn breaking(broken: Break) -> Option<(Schedule, Violation)> {
    (0..2_000)
        .map(|seed| Schedule::of(seed, Options::default().faults, Some(broken)))
        .filter(|schedule| schedule.faults.len() >= 20)
        .find_map(|schedule| {
            let violation = run_schedule(&schedule, Trace::default()).err()?;
            (violation.invariant == broken.breaks()).then_some((schedule, violation))
        })
}

#[test]
fn what_is_left_of_a_schedule_is_small_and_breaks_the_same_invariant_when_it_is_replayed() {
    for broken in [Break::NoFencing, Break::EarlyExpiry, Break::NoPresence] {
        let (whole, violation) = breaking(broken).unwrap();
        let shrunk = shrink(whole.clone(), violation, |so_far| so_far.runs < RUNS);
        println!(
            "{broken:?}: {} runs, {} of {} parts left",
            shrunk.runs,
            shrunk.schedule.size(),
            whole.size()
        );
        println!("{}", shrunk.schedule);
        assert!(shrunk.schedule.faults.len() * 2 <= whole.faults.len(), "{}", shrunk.schedule);
        assert!(shrunk.schedule.size() < whole.size(), "{}", shrunk.schedule);
        let again = Schedule::from_json(&shrunk.schedule.to_json().unwrap()).unwrap();
        let replayed = run_schedule(&again, Trace::default()).unwrap_err();
        assert_eq!(replayed, shrunk.violation);
        assert_eq!(replayed.invariant, broken.breaks());
    }
}

#[test]
fn what_strikes_nothing_can_be_left_out_without_shifting_anything() {
    for seed in 0..20 {
        let mut with = Schedule::of(seed, Duration::from_secs(120), None);
        let without = with.clone();
        // There is nothing yet that these could delete; each draws a node, a replica and more all the same.
        for (number, fault) in
            [Fault::DeleteCatalog, Fault::DeleteLeaderLease, Fault::DeleteLease].into_iter().enumerate()
        {
            with.faults.insert(0, Planned { number: 1_000 + number as u64, at: 0, fault, aim: None });
        }
        let outcome = |schedule: &Schedule| {
            run_schedule(schedule, Trace::default()).map(|outcome| (outcome.converged, outcome.writes))
        };
        assert_eq!(outcome(&with), outcome(&without), "seed {seed}");
    }
}

#[test]
fn a_file_that_holds_no_schedule_is_refused_with_a_reason() {
    let mut schedule = Schedule::of(0, Duration::from_secs(60), None);
    schedule.machines.clear();
    let said = |text: &str| format!("{:#}", Schedule::from_json(text).unwrap_err());
    assert!(said(&schedule.to_json().unwrap()).starts_with("machines: "));
    assert!(said("{}").contains("missing field"));
}
