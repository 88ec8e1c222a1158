//! Issues that no free slot is needed for: repeats of unknown outcomes, and untaken grants of an earlier leader.

use drop_protocol::{Grant, Withdrawal};

use super::{DURATION, Desk, after_election, new_id};
use crate::plan::{Issue, IssueKind, WithdrawReason};
use crate::survey::Survey;
use crate::wake::Wake;
use crate::withdraw;

/// Repeats issues whose outcome is unknown: on the same version of the Lease, so that it is applied once at most.
///
/// One that nobody wants any more, or that could not be issued now because the policy has been edited meanwhile, is
/// written as withdrawn: applied, it forestalls the original for good.
pub(super) fn repeats(survey: &Survey<'_>, desk: &mut Desk<'_>, wake: &Wake) {
    for (node, under_way) in &survey.memory.writes.unsettled {
        let Some((_, at)) = under_way.unknown.filter(|_| !under_way.pending) else { continue };
        if wake.ahead(at) {
            continue;
        }
        let wanted = withdraw::wanted(survey, survey.number_of(node), &under_way.issue.grant);
        let mut issue = Issue { kind: IssueKind::Repeat, ..under_way.issue.clone() };
        let reason = if !wanted.is_whole() {
            Some(WithdrawReason::Unwanted)
        } else if !still_allowed(survey, desk, node, &issue.grant.policy) {
            Some(WithdrawReason::PolicyEdited)
        } else {
            None
        };
        issue.grant.withdrawn =
            reason.map(|reason| Withdrawal { reason: reason.to_string(), unwanted: wanted.unwanted });
        desk.start(issue);
    }
}

/// Whether cap and delay of the policy, as they are now, allow what already occupies its slot.
fn still_allowed(survey: &Survey<'_>, desk: &Desk<'_>, node: &str, policy: &str) -> bool {
    let pacing = survey.pacings.all.iter().position(|pacing| pacing.name == policy);
    pacing.is_some_and(|pacing| {
        let most = survey.pacings.all.get(pacing).map_or(0, |facts| facts.max_nodes);
        desk.slots.taken(policy) <= most && desk.may_start(survey, pacing, node).is_ok()
    })
}

/// Takes over untaken grants of an earlier leader where cap and delay allow, and takes the others back.
///
/// A restamped grant starts its node now, whenever it was issued: where there is a delay between nodes, nobody knows
/// how long ago the earlier leader started another.
pub(super) fn restamps(survey: &Survey<'_>, desk: &mut Desk<'_>, orphans: &[String], wake: &Wake) {
    for node in orphans {
        let Some(lease) = survey.world.cluster.leases.get(node) else { continue };
        if survey.memory.writes.unsettled.contains_key(node) {
            continue;
        }
        let Some(grant) = &lease.grant else { continue };
        let pacing = survey.pacings.all.iter().find(|pacing| pacing.name == grant.policy);
        let able = survey.nodes.iter().any(|facts| &facts.node.name == node && facts.obstacle.is_none());
        // Its own slot is among those that are taken.
        let allowed = still_allowed(survey, desk, node, &grant.policy)
            && pacing.is_some_and(|facts| after_election(survey, facts) <= survey.now.monotonic);
        if able && allowed {
            let grant = Grant {
                id: new_id(survey, desk.next_grant),
                epoch: survey.leadership.epoch.clone(),
                issued_at: survey.now.wall,
                ..grant.clone()
            };
            desk.next_grant += 1;
            let issue = Issue {
                node: node.clone(),
                lease_uid: lease.uid.clone(),
                resource_version: lease.resource_version,
                grant,
                duration: DURATION,
                due_since: Vec::new(),
                kind: IssueKind::Restamp,
            };
            desk.start(issue);
        } else {
            desk.withdrawals.extend(withdraw::of_earlier_leader(survey, lease, wake));
        }
    }
}
