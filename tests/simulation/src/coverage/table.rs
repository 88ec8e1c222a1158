//! Counts of faults by state.

use crate::faults::Fault;

/// One count for each kind of fault and each of `STATES` states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table<const STATES: usize> {
    counts: [[u64; STATES]; Fault::ALL.len()],
}

impl<const STATES: usize> Default for Table<STATES> {
    fn default() -> Self {
        Self { counts: [[0; STATES]; Fault::ALL.len()] }
    }
}

impl<const STATES: usize> Table<STATES> {
    /// A fault has struck in the state of this number.
    pub fn count(&mut self, fault: Fault, state: usize) {
        self.counts[fault as usize][state] += 1;
    }

    /// How often a fault has struck in the state of this number.
    #[must_use]
    pub fn of(&self, fault: Fault, state: usize) -> u64 {
        self.counts[fault as usize][state]
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().flatten().zip(other.counts.iter().flatten()) {
            *mine += theirs;
        }
    }
}
