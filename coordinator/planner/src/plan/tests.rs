//! What counts as nothing to do.

use std::collections::BTreeSet;

use drop_protocol::Catalog;

use super::{Check, CreateLease, DeleteLease, EventType, Plan, PlannedEvent, PolicyIssues, SetStatusWrite};
use super::{ChildWrite, ChildWriteKind, StatusWrite, Withdraw, WithdrawKind, WithdrawReason};

#[test]
fn a_plan_with_any_one_thing_to_do_is_not_empty() {
    let text = String::new;
    let child = ChildWriteKind::Delete { uid: text(), resource_version: 1 };
    let withdraw = |kind| Withdraw { node: text(), grant: None, kind, reason: WithdrawReason::Unwanted };
    let plans = [
        Plan { create_leases: vec![CreateLease { node: text(), node_uid: text() }], ..Plan::default() },
        Plan {
            delete_leases: vec![DeleteLease { node: text(), uid: text(), resource_version: 1 }],
            ..Plan::default()
        },
        Plan { withdrawals: vec![withdraw(WithdrawKind::Remove)], ..Plan::default() },
        Plan {
            issues: vec![PolicyIssues { policy: text(), delay: std::time::Duration::ZERO, issues: vec![] }],
            ..Plan::default()
        },
        Plan { catalog: Some(Catalog::default()), ..Plan::default() },
        Plan { pull_secrets: Some(BTreeSet::new()), ..Plan::default() },
        Plan {
            children: vec![ChildWrite {
                child: text(),
                set: text(),
                set_uid: text(),
                generation: 1,
                kind: child,
            }],
            ..Plan::default()
        },
        Plan {
            set_statuses: vec![SetStatusWrite {
                set: text(),
                uid: text(),
                status: Default::default(),
                event: None,
            }],
            ..Plan::default()
        },
        Plan {
            statuses: vec![StatusWrite { image: text(), uid: text(), status: Default::default() }],
            ..Plan::default()
        },
        Plan {
            checks: vec![Check { image: text(), uid: text(), reference: text(), secrets: vec![] }],
            ..Plan::default()
        },
        Plan {
            events: vec![PlannedEvent {
                image: text(),
                uid: text(),
                kind: EventType::Normal,
                reason: text(),
                note: text(),
            }],
            ..Plan::default()
        },
    ];
    for plan in plans {
        assert!(!plan.is_empty(), "{plan:?}");
    }
    assert!(Plan::default().is_empty());
}
