//! What a leader has itself seen since it leads: when things were first seen, and what became of its writes.
//!
//! Nothing here survives the leadership: a new leader starts from the API objects alone, and every interval that is
//! not safe to shorten counts anew. Nothing here decides what to do.
//!
//! | module | remembers |
//! |---|---|
//! | [`nodes`] | since when a node and its agent are ready, and whether it takes its grants |
//! | [`leases`] | since when a Lease is unchanged, its live grant, and slots that outlive their Lease |
//! | [`pairs`] | when each pull, failure and eviction was first seen |
//! | [`images`] | the order of digests, and the latest successes |
//! | [`checks`] | what registries said, and when they may be asked again |
//! | [`listing`] | since when the catalog lists a reference |
//! | [`reported`] | what each node reports of each image, in a few bytes |
//! | [`writes`] | issues under way, starts under each policy, and failed writes |
//! | [`sets`] | writes to children of sets, and to the status of sets |

pub(crate) mod checks;
pub(crate) mod images;
pub(crate) mod leases;
pub(crate) mod listing;
pub(crate) mod nodes;
pub(crate) mod pairs;
pub(crate) mod reported;
pub(crate) mod sets;
pub(crate) mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use drop_protocol::reference::registry_host;
use drop_protocol::{Epoch, GrantId, Monotonic, NodeLease, Now};

use crate::cluster::{Cluster, Leadership, Node};
use crate::plan::{ChildWrite, ChildWriteKind, Issue, Withdraw, WithdrawKind, WithdrawReason};
use crate::walk::Walk;
use images::{Bursts, ImageMemory};
use leases::{LeaseMemory, LeasesMemory};
use listing::ListingMemory;
use nodes::NodeMemory;
use reported::Columns;
use sets::SetsMemory;
use writes::WritesMemory;

/// What a leader has itself seen.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    epoch: Option<Epoch>,
    /// Number of this call of [`Memory::observe`]: things seen in one call have no order among each other.
    tick: u64,
    pub(crate) nodes: BTreeMap<String, NodeMemory>,
    /// Nodes that can hold images, by name.
    pub(crate) holders: Arc<[Arc<Node>]>,
    pub(crate) leases: LeasesMemory,
    /// By uid of the CachedImage.
    pub(crate) images: BTreeMap<String, ImageMemory>,
    pub(crate) bursts: Bursts,
    /// Registry hosts that did not answer when they were asked for a digest.
    pub(crate) check_hosts: checks::Hosts,
    /// When a pull from a registry host was last seen to succeed.
    pub(crate) host_success: BTreeMap<String, Monotonic>,
    pub(crate) listing: ListingMemory,
    pub(crate) columns: Columns,
    pub(crate) writes: WritesMemory,
    pub(crate) sets: SetsMemory,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteOutcome {
    /// It was applied, and the object in the answer has been folded into the cluster.
    Applied,
    /// The server says no: a conflict, or the object is gone, invalid or not allowed. A request that arrived twice
    /// may conflict with its own first copy, so of an issue this alone tells nothing.
    Refused,
    /// No answer, or an error of the server: it may have been applied, or may still be.
    Unknown,
}

/// Names a planned write that is no issue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteKey {
    /// Creation of a node's Lease.
    CreateLease(String),
    /// Deletion of a node's Lease.
    DeleteLease(String),
    /// Withdrawal of a node's grant.
    Withdraw(String),
    /// The catalog.
    Catalog,
    /// The Role by which agents read pull Secrets.
    PullSecrets,
    /// Status of the CachedImage of this name.
    Status(String),
    /// Status of the CachedImageSet of this name.
    SetStatus(String),
}

