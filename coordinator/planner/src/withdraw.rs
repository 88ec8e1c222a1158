//! Grants to take back: not taken, expired, no longer wanted, of an earlier leader, someone else's turn, or unreadable.

use std::time::Duration;

use drop_protocol::{Grant, Monotonic, NodeLease, Withdrawal};

use crate::memory::WriteKey;
use crate::memory::leases::{LeaseMemory, LiveGrant};
use crate::plan::{Withdraw, WithdrawKind, WithdrawReason};
use crate::survey::Survey;
use crate::survey::nodes::Granted;
use crate::wake::Wake;

/// A grant that is not taken for so long is withdrawn.
const TAKE_WITHIN: Duration = Duration::from_secs(10);
/// A node that has worked on one grant for so long gives way to those that wait.
pub(crate) const TURN: Duration = Duration::from_secs(600);

/// What is to become of the live grants.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) withdrawals: Vec<Withdraw>,
    /// Names of the nodes with an untaken grant of an earlier leader that is still wanted as it is.
    pub(crate) orphans: Vec<String>,
}

/// How far a grant is still wanted.
pub(crate) struct Wanted {
    /// Uids of images that nobody wants there any more.
    pub(crate) unwanted: Vec<String>,
    /// Some image is to be pulled under another policy, or not now.
    moved: bool,
}

impl Wanted {
    pub(crate) fn is_whole(&self) -> bool {
        self.unwanted.is_empty() && !self.moved
    }
}

/// How far a grant to the node of this number is still wanted; nothing is on one that can't hold images.
pub(crate) fn wanted(survey: &Survey<'_>, node: Option<usize>, grant: &Grant) -> Wanted {
    let mut wanted = Wanted { unwanted: Vec::new(), moved: false };
    for image in &grant.images {
        match node.and_then(|node| survey.still_wanted(node, &grant.policy, image)) {
            None => wanted.unwanted.push(image.uid.clone()),
            Some(same_policy) => wanted.moved |= !same_policy,
        }
    }
    wanted
}

/// Looks at every live grant.
pub(crate) fn judge(survey: &Survey<'_>, wake: &Wake) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for &Granted { node, seen } in &survey.granted {
        let Some(live) = &seen.live else {
            // Nobody holds it, and nobody could take it.
            if seen.lease.grant_error.is_some() {
                let (kind, reason) = (WithdrawKind::Remove, WithdrawReason::Unreadable);
                verdicts.withdrawals.extend(withdraw(survey, &seen.lease, kind, reason, wake));
            }
            continue;
        };
        match verdict(survey, node, seen, live, wake) {
            Verdict::Keep => {}
            Verdict::Orphan => verdicts.orphans.push(seen.lease.node.clone()),
            Verdict::Withdraw(kind, reason) => {
                verdicts.withdrawals.extend(withdraw(survey, &seen.lease, kind, reason, wake));
            }
        }
    }
    verdicts
}

enum Verdict {
    Keep,
    Orphan,
    Withdraw(WithdrawKind, WithdrawReason),
}

fn verdict(
    survey: &Survey<'_>,
    node: Option<usize>,
    seen: &LeaseMemory,
    live: &LiveGrant,
    wake: &Wake,
) -> Verdict {
    let expired = || !wake.ahead(seen.unchanged_since.after(seen.lease.lapses_after()));
    let readable = live.id.as_ref().and(seen.lease.grant.as_ref());
    if live.taken.is_some() {
        if expired() {
            return Verdict::Withdraw(WithdrawKind::Remove, WithdrawReason::Expired);
        }
        return readable.and_then(|grant| mark(survey, node, grant)).map_or(Verdict::Keep, |withdrawal| {
            Verdict::Withdraw(WithdrawKind::Mark(withdrawal), WithdrawReason::Unwanted)
        });
    }
    let Some(grant) = readable else { return Verdict::Keep };
    if grant.withdrawn.is_some() || !wanted(survey, node, grant).is_whole() {
        return Verdict::Withdraw(WithdrawKind::Remove, WithdrawReason::Unwanted);
    }
    if grant.epoch != survey.leadership.epoch {
        return Verdict::Orphan;
    }
    if wake.ahead(live.first_seen.after(TAKE_WITHIN)) {
        Verdict::Keep
    } else {
        Verdict::Withdraw(WithdrawKind::Remove, WithdrawReason::NotTaken)
    }
}

/// The mark that a taken grant should bear, unless it says as much already.
fn mark(survey: &Survey<'_>, node: Option<usize>, grant: &Grant) -> Option<Withdrawal> {
    let wanted = wanted(survey, node, grant);
    if wanted.is_whole() {
        return None;
    }
    let mut unwanted = wanted.unwanted;
    if let Some(marked) = &grant.withdrawn {
        if unwanted.iter().all(|uid| marked.unwanted.contains(uid)) {
            return None;
        }
        unwanted.extend(marked.unwanted.iter().cloned());
        unwanted.sort();
        unwanted.dedup();
    }
    Some(Withdrawal { reason: WithdrawReason::Unwanted.to_string(), unwanted })
}

fn withdraw(
    survey: &Survey<'_>,
    lease: &NodeLease,
    kind: WithdrawKind,
    reason: WithdrawReason,
    wake: &Wake,
) -> Option<Withdraw> {
    let write = WriteKey::Withdraw(lease.node.clone());
    if survey.memory.writes.left_alone_until(&write).is_some_and(|until| wake.ahead(until)) {
        return None;
    }
    // An issue under way goes over this very grant: what becomes of that decides first.
    if survey.memory.writes.unsettled.contains_key(&lease.node) {
        return None;
    }
    let grant = lease.grant.as_ref().map(|grant| grant.id.clone());
    Some(Withdraw { node: lease.node.clone(), grant, kind, reason })
}

/// Takes back an untaken grant of an earlier leader.
pub(crate) fn of_earlier_leader(survey: &Survey<'_>, lease: &NodeLease, wake: &Wake) -> Option<Withdraw> {
    withdraw(survey, lease, WithdrawKind::Remove, WithdrawReason::EarlierLeader, wake)
}

/// Asks up to `waiting` nodes that have worked on a grant of `policy` for a whole turn to finish.
pub(crate) fn turns(survey: &Survey<'_>, policy: &str, waiting: usize, wake: &Wake) -> Vec<Withdraw> {
    let mut long: Vec<(Monotonic, &LeaseMemory)> = Vec::new();
    for seen in survey.granted.iter().map(|granted| granted.seen) {
        let Some(taken) = seen.live.as_ref().and_then(|live| live.taken) else { continue };
        let Some(grant) = &seen.lease.grant else { continue };
        // A single image is finished anyway.
        if grant.policy == policy
            && grant.images.len() > 1
            && grant.withdrawn.is_none()
            && !wake.ahead(taken.after(TURN))
        {
            long.push((taken, seen));
        }
    }
    long.sort_by(|(a, x), (b, y)| (a, &x.lease.node).cmp(&(b, &y.lease.node)));
    long.into_iter()
        .take(waiting)
        .filter_map(|(_, seen)| {
            let withdrawal =
                Withdrawal { reason: WithdrawReason::NextTurn.to_string(), unwanted: Vec::new() };
            withdraw(survey, &seen.lease, WithdrawKind::Mark(withdrawal), WithdrawReason::NextTurn, wake)
        })
        .collect()
}
