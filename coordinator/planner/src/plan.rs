//! What is to be written, and when to plan again. Leaves nothing to decide while executing.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use drop_protocol::{Catalog, Grant, GrantId, Monotonic, Now, Withdrawal};

use crate::cluster::World;
use crate::set::{ChildSpec, SetStatus};
use crate::sets::Sets;
use crate::status::ImageStatus;
use crate::survey::Survey;
use crate::waiting::Waiting;
use crate::wake::Wake;
use crate::{catalog, checks, fold, grants, holds, leases, pull_secrets, withdraw};

/// Everything that is to be written now. Parts are independent of each other unless a field says otherwise.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Node Leases to create.
    pub create_leases: Vec<CreateLease>,
    /// Node Leases to delete: they belong to an earlier Node of that name.
    pub delete_leases: Vec<DeleteLease>,
    /// Grants to take back.
    pub withdrawals: Vec<Withdraw>,
    /// Grants to hand out, by policy.
    pub issues: Vec<PolicyIssues>,
    /// New content of the catalog ConfigMap; create it if the cluster has none, else replace it conditionally.
    pub catalog: Option<Catalog>,
    /// Names of the Secrets that agents are to be let read; replace the rules of their Role conditionally.
    pub pull_secrets: Option<BTreeSet<String>>,
    /// CachedImages of sets to create, put right and delete.
    pub children: Vec<ChildWrite>,
    /// New status of CachedImageSets.
    pub set_statuses: Vec<SetStatusWrite>,
    /// New status of CachedImages.
    pub statuses: Vec<StatusWrite>,
    /// Registries to ask, beside everything else and each once: nothing else waits for the answers.
    pub checks: Vec<Check>,
    /// Events, each to be sent only after the status of its image in this plan was applied.
    pub events: Vec<PlannedEvent>,
    /// Why each waiting pair waits.
    pub waiting: Waiting,
    /// When to plan again at the latest if nothing changes until then.
    pub wake_at: Option<Monotonic>,
}

/// A node Lease to create, with [`drop_protocol::NodeLease::create`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateLease {
    /// Name of the Node and of the Lease.
    pub node: String,
    /// Uid of the Node, for the owner reference.
    pub node_uid: String,
}

/// A node Lease to delete, with these preconditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteLease {
    /// Name of the Lease.
    pub node: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: u64,
}

/// A grant to take back, by a patch of the Lease as it stands in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdraw {
    /// Name of the Lease.
    pub node: String,
    /// The grant; `None`: one that can't be read.
    pub grant: Option<GrantId>,
    /// How.
    pub kind: WithdrawKind,
    /// Why, for logs and metrics.
    pub reason: WithdrawReason,
}

/// Why a grant is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WithdrawReason {
    /// The node let it pass.
    NotTaken,
    /// Its agent fell silent.
    Expired,
    /// The wish has changed.
    Unwanted,
    /// The policy no longer allows it.
    PolicyEdited,
    /// It was not taken while its leader led.
    EarlierLeader,
    /// Nodes wait that have not had a turn.
    NextTurn,
    /// It can't be read, and nobody holds it.
    Unreadable,
}

impl WithdrawReason {
    /// The word under which metrics show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotTaken => "NotTaken",
            Self::Expired => "Expired",
            Self::Unwanted => "Unwanted",
            Self::PolicyEdited => "PolicyEdited",
            Self::EarlierLeader => "EarlierLeader",
            Self::NextTurn => "NextTurn",
            Self::Unreadable => "Unreadable",
        }
    }
}

impl fmt::Display for WithdrawReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTaken => "not taken in time",
            Self::Expired => "not renewed in time",
            Self::Unwanted => "no longer wanted as granted",
            Self::PolicyEdited => "the policy allows fewer nodes now",
            Self::EarlierLeader => "issued by an earlier leader",
            Self::NextTurn => "another node's turn",
            Self::Unreadable => "not readable",
        })
    }
}

/// How a grant is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WithdrawKind {
    /// It was not taken, or has expired: [`drop_protocol::NodeLease::remove_grant_patch`].
    Remove,
    /// It is being worked on: [`drop_protocol::NodeLease::mark_withdrawn_patch`].
    Mark(Withdrawal),
}

/// The grants to hand out under one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyIssues {
    /// Name of the PullPolicy; empty for the built-in one.
    pub policy: String,
    /// From the answer to one issue until the next is sent.
    pub delay: Duration,
    /// In this order, one after another; after an unknown outcome the rest is left to the next plan.
    pub issues: Vec<Issue>,
}

/// One grant to write with [`drop_protocol::NodeLease::issue_patch`] on the Lease as it stands in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Name of the Lease.
    pub node: String,
    /// `metadata.uid` of the Lease.
    pub lease_uid: String,
    /// `metadata.resourceVersion` that the issue is conditional on.
    pub resource_version: u64,
    /// What to write.
    pub grant: Grant,
    /// `spec.leaseDurationSeconds` to write.
    pub duration: Duration,
    /// Since when each image of the grant is due on the node, in their order; empty where only an earlier leader knew.
    pub due_since: Vec<Monotonic>,
    /// Why.
    pub kind: IssueKind,
}

