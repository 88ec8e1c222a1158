//! Invariant 6: a cluster where nothing changes causes no writes, leader renewals aside.

use crate::api::Audited;
use crate::clock::Time;
use crate::simulation::Simulation;

impl Simulation {
    /// The first write since `start` that is not a leader's renewal.
    #[must_use]
    pub fn disturbance(&self, start: Time) -> Option<&Audited> {
        self.api
            .audit()
            .iter()
            .rev()
            .take_while(|write| write.at >= start)
            .filter(|w| !w.request.elects())
            .last()
    }
}
