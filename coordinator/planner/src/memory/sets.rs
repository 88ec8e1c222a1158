//! Writes to children of sets, and to the status of sets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_protocol::Monotonic;

use crate::backoff;
use crate::cluster::Cluster;

/// How long a child is left alone after its first write, and at most.
const APART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// After so long without a write, a child counts as never written.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// Writes to children, whether or not they were applied.
///
/// A child that needs writing again and again is refused by the server, or somebody else changes it as often: it is written
/// ever more seldom.
#[derive(Debug, Clone, Default)]
pub(crate) struct SetsMemory {
    /// By name of the child.
    attempts: BTreeMap<String, Attempts>,
    /// Uids of children whose deletion was accepted, and which the cluster still shows.
    deleted: BTreeSet<String>,
    /// When a child was last written.
    pub(crate) last: Option<Monotonic>,
    /// When the status of a set was last written, by its name.
    pub(crate) statuses: BTreeMap<String, Monotonic>,
}

#[derive(Debug, Clone)]
struct Attempts {
    /// Generation of the set that they were for: what a user edits is not repetition.
    generation: i64,
    count: u32,
    last: Monotonic,
    /// The last one was not applied.
    failed: bool,
}

impl SetsMemory {
    pub(super) fn observe(&mut self, cluster: &Cluster, now: Monotonic) {
        self.attempts.retain(|_, attempts| now < attempts.last.after(FORGOTTEN));
        if !self.deleted.is_empty() {
            let uids: BTreeSet<&str> = cluster.images.values().map(|image| image.uid.as_str()).collect();
            self.deleted.retain(|uid| uids.contains(uid.as_str()));
        }
        self.statuses.retain(|set, _| cluster.sets.contains_key(set));
    }

    pub(super) fn written(&mut self, child: &str, generation: i64, applied: bool, now: Monotonic) {
        self.last = Some(now);
        let before = self.attempts.get(child).filter(|before| before.generation == generation);
        let count = before.map_or(1, |before| before.count.saturating_add(1));
        self.attempts.insert(child.to_owned(), Attempts { generation, count, last: now, failed: !applied });
    }

    pub(super) fn deleted(&mut self, uid: &str) {
        self.deleted.insert(uid.to_owned());
    }

    pub(crate) fn is_deleted(&self, uid: &str) -> bool {
        self.deleted.contains(uid)
    }

    /// When the child may be written again for this generation of its set.
    pub(crate) fn not_before(&self, child: &str, generation: i64) -> Option<Monotonic> {
        let attempts = self.attempts.get(child).filter(|attempts| attempts.generation == generation)?;
        Some(attempts.last.after(backoff::delay(APART.0, APART.1, attempts.count)))
    }

    /// Whether the last write of the child was not applied.
    pub(crate) fn failed(&self, child: &str) -> bool {
        self.attempts.get(child).is_some_and(|attempts| attempts.failed)
    }
}

#[cfg(test)]
mod tests {
    use drop_protocol::Monotonic;

    use super::{FORGOTTEN, SetsMemory};
    use crate::cluster::Cluster;

    #[test]
    fn a_write_counts_as_failed_if_it_was_not_applied() {
        let (mut memory, now) = (SetsMemory::default(), Monotonic::default());
        for applied in [true, false] {
            memory.written("child", 1, applied, now);
            assert_eq!(memory.failed("child"), !applied);
        }
    }

    #[test]
    fn what_lies_long_back_and_what_is_gone_is_forgotten() {
        let (mut memory, now) = (SetsMemory::default(), Monotonic::default());
        memory.written("child", 1, true, now);
        memory.deleted("uid");
        memory.observe(&Cluster::default(), now.after(FORGOTTEN));
        assert!(memory.not_before("child", 1).is_none());
        assert!(!memory.is_deleted("uid"));
    }
}
