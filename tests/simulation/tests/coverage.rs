//! A fault that waits for a state strikes in it, and the report tells what struck where and what never did.

use std::time::Duration;

use drop_simulation::coverage::report::Format;
use drop_simulation::coverage::{Aim, Coverage, LeaderState, NodeState};
use drop_simulation::faults::Fault;
use drop_simulation::run::run_schedule;
use drop_simulation::schedule::{Planned, Schedule};
use drop_simulation::trace::Trace;

/// What a single fault with this aim strikes.
fn struck(fault: Fault, aim: Aim) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in 0..10 {
        let mut schedule = Schedule::of(seed, Duration::from_secs(300), None);
        schedule.faults = vec![Planned { number: 0, at: 0, fault, aim: Some(aim) }];
        schedule.edits.clear();
        let outcome = run_schedule(&schedule, Trace::default()).unwrap_or_default();
        coverage.add(&outcome.coverage);
    }
    coverage
}

#[test]
fn a_fault_that_is_aimed_at_a_state_strikes_in_that_state_and_in_no_other() {
    let fault = Fault::CrashAgent;
    for state in [NodeState::Untaken, NodeState::Pulling, NodeState::Finishing] {
        let coverage = struck(fault, Aim::Node(state));
        let there = coverage.nodes.of(fault, state as usize);
        let everywhere: u64 =
            NodeState::ALL.iter().map(|state| coverage.nodes.of(fault, *state as usize)).sum();
        assert!(there > 0, "never {state:?}");
        assert_eq!(there, everywhere, "not only {state:?}");
    }
    let fault = Fault::CrashCoordinator;
    for state in [LeaderState::Electing, LeaderState::JustAcquired] {
        let coverage = struck(fault, Aim::Leader(state));
        let there = coverage.leaders.of(fault, state as usize);
        assert!(there > 0, "never {state:?}");
        assert_eq!(there, coverage.faults, "not only {state:?}");
    }
}

#[test]
fn a_report_counts_what_struck_names_what_never_did_and_tells_why_the_rest_cannot_be() {
    let coverage = struck(Fault::CrashAgent, Aim::Node(NodeState::Pulling));
    assert_eq!(coverage.seeds, 10, "some broke an invariant");
    let missing = coverage.missing();
    assert!(missing.contains(&"CrashAgent × node: marked".to_owned()));
    assert!(!missing.contains(&"CrashAgent × node: pulling".to_owned()));
    assert!(!missing.contains(&"CrashAgent × leader: follower".to_owned()), "it strikes no replica");
    assert_eq!(coverage.surprising(), [""; 0]);
    let text = coverage.report(Format::Text);
    assert!(text.starts_with(&format!("10 seeds, {} steps, ", coverage.steps)), "{text}");
    assert!(text.contains("\n  CrashAgent × node: marked\n"), "{text}");
    assert!(coverage.report(Format::Markdown).contains("\n| CrashAgent "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&coverage.report(Format::Json)).unwrap();
    assert_eq!(json["tables"]["node"]["CrashAgent"]["marked"], 0);
    assert!(json["tables"]["node"]["CrashAgent"]["pulling"].as_u64() > Some(0));
    let why = &json["impossible"]["CrashAgent × leader: follower"];
    assert_eq!(why, "a state of one replica, and none is struck");
}
