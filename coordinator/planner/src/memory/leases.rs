//! Since when a Lease is unchanged, its live grant, and slots that outlive their Lease.
//!
//! A grant that is live occupies a slot until the API server itself has shown that it can't be pulled under any
//! more. Whatever takes it out of sight in any other way leaves a *ghost* behind, which keeps the slot for one more
//! duration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drop_protocol::lease::DEFAULT_DURATION;
use drop_protocol::{FailureScope, GrantId, GrantState, GrantedImage, Monotonic, NodeLease};

use super::Memory;
use super::pairs::PairMemory;
use super::reported::Reported;
use super::writes::UnderWay;
use crate::cluster::Cluster;
use crate::targets;

/// All Leases, and the slots of those that are gone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeasesMemory {
    /// By name of the node.
    pub(crate) seen: BTreeMap<String, LeaseMemory>,
    pub(crate) ghosts: Vec<Ghost>,
    /// Grants that our own writes take away, by node.
    removing: BTreeMap<String, Removal>,
}

/// One Lease.
#[derive(Debug, Clone)]
pub(crate) struct LeaseMemory {
    /// The version that was seen last.
    pub(crate) lease: Arc<NodeLease>,
    /// When that version was first seen.
    pub(crate) unchanged_since: Monotonic,
    /// Its live grant.
    pub(crate) live: Option<LiveGrant>,
    /// What was seen of its report's entries, by uid of the CachedImage.
    pub(crate) pairs: BTreeMap<Arc<str>, PairMemory>,
    /// What it says of each CachedImage, in the order of names.
    pub(crate) row: Box<[Reported]>,
    /// The grant that was there last, if there is none now: its node may still tell how it went.
    removed: Option<Removed>,
}

#[derive(Debug, Clone)]
struct Removed {
    id: GrantId,
    references: Box<[String]>,
}

impl Removed {
    fn of(seen: &LeaseMemory) -> Option<Self> {
        let Some(grant) = &seen.lease.grant else { return seen.removed.clone() };
        let references = grant.images.iter().map(|image| image.reference.clone()).collect();
        Some(Self { id: grant.id.clone(), references })
    }
}

/// A grant that occupies a slot.
#[derive(Debug, Clone)]
pub(crate) struct LiveGrant {
    /// `None`: it can't be read, but somebody has taken it.
    pub(crate) id: Option<GrantId>,
    /// The policy whose slot it occupies; `None`: unknown, so one of every policy.
    pub(crate) policy: Option<String>,
    pub(crate) first_seen: Monotonic,
    /// When it was first seen taken. Once taken, it stays so until it has ended.
    pub(crate) taken: Option<Monotonic>,
}

/// A slot without a Lease that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ghost {
    pub(crate) node: String,
    /// `None`: a slot of every policy.
    pub(crate) policy: Option<String>,
    pub(crate) until: Monotonic,
}

#[derive(Debug, Clone)]
struct Removal {
    id: Option<GrantId>,
    /// Whether the node let it pass.
    unanswered: bool,
}

impl LeasesMemory {
    /// A Lease that was deleted just before the change of leader may still have somebody pulling under it: on a node
    /// that has none, or where only the agent's Pod is left of a node that was deleted too.
    pub(crate) fn count_nodes_without_lease(&mut self, cluster: &Cluster, now: Monotonic) {
        let until = now.after(DEFAULT_DURATION);
        let nodes =
            cluster.nodes.iter().filter(|(_, node)| targets::can_hold_images(node)).map(|(name, _)| name);
        let orphans = cluster.agents.keys().filter(|name| !cluster.nodes.contains_key(*name));
        for name in nodes.chain(orphans).filter(|name| !cluster.leases.contains_key(*name)) {
            self.ghosts.push(Ghost { node: name.clone(), policy: None, until });
        }
    }

    /// The Lease of `node` is gone, or is another object now.
    pub(crate) fn vanished(&mut self, node: &str, under_way: Option<UnderWay>, now: Monotonic) {
        self.removing.remove(node);
        let Some(seen) = self.seen.remove(node) else { return };
        if let Some(live) = seen.live {
            self.haunt(node, live.policy, seen.lease.lapses_after(), now);
        } else if let Some(under_way) = under_way {
            let duration = under_way.issue.duration.max(seen.lease.lapses_after());
            self.haunt(node, Some(under_way.issue.grant.policy), duration, now);
        }
    }