/// Why a grant is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IssueKind {
    /// It is new.
    New,
    /// It replaces an untaken grant of an earlier leader.
    Restamp,
    /// The outcome of the same issue is unknown: the very same grant on the very same version of the Lease.
    Repeat,
}

/// A write of a CachedImage that belongs, or is to belong, to a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildWrite {
    /// Name of the CachedImage.
    pub child: String,
    /// Name of the set.
    pub set: String,
    /// Its uid.
    pub set_uid: String,
    /// Its generation that this is for.
    pub generation: i64,
    /// What to do.
    pub kind: ChildWriteKind,
}

/// What to do about a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChildWriteKind {
    /// Create it, with the set as its controller.
    Create {
        /// Value of the label that names the set.
        label: String,
        /// Its spec.
        spec: Box<ChildSpec>,
    },
    /// Give it this label and spec, and leave whatever else it carries.
    Patch {
        /// `metadata.uid`
        uid: String,
        /// `metadata.resourceVersion` that the patch is conditional on.
        resource_version: u64,
        /// Value of the label that names the set.
        label: String,
        /// Its spec.
        spec: Box<ChildSpec>,
        /// Keys of its nodeSelector that are to go.
        unselected: Vec<String>,
    },
    /// Delete it.
    Delete {
        /// `metadata.uid`
        uid: String,
        /// `metadata.resourceVersion` that the deletion is conditional on.
        resource_version: u64,
    },
}

/// New status of a CachedImageSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatusWrite {
    /// Name of the set.
    pub set: String,
    /// Its uid: the write must not reach another object of that name.
    pub uid: String,
    /// What `status` is to be.
    pub status: SetStatus,
    /// What there is to tell once it is written.
    pub event: Option<SetEvent>,
}

/// An event about a CachedImageSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetEvent {
    /// Normal or Warning.
    pub kind: EventType,
    /// One word.
    pub reason: String,
    /// For people.
    pub note: String,
}

/// A registry to ask which digest a reference stands for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Name of the CachedImage.
    pub image: String,
    /// Its uid.
    pub uid: String,
    /// What to ask for.
    pub reference: String,
    /// Names of its `imagePullSecrets`.
    pub secrets: Vec<String>,
}

/// New status of a CachedImage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusWrite {
    /// Name of the CachedImage.
    pub image: String,
    /// Its uid: the write must not reach another object of that name.
    pub uid: String,
    /// What `status` is to be.
    pub status: ImageStatus,
}

/// An event about a CachedImage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEvent {
    /// Name of the CachedImage.
    pub image: String,
    /// Its uid.
    pub uid: String,
    /// Normal or Warning.
    pub kind: EventType,
    /// One word.
    pub reason: String,
    /// For people.
    pub note: String,
}

/// `type` of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Good to know.
    Normal,
    /// Somebody should look.
    Warning,
}

impl Plan {
    /// Whether it writes nothing and asks nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.create_leases.is_empty()
            && self.delete_leases.is_empty()
            && self.withdrawals.is_empty()
            && self.issues.is_empty()
            && self.catalog.is_none()
            && self.pull_secrets.is_none()
            && self.children.is_empty()
            && self.set_statuses.is_empty()
            && self.statuses.is_empty()
            && self.checks.is_empty()
            && self.events.is_empty()
    }
}

/// What to write now, and when to plan again. Without leadership: nothing, and never.
///
/// [`Memory::observe`](crate::Memory::observe) must have seen the world's cluster at `now`.
#[must_use]
pub fn plan(world: &World, now: Now) -> Plan {
    let Some(leadership) = &world.leadership else { return Plan::default() };
    let wake = Wake::new(now.monotonic);
    let mut room = Vec::new();
    let mut survey = Survey::new(world, leadership, now, &wake, &mut room);
    catalog::explain(&mut survey);
    holds::apply(&mut survey, &wake);
    let mut verdicts = withdraw::judge(&survey, &wake);
    let handout = grants::hand_out(&mut survey, &verdicts.orphans, &wake);
    for withdraw in handout.withdrawals {
        // One write a Lease and plan.
        if !verdicts.withdrawals.iter().any(|verdict| verdict.node == withdraw.node) {
            verdicts.withdrawals.push(withdraw);
        }
    }
    let sets = Sets::plan(world, now, &wake);
    let (mut statuses, mut events) = fold::fold(&survey, &wake);
    let touched = sets.touched();
    if !touched.is_empty() {
        statuses.retain(|write| !touched.contains(write.uid.as_str()));
        events.retain(|event| !touched.contains(event.uid.as_str()));
    }
    let (create_leases, delete_leases) = leases::plan(world, &wake);
    Plan {
        create_leases,
        delete_leases,
        withdrawals: verdicts.withdrawals,
        issues: handout.issues,
        catalog: catalog::plan(&survey, &wake),
        pull_secrets: pull_secrets::plan(&survey, &wake),
        children: sets.children,
        set_statuses: sets.statuses,
        statuses,
        checks: checks::plan(&survey, &wake),
        events,
        waiting: Waiting::of(&survey),
        wake_at: wake.earliest(),
    }
}

#[cfg(test)]
mod tests;
