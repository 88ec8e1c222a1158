//! What the coordinator and the agents say to each other.
//!
//! The two programs never talk directly: they meet in one `Lease` per node and in one `ConfigMap`.
//!
//! | module | subject |
//! |---|---|
//! | [`lease`] | the node Lease as both sides read it, and every write either side may make to it |
//! | [`grant`] | permission for a node to pull a batch of images: coordinator → agent |
//! | [`report`] | what is really on the node: agent → coordinator |
//! | [`catalog`] | which references are wanted anywhere: coordinator → all agents |
//! | [`failure`] | why a pull failed and whom that concerns |
//! | [`reference`] | image references, normalised for comparing |
//! | [`clock`] | the two clocks that decisions are given |
//! | [`codec`] | the JSON that both annotations share, and its versions |
//! | [`names`] | object names, annotations and labels |
//!
//! Nothing here does I/O, reads a clock or knows a client: given the same input the same bytes come out, and
//! golden files under `tests/golden` hold the formats still from one release to the next. The README beside this
//! crate tells the whole protocol.

pub mod catalog;
pub mod clock;
pub mod codec;
pub mod failure;
pub mod grant;
pub mod lease;
pub mod names;
pub mod reference;
pub mod report;

pub use catalog::Catalog;
pub use clock::{Monotonic, Now};
pub use failure::{Failure, FailureReason, FailureScope};
pub use grant::{Epoch, Grant, GrantId, GrantedImage, ImagePullPolicy, Withdrawal};
pub use lease::{GrantState, Holder, NodeLease};
pub use report::{Evictions, GrantOutcome, LowDisk, Outcome, Report, ReportEntry};
