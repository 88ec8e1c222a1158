//! The election: the product's own state machine over modelled requests.

use drop_protocol::{Epoch, Monotonic, NodeLease, names};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::execute::Purpose;
use crate::api::{Refusal, StoredLease};
use crate::clock::Time;
use crate::network::Client;
use crate::request::{Answer, Request};
use crate::simulation::Simulation;

/// One leadership of this process, as far as it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// Its number.
    pub(crate) epoch: Epoch,
    /// When it was acquired.
    pub(crate) since: Monotonic,
    /// Until when the last successful renewal proves it.
    pub(crate) until: Monotonic,
}

// The coordinator's crate needs a Kubernetes client and an asynchronous runtime, this file of it neither.
#[path = "../../../../coordinator/src/lead/state.rs"]
#[allow(unreachable_pub, dead_code)]
mod state;

use state::{Election, Record, Step, Timing, Write, Written};

/// One process's part in the election.
#[derive(Debug)]
pub(super) struct Candidate {
    election: Election,
    /// A request is under way.
    asking: bool,
}

/// What a request of the election was for.
#[derive(Debug)]
pub(super) enum Asked {
    /// To read the Lease.
    Read,
    /// To write it, and when it was sent.
    Write(Write, Monotonic),
}

impl Asked {
    /// Whether it is for the leadership.
    pub(super) fn acquires(&self) -> bool {
        matches!(self, Self::Write(Write::Create { .. } | Write::Acquire { .. }, _))
    }
}

impl Candidate {
    pub(super) fn new(process: u64) -> Self {
        Self { election: Election::new(format!("c{process}"), Timing::default()), asking: false }
    }

    /// The term, if it is proven now.
    pub(super) fn term(&self, now: Monotonic) -> Option<&Term> {
        self.election.term().filter(|term| now < term.until)
    }
}

impl Simulation {
    /// Does what the election wants next; tells when to come again.
    pub(super) fn elect(&mut self, index: usize, client: Client) -> Option<Time> {
        let clock = self.coordinators[index].clock.clone();
        let now = clock.monotonic(self.now);
        let true_now = self.now;
        let process = self.process(index)?;
        if process.deaf_until > true_now {
            // Neither looks nor renews.
            return None;
        }
        if process.candidate.asking {
            // Even so a term ends when its proof does.
            return process.candidate.term(now).map(|term| clock.when(term.until));
        }
        let (request, asked) = match process.candidate.election.step(now) {
            Step::Wait(at) => return Some(clock.when(at)),
            Step::Read => (Request::GetLease(names::LEADER_LEASE.to_owned()), Asked::Read),
            Step::Write(write) => (request(&write), Asked::Write(write, now)),
        };
        process.candidate.asking = true;
        let stands = asked.acquires();
        let call = self.call(client, request);
        self.process(index)?.calls.insert(call, Purpose::Lead(asked));
        if stands {
            self.leader_moment();
        }
        let process = self.process(index)?;
        process.candidate.term(now).map(|term| clock.when(term.until))
    }

    /// Takes in the answer to a request of the election.
    pub(super) fn elected(&mut self, index: usize, asked: &Asked, answer: &Answer) {
        let now = self.coordinators[index].clock.monotonic(self.now);
        let Some(process) = self.process(index) else { return };
        process.candidate.asking = false;
        let election = &mut process.candidate.election;
        match (asked, answer) {
            (Asked::Read, Answer::Lease(lease)) => election.read(Some(record(lease)), now),
            (Asked::Read, Answer::Refused(Refusal::NotFound)) => election.read(None, now),
            (Asked::Read, _) => election.read_failed(now),
            (Asked::Write(write, sent), answer) => {
                let written = match answer {
                    Answer::Lease(lease) => Written::Applied(record(lease)),
                    Answer::Refused(_) => Written::Refused,
                    _ => Written::Unknown,
                };
                election.written(write, written, *sent, now);
            }
        }
    }

    /// SIGTERM: gives leadership up and ends.
    pub fn terminate_coordinator(&mut self, index: usize) {
        let Some(client) = self.coordinator_client(index) else { return };
        if let Some(write) = self.process(index).and_then(|process| process.candidate.election.release()) {
            self.call(client, request(&write));
        }
        self.coordinator_dies(index);
    }
}

fn record(lease: &StoredLease) -> Record {
    Record {
        uid: lease.lease.uid.clone(),
        resource_version: lease.lease.resource_version.to_string(),
        holder: Some(lease.holder_identity().to_owned()).filter(|holder| !holder.is_empty()),
        transitions: lease.lease.transitions,
    }
}

fn request(write: &Write) -> Request {
    let (over, spec) = match write {
        Write::Create { holder } => {
            let mut lease = NodeLease::create("drop-system", names::LEADER_LEASE, "", Time::from_secs(15));
            lease.metadata = ObjectMeta { name: lease.metadata.name, ..ObjectMeta::default() };
            lease.spec = Some(LeaseSpec {
                holder_identity: Some(holder.clone()),
                lease_transitions: Some(1),
                ..LeaseSpec::default()
            });
            return Request::CreateLease(Box::<Lease>::new(lease));
        }
        Write::Acquire { over, holder, transitions } => {
            (over, json!({ "holderIdentity": holder, "leaseTransitions": transitions }))
        }
        // What renewal changes is its time; a counter of versions does as well.
        Write::Renew { over } => (over, json!({ "acquireTime": null, "strategy": over.resource_version })),
        Write::Release { over } => (over, json!({ "holderIdentity": null })),
    };
    Request::PatchLease {
        name: names::LEADER_LEASE.to_owned(),
        patch: json!({
            "metadata": { "uid": over.uid, "resourceVersion": over.resource_version },
            "spec": spec,
        }),
        what: LEADING,
        issue: None,
    }
}

/// How writes of the election stand in the audit.
const LEADING: &str = "lead";
