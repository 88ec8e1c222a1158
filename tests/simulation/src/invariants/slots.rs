//! Invariants 1 and 2: slots and delays.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::{Cluster, Issue, IssueKind};
use drop_protocol::lease::DEFAULT_DURATION;
use drop_protocol::{Epoch, Grant, GrantState, names};

use super::expected;
use crate::api::{Change, Kind, Object};
use crate::clock::Time;
use crate::runtime::PullKey;
use crate::simulation::Simulation;

/// What the issuing coordinator knew when it planned an issue.
#[derive(Debug, Clone)]
pub struct IssueTag {
    /// Which node.
    pub node: String,
    /// What is issued.
    pub grant: Grant,
    /// Why.
    pub kind: IssueKind,
    /// `maxConcurrentNodes` as it knew it.
    pub cap: usize,
    /// `minDelayBetweenPulls` as it knew it.
    pub delay: Duration,
    /// Granted images that it knew to be unwanted there.
    pub unwanted: Vec<String>,
}

impl IssueTag {
    /// What `cluster` says about `issue`.
    #[must_use]
    pub fn new(cluster: &Cluster, issue: &Issue) -> Self {
        let policy = cluster.policies.get(&issue.grant.policy);
        let (cap, delay) = policy.map_or((1, Duration::from_secs(10)), |policy| {
            (usize::try_from(policy.max_concurrent_nodes).unwrap_or(usize::MAX), policy.min_delay)
        });
        let wanted = |uid: &str, reference: &str| {
            cluster.images.values().any(|image| {
                image.uid == uid
                    && image.reference == reference
                    && image.policy.as_deref().unwrap_or_default() == issue.grant.policy
                    && cluster.nodes.get(&issue.node).is_some_and(|node| {
                        let policy = image.policy.as_ref().and_then(|name| cluster.policies.get(name));
                        expected::is_target(image, policy.map(Arc::as_ref), node)
                    })
            })
        };
        let images = issue.grant.images.iter();
        let unwanted = images.filter(|i| !wanted(&i.uid, &i.reference)).map(|i| i.name.clone()).collect();
        let (node, grant, kind) = (issue.node.clone(), issue.grant.clone(), issue.kind);
        Self { node, grant, kind, cap, delay, unwanted }
    }
}

/// An issue that was committed.
#[derive(Debug)]
pub(super) struct IssueRecord {
    policy: String,
    /// The first commit. A re-stamped grant has a new id: before, nobody could take it.
    at: Time,
    cap: usize,
    delay: Duration,
}

/// A grant that was taken, by when it was issued.
#[derive(Debug)]
pub(super) struct Taken {
    node: String,
    at: Time,
    delay: Duration,
    grant: drop_protocol::GrantId,
}

/// Clocks drift: a delay may seem over this much too early.
const DRIFT_TOLERANCE: f64 = 0.99;

impl Simulation {
    /// An issue has just been committed.
    pub fn checker_sees_issue(&mut self, tag: &IssueTag) {
        let now = self.now;
        let policy = tag.grant.policy.clone();
        let record = IssueRecord { policy: policy.clone(), at: now, cap: tag.cap, delay: tag.delay };
        self.checker.issues.entry(tag.grant.id.clone()).or_insert(record);
        if !tag.unwanted.is_empty() && tag.kind != IssueKind::Repeat {
            self.report(
                4,
                format!(
                    "{} was granted {:?}, which its coordinator knew to be unwanted",
                    tag.node, tag.unwanted
                ),
            );
        }
        let Some(leader) = self.checker.leader.clone().filter(|leader| *leader == tag.grant.epoch) else {
            // No agent takes it: the leader Lease names another epoch.
            return;
        };
        if tag.kind != IssueKind::New {
            return;
        }
        let live: Vec<String> = self
            .api
            .list(Kind::Lease)
            .filter(|(name, _)| *name != tag.node)
            .filter(|(_, object)| match object {
                Object::Lease(lease) => self.occupies(&lease.lease, &policy, &leader),
                _ => false,
            })
            .map(|(name, _)| name.to_owned())
            .collect();
        if live.len() >= tag.cap {
            let what = format!(
                "{} was issued to {} under {policy:?} (cap {}) while {live:?} held live grants",
                tag.grant.id, tag.node, tag.cap
            );
            self.report(1, what);
        }
    }

    /// Whether a Lease's grant occupies a slot of `policy`: one that no agent would take does not.
    fn occupies(&self, lease: &drop_protocol::NodeLease, policy: &str, leader: &Epoch) -> bool {
        let Some(grant) = lease.live_grant().filter(|grant| grant.policy == policy) else { return false };
        lease.state() == GrantState::Taken
            || grant.epoch == *leader
            || self.checker.issues.get(&grant.id).is_some_and(|record| record.at < self.checker.acquired)
    }

    /// A Lease was written or deleted.
    pub(super) fn slots_see_lease(&mut self, change: &Change) {
        self.slots_follow(change);
        if change.name == names::LEADER_LEASE {
            self.leader_moment();
        } else {
            self.moment_of(&change.name);
        }
    }

