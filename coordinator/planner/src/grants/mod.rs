//! Hands out free slots: which node gets one, and what its grant carries.
//!
//! A free slot goes to the node with the due pair of the lowest priority value; then to the one that waited longest;
//! then by name. Nodes that let their last grant pass, and those with nothing but pairs that failed before or are cached
//! and due for a check, come behind, the one that waited longest first. What can't be pulled now holds up nobody, and no
//! slot stays empty because of priority.

mod batch;
mod candidates;
mod reissue;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_protocol::lease::DEFAULT_DURATION;
use drop_protocol::{GrantId, Monotonic};

use crate::memory::writes::StartAllowed;
use crate::plan::{Issue, PolicyIssues, Withdraw};
use crate::policy::Pacing;
use crate::slots::Slots;
use crate::survey::{Need, Survey};
use crate::waiting::WaitReason;
use crate::wake::Wake;
use crate::withdraw;
pub(crate) use candidates::pulling_order;
use candidates::{Candidate, Queue};

/// From this delay on, one pass starts one node at most: a pass of its own comes when the delay is over.
const SEVERAL_A_PASS: Duration = Duration::from_millis(100);

/// What was shared out.
#[derive(Debug, Default)]
pub(crate) struct Handout {
    pub(crate) issues: Vec<PolicyIssues>,
    pub(crate) withdrawals: Vec<Withdraw>,
}

/// Shares out the free slots. `orphans` are nodes with an untaken grant of an earlier leader.
pub(crate) fn hand_out(survey: &mut Survey<'_>, orphans: &[String], wake: &Wake) -> Handout {
    let mut desk = Desk {
        slots: Slots::count(survey),
        started: BTreeMap::new(),
        next_grant: survey.memory.writes.next_grant,
        withdrawals: Vec::new(),
    };
    for ghost in &survey.memory.leases.ghosts {
        wake.ahead(ghost.until);
    }
    reissue::repeats(survey, &mut desk, wake);
    reissue::restamps(survey, &mut desk, orphans, wake);
    let order = candidates::pulling_order(survey);
    let mut queues = candidates::queues(survey, &order);
    while let Some((pacing, place)) = desk.next(survey, &queues, wake) {
        let Some(queue) = queues.get_mut(pacing) else { break };
        let limit = queue.limit(place, desk.free(survey, pacing));
        let candidate = queue.remove(place);
        if let Some(issue) = batch::issue(survey, &order, pacing, &candidate, limit, desk.next_grant) {
            desk.next_grant += 1;
            batch::note_in_flight(survey, candidate.node, &issue);
            if let Some(facts) = survey.pacings.all.get(pacing) {
                desk.slots.take(facts.name);
            }
            desk.start(issue);
        }
        for queue in &mut queues {
            queue.forget_node(candidate.node);
        }
    }
    for (pacing, queue) in queues.iter().enumerate() {
        let Some(facts) = survey.pacings.all.get(pacing) else { continue };
        let answering = queue.answering();
        if answering > 0 && desk.free(survey, pacing) == 0 {
            desk.withdrawals.extend(withdraw::turns(survey, facts.name, answering, wake));
        }
    }
    explain(survey, &desk, wake);
    desk.finish(survey)
}

/// What is given out in this pass.
struct Desk<'w> {
    slots: Slots<'w>,
    /// Issues by name of the policy.
    started: BTreeMap<String, Vec<Issue>>,
    next_grant: u64,
    withdrawals: Vec<Withdraw>,
}

impl<'w> Desk<'w> {
    fn free(&self, survey: &Survey<'w>, pacing: usize) -> u32 {
        let Some(facts) = survey.pacings.all.get(pacing) else { return 0 };
        facts.max_nodes.saturating_sub(self.slots.taken(facts.name))
    }

    /// Whether `node` may start under the pacing now, as far as the delay between nodes goes.
    fn may_start(&self, survey: &Survey<'_>, pacing: usize, node: &str) -> Result<(), WaitReason> {
        let Some(facts) = survey.pacings.all.get(pacing) else { return Err(WaitReason::WaitingForSlot) };
        if facts.delay >= SEVERAL_A_PASS
            && self.started.get(facts.name).into_iter().flatten().any(|issue| issue.node != node)
        {
            let until = survey.now.monotonic.after(facts.delay);
            return Err(WaitReason::MinDelay { until });
        }
        let lease = survey.world.cluster.leases.get(node).map_or("", |lease| lease.uid.as_str());
        match survey.memory.writes.start_allowed(facts.name, lease, facts.delay) {
            StartAllowed::From(until) if until > survey.now.monotonic => Err(WaitReason::MinDelay { until }),
            StartAllowed::OnceSettled => Err(WaitReason::WaitingForSlot),
            StartAllowed::Now | StartAllowed::From(_) => Ok(()),
        }
    }

