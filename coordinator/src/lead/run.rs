//! The task that takes part in the election for as long as the process lives.

use std::time::Duration;

use drop_protocol::{Monotonic, names};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::state::{Election, Step, Timing, Write, Written};
use super::{Term, lease};
use crate::api::{Answer, attempt};
use crate::clock::Clock;

/// A request about the leader Lease is given up after this long; its outcome is then unknown.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// One process's part in the election.
pub struct Elector {
    leases: Api<Lease>,
    election: Election,
    timing: Timing,
    clock: Clock,
    terms: watch::Sender<Option<Term>>,
    contact: watch::Sender<Option<Monotonic>>,
    /// Whether trouble with the API server has been logged since it last answered.
    complained: bool,
}

/// What others may know of the election.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// The term that this process leads, while it does.
    pub terms: watch::Receiver<Option<Term>>,
    /// When the API server last answered about the leader Lease.
    pub contact: watch::Receiver<Option<Monotonic>>,
}

impl Elector {
    /// Takes part as `identity`, which must be unlike that of every other process.
    #[must_use]
    pub fn new(leases: Api<Lease>, identity: String, clock: Clock) -> (Self, Outlook) {
        let timing = Timing::default();
        let (terms, terms_seen) = watch::channel(None);
        let (contact, contact_seen) = watch::channel(None);
        let election = Election::new(identity, timing);
        (
            Self { leases, election, timing, clock, terms, contact, complained: false },
            Outlook { terms: terms_seen, contact: contact_seen },
        )
    }

    /// Takes part until the future is dropped. [`Self::release`] may be called after that.
    pub async fn take_part(&mut self) {
        loop {
            match self.election.step(self.clock.monotonic()) {
                Step::Wait(until) => {
                    self.publish();
                    self.clock.sleep_until(until).await;
                }
                Step::Read => self.read().await,
                Step::Write(write) => self.write(&write).await,
            }
            self.publish();
        }
    }

    /// Gives leadership up, so that another process need not wait for it to expire.
    pub async fn release(&mut self) {
        self.try_release().await;
        if self.election.release().is_some() {
            // A renewal that was under way when the election stopped may have made what is known outdated.
            self.read().await;
            self.try_release().await;
        }
        self.publish();
    }

    async fn try_release(&mut self) {
        if let Some(write) = self.election.release() {
            self.write(&write).await;
        }
    }

    async fn read(&mut self) {
        match attempt(REQUEST_TIMEOUT, self.leases.get_opt(names::LEADER_LEASE)).await {
            Answer::Applied(found) => {
                let now = self.clock.monotonic();
                self.answered(now);
                self.election.read(found.as_ref().and_then(lease::record), now);
            }
            Answer::Refused { message, .. } | Answer::Unknown { message } => {
                self.complain("cannot read the leader Lease; trying again", &message);
                self.election.read_failed(self.clock.monotonic());
            }
        }
    }

    async fn write(&mut self, write: &Write) {
        let sent = self.clock.now();
        let request = lease::send(&self.leases, write, &self.timing, sent.wall);
        let answer = attempt(REQUEST_TIMEOUT, request).await;
        let now = self.clock.monotonic();
        let outcome = match answer {
            Answer::Applied(lease) => {
                self.answered(now);
                lease::record(&lease).map_or(Written::Unknown, Written::Applied)
            }
            Answer::Refused { code, message } => {
                match (code, write) {
                    (404, Write::Create { .. }) => {
                        self.complain(
                            "the namespace does not exist: create it, or set --pod-namespace",
                            &message,
                        );
                    }
                    (404 | 409, _) => {}
                    _ => self.complain(
                        "the leader Lease is not accepted: check the RBAC of the coordinator",
                        &message,
                    ),
                }
                Written::Refused
            }
            Answer::Unknown { message } => {
                self.complain("no answer to a write of the leader Lease", &message);
                Written::Unknown
            }
        };
        self.election.written(write, outcome, sent.monotonic, now);
    }

    fn answered(&mut self, now: Monotonic) {
        self.contact.send_replace(Some(now));
        self.complained = false;
    }

    /// Logs trouble once until the API server answers again; it is met every second meanwhile.
    fn complain(&mut self, what: &str, error: &str) {
        if std::mem::replace(&mut self.complained, true) {
            debug!(lease = names::LEADER_LEASE, error, "{what}");
        } else {
            warn!(lease = names::LEADER_LEASE, error, "{what}");
        }
    }

    fn publish(&self) {
        let term = self.election.term();
        self.terms.send_if_modified(|published| {
            if published.as_ref() == term {
                return false;
            }
            let same = published.as_ref().map(|t| &t.epoch) == term.map(|t| &t.epoch);
            if let (false, Some(term)) = (same, term) {
                info!(transitions = term.epoch.transitions, "leading");
            } else if term.is_none() {
                info!("no longer leading");
            }
            *published = term.cloned();
            true
        });
    }
}