    /// An issue was applied, and its grant was taken away before it was ever seen.
    pub(crate) fn lost(&mut self, under_way: &UnderWay, now: Monotonic) {
        let issue = &under_way.issue;
        self.haunt(&issue.node, Some(issue.grant.policy.clone()), issue.duration, now);
    }

    fn haunt(&mut self, node: &str, policy: Option<String>, duration: Duration, now: Monotonic) {
        self.ghosts.push(Ghost { node: node.to_owned(), policy, until: now.after(duration) });
    }

    /// The grant by which the node of this Lease was last asked to pull `reference`.
    pub(crate) fn asked_for<'l>(&'l self, lease: &'l NodeLease, reference: &str) -> Option<&'l GrantId> {
        if let Some(grant) = &lease.grant {
            return grant.images.iter().any(|image| image.reference == reference).then_some(&grant.id);
        }
        let removed = self.seen.get(&lease.node)?.removed.as_ref()?;
        removed.references.iter().any(|asked| asked == reference).then_some(&removed.id)
    }

    /// A write of ours takes the grant `id` away from `node`, or may.
    pub(crate) fn expect_removal(&mut self, node: &str, id: Option<GrantId>, unanswered: bool) {
        self.removing.insert(node.to_owned(), Removal { id, unanswered });
    }

    /// Until when ghosts keep nodes from getting a grant or a new Lease, by name of the node.
    pub(crate) fn haunted(&self) -> BTreeMap<&str, Monotonic> {
        let mut haunted: BTreeMap<&str, Monotonic> = BTreeMap::new();
        for ghost in &self.ghosts {
            let until = haunted.entry(&ghost.node).or_default();
            *until = ghost.until.max(*until);
        }
        haunted
    }
}

impl Memory {
    /// Takes note of the grant in a Lease that has changed. If it is one of this leadership and has ended since: when it was first
    /// seen, perhaps only now.
    pub(super) fn observe_grant(&mut self, lease: &Arc<NodeLease>, now: Monotonic) -> Option<Monotonic> {
        let before = self.leases.seen.remove(&lease.node);
        let removed = before.as_ref().filter(|_| lease.grant.is_none()).and_then(Removed::of);
        let has_ended = has_ended(lease)
            && before
                .as_ref()
                .is_none_or(|seen| !self::has_ended(&seen.lease) || grant_id(&seen.lease) != grant_id(lease))
            && lease.grant.as_ref().map(|grant| &grant.epoch) == self.epoch.as_ref();
        let (before, pairs) = before.map(|seen| (seen.live, seen.pairs)).unwrap_or_default();
        let live = live_grant(lease, before.as_ref(), now);
        if let Some(before) = &before {
            let still_there = live.as_ref().is_some_and(|live| live.id == before.id);
            let ended = match (&lease.grant, &before.id) {
                (Some(grant), Some(id)) => &grant.id == id && matches!(lease.state(), GrantState::Ended(_)),
                _ => false,
            };
            if !still_there && !ended {
                self.taken_away(lease, before, now);
            }
        }
        if let Some(node) = self.nodes.get_mut(&lease.node) {
            if live.is_some() || before.is_some() || has_ended {
                node.served_at = Some(now);
            }
            let answered = live.as_ref().is_some_and(|live| live.taken.is_some())
                || matches!(lease.state(), GrantState::Ended(_));
            if answered {
                node.unanswered = None;
            }
        }
        self.writes.failures.remove(&super::WriteKey::Withdraw(lease.node.clone()));
        let row = self.columns.row(lease);
        let seen = LeaseMemory { lease: Arc::clone(lease), unchanged_since: now, live, pairs, row, removed };
        self.leases.seen.insert(lease.node.clone(), seen);
        let first_seen =
            before.filter(|before| before.id.as_ref() == grant_id(lease)).map(|live| live.first_seen);
        has_ended.then(|| first_seen.unwrap_or(now))
    }

