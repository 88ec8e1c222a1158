//! When each pull, failure and eviction of a pair was first seen.
//!
//! What a report says is read from the report itself; only the times are remembered, on the coordinator's clock.
//!
//! A success or a failure concerns others too, so it counts for them only as far as its node was asked to pull: under a grant, and a
//! failure once for each grant. Whatever else a node reports is about itself alone.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::reference::registry_host;
use drop_protocol::{GrantId, Monotonic, NodeLease, Now, ReportEntry};
use jiff::Timestamp;

use super::Memory;
use crate::cluster::Cluster;
use crate::walk::Walk;

/// What was seen of one pair's report entry.
#[derive(Debug, Clone, Default)]
pub(crate) struct PairMemory {
    /// The latest confirmation.
    pub(crate) pulled: Option<PulledSeen>,
    /// The latest failure.
    pub(crate) failure: Option<FailureSeen>,
    /// The latest eviction.
    pub(crate) evicted: Option<EvictionSeen>,
}

/// A confirmation against the registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PulledSeen {
    /// When it was first seen.
    pub(crate) at: Monotonic,
    /// How old it was then.
    pub(crate) age: Duration,
    /// In which observation.
    pub(crate) tick: u64,
    /// The node was asked for it: it counts for others.
    pub(crate) counts: bool,
}

/// A failed attempt.
#[derive(Debug, Clone)]
pub(crate) struct FailureSeen {
    /// When this number of attempts was first seen.
    pub(crate) at: Monotonic,
    /// Generation of the CachedImage then: a spec change is worth a new attempt at once.
    pub(crate) generation: i64,
    /// When it last failed under a grant, and that grant.
    pub(crate) granted: Option<(Monotonic, Option<GrantId>)>,
}

/// An eviction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EvictionSeen {
    /// When this number of evictions was first seen.
    pub(crate) at: Monotonic,
    /// Generation of the CachedImage then.
    pub(crate) generation: i64,
}

impl Memory {
    /// Takes note of the report in a Lease that has changed since `before`.
    pub(super) fn observe_report(
        &mut self,
        cluster: &Cluster,
        lease: &NodeLease,
        before: Option<&NodeLease>,
        now: Now,
    ) {
        let owned = cluster.nodes.get(&lease.node).is_some_and(|n| lease.node_uid.as_ref() == Some(&n.uid));
        let report = lease.report.as_ref().filter(|_| owned);
        let old_report = before.and_then(|before| before.report.as_ref());
        if report == old_report && before.is_some() {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&lease.node) {
            node.reported_at = Some(now.monotonic);
        }
        let none = BTreeMap::new();
        let entries = report.map_or(&none, |report| &report.images);
        let mut old_entries = Walk::new(old_report.map_or(&none, |report| &report.images));
        let seen = self.leases.seen.get_mut(&lease.node);
        let mut pairs = seen.map(|seen| std::mem::take(&mut seen.pairs)).unwrap_or_default();
        let mut kept = Walk::new(entries);
        pairs.retain(|uid, _| kept.at(uid).is_some());
        for (uid, entry) in entries {
            let old = old_entries.at(uid).filter(|old| old.reference == entry.reference);
            // Mostly one entry of many has changed.
            if old != Some(entry) || !pairs.contains_key(uid) {
                let mut pair = old.and_then(|_| pairs.remove(uid)).unwrap_or_default();
                self.observe_entry(&mut pair, (lease, uid), entry, old, before.is_none(), now);
                pairs.insert(uid.clone(), pair);
            }
        }
        if let Some(seen) = self.leases.seen.get_mut(&lease.node) {
            seen.pairs = pairs;
        }
    }

    fn observe_entry(
        &mut self,
        pair: &mut PairMemory,
        (lease, uid): (&NodeLease, &str),
        entry: &ReportEntry,
        old: Option<&ReportEntry>,
        first_sight: bool,
        now: Now,
    ) {
        let tick = self.tick;
        let asked = self.leases.asked_for(lease, &entry.reference).cloned();
        let counts = first_sight || asked.is_some();
        let mut image = self.images.get_mut(uid).filter(|image| *image.reference == *entry.reference);
        let generation = image.as_ref().map_or(0, |image| image.generation);
        let appears = entry.digest.is_some()
            && entry.pulled_at.is_none()
            && old.is_none_or(|old| old.pulled_at.is_some() || old.digest != entry.digest);
        if let Some(image) = image.as_mut().filter(|_| appears && !first_sight) {
            image.check.appeared = Some(now.monotonic);
        }
        match entry.pulled_at {
            None => pair.pulled = None,
            Some(at)
                if old.is_none_or(|old| old.pulled_at != entry.pulled_at || old.digest != entry.digest) =>
            {
                let age = if first_sight { elapsed(at, now.wall) } else { Duration::ZERO };
                pair.pulled = Some(PulledSeen { at: now.monotonic, age, tick, counts });
                if let Some(image) = image.as_mut().filter(|_| counts) {
                    image.pulled(&lease.node, entry.digest.as_deref(), at, first_sight, tick, now);
                    self.host_success.insert(registry_host(&entry.reference), now.monotonic);
                }
                if let Some(node) = self.nodes.get_mut(&lease.node) {
                    node.success = Some(now.monotonic);
                    if let Some(image) = image.as_mut().filter(|_| counts) {
                        image.success_on.insert(node.node.architecture.clone(), now.monotonic);
                    }
                }
            }
            Some(_) => {}
        }
        let image = self.images.get_mut(uid).filter(|image| *image.reference == *entry.reference);
        match &entry.failure {
            None => pair.failure = None,
            Some(failure) => {
                let same = old
                    .and_then(|old| old.failure.as_ref())
                    .is_some_and(|old| (old.attempts, old.at) == (failure.attempts, failure.at));
                if !same || pair.failure.is_none() {
                    let granted = pair.failure.take().and_then(|seen| seen.granted);
                    // A leader that finds a failure takes it for one under a grant; the same grant counts once.
                    let again = granted.as_ref().is_some_and(|(_, counted)| *counted == asked);
                    let granted =
                        if first_sight || counts && !again { Some((now.monotonic, asked)) } else { granted };
                    pair.failure = Some(FailureSeen { at: now.monotonic, generation, granted });
                    if let Some(image) = image.filter(|_| counts) {
                        image.attempted(failure.at, first_sight, now);
                    }
                }
            }
        }
        match &entry.evictions {
            None => pair.evicted = None,
            Some(evictions) => {
                let same = old
                    .and_then(|old| old.evictions.as_ref())
                    .is_some_and(|old| old.count == evictions.count);
                if !same || pair.evicted.is_none() {
                    pair.evicted = Some(EvictionSeen { at: now.monotonic, generation });
                }
            }
        }
    }
}

/// How long ago `at` was, zero if it lies in the future.
pub(crate) fn elapsed(at: Timestamp, wall: Timestamp) -> Duration {
    Duration::try_from(wall.duration_since(at)).unwrap_or_default()
}
