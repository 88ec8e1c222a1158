//! What becomes of grants, and how long a pair waits from being due until its image is cached.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use drop_planner::{Issue, WithdrawReason};
use drop_protocol::{GrantState, Monotonic, NodeLease, Outcome};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Withdrawn {
    reason: &'static str,
}

/// Counters of grants, and the images of those under way.
#[derive(Debug)]
pub(super) struct Grants {
    issued: Counter,
    taken: Counter,
    ended: Family<Ended, Counter>,
    withdrawn: Family<Withdrawn, Counter>,
    due_to_cached: Histogram,
    /// By node: uid of each granted image, and since when it is due there.
    under_way: Mutex<BTreeMap<String, Vec<(String, Monotonic)>>>,
}

impl Grants {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let grants = Self {
            issued: Counter::default(),
            taken: Counter::default(),
            ended: Family::default(),
            withdrawn: Family::default(),
            // Half a second to 18 hours.
            due_to_cached: Histogram::new(exponential_buckets(0.5, 2.0, 18)),
            under_way: Mutex::default(),
        };
        registry.register("grants_issued", "Grants put into node Leases", grants.issued.clone());
        registry.register(
            "grants_taken",
            "Grants that their nodes have begun to work on",
            grants.taken.clone(),
        );
        registry.register("grants_ended", "Grants that nodes have ended, by how", grants.ended.clone());
        registry.register(
            "grants_withdrawn",
            "Grants that the coordinator took back or marked so, by why",
            grants.withdrawn.clone(),
        );
        registry.register(
            "due_to_cached_seconds",
            "From a pair being due until its node reported the image, for pairs that were granted",
            grants.due_to_cached.clone(),
        );
        grants
    }

    /// An issue is about to be sent.
    pub(super) fn sent(&self, issue: &Issue) {
        let uids = issue.grant.images.iter().map(|image| image.uid.clone());
        let due = uids.zip(issue.due_since.iter().copied()).collect();
        self.under_way().insert(issue.node.clone(), due);
    }

    pub(super) fn withdrawn(&self, reason: WithdrawReason) {
        self.withdrawn.get_or_create(&Withdrawn { reason: reason.as_str() }).inc();
    }

    /// A node has reported that it pulled or confirmed an image.
    pub(super) fn cached(&self, node: &str, uid: &str, now: Monotonic) {
        let mut under_way = self.under_way();
        let Some(due) = under_way.get_mut(node) else { return };
        if let Some(place) = due.iter().position(|(granted, _)| granted == uid) {
            let (_, since) = due.swap_remove(place);
            self.due_to_cached.observe(now.since(since).as_secs_f64());
        }
    }

    /// A Lease has changed; what it reports is told by [`Grants::cached`] before.
    pub(super) fn moved(&self, before: &NodeLease, after: &NodeLease) {
        let id = |lease: &NodeLease| lease.grant.as_ref().map(|grant| grant.id.clone());
        let is_new = id(after) != id(before);
        if is_new && after.grant.is_some() {
            self.issued.inc();
        }
        let (was, is) = (if is_new { GrantState::None } else { before.state() }, after.state());
        match is {
            GrantState::Taken if was != GrantState::Taken => drop(self.taken.inc()),
            GrantState::Ended(outcome) if was != is => {
                let outcome = match outcome {
                    Outcome::Finished => "Finished",
                    Outcome::Refused => "Refused",
                };
                self.ended.get_or_create(&Ended { outcome }).inc();
            }
            _ => {}
        }
        if matches!(is, GrantState::None | GrantState::Ended(_)) && was != is {
            self.forget(&after.node);
        }
    }

    /// The grant of a node is over.
    pub(super) fn forget(&self, node: &str) {
        self.under_way().remove(node);
    }

    /// Leadership has ended.
    pub(super) fn clear(&self) {
        self.under_way().clear();
    }

    fn under_way(&self) -> MutexGuard<'_, BTreeMap<String, Vec<(String, Monotonic)>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
