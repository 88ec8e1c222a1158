//! `status` of a CachedImage as a domain type. Knows neither how it is stored nor how it comes about.

use std::sync::Arc;

use jiff::Timestamp;

/// Condition type that tells whether every target node has the image.
pub const READY: &str = "Ready";
/// Condition type that tells what is going on.
pub const PULL_PROGRESS: &str = "PullProgress";

/// Reasons of the conditions that are neither a [`WaitReason`](crate::WaitReason) nor a
/// [`FailureReason`](drop_protocol::FailureReason).
pub mod reason {
    /// [`READY`](super::READY): every target has the image.
    pub const CACHED: &str = "Cached";
    /// [`READY`](super::READY): some targets lack it, and the rest follows.
    pub const IN_PROGRESS: &str = "InProgress";
    /// [`READY`](super::READY): no node is to have it.
    pub const NO_TARGETS: &str = "NoTargets";
    /// [`READY`](super::READY): nodes fail, for reasons none of which most of them share.
    pub const PULL_FAILED: &str = "PullFailed";
    /// [`PULL_PROGRESS`](super::PULL_PROGRESS): nodes are pulling.
    pub const PULLING: &str = "Pulling";
    /// [`PULL_PROGRESS`](super::PULL_PROGRESS): every target has the image.
    pub const COMPLETE: &str = "Complete";
    /// [`PULL_PROGRESS`](super::PULL_PROGRESS): no node is pulling, and the next attempt may fail again.
    pub const STALLED: &str = "Stalled";
    /// [`PULL_PROGRESS`](super::PULL_PROGRESS): no node is pulling at this moment.
    pub const IDLE: &str = "Idle";

    /// All of them.
    pub const ALL: [&str; 8] =
        [CACHED, IN_PROGRESS, NO_TARGETS, PULL_FAILED, PULLING, COMPLETE, STALLED, IDLE];
}

/// `status` of a CachedImage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageStatus {
    /// Generation of the spec that it is about; `None`: never written.
    pub observed_generation: Option<i64>,
    /// Where things stand.
    pub phase: Option<Phase>,
    /// `<nodes_ready>/<nodes_targeted>`
    pub ready: String,
    /// The newest manifest digest that nodes hold for the reference.
    pub resolved_digest: Option<String>,
    /// Target nodes.
    pub nodes_targeted: u32,
    /// Target nodes on which the image is cached.
    pub nodes_ready: u32,
    /// Target nodes whose grant names the image and that lack it.
    pub nodes_pulling: u32,
    /// Target nodes that lack it after a failed attempt and are not pulling it.
    pub nodes_failing: u32,
    /// All other target nodes, so that the four add up to `nodes_targeted`.
    pub nodes_waiting: u32,
    /// Names of the target nodes on which it is cached, sorted; cut where the status would grow too large.
    pub cached_nodes: Vec<Arc<str>>,
    /// The most failures in a row on any target node.
    pub consecutive_failures: u32,
    /// When a node last confirmed the reference, never later than when that was first seen.
    pub last_pulled_at: Option<Timestamp>,
    /// When an attempt last ended, never later than when that was first seen.
    pub last_attempted_at: Option<Timestamp>,
    /// Target nodes whose last attempt failed, longest first; bounded.
    pub failed_nodes: Vec<FailedNode>,
    /// How many such nodes there are.
    pub failed_nodes_total: u32,
    /// Digests that target nodes hold, newest first; bounded.
    pub digests: Vec<DigestNodes>,
    /// How many different digests there are.
    pub digests_total: u32,
    /// What the registry said when the coordinator last asked it for the digest of the reference.
    pub registry_check: Option<RegistryCheck>,
    /// Why failing and waiting target nodes are not pulling it, most nodes first; has room for every reason.
    pub waiting: Vec<WaitingNodes>,
    /// [`READY`] and [`PULL_PROGRESS`].
    pub conditions: Vec<Condition>,
}

impl ImageStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// `status.phase`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nothing is being pulled and some node lacks the image, or there is no target.
    Pending,
    /// Some nodes have it or are pulling it; the rest will follow.
    Pulling,
    /// Every target node has it.
    Ready,
    /// A node failed to get it, or the spec can't be acted on.
    Degraded,
}

/// One node that failed to get the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FailedNode {
    /// Its name.
    pub node: String,
    /// The reason in one word.
    pub reason: String,
    /// What happened and what to do about it.
    pub message: String,
    /// Failures in a row.
    pub attempts: u32,
    /// When the first failure of this row was seen.
    pub since: Option<Timestamp>,
}

/// One digest and how many target nodes hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DigestNodes {
    /// The manifest digest.
    pub digest: String,
    /// How many target nodes hold it.
    pub nodes: u32,
    /// Whether it is the newest.
    pub newest: bool,
}

/// What a registry said about a reference.
///
/// A node that holds one of these digests holds what the registry gave for the reference, though it has not asked itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryCheck {
    /// The reference that was asked for: after an edit, this tells nothing.
    pub reference: String,
    /// The manifest digest that it stands for.
    pub digest: String,
    /// When the registry last said so.
    pub at: Timestamp,
    /// Digests that it said earlier, latest first; bounded.
    pub earlier_digests: Vec<String>,
}

/// One reason to wait and how many target nodes it concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitingNodes {
    /// The reason in one word.
    pub reason: String,
    /// How many target nodes wait for it.
    pub nodes: u32,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// `type`
    pub kind: String,
    /// `status`
    pub status: ConditionStatus,
    /// `reason`, one word.
    pub reason: String,
    /// `message`, for people.
    pub message: String,
    /// `observedGeneration`
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Timestamp,
}

/// `status` of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// `True`
    True,
    /// `False`
    False,
    /// `Unknown`
    Unknown,
}
