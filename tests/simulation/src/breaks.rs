//! Deliberate breaks: each takes away one safety mechanism, and one invariant must notice.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// The kernel timer never kills a paused agent (invariant 1).
    TimerNeverFires,
    /// Agents take grants of any epoch: the leader Lease is not asked (invariant 1).
    NoFencing,
    /// Removing a grant no longer asks whether the Lease changed in the meantime (invariant 1).
    UnconditionalWithdraw,
    /// The planner is told of policies with one slot more (invariant 1).
    IgnoreCap,
    /// The coordinator forgets what it has issued until a watch tells, and plans with the rest (invariant 1).
    ForgetIssued,
    /// Finishing no longer asks whether the Lease changed: a late one clears the holder of a newer grant (invariant 1).
    UnconditionalFinish,
    /// Agents believe that their grants live twice as long as the planner does (invariant 1).
    EarlyExpiry,
    /// The planner is told of policies without any delay (invariant 2).
    NoDelay,
    /// Nobody is told that images were evicted, and nobody lists them (invariant 3).
    NoPresence,
    /// The coordinator plans only when something changes, never because time has passed (invariant 3).
    NeverWakes,
    /// Marks of withdrawal are never written (invariant 4).
    NeverMarkWithdrawn,
    /// The planner is not told of changed and deleted CachedImages that the coordinator has heard of (invariant 4).
    IssueUnwanted,
    /// Every second status write is dropped and taken for done (invariant 5).
    DropStatus,
    /// Status says Ready whatever the nodes report (invariant 5).
    AlwaysReady,
    /// Where a registry gives no answer, coordinators take a node's word for one (invariant 5).
    InventAnswers,
    /// The planner is told that sets want what they list and what was ever found, whatever became of the discovery
    /// (invariant 8).
    TrustDiscovery,
    /// Children that are not as their set says are never put right (invariant 3).
    LeaveChildren,
    /// Agents write a heartbeat while idle (invariant 6).
    Heartbeat,
    /// Where a registry gives no answer, coordinators go on asking after each longest backoff, for ever (invariant 6).
    AskForever,
}

impl Break {
    /// The invariant that has to notice.
    #[must_use]
    pub fn breaks(self) -> u8 {
        match self {
            Self::TimerNeverFires
            | Self::NoFencing
            | Self::UnconditionalWithdraw
            | Self::ForgetIssued
            | Self::IgnoreCap
            | Self::UnconditionalFinish
            | Self::EarlyExpiry => 1,
            Self::NoDelay => 2,
            Self::NoPresence | Self::NeverWakes | Self::LeaveChildren => 3,
            Self::NeverMarkWithdrawn | Self::IssueUnwanted => 4,
            Self::DropStatus | Self::AlwaysReady | Self::InventAnswers => 5,
            Self::Heartbeat | Self::AskForever => 6,
            Self::TrustDiscovery => 8,
        }
    }
}

/// Takes its condition from a patch.
pub fn unconditional(patch: &mut Value) {
    if let Some(metadata) = patch["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
}
