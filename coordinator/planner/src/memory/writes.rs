//! Issues under way, starts under each policy, and writes that failed.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::{GrantId, Monotonic, NodeLease};

use super::{Memory, WriteKey, WriteOutcome};
use crate::backoff;
use crate::cluster::Cluster;
use crate::plan::Issue;

/// So many finished starts of one policy are remembered.
const STARTS: usize = 64;
/// How long a failed write is left alone the first time, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Our own writes.
#[derive(Debug, Clone, Default)]
pub(crate) struct WritesMemory {
    /// The sequence number of the next grant.
    pub(crate) next_grant: u64,
    /// Issues whose effect has not been seen in a newer version of their Lease, by node.
    pub(crate) unsettled: BTreeMap<String, UnderWay>,
    /// How often issues to a node were rejected in a row, and until when it is left alone.
    pub(crate) rejected: BTreeMap<String, (u32, Monotonic)>,
    starts: BTreeMap<String, Vec<Start>>,
    /// When the status of a CachedImage was last written, by its name.
    pub(crate) statuses: BTreeMap<String, Monotonic>,
    /// When the catalog was last written.
    pub(crate) catalog: Option<Monotonic>,
    /// When the Role by which agents read pull Secrets was last written.
    pub(crate) pull_secrets: Option<Monotonic>,
    /// How often a write failed in a row, and until when it is left alone.
    pub(crate) failures: BTreeMap<WriteKey, (u32, Monotonic)>,
}

/// An issue that may be applied without our having seen it.
#[derive(Debug, Clone)]
pub(crate) struct UnderWay {
    pub(crate) issue: Issue,
    /// How often its outcome was unknown, and when it may be repeated.
    pub(crate) unknown: Option<(u32, Monotonic)>,
    /// A request is out.
    pub(crate) pending: bool,
    applied: bool,
}

/// A grant's start, which begins the policy's delay.
#[derive(Debug, Clone)]
struct Start {
    grant: GrantId,
    /// Uid of the Lease: a node that comes back under its name is another one.
    lease: String,
    /// When it had certainly been applied; `None` while nobody knows.
    at: Option<Monotonic>,
}

impl WritesMemory {
    pub(super) fn issue_sent(&mut self, issue: &Issue) {
        let sequence = issue.grant.id.as_str().rsplit('.').next().and_then(|s| s.parse::<u64>().ok());
        self.next_grant = self.next_grant.max(sequence.map_or(0, |sequence| sequence + 1));
        let starts = self.starts.entry(issue.grant.policy.clone()).or_default();
        if !starts.iter().any(|start| start.grant == issue.grant.id) {
            starts.push(Start { grant: issue.grant.id.clone(), lease: issue.lease_uid.clone(), at: None });
        }
        match self.unsettled.get_mut(&issue.node) {
            Some(under_way) if under_way.issue.grant.id == issue.grant.id => under_way.pending = true,
            _ => {
                let under_way =
                    UnderWay { issue: issue.clone(), unknown: None, pending: true, applied: false };
                self.unsettled.insert(issue.node.clone(), under_way);
            }
        }
    }

    pub(super) fn issue_settled(
        &mut self,
        node: &str,
        grant: &GrantId,
        outcome: WriteOutcome,
        now: Monotonic,
    ) {
        let Some(under_way) = self.unsettled.get_mut(node).filter(|u| &u.issue.grant.id == grant) else {
            return;
        };
        under_way.pending = false;
        let policy = under_way.issue.grant.policy.clone();
        match outcome {
            WriteOutcome::Applied => {
                under_way.applied = true;
                self.started(&policy, grant, now);
            }
            // A request may arrive twice on its way, and the conflict be with its own first copy: only a newer version of
            // the Lease tells what became of it.
            WriteOutcome::Refused | WriteOutcome::Unknown => {
                let times = under_way.unknown.map_or(1, |(times, _)| times.saturating_add(1));
                let wait = backoff::delay(RETRY.0, RETRY.1, times);
                under_way.unknown = Some((times, now.after(wait)));
            }
        }
    }

    /// An issue was certainly never applied; the node is left alone for a while unless its Lease changes.
    pub(super) fn issue_rejected(&mut self, node: &str, grant: &GrantId, now: Monotonic) {
        let Some(under_way) = self.unsettled.get_mut(node).filter(|u| &u.issue.grant.id == grant) else {
            return;
        };
        under_way.pending = false;
        if under_way.unknown.is_some() {
            // An earlier request of the same issue may still be applied.
            return self.issue_settled(node, grant, WriteOutcome::Unknown, now);
        }
        let policy = under_way.issue.grant.policy.clone();
        self.unsettled.remove(node);
        self.never_taken(&policy, grant);
        let times = self.rejected.get(node).map_or(1, |(times, _)| times.saturating_add(1));
        let until = now.after(backoff::delay(RETRY.0, RETRY.1, times));
        self.rejected.insert(node.to_owned(), (times, until));
    }

