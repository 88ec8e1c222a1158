//! What is planned becomes requests. Each is attempted once, and only while leadership is proven.
//!
//! | module | subject |
//! |---|---|
//! | [`children`] | bodies and sending of the CachedImages that belong to sets |
//! | [`requests`] | the bodies: built from the plan and the snapshot that it was made from |
//! | [`send`] | the order in which they go out, and what is noted of their outcome |
//! | [`event`] | the event objects |
//!
//! Nothing is decided here. A write that fails is not repeated: the next plan sees what is then known.

pub mod children;
pub mod event;
pub mod requests;
pub mod send;

use drop_planner::{CheckOutcome, ChildWrite, Issue, Withdraw, WriteKey, WriteOutcome};
use drop_protocol::{GrantId, Now};

use crate::index::Written;

pub use requests::Requests;
pub use send::Sender;

/// What the loop has to know of a write. Notes come in the order in which things happened; the object of an answer
/// comes before the outcome.
#[derive(Debug)]
pub struct Note {
    /// When it happened.
    pub at: Now,
    /// What happened.
    pub what: Noted,
}

/// What happened.
#[derive(Debug)]
pub enum Noted {
    /// An issue is about to be sent.
    IssueSent(Box<Issue>),
    /// An issue's request has ended.
    IssueSettled {
        /// The node.
        node: String,
        /// The grant.
        grant: GrantId,
        /// With what outcome.
        outcome: WriteOutcome,
    },
    /// An issue's request was turned down for what it says: it was not and will not be applied.
    IssueRejected {
        /// The node.
        node: String,
        /// The grant.
        grant: GrantId,
    },
    /// A withdrawal's request has ended.
    WithdrawSettled {
        /// Which.
        withdraw: Withdraw,
        /// With what outcome.
        outcome: WriteOutcome,
    },
    /// The status of this CachedImage was written.
    StatusWritten(String),
    /// The status of this CachedImageSet was written.
    SetStatusWritten(String),
    /// The request of a write to a child of a set has ended.
    ChildSettled {
        /// Which.
        write: Box<ChildWrite>,
        /// With what outcome.
        outcome: WriteOutcome,
    },
    /// The catalog was written.
    CatalogWritten,
    /// The Role by which agents read pull Secrets was written.
    PullSecretsWritten,
    /// A question to a registry has ended.
    CheckSettled {
        /// Uid of the CachedImage.
        uid: String,
        /// What was asked for.
        reference: String,
        /// With what outcome.
        outcome: CheckOutcome,
    },
    /// Any other write was not, or perhaps not, applied.
    Failed(WriteKey),
    /// An answer holds a newer state of an object.
    Object(Box<Written>),
}
