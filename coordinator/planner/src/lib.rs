//! The pure planner: a snapshot of the cluster and a clock value in, a plan out.
//!
//! ```text
//! Cluster ──► Memory::observe ──► World ──► plan(&World, now) ──► Plan ──► (somebody else executes it)
//!                  ▲                                                            │
//!                  └───────── issue_settled, status_written, write_failed … ◄───┘
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`cluster`] | what the API server says, as domain types |
//! | [`set`] | CachedImageSets and their children, as domain types |
//! | [`status`] | `status` of a CachedImage, as a domain type |
//! | [`memory`] | what a leader has itself seen since it leads |
//! | [`plan`](mod@plan) | what is to be written, and when to plan again |
//! | [`waiting`] | why a pair is not being pulled |
//!
//! Nothing here knows a Kubernetes client, reads a clock or draws a random number: the same world and time give the
//! same plan. The README beside this crate tells how a plan comes about.

pub mod cluster;
pub mod memory;
pub mod plan;
pub mod set;
pub mod status;
pub mod waiting;

mod backoff;
mod catalog;
mod checks;
mod describe;
mod fold;
mod grants;
mod holds;
mod leases;
mod policy;
mod pull_secrets;
mod sets;
mod slots;
mod survey;
mod targets;
mod wake;
mod walk;
mod withdraw;

pub use cluster::{
    AgentPod, CachedImage, Cluster, Leadership, Node, PullPolicy, StoredCatalog, StoredPullSecrets, Taint,
    TaintEffect, Toleration, TolerationOperator, World,
};
pub use memory::checks::CheckOutcome;
pub use memory::{Memory, WriteKey, WriteOutcome};
pub use plan::{
    Check, ChildWrite, ChildWriteKind, CreateLease, DeleteLease, EventType, Issue, IssueKind, Plan,
    PlannedEvent, PolicyIssues, SetEvent, SetStatusWrite, StatusWrite, Withdraw, WithdrawKind,
    WithdrawReason, plan,
};
pub use set::{
    CachedImageSet, Child, ChildSettings, ChildSpec, Discovery, DiscoveryState, SetImage, SetImages,
    SetPhase, SetStatus, WrittenImage, WrittenToleration,
};
pub use status::{
    Condition, ConditionStatus, DigestNodes, FailedNode, ImageStatus, Phase, RegistryCheck, WaitingNodes,
};
pub use waiting::{WaitReason, Waiting};