    fn slots_follow(&mut self, change: &Change) {
        if change.name == names::LEADER_LEASE {
            let leader = match &change.object {
                Some(Object::Lease(lease)) => {
                    Some(Epoch { lease: lease.lease.uid.clone(), transitions: lease.lease.transitions })
                }
                _ => None,
            };
            if leader != self.checker.leader {
                self.checker.leader = leader;
                self.checker.acquired = change.at;
            }
            return;
        }
        let Some(Object::Lease(stored)) = &change.object else {
            let old = self.checker.leases.remove(&change.name);
            if old.is_some_and(|old| old.lease.state() == GrantState::Taken) {
                self.checker.lease_gone.insert(change.name.clone(), change.at);
            }
            return;
        };
        let old = self.checker.leases.insert(change.name.clone(), Arc::clone(stored));
        let lease = &stored.lease;
        let Some(grant) = lease.grant.as_ref().filter(|_| lease.state() == GrantState::Taken) else { return };
        let held = old.is_some_and(|old| {
            old.lease.state() == GrantState::Taken
                && old.lease.grant.as_ref().is_some_and(|g| g.id == grant.id)
        });
        if !held {
            // A node that was replaced under its name is another node.
            let node = lease
                .node_uid
                .as_ref()
                .map_or_else(|| change.name.clone(), |uid| format!("{} ({uid})", change.name));
            self.check_delay(&node, grant);
        }
    }

    /// A grant was taken: its issue counts from now on.
    fn check_delay(&mut self, node: &str, grant: &Grant) {
        let Some(record) = self.checker.issues.get(&grant.id) else { return };
        let (at, delay) = (record.at, record.delay);
        let others = self.checker.taken.entry(grant.policy.clone()).or_default();
        let clash = others.iter().find(|other| {
            let wanted = if other.at > at { other.delay } else { delay };
            other.node != node
                && other.grant != grant.id
                && other.at.abs_diff(at) < wanted.mul_f64(DRIFT_TOLERANCE)
        });
        let what = clash.map(|other| {
            format!(
                "{} on {node} and {} on {} were issued {:?} apart under {:?}, which wants {delay:?}",
                grant.id,
                other.grant,
                other.node,
                other.at.abs_diff(at),
                grant.policy
            )
        });
        others.push(Taken { node: node.to_owned(), at, delay, grant: grant.id.clone() });
        if let Some(what) = what {
            self.report(2, what);
        }
    }

    /// Who pulls now, and may they?
    pub(super) fn check_pulls(&mut self) {
        // Only a write, a pull's begin or end, and the time after a deletion can change the answer.
        let looked = (self.api.version(), self.pull_changes);
        if looked == self.checker.looked && self.checker.lease_gone.is_empty() {
            return;
        }
        self.checker.looked = looked;
        let mut pulling: Vec<(usize, PullKey)> = Vec::new();
        for (index, machine) in self.machines.iter().enumerate() {
            pulling.extend(
                machine.runtime.pulls.iter().filter(|(_, p)| !p.ending).map(|(key, _)| (index, *key)),
            );
        }
        for (machine, key) in &pulling {
            self.check_holder(*machine, *key);
        }
        let mut nodes: Vec<(&str, usize, Time, usize)> = Vec::new();
        for (machine, key) in &pulling {
            let start = self.checker.starts.get(&(*machine, *key));
            if let Some(record) = start.and_then(|s| self.checker.issues.get(s.grant.as_ref()?)) {
                nodes.push((record.policy.as_str(), *machine, record.at, record.cap));
            }
        }
        nodes.sort_unstable();
        let broken = nodes.chunk_by(|a, b| a.0 == b.0).find_map(|group| {
            let mut machines: Vec<usize> = group.iter().map(|entry| entry.1).collect();
            machines.dedup();
            // When the last of them was issued, the cap allowed for all of them.
            let cap = group.iter().max_by_key(|entry| entry.2).map_or(0, |entry| entry.3);
            (machines.len() > cap).then(|| (group[0].0.to_owned(), machines, cap))
        });
        if let Some((policy, machines, cap)) = broken {
            let names: Vec<&str> = machines.iter().map(|m| self.machines[*m].name.as_str()).collect();
            let what = format!("{names:?} pull at once under {policy:?}, which allows {cap}");
            self.report(1, what);
        }
    }

    fn check_holder(&mut self, machine: usize, key: PullKey) {
        let node = &self.machines[machine].name;
        let Some(start) = self.checker.starts.get(&(machine, key)) else { return };
        let holds = self.checker.leases.get(node).is_some_and(|lease| {
            let lease = &lease.lease;
            lease.state() == GrantState::Taken
                && lease.holder.as_ref().is_some_and(|holder| {
                    holder.process == format!("p{}", key.process)
                        && Some(&holder.grant) == start.grant.as_ref()
                })
        });
        // Somebody deleted the Lease: the agent learns of it, or its deadline passes.
        let gone = self.checker.lease_gone.get(node).is_some_and(|at| self.now < *at + DEFAULT_DURATION);
        if !holds && !gone {
            let lease = self.checker.leases.get(node).map(|l| (l.lease.state(), l.lease.holder.clone()));
            let what = format!(
                "process p{} on {node} pulls {} under {:?}, but the Lease says {lease:?}",
                key.process, start.reference, start.grant
            );
            self.report(1, what);
        }
    }
}
