//! Invariant 6: a cluster where nothing changes causes no writes, leader renewals aside, and asks registries nothing.
//!
//! Whoever waits for a backoff to be over is not quiet: [`BACKED_OFF`] passes first without any write or question.

use std::time::Duration;

use crate::clock::Time;
use crate::simulation::Simulation;

/// The longest backoff of all: how long a registry that does not answer is left alone, at most.
pub const LONGEST_BACKOFF: Duration = Duration::from_secs(600);
/// What is quiet for this long waits for nothing.
pub const BACKED_OFF: Duration = Duration::from_secs(LONGEST_BACKOFF.as_secs() + 60);
/// How long nothing may happen after that. What comes again and again, at the slowest every 21 min, comes too soon for the
/// one or for the other.
pub const QUIET: Duration = Duration::from_secs(600);

/// A question to a registry.
#[derive(Debug, Clone)]
pub struct Question {
    /// When it was sent.
    pub at: Time,
    /// By which replica.
    pub coordinator: usize,
    /// What it is about.
    pub reference: String,
}

impl Simulation {
    /// The first write since `start` that is not a leader's renewal, or the first question to a registry: when, and what.
    #[must_use]
    pub fn disturbance(&self, start: Time) -> Option<(Time, String)> {
        let writes = self.api.audit().iter().rev().take_while(|write| write.at >= start);
        let write = writes.filter(|write| !write.request.elects()).last();
        let write = write.map(|write| (write.at, format!("a write by {write}")));
        let question = self.questions.iter().rev().take_while(|question| question.at >= start).last();
        let question = question.map(|Question { at, coordinator, reference }| {
            (*at, format!("a question of coordinator {coordinator} to the registry of {reference}"))
        });
        write.into_iter().chain(question).min_by_key(|(at, _)| *at)
    }
}