    /// This grant has started by now, or never will.
    pub(super) fn started(&mut self, policy: &str, grant: &GrantId, now: Monotonic) {
        let Some(starts) = self.starts.get_mut(policy) else { return };
        if let Some(start) = starts.iter_mut().find(|start| &start.grant == grant) {
            start.at.get_or_insert(now);
        }
        if starts.len() > STARTS
            && let Some(oldest) = starts.iter().position(|start| start.at.is_some())
        {
            starts.remove(oldest);
        }
    }

    /// This grant begins no delay: it was withdrawn before it was taken, or never applied.
    pub(super) fn never_taken(&mut self, policy: &str, grant: &GrantId) {
        if let Some(starts) = self.starts.get_mut(policy) {
            starts.retain(|start| &start.grant != grant);
        }
    }

    /// When the node with this Lease may start under `policy`, as far as starts on other nodes go,
    /// those whose time is not known yet included.
    pub(crate) fn start_allowed(&self, policy: &str, lease: &str, delay: Duration) -> StartAllowed {
        if delay.is_zero() {
            return StartAllowed::Now;
        }
        let mut earliest = None;
        for start in self.starts.get(policy).into_iter().flatten().filter(|start| start.lease != lease) {
            match start.at {
                None => return StartAllowed::OnceSettled,
                Some(at) => earliest = earliest.max(Some(at.after(delay))),
            }
        }
        earliest.map_or(StartAllowed::Now, StartAllowed::From)
    }

    pub(super) fn failed(&mut self, write: WriteKey, now: Monotonic) {
        let times = self.failures.get(&write).map_or(1, |(times, _)| times.saturating_add(1));
        self.failures.insert(write, (times, now.after(backoff::delay(RETRY.0, RETRY.1, times))));
    }

    /// Until when a write that failed is left alone.
    pub(crate) fn left_alone_until(&self, write: &WriteKey) -> Option<Monotonic> {
        self.failures.get(write).map(|(_, until)| *until)
    }

    /// Forgets failures of writes that nobody needs any more.
    pub(super) fn forget_settled(&mut self, cluster: &Cluster) {
        self.failures.retain(|write, _| match write {
            WriteKey::CreateLease(node) => {
                cluster.nodes.contains_key(node) && !cluster.leases.contains_key(node)
            }
            WriteKey::DeleteLease(node) | WriteKey::Withdraw(node) => cluster.leases.contains_key(node),
            WriteKey::Status(image) => cluster.images.contains_key(image),
            WriteKey::SetStatus(set) => cluster.sets.contains_key(set),
            WriteKey::Catalog | WriteKey::PullSecrets => true,
        });
        self.rejected.retain(|node, _| cluster.leases.contains_key(node));
        if self.statuses.len() > cluster.images.len() {
            self.statuses.retain(|image, _| cluster.images.contains_key(image));
        }
    }
}

/// When a node may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartAllowed {
    /// At once.
    Now,
    /// From then on.
    From(Monotonic),
    /// Not before an issue under way to another node is settled.
    OnceSettled,
}

impl Memory {
    /// A newer version of a Lease settles what became of the issue to it.
    pub(super) fn resolve_under_way(&mut self, lease: &NodeLease, now: Monotonic) {
        let newer = self
            .writes
            .unsettled
            .get(&lease.node)
            .is_some_and(|under_way| lease.resource_version > under_way.issue.resource_version);
        if !newer {
            return;
        }
        let Some(under_way) = self.writes.unsettled.remove(&lease.node) else { return };
        let grant = &under_way.issue.grant;
        let shown = lease.grant.as_ref().is_some_and(|shown| shown.id == grant.id);
        if under_way.applied && !shown {
            // It was there and somebody took it away: observe_grant has never seen it, so it is noted here.
            self.leases.lost(&under_way, now);
        } else {
            // Where it is not shown, it was mostly never applied. But it may have been applied, taken, ended and replaced by
            // a leader that does not know yet that it is none, all of it unseen.
            self.writes.started(&grant.policy, &grant.id, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use drop_protocol::{Epoch, GrantId, Monotonic};

    use super::{STARTS, Start, WritesMemory};

    #[test]
    fn of_many_starts_only_the_latest_are_remembered() {
        let mut writes = WritesMemory::default();
        let epoch = Epoch { lease: "lead".to_owned(), transitions: 1 };
        let grants: Vec<GrantId> = (0..70).map(|n| GrantId::new(&epoch, n)).collect();
        let starts =
            grants.iter().map(|grant| Start { grant: grant.clone(), lease: String::new(), at: None });
        writes.starts.insert("p".to_owned(), starts.collect());
        for grant in &grants {
            writes.started("p", grant, Monotonic::default());
        }
        assert_eq!(writes.starts["p"].len(), STARTS);
        assert_eq!(writes.starts["p"].last().map(|start| &start.grant), grants.last());
    }
}
