//! What goes into a step and what comes out: the whole border between deciding and doing.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::failure::Classified;
use drop_protocol::{Catalog, Epoch, GrantedImage, Monotonic, NodeLease};

/// What one agent process is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of the node and of its Lease.
    pub node: String,
    /// Uid of the agent's Pod; goes into reports.
    pub pod_uid: String,
    /// Random id of this process; goes into the holder identity. Two processes never share one.
    pub process: String,
    /// No pull starts while less of the image file system is free, in percent.
    pub min_free_percent: u8,
    /// The least time between two reports, unless the change is the first after quiet.
    pub report_gap: Duration,
    /// How long after the last successful renewal was sent the next one is.
    pub renew_every: Duration,
    /// The kernel timer ends the process this long before the grant could expire; the agent itself ends its pull as
    /// long again before that. Shortened for Leases of very short duration.
    pub safety_margin: Duration,
    /// A pull that shows no progress for this long is ended.
    pub stuck_after: Duration,
    /// How often the node's images are compared with the catalog without any event.
    pub list_every: Duration,
    /// How long image events are gathered before the images are listed.
    pub list_debounce: Duration,
}

impl Config {
    /// The product's defaults for a node, Pod and process.
    #[must_use]
    pub fn new(node: &str, pod_uid: &str, process: &str) -> Self {
        Self {
            node: node.to_owned(),
            pod_uid: pod_uid.to_owned(),
            process: process.to_owned(),
            min_free_percent: 20,
            report_gap: Duration::from_secs(5),
            renew_every: Duration::from_secs(15),
            safety_margin: Duration::from_secs(3),
            stuck_after: Duration::from_secs(600),
            list_every: Duration::from_secs(30),
            list_debounce: Duration::from_millis(200),
        }
    }
}

/// Names one write of this process; its [`Input::WriteDone`] carries the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Names one pull of this process; its [`Input::PullFinished`] carries the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PullId(pub u64);

/// What the container runtime holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// Normalised reference (`drop_protocol::reference::normalise`), by tag and by digest → manifest digest.
    pub images: BTreeMap<String, String>,
    /// How much of the image file system is free, in percent; `None` if nobody can tell.
    pub free_percent: Option<u8>,
}

/// A pull that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Manifest digest that the runtime now shows for the reference; `None` if it could not be asked.
    pub digest: Option<String>,
}

/// A pull that did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullError {
    /// It failed by itself.
    Failed(Classified),
    /// It was ended by [`Effect::CancelPull`].
    Cancelled,
}

/// How a write ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // moved once an answer; a box would only be in the way
pub enum WriteResult {
    /// Applied; the Lease as the answer shows it.
    Applied(NodeLease),
    /// Not applied: the Lease was changed by somebody else (409).
    Conflict,
    /// Not applied: there is no such Lease (404).
    Gone,
    /// No answer, or an error: it may have been applied, or may still be.
    Unknown(String),
}

/// What a write to the node Lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WriteKind {
    /// Becomes the holder of the Lease's grant.
    Take,
    /// Keeps a taken grant alive, perhaps with a report.
    Renew,
    /// Says that a grant will not be taken.
    Refuse,
    /// Gives a taken grant back.
    Finish,
    /// Tells what is on the node, outside a grant.
    Report,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The node Lease, from a watch or as the answer to [`Effect::ReadLease`]. Late and repeated ones do no harm.
    Lease(NodeLease),
    /// There is no node Lease.
    LeaseGone,
    /// [`Effect::ReadLease`] got no answer.
    LeaseUnknown(String),
    /// The catalog, from a watch.
    Catalog(Catalog),
    /// There is no catalog. What was wanted stays wanted until there is one again.
    CatalogGone,
    /// Answer to [`Effect::ListImages`].
    Inventory(Inventory),
    /// [`Effect::ListImages`] got no answer.
    InventoryFailed(String),
    /// How much of the image file system is free, in percent; may come at any time.
    DiskFree(u8),
    /// Answer to [`Effect::ReadLeader`]: the epoch in the leader Lease, `None` if there is no such Lease.
    LeaderEpoch(Option<Epoch>),
    /// [`Effect::ReadLeader`] got no answer.
    LeaderUnknown(String),
    /// A write ended. Comes exactly once for each [`Effect::WriteLease`].
    WriteDone {
        /// Which.
        write: WriteId,
        /// How.
        result: WriteResult,
    },
    /// A pull ended and nothing of it goes on in the runtime. Comes exactly once for each [`Effect::StartPull`],
    /// cancelled or not.
    PullFinished {
        /// Which.
        pull: PullId,
        /// How.
        result: Result<Pulled, PullError>,
    },
    /// How far a pull has come.
    PullProgress {
        /// Which.
        pull: PullId,
        /// Any measure of bytes, commits and unpacking: a pull moves if this differs from last time.
        mark: u64,
    },
    /// The runtime says that images came or went.
    ImagesChanged,
    /// The process is asked to end.
    Shutdown {
        /// By when it has to be gone.
        deadline: Monotonic,
    },
    /// [`crate::Agent::wake_at`] has come.
    Tick,
}

/// What to do, in this order. Those that have an answer get exactly one within bounded time, an error in the worst case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Read the leader Lease consistently (not from a cache): [`Input::LeaderEpoch`] or [`Input::LeaderUnknown`].
    ReadLeader,
    /// Read the node Lease consistently: [`Input::Lease`], [`Input::LeaseGone`] or [`Input::LeaseUnknown`].
    ReadLease,
    /// List the runtime's images: [`Input::Inventory`] or [`Input::InventoryFailed`].
    ListImages,
    /// Send this JSON merge patch to the node Lease once: [`Input::WriteDone`].
    WriteLease {
        /// Names the write.
        write: WriteId,
        /// The patch; carries uid and resourceVersion.
        patch: serde_json::Value,
        /// What it is for.
        kind: WriteKind,
    },
    /// Have the kernel kill this process at `deadline`, replacing an earlier deadline. Stands before each
    /// [`Effect::StartPull`] that needs it.
    ArmTimer {
        /// On the clock that the step is given.
        deadline: Monotonic,
    },
    /// Have the kernel kill nobody: nothing is being pulled.
    DisarmTimer,
    /// Pull: [`Input::PullFinished`].
    StartPull {
        /// Names the pull.
        pull: PullId,
        /// What to pull, and with which Secrets.
        image: GrantedImage,
    },
    /// End this pull now; its [`Input::PullFinished`] is still awaited.
    CancelPull {
        /// Which.
        pull: PullId,
    },
    /// End the process: everything is given back, or the time is up.
    Exit,
}