    /// Whether anybody may start under the pacing now.
    fn may_anybody_start(&self, survey: &Survey<'_>, pacing: usize) -> Result<(), WaitReason> {
        let Some(facts) = survey.pacings.all.get(pacing) else { return Ok(()) };
        let until = after_election(survey, facts);
        if until > survey.now.monotonic { Err(WaitReason::MinDelay { until }) } else { Ok(()) }
    }

    /// The number of the pacing and the place in its queue of the next node to get a slot.
    fn next(&self, survey: &Survey<'w>, queues: &[Queue], wake: &Wake) -> Option<(usize, usize)> {
        let mut best: Option<(&Candidate, usize, usize)> = None;
        for (pacing, queue) in queues.iter().enumerate() {
            if self.free(survey, pacing) == 0 {
                continue;
            }
            let Some((place, candidate)) = queue.first() else { continue };
            let Some(node) = survey.nodes.get(candidate.node) else { continue };
            let allowed = self
                .may_anybody_start(survey, pacing)
                .and_then(|()| self.may_start(survey, pacing, node.name));
            match allowed {
                Err(WaitReason::MinDelay { until }) => {
                    wake.ahead(until);
                }
                Err(_) => {}
                Ok(()) if best.is_none_or(|(other, ..)| candidate.order() < other.order()) => {
                    best = Some((candidate, pacing, place));
                }
                Ok(()) => {}
            }
        }
        best.map(|(_, pacing, place)| (pacing, place))
    }

    /// What a due pair on `node` waits for.
    fn reason(&self, survey: &Survey<'w>, pacing: usize, node: &str, busy: bool, wake: &Wake) -> WaitReason {
        if busy {
            return WaitReason::NodeBusy;
        }
        if self.free(survey, pacing) == 0 {
            return WaitReason::WaitingForSlot;
        }
        let allowed =
            self.may_anybody_start(survey, pacing).and_then(|()| self.may_start(survey, pacing, node));
        let reason = allowed.err().unwrap_or(WaitReason::WaitingForSlot);
        if let WaitReason::MinDelay { until } = reason {
            wake.ahead(until);
        }
        reason
    }

    fn start(&mut self, issue: Issue) {
        self.started.entry(issue.grant.policy.clone()).or_default().push(issue);
    }

    fn finish(self, survey: &Survey<'_>) -> Handout {
        let issues = self
            .started
            .into_iter()
            .map(|(policy, issues)| {
                let facts = survey.pacings.all.iter().find(|facts| facts.name == policy);
                PolicyIssues { policy, delay: facts.map_or(Duration::ZERO, |facts| facts.delay), issues }
            })
            .collect();
        Handout { issues, withdrawals: self.withdrawals }
    }
}

/// Says of each pair that is due and got nothing what it waits for.
fn explain<'w>(survey: &mut Survey<'w>, desk: &Desk<'w>, wake: &Wake) {
    let started: BTreeSet<&str> = desk.started.values().flatten().map(|issue| issue.node.as_str()).collect();
    // By number of the pacing and of the node: the same for all images of a pacing.
    let mut reasons: Vec<Vec<Option<WaitReason>>> = vec![Vec::new(); survey.pacings.all.len()];
    for facts in &survey.images {
        let Some(reasons) = reasons.get_mut(facts.pacing) else { continue };
        for pair in facts.pairs.iter().filter(|pair| matches!(pair.need, Need::Due { .. })) {
            if reasons.is_empty() {
                reasons.resize(survey.nodes.len(), None);
            }
            if let (Some(reason), Some(node)) = (reasons.get_mut(pair.node), survey.nodes.get(pair.node)) {
                reason.get_or_insert_with(|| {
                    let busy = node.busy || started.contains(node.name);
                    desk.reason(survey, facts.pacing, node.name, busy, wake)
                });
            }
        }
    }
    for facts in &mut survey.images {
        let Some(reasons) = reasons.get(facts.pacing) else { continue };
        for pair in facts.pairs.iter_mut().filter(|pair| matches!(pair.need, Need::Due { .. })) {
            if let Some(Some(reason)) = reasons.get(pair.node) {
                pair.need = Need::Waits(*reason);
            }
        }
    }
}

/// A new leader doesn't know when the last one started somebody: it waits one full delay.
fn after_election(survey: &Survey<'_>, facts: &Pacing<'_>) -> Monotonic {
    survey.leadership.since.after(facts.delay)
}

/// A grant of this leadership.
fn new_id(survey: &Survey<'_>, sequence: u64) -> GrantId {
    GrantId::new(&survey.leadership.epoch, sequence)
}

/// How long a grant lives without a renewal.
const DURATION: Duration = DEFAULT_DURATION;
