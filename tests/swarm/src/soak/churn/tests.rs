use std::collections::BTreeSet;

use super::*;

const LEADER: Duration = Duration::from_secs(60);

/// What happens in so many minutes, and what there is after that.
fn churned(seed: u64, minutes: u64) -> (Vec<(Duration, Event)>, Wanted) {
    let mut wanted = nothing(20);
    for event in beginning(20, &mut Rng::with_seed(seed)) {
        wanted.apply(&event);
    }
    let mut churn = Churn::new(seed, pace(20, LEADER));
    let mut events = Vec::new();
    loop {
        let (at, event) = churn.next(&wanted);
        if at > Duration::from_secs(minutes * 60) {
            return (events, wanted);
        }
        if let Some((_, event)) = event {
            wanted.apply(&event);
            events.push((at, event));
        }
    }
}

#[test]
fn the_same_seed_brings_the_same_churn() {
    assert_eq!(churned(7, 5).0, churned(7, 5).0);
    assert_ne!(churned(7, 5).0, churned(8, 5).0);
}

#[test]
fn time_goes_forward() {
    let (events, _) = churned(1, 5);
    assert!(events.is_sorted_by_key(|(at, _)| *at));
}

#[test]
fn every_kind_of_churn_comes() {
    let (events, _) = churned(3, 30);
    let kinds: BTreeSet<_> = events.iter().map(|(_, event)| name(event)).collect();
    assert_eq!(kinds.len(), 21, "{kinds:?}");
}

fn name(event: &Event) -> String {
    format!("{event:?}").split(' ').next().unwrap().to_owned()
}

#[test]
fn what_there_is_stays_about_as_much() {
    for seed in 0..5 {
        let (_, wanted) = churned(seed, 30);
        assert!(IMAGES.contains(&wanted.images.len()) || wanted.images.len() == IMAGES.end);
        assert!((SETS.start..=SETS.end).contains(&wanted.sets.len()));
        assert!((18..=22).contains(&wanted.nodes.len()), "{} nodes", wanted.nodes.len());
        assert!(wanted.sources.iter().all(|source| (2..9).contains(&source.apps.len())));
        assert!(wanted.sets.values().all(|set| !set.apps.is_empty()));
    }
}

#[test]
fn the_steady_policy_is_never_touched() {
    let (events, wanted) = churned(5, 30);
    assert_eq!(wanted.policies[&STEADY], Some(Policy::PLAIN));
    let touches = |event: &Event| match event {
        Event::WritePolicy { number, .. } | Event::DeletePolicy { number } => *number == STEADY,
        _ => false,
    };
    assert!(!events.iter().any(|(_, event)| touches(event)));
}

#[test]
fn nothing_new_is_called_after_what_was_there() {
    let (events, _) = churned(9, 20);
    let mut seen = BTreeSet::new();
    for (_, event) in events {
        match event {
            Event::AddNode { number, .. } => assert!(seen.insert(format!("node {number}"))),
            Event::DeleteImage { name } | Event::DeleteSet { name } => assert!(seen.insert(name)),
            Event::WriteImage { name, .. } | Event::WriteSet { name, .. } => assert!(!seen.contains(&name)),
            _ => {}
        }
    }
}

#[test]
fn a_kind_that_has_ended_comes_no_more() {
    let wanted = churned(2, 1).1;
    let mut churn = Churn::new(2, pace(20, Duration::from_secs(1)));
    churn.end(Kind::EndLeader);
    for _ in 0..1000 {
        assert!(!matches!(churn.next(&wanted).1, Some((Kind::EndLeader, _))));
    }
}