impl Memory {
    /// Folds in the cluster as it is now. Call it before each plan, also when nothing but time has changed; a change
    /// of leadership empties the memory first.
    pub fn observe(&mut self, cluster: &Cluster, leadership: Option<&Leadership>, now: Now) {
        let Some(leadership) = leadership else {
            if self.epoch.is_some() {
                *self = Self::default();
            }
            return;
        };
        if self.epoch.as_ref() != Some(&leadership.epoch) {
            *self = Self { epoch: Some(leadership.epoch.clone()), ..Self::default() };
            let succeeds = leadership.epoch.transitions > 1 || !cluster.leases.is_empty();
            if succeeds {
                self.leases.count_nodes_without_lease(cluster, now.monotonic);
            }
        }
        self.tick += 1;
        self.observe_nodes(cluster, now.monotonic);
        images::observe(&mut self.images, &mut self.bursts, cluster, now);
        self.listing.observe(cluster, now.monotonic);
        if self.host_success.len() > cluster.images.len() {
            let hosts: BTreeSet<String> =
                cluster.images.values().map(|image| registry_host(&image.reference)).collect();
            self.host_success.retain(|host, _| hosts.contains(host));
        }
        self.forget_check_hosts(cluster);
        self.observe_leases(cluster, now);
        self.pair_leases();
        self.writes.forget_settled(cluster);
        self.sets.observe(cluster, now.monotonic);
        self.leases.ghosts.retain(|ghost| ghost.until > now.monotonic);
    }

    fn observe_nodes(&mut self, cluster: &Cluster, now: Monotonic) {
        let mut changed = self.nodes.len() < cluster.nodes.len();
        let (mut nodes, mut agents) = (Walk::new(&cluster.nodes), Walk::new(&cluster.agents));
        self.nodes.retain(|name, memory| {
            let same = |node: &Arc<Node>| Arc::ptr_eq(node, &memory.node);
            let node = nodes.at_or(name, same).filter(|node| same(node) || node.uid == memory.node.uid);
            changed |= !node.is_some_and(same);
            let Some(node) = node else { return false };
            let agent = agents.at_or(name, |agent| memory.knows(agent));
            memory.observe(node, agent, now);
            true
        });
        if self.nodes.len() < cluster.nodes.len() {
            for (name, node) in &cluster.nodes {
                let memory = || NodeMemory::new(node, cluster.agents.get(name), now);
                self.nodes.entry(name.clone()).or_insert_with(memory);
            }
        }
        if changed {
            let holders = self.nodes.values().filter(|memory| memory.holds_images);
            self.holders = holders.map(|memory| Arc::clone(&memory.node)).collect();
        }
    }

    fn observe_leases(&mut self, cluster: &Cluster, now: Now) {
        let all_rows = self.columns.observe(cluster);
        let mut leases = Walk::new(&cluster.leases);
        let is_gone = |(name, seen): &(&String, &LeaseMemory)| {
            let same = |lease: &Arc<NodeLease>| Arc::ptr_eq(lease, &seen.lease);
            leases.at_or(name, same).is_none_or(|lease| !same(lease) && lease.uid != seen.lease.uid)
        };
        let gone: Vec<String> =
            self.leases.seen.iter().filter(is_gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            let under_way = self.writes.unsettled.remove(&name);
            if let Some(under_way) = &under_way {
                let grant = &under_way.issue.grant;
                self.writes.started(&grant.policy, &grant.id, now.monotonic);
            }
            self.leases.vanished(&name, under_way, now.monotonic);
        }
        let changed: Vec<&Arc<NodeLease>> = {
            let mut seen = Walk::new(&self.leases.seen);
            let is_new = |(name, lease): &(&String, &Arc<NodeLease>)| {
                let same = |seen: &LeaseMemory| Arc::ptr_eq(&seen.lease, lease);
                let seen = seen.at_or(name, same);
                seen.is_none_or(|seen| seen.lease.resource_version != lease.resource_version)
            };
            cluster.leases.iter().filter(is_new).map(|(_, lease)| lease).collect()
        };
        for lease in changed {
            let before = self.leases.seen.get(&lease.node).map(|seen| Arc::clone(&seen.lease));
            self.resolve_under_way(lease, now.monotonic);
            let ended = self.observe_grant(lease, now.monotonic);
            self.observe_report(cluster, lease, before.as_deref(), now);
            if let Some(ended) = ended {
                self.note_outcome(lease, ended, now.monotonic);
            }
        }
        if all_rows {
            self.make_rows();
        }
    }

