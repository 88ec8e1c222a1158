//! The invariants of the design, checked after every event. Each check looks at the modelled truth, never at what a
//! part believes, and computes what it compares with in its own way.
//!
//! | module | invariants |
//! |---|---|
//! | [`slots`] | 1: never more nodes pulling than the policy allows, and only holders of live grants; 2: delays |
//! | [`wanted`] | 4: what is no longer wanted is not pulled again |
//! | [`expected`] | 3, 5: what must be cached, and what status must say |
//! | [`sets`] | 8: children of sets, and 3 and 5 of them |
//! | [`quiet`] | 6: no writes while nothing changes |

pub mod expected;
pub mod quiet;
mod sets;
mod slots;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use drop_planner::CachedImage;
use drop_protocol::GrantId;

use crate::api::{Change, Kind, StoredLease};
use crate::clock::Time;
use crate::runtime::PullKey;
use crate::simulation::Simulation;
pub use slots::IssueTag;
use slots::{IssueRecord, Taken};

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its number.
    pub invariant: u8,
    /// When it was noticed.
    pub at: Time,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} broken at {:.3} s: {}", self.invariant, self.at.as_secs_f64(), self.what)
    }
}

/// What the checks remember.
#[derive(Debug, Default)]
pub struct Checker {
    /// The first violation, until the run ends with it.
    pub violation: Option<Violation>,
    /// Version up to which news has been spread.
    pub spread: u64,
    /// Since when no faults have been left.
    pub calm_since: Option<Time>,
    /// Images as each coordinator first saw them: for a break only.
    pub first_views: BTreeMap<usize, BTreeMap<String, Arc<CachedImage>>>,
    /// What registries said when coordinators asked them: reference and digest.
    pub answers: BTreeSet<(String, String)>,
    issues: BTreeMap<GrantId, IssueRecord>,
    taken: BTreeMap<String, Vec<Taken>>,
    leases: BTreeMap<String, Arc<StoredLease>>,
    /// When a node's Lease was deleted while its grant was taken.
    lease_gone: BTreeMap<String, Time>,
    /// When the leader Lease last changed hands.
    acquired: Time,
    /// What the leader Lease says.
    pub leader: Option<drop_protocol::Epoch>,
    /// At which version, and after how many begins and ends of pulls, running pulls were last looked at.
    looked: (u64, u64),
    starts: BTreeMap<(usize, PullKey), Start>,
    /// (uid, reference) that a leader has seen to be unwanted, and when.
    unwanted: BTreeMap<(String, String), Time>,
    /// All that any leader has seen to be wanted.
    wanted_before: BTreeSet<(String, String)>,
}

/// A pull that an agent has started.
#[derive(Debug)]
struct Start {
    reference: String,
    grant: Option<GrantId>,
}

impl Checker {
    /// The reference that a pull is about.
    #[must_use]
    pub fn reference_of(&self, machine: usize, key: PullKey) -> Option<String> {
        self.starts.get(&(machine, key)).map(|start| start.reference.clone())
    }
}

impl Simulation {
    /// Notes a violation, unless there is one already.
    pub fn report(&mut self, invariant: u8, what: String) {
        if self.checker.violation.is_none() {
            self.checker.violation = Some(Violation { invariant, at: self.now, what });
        }
    }

    /// Looks at a change as it is committed.
    pub fn checker_sees(&mut self, change: &Change) {
        if change.kind == Kind::Lease {
            self.slots_see_lease(change);
        }
    }

    /// Looks at everything that has to hold at any moment.
    pub fn check_step(&mut self) {
        self.check_pulls();
    }
}
