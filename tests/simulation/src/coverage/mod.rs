//! Which fault struck in which state: counts over all seeds, and what never came together.
//!
//! | module | subject |
//! |---|---|
//! | [`states`] | the states, and how they are told |
//! | [`possible`] | which combinations can't be, and why |
//! | [`table`] | one table of counts |
//! | [`report`] | all tables for people and programs |
//! | [`aims`] | faults that wait for a state, so that rare combinations come up too |
//!
//! States are told from the modelled truth, and by what processes have asked for and not heard of.

mod aims;
pub mod possible;
pub mod report;
mod states;
pub mod table;

pub use aims::{Aim, turn};
pub use states::{ImageState, LeaderState, NodeState, SetState};
use table::Table;

/// What the faults of some runs struck.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Runs.
    pub seeds: u64,
    /// Events that were handled.
    pub steps: u64,
    /// Faults that struck.
    pub faults: u64,
    /// By the grant of the node that was struck; of every node, if none was.
    pub nodes: Table<{ NodeState::ALL.len() }>,
    /// By the replica that was struck; by who leads, if none was.
    pub leaders: Table<{ LeaderState::ALL.len() }>,
    /// By the status of the CachedImage that somebody touched.
    pub images: Table<{ ImageState::ALL.len() }>,
    /// By the status of the CachedImageSet.
    pub sets: Table<{ SetState::ALL.len() }>,
}

impl Coverage {
    /// Adds what another run struck.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.faults += other.faults;
        self.nodes.add(&other.nodes);
        self.leaders.add(&other.leaders);
        self.images.add(&other.images);
        self.sets.add(&other.sets);
    }
}