    /// Takes note of what became of the images of a grant that its node has ended. A node that gives grants back undone would be
    /// first in line again at once, and could take every turn from the others.
    pub(super) fn note_outcome(&mut self, lease: &NodeLease, first_seen: Monotonic, now: Monotonic) {
        let (Some(grant), Some(report)) = (&lease.grant, &lease.report) else { return };
        if grant.withdrawn.is_some() || report.low_disk.is_some() {
            return;
        }
        let pairs = self.leases.seen.get(&lease.node).map(|seen| &seen.pairs);
        let pair = |image: &GrantedImage| pairs?.get(image.uid.as_str());
        let entry = |image: &GrantedImage| {
            report.images.get(image.uid.as_str()).filter(|entry| *entry.reference == *image.reference)
        };
        let has_failed = |image: &GrantedImage| {
            pair(image).and_then(|pair| pair.failure.as_ref()).is_some_and(|seen| seen.at >= first_seen)
        };
        let is_done = |image: &GrantedImage| {
            let pulled = pair(image).and_then(|pair| pair.pulled).is_some_and(|seen| seen.at >= first_seen);
            let found = entry(image).is_some_and(|entry| entry.digest.is_some());
            pulled || found && !image.asks_registry_when_present() || has_failed(image)
        };
        // These end more than the image that they are about.
        let is_wide = |image: &GrantedImage| {
            let scope = entry(image).and_then(|entry| Some(entry.failure.as_ref()?.scope));
            has_failed(image) && matches!(scope, Some(FailureScope::Registry | FailureScope::Node))
        };
        let well = grant.images.iter().all(is_done) || grant.images.iter().any(is_wide);
        if let Some(node) = self.nodes.get_mut(&lease.node) {
            let in_a_row = node.undone.map_or(0, |(count, _)| count);
            node.undone = (!well).then(|| (in_a_row.saturating_add(1), now));
        }
    }

    /// A live grant is no longer in its Lease and has not ended.
    fn taken_away(&mut self, lease: &NodeLease, grant: &LiveGrant, now: Monotonic) {
        let removal = self.leases.removing.remove(&lease.node).filter(|removal| removal.id == grant.id);
        let Some(removal) = removal else {
            // Not our doing: its holder may not have noticed yet.
            self.leases.haunt(&lease.node, grant.policy.clone(), lease.lapses_after(), now);
            return;
        };
        if grant.taken.is_some() {
            return;
        }
        if let (Some(policy), Some(id)) = (&grant.policy, &grant.id) {
            self.writes.never_taken(policy, id);
        }
        if removal.unanswered
            && let Some(node) = self.nodes.get_mut(&lease.node)
        {
            let in_a_row = node.unanswered.map_or(0, |(count, _)| count);
            node.unanswered = Some((in_a_row.saturating_add(1), now));
        }
    }
}

fn grant_id(lease: &NodeLease) -> Option<&GrantId> {
    lease.grant.as_ref().map(|grant| &grant.id)
}

fn has_ended(lease: &NodeLease) -> bool {
    matches!(lease.state(), GrantState::Ended(_))
}

fn live_grant(lease: &NodeLease, before: Option<&LiveGrant>, now: Monotonic) -> Option<LiveGrant> {
    let Some(grant) = lease.live_grant() else {
        // A newer release's agent may have taken what this one can't read.
        let holder = lease.holder.as_ref().filter(|_| lease.grant_error.is_some())?;
        let ended = lease.report.as_ref().and_then(|report| report.grant.as_ref());
        if ended.is_some_and(|ended| ended.id == holder.grant) {
            return None;
        }
        let first_seen = before.filter(|before| before.id.is_none()).map_or(now, |before| before.first_seen);
        return Some(LiveGrant { id: None, policy: None, first_seen, taken: Some(first_seen) });
    };
    let before = before.filter(|before| before.id.as_ref() == Some(&grant.id));
    let taken = before
        .and_then(|before| before.taken)
        .or_else(|| (lease.state() == GrantState::Taken).then_some(now));
    Some(LiveGrant {
        id: Some(grant.id.clone()),
        policy: Some(grant.policy.clone()),
        first_seen: before.map_or(now, |before| before.first_seen),
        taken,
    })
}
