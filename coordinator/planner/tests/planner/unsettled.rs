//! Issues whose outcome is unknown.

use std::time::Duration;

use drop_planner::memory::WriteOutcome::{Applied, Refused, Unknown};
use drop_planner::plan::{Issue, IssueKind};

use crate::rig::{Rig, SECOND};

/// Two nodes, cap 1, and the first issue, which is planned but not applied.
fn rig(delay: Duration) -> (Rig, Issue) {
    let mut rig = Rig::with_nodes(&["a", "b"]);
    rig.policy("p", 1, delay);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    loop {
        let plan = rig.plan();
        if let Some(issues) = plan.issues.first() {
            let issue = issues.issues[0].clone();
            rig.world.memory.issue_sent(&issue);
            return (rig, issue);
        }
        rig.apply(&plan);
        rig.advance(SECOND / 10);
    }
}

fn settle(rig: &mut Rig, issue: &Issue, outcome: drop_planner::memory::WriteOutcome) {
    rig.world.memory.issue_settled(&issue.node, &issue.grant.id, outcome, rig.now);
}

#[test]
fn an_issue_under_way_takes_its_slot() {
    let (mut rig, _) = rig(Duration::ZERO);
    assert!(rig.plan().issues.is_empty());
}

#[test]
fn what_an_issue_under_way_names_is_being_pulled_and_nothing_else_on_its_node() {
    let (mut rig, _) = rig(Duration::ZERO);
    rig.image("tool", |image| image.policy = Some("p".to_owned()));
    rig.run(10 * SECOND);
    assert_eq!(rig.waiting().get("app/a"), None);
    assert_eq!(rig.waiting()["tool/a"], "NodeBusy");
    rig.image("app", |image| image.reference = "reg.test/app:2".to_owned());
    rig.run(10 * SECOND);
    assert_eq!(rig.waiting()["app/a"], "NodeBusy", "it is another reference now");
}

#[test]
fn an_unknown_issue_keeps_its_slot_and_is_repeated_with_the_same_id_and_version() {
    let (mut rig, issue) = rig(Duration::ZERO);
    settle(&mut rig, &issue, Unknown);
    assert!(rig.plan().issues.is_empty(), "not at once");
    rig.advance(SECOND);
    let plan = rig.plan();
    let repeat = &plan.issues[0].issues;
    assert_eq!(repeat.as_slice(), [Issue { kind: IssueKind::Repeat, ..issue }]);
}

#[test]
fn an_unknown_issue_is_repeated_as_withdrawn_when_the_cap_was_lowered_meanwhile() {
    let (mut rig, first) = rig(Duration::ZERO);
    rig.policy("p", 2, Duration::ZERO);
    rig.commit_issue(&first);
    settle(&mut rig, &first, Applied);
    let second = rig.plan().issues[0].issues[0].clone();
    rig.world.memory.issue_sent(&second);
    settle(&mut rig, &second, Unknown);
    rig.policy("p", 1, Duration::ZERO);
    rig.advance(SECOND);
    let repeat = rig.plan().issues[0].issues[0].clone();
    assert_eq!((repeat.kind, &repeat.grant.id), (IssueKind::Repeat, &second.grant.id));
    assert!(repeat.grant.withdrawn.is_some(), "one node pulls already, and no more may");
}

#[test]
fn an_unknown_issue_is_repeated_as_withdrawn_when_the_delay_was_raised_meanwhile() {
    let (mut rig, first) = rig(Duration::ZERO);
    rig.policy("p", 2, Duration::ZERO);
    settle(&mut rig, &first, Unknown);
    let second = rig.plan().issues[0].issues[0].clone();
    rig.apply_issue(&second);
    rig.policy("p", 2, 60 * SECOND);
    rig.advance(SECOND);
    let repeat = rig.plan().issues[0].issues[0].clone();
    assert_eq!((repeat.kind, &repeat.grant.id), (IssueKind::Repeat, &first.grant.id));
    assert!(repeat.grant.withdrawn.is_some(), "another node has just started");
}

#[test]
fn a_refused_issue_frees_its_slot_once_a_newer_version_shows_that_it_was_not_applied() {
    let (mut rig, issue) = rig(Duration::ZERO);
    settle(&mut rig, &issue, Refused);
    assert!(rig.plan().issues.is_empty(), "the conflict may be with a copy of the request itself");
    rig.report("a", |_| {});
    assert_eq!(rig.plan().issues[0].issues[0].kind, IssueKind::New);
}

#[test]
fn a_request_that_arrived_twice_starts_the_delay_though_it_was_refused() {
    let (mut rig, issue) = rig(5 * SECOND);
    rig.policy("p", 2, 5 * SECOND);
    rig.commit_issue(&issue);
    settle(&mut rig, &issue, Refused);
    assert!(rig.plan().issues.is_empty());
    rig.run(SECOND);
    assert_eq!(rig.live(), ["a"]);
}

#[test]
fn a_conflict_after_an_unknown_outcome_may_be_with_ourselves() {
    let (mut rig, issue) = rig(Duration::ZERO);
    settle(&mut rig, &issue, Unknown);
    rig.advance(SECOND);
    let repeat = rig.plan().issues[0].issues[0].clone();
    rig.world.memory.issue_sent(&repeat);
    settle(&mut rig, &issue, Refused);
    assert!(rig.plan().issues.is_empty());
    rig.commit_issue(&issue);
    rig.run(SECOND);
    assert_eq!(rig.live(), ["a"], "the first one had been applied");
}

