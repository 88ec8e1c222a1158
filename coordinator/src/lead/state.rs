//! Who leads, as a pure state machine: it is told what was read and written and says what to do next.
//!
//! It knows neither a client nor a clock nor the shape of a Lease object.

use std::time::Duration;

use drop_protocol::{Epoch, Monotonic};

use super::Term;

/// The intervals of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long the Lease must be watched unchanged before another process may take it over.
    pub lease: Duration,
    /// How long a renewal proves leadership, from the moment it was sent. Shorter than [`Self::lease`] by a margin
    /// for requests that are still under way when it ends.
    pub proof: Duration,
    /// How often the leader renews.
    pub renew: Duration,
    /// How often the others look, and how long anyone waits after a failed request.
    pub poll: Duration,
}

impl Default for Timing {
    /// Leader killed → next leader within 16 s, released → within 1 s; rides out an API server that is away for 7 s.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            proof: Duration::from_secs(12),
            renew: Duration::from_secs(5),
            poll: Duration::from_secs(1),
        }
    }
}

/// What the leader Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// `spec.holderIdentity`, unless empty.
    pub holder: Option<String>,
    /// `spec.leaseTransitions`
    pub transitions: i32,
}

/// A write to the leader Lease. Every one but the creation names uid and resourceVersion of what it replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Creates the Lease, held.
    Create {
        /// Who will hold it.
        holder: String,
    },
    /// Takes it over.
    Acquire {
        /// What is replaced.
        over: Record,
        /// Who will hold it.
        holder: String,
        /// The number of this acquisition.
        transitions: i32,
    },
    /// Proves that its holder is alive.
    Renew {
        /// What is replaced.
        over: Record,
    },
    /// Gives it up.
    Release {
        /// What is replaced.
        over: Record,
    },
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It was applied, and this is how the Lease looks now.
    Applied(Record),
    /// It was certainly not applied: somebody else was first, or it is not allowed.
    Refused,
    /// It may or may not have been, or may yet be.
    Unknown,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Read the Lease (consistently) and call [`Election::read`].
    Read,
    /// Send this write once and call [`Election::written`].
    Write(Write),
    /// Nothing until then.
    Wait(Monotonic),
}

/// One process's view of the election.
#[derive(Debug, Clone)]
pub struct Election {
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    term: Option<Term>,
    /// The Lease must be read before anything else.
    blind: bool,
    /// Nothing is sent before this.
    not_before: Monotonic,
}

#[derive(Debug, Clone)]
struct Seen {
    record: Option<Record>,
    /// When this version was first seen here.
    unchanged_since: Monotonic,
    read_at: Monotonic,
}

impl Election {
    /// An election that knows nothing yet. `identity` must be unlike that of every other process, also of this one's
    /// predecessor in the same Pod.
    #[must_use]
    pub fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, seen: None, term: None, blind: true, not_before: Monotonic::default() }
    }

    /// What to do at `now`.
    pub fn step(&mut self, now: Monotonic) -> Step {
        self.expire(now);
        let give_up = self.term.as_ref().map(|term| term.until);
        if now < self.not_before {
            return Step::Wait(give_up.map_or(self.not_before, |at| at.min(self.not_before)));
        }
        let Some(seen) = self.seen.as_ref().filter(|_| !self.blind) else { return Step::Read };
        if let Some(term) = &self.term {
            let Some(over) = &seen.record else { return Step::Read };
            let renew_at = term.until.before(self.timing.proof).after(self.timing.renew);
            return if now >= renew_at {
                Step::Write(Write::Renew { over: over.clone() })
            } else {
                Step::Wait(renew_at)
            };
        }
        let holder = self.identity.clone();
        match &seen.record {
            None => Step::Write(Write::Create { holder }),
            Some(record) if self.is_free(record, seen.unchanged_since, now) => Step::Write(Write::Acquire {
                transitions: next(record.transitions),
                over: record.clone(),
                holder,
            }),
            Some(_) => {
                let look_at = seen.read_at.after(self.timing.poll);
                if now >= look_at { Step::Read } else { Step::Wait(look_at) }
            }
        }
    }

    /// Takes in what a read found: `None` if there is no Lease.
    pub fn read(&mut self, record: Option<Record>, now: Monotonic) {
        self.expire(now);
        self.blind = false;
        if let Some(term) = &self.term {
            let still_ours = record.as_ref().is_some_and(|record| {
                record.uid == term.epoch.lease
                    && record.transitions == term.epoch.transitions
                    && record.holder.as_deref() == Some(self.identity.as_str())
            });
            if !still_ours {
                self.term = None;
            }
        }
        self.see(record, now);
    }

    /// Takes in that a read failed.
    pub fn read_failed(&mut self, now: Monotonic) {
        self.not_before = now.after(self.timing.poll);
    }

    /// Takes in what became of `write`, which was sent at `sent`.
    pub fn written(&mut self, write: &Write, outcome: Written, sent: Monotonic, now: Monotonic) {
        self.expire(now);
        let until = sent.after(self.timing.proof);
        match outcome {
            Written::Applied(record) => {
                match write {
                    Write::Create { .. } | Write::Acquire { .. } => {
                        let epoch = Epoch { lease: record.uid.clone(), transitions: record.transitions };
                        self.term = Some(Term { epoch, since: now, until });
                    }
                    Write::Renew { .. } => {
                        if let Some(term) = &mut self.term {
                            term.until = until;
                        }
                    }
                    Write::Release { .. } => self.term = None,
                }
                self.see(Some(record), now);
                self.expire(now);
            }
            Written::Refused => {
                self.blind = true;
                // A leader that met a conflict looks at once; anyone else was simply not the first.
                if self.term.is_none() {
                    self.not_before = now.after(self.timing.poll);
                }
            }
            Written::Unknown => {
                self.blind = true;
                self.not_before = now.after(self.timing.poll);
            }
        }
    }

    /// The term of which this process can still prove to be the leader.
    #[must_use]
    pub fn term(&self) -> Option<&Term> {
        self.term.as_ref()
    }

    /// The write that gives leadership up, if this process may hold it.
    #[must_use]
    pub fn release(&self) -> Option<Write> {
        let record = self.seen.as_ref()?.record.as_ref()?;
        (record.holder.as_deref() == Some(self.identity.as_str()))
            .then(|| Write::Release { over: record.clone() })
    }

    /// Nobody holds it, its holder was silent for too long, or a write of ours was applied after we had given up on it.
    fn is_free(&self, record: &Record, unchanged_since: Monotonic, now: Monotonic) -> bool {
        record
            .holder
            .as_deref()
            .is_none_or(|holder| holder == self.identity || now.since(unchanged_since) >= self.timing.lease)
    }

    fn see(&mut self, record: Option<Record>, now: Monotonic) {
        let unchanged_since =
            self.seen.as_ref().filter(|seen| seen.record == record).map_or(now, |seen| seen.unchanged_since);
        self.seen = Some(Seen { record, unchanged_since, read_at: now });
    }

    fn expire(&mut self, now: Monotonic) {
        if self.term.as_ref().is_some_and(|term| now >= term.until) {
            self.term = None;
            self.blind = true;
        }
    }
}

/// Two terms in a row never share a number, also if somebody has set it to the last one by hand. 1 is for a new Lease.
fn next(transitions: i32) -> i32 {
    transitions.checked_add(1).map_or(2, |next| next.max(2))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