    /// Tells each node its Lease.
    fn pair_leases(&mut self) {
        let mut leases = Walk::new(&self.leases.seen);
        for (name, node) in &mut self.nodes {
            let same =
                |seen: &LeaseMemory| node.lease.as_ref().is_some_and(|it| Arc::ptr_eq(it, &seen.lease));
            let seen = leases.at_or(name, same);
            if !seen.is_some_and(same) {
                let lease = seen.map(|seen| &seen.lease);
                node.lease = lease.filter(|lease| lease.node_uid.as_ref() == Some(&node.node.uid)).cloned();
            }
        }
    }

    /// Makes all rows anew.
    fn make_rows(&mut self) {
        for seen in self.leases.seen.values_mut() {
            seen.row = self.columns.row(&seen.lease);
        }
        self.columns.made();
    }

    /// An issue is about to be sent. From here on it counts as live.
    pub fn issue_sent(&mut self, issue: &Issue) {
        if issue.kind == crate::plan::IssueKind::Restamp
            && let Some(replaced) = self.leases.seen.get(&issue.node).and_then(|seen| seen.live.as_ref())
        {
            self.leases.expect_removal(&issue.node, replaced.id.clone(), false);
        }
        self.writes.issue_sent(issue);
    }

    /// An issue's request has ended.
    pub fn issue_settled(&mut self, node: &str, grant: &GrantId, outcome: WriteOutcome, now: Now) {
        self.writes.issue_settled(node, grant, outcome, now.monotonic);
    }

    /// An issue's request was rejected for what it is (403, 413, 422), not for what somebody else did first: it was
    /// never applied. A conflict (409) or an absent Lease (404) is no rejection: an earlier copy of the same request may
    /// have been applied before.
    pub fn issue_rejected(&mut self, node: &str, grant: &GrantId, now: Now) {
        self.writes.issue_rejected(node, grant, now.monotonic);
    }

    /// A withdrawal's request has ended.
    pub fn withdraw_settled(&mut self, withdraw: &Withdraw, outcome: WriteOutcome, now: Now) {
        let key = WriteKey::Withdraw(withdraw.node.clone());
        if outcome == WriteOutcome::Applied {
            self.writes.failures.remove(&key);
        } else {
            self.writes.failed(key, now.monotonic);
        }
        if withdraw.kind == WithdrawKind::Remove && outcome != WriteOutcome::Refused {
            let unanswered = withdraw.reason == WithdrawReason::NotTaken;
            self.leases.expect_removal(&withdraw.node, withdraw.grant.clone(), unanswered);
        }
    }

    /// The status of the CachedImage of this name was written.
    pub fn status_written(&mut self, image: &str, now: Now) {
        self.writes.failures.remove(&WriteKey::Status(image.to_owned()));
        self.writes.statuses.insert(image.to_owned(), now.monotonic);
    }

    /// The status of the CachedImageSet of this name was written.
    pub fn set_status_written(&mut self, set: &str, now: Now) {
        self.writes.failures.remove(&WriteKey::SetStatus(set.to_owned()));
        self.sets.statuses.insert(set.to_owned(), now.monotonic);
    }

    /// The request of a write to a child has ended.
    pub fn child_settled(&mut self, write: &ChildWrite, outcome: WriteOutcome, now: Now) {
        let applied = outcome == WriteOutcome::Applied;
        self.sets.written(&write.child, write.generation, applied, now.monotonic);
        if let ChildWriteKind::Delete { uid, .. } = &write.kind
            && applied
        {
            self.sets.deleted(uid);
        }
    }

    /// The catalog was written.
    pub fn catalog_written(&mut self, now: Now) {
        self.writes.failures.remove(&WriteKey::Catalog);
        self.writes.catalog = Some(now.monotonic);
    }

    /// The Role by which agents read pull Secrets was written.
    pub fn pull_secrets_written(&mut self, now: Now) {
        self.writes.failures.remove(&WriteKey::PullSecrets);
        self.writes.pull_secrets = Some(now.monotonic);
    }

    /// A write that is no issue and no withdrawal failed: it is not planned again at once.
    pub fn write_failed(&mut self, write: &WriteKey, now: Now) {
        self.writes.failed(write.clone(), now.monotonic);
    }
}