#[test]
fn a_newer_version_without_the_grant_settles_that_it_never_was_applied() {
    let (mut rig, issue) = rig(10 * SECOND);
    settle(&mut rig, &issue, Unknown);
    rig.report("a", |_| {});
    let plan = rig.plan();
    assert_eq!(plan.issues[0].issues[0].kind, IssueKind::New, "and it starts no delay");
}

#[test]
fn nobody_else_starts_while_nobody_knows_when_the_last_one_did() {
    let (mut rig, issue) = rig(5 * SECOND);
    rig.policy("p", 2, 5 * SECOND);
    settle(&mut rig, &issue, Unknown);
    for _ in 0..20 {
        let plan = rig.plan();
        let new = plan.issues.iter().flat_map(|p| &p.issues).filter(|i| i.kind == IssueKind::New).count();
        assert_eq!(new, 0);
        rig.advance(SECOND);
    }
    rig.commit_issue(&issue);
    let applied = rig.now.monotonic;
    rig.run_with(SECOND, Rig::eager);
    rig.run_with(20 * SECOND, Rig::eager);
    let next = rig.issued.iter().find(|(_, _, node)| node == "b").unwrap().0;
    assert!(next.since(applied) >= 5 * SECOND);
}

#[test]
fn an_unknown_issue_that_nobody_wants_any_more_is_forestalled_by_a_withdrawn_one() {
    let (mut rig, issue) = rig(Duration::ZERO);
    settle(&mut rig, &issue, Unknown);
    rig.delete_image("app");
    rig.advance(SECOND);
    let repeat = rig.plan().issues[0].issues[0].clone();
    assert_eq!((&repeat.grant.id, repeat.resource_version), (&issue.grant.id, issue.resource_version));
    assert!(repeat.grant.withdrawn.is_some());
    rig.apply_issue(&repeat);
    rig.run(SECOND);
    assert!(rig.live().is_empty());
}

#[test]
fn a_lease_deleted_while_an_issue_to_it_is_unknown_keeps_the_slot() {
    let (mut rig, issue) = rig(Duration::ZERO);
    settle(&mut rig, &issue, Unknown);
    rig.world.cluster.leases.remove("a");
    rig.run(59 * SECOND);
    assert!(rig.issued.is_empty());
    rig.run(3 * SECOND);
    assert_eq!(rig.issued.len(), 1);
}

#[test]
fn also_one_that_was_made_again_by_hand() {
    let (mut rig, issue) = rig(Duration::ZERO);
    settle(&mut rig, &issue, Unknown);
    rig.world.cluster.leases.remove("a");
    rig.create_lease("a", "node-a");
    rig.run(59 * SECOND);
    assert!(rig.issued.is_empty());
    rig.run(3 * SECOND);
    assert_eq!(rig.issued.len(), 1);
}

#[test]
fn a_grant_that_was_applied_and_erased_before_it_was_seen_keeps_its_slot() {
    let (mut rig, issue) = rig(Duration::ZERO);
    rig.commit_issue(&issue);
    settle(&mut rig, &issue, Applied);
    rig.change_lease("a", |lease| lease.grant = None);
    rig.run(59 * SECOND);
    assert_eq!(rig.issued.len(), 1);
    rig.run(3 * SECOND);
    assert_eq!(rig.issued.len(), 2);
}

#[test]
fn a_rejected_issue_frees_its_slot_and_its_node_is_left_alone_for_a_while() {
    let (mut rig, issue) = rig(10 * SECOND);
    rig.world.memory.issue_rejected("a", &issue.grant.id, rig.now);
    let plan = rig.plan();
    assert_eq!(plan.issues[0].issues[0].node, "b", "and it starts no delay");
    assert_eq!(rig.waiting()["app/a"], "NodeBusy");
}

#[test]
fn a_rejection_after_an_unknown_outcome_settles_nothing() {
    let (mut rig, issue) = rig(Duration::ZERO);
    settle(&mut rig, &issue, Unknown);
    rig.world.memory.issue_rejected("a", &issue.grant.id, rig.now);
    assert!(rig.plan().issues.is_empty());
}

#[test]
fn nor_does_a_rejection_of_its_repeat() {
    let (mut rig, issue) = rig(Duration::ZERO);
    settle(&mut rig, &issue, Unknown);
    rig.advance(SECOND);
    let repeat = rig.plan().issues[0].issues[0].clone();
    rig.world.memory.issue_sent(&repeat);
    rig.world.memory.issue_rejected("a", &issue.grant.id, rig.now);
    assert!(rig.plan().issues.is_empty());
}

#[test]
fn whether_it_is_still_wanted_is_asked_of_its_own_node() {
    for (from, to) in [("a", "b"), ("b", "a")] {
        let mut rig = Rig::with_nodes(&["a", "b"]);
        for node in ["a", "b"] {
            rig.node(node, |facts| drop(facts.labels.insert("name".to_owned(), node.to_owned())));
        }
        let on = |node: &str| [("name".to_owned(), node.to_owned())].into();
        rig.image("app", |image| image.node_selector = on(from));
        let issue = loop {
            let plan = rig.plan();
            if let Some(issues) = plan.issues.first() {
                break issues.issues[0].clone();
            }
            rig.apply(&plan);
            rig.advance(SECOND / 10);
        };
        rig.world.memory.issue_sent(&issue);
        settle(&mut rig, &issue, Unknown);
        rig.image("app", |image| image.node_selector = on(to));
        rig.advance(2 * SECOND);
        let plan = rig.plan();
        let repeat = plan.issues.iter().flat_map(|policy| &policy.issues).find(|again| again.node == from);
        assert!(repeat.unwrap().grant.withdrawn.is_some(), "from {from} to {to}");
    }
}
