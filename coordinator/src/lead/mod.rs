//! Leading: at most one coordinator decides at a time, and every leadership has a number of its own.
//!
//! | module | subject |
//! |---|---|
//! | [`state`] | who leads, as a pure state machine over what was read and written |
//! | [`lease`] | the leader Lease as it is read and written |
//! | [`run`] | the task that does what the state machine asks for |
//!
//! Two rules make this election different from the common one. Expiry is judged by how long the Lease was *watched
//! unchanged* on one's own monotonic clock, never by a timestamp in it. And every acquisition counts
//! `spec.leaseTransitions` up, also one by the same identity: (uid, transitions) is the epoch that agents compare for
//! equality before they take a grant.
//!
//! This module must not know what a leader does.

pub mod lease;
pub mod run;
pub mod state;

use drop_protocol::{Epoch, Monotonic};
use tokio::sync::watch;

use crate::clock::Clock;

/// One leadership of this process, as far as it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Its number.
    pub epoch: Epoch,
    /// When it was acquired.
    pub since: Monotonic,
    /// Until when the last successful renewal proves it. Moves on with each renewal.
    pub until: Monotonic,
}

/// Tells at any moment whether this process is still the leader of one given term.
#[derive(Debug, Clone)]
pub struct Proof {
    epoch: Epoch,
    terms: watch::Receiver<Option<Term>>,
    clock: Clock,
}

impl Proof {
    /// A proof for the term with this `epoch`.
    #[must_use]
    pub fn new(epoch: Epoch, terms: watch::Receiver<Option<Term>>, clock: Clock) -> Self {
        Self { epoch, terms, clock }
    }

    /// Whether the term still holds now.
    #[must_use]
    pub fn holds(&self) -> bool {
        let now = self.clock.monotonic();
        self.terms.borrow().as_ref().is_some_and(|term| term.epoch == self.epoch && now < term.until)
    }

    /// Returns when the term has ended.
    pub async fn ended(&mut self) {
        let epoch = &self.epoch;
        // An error means that the election itself has ended, and every term with it.
        let _ = self.terms.wait_for(|term| term.as_ref().is_none_or(|term| term.epoch != *epoch)).await;
    }
}
