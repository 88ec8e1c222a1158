//! Gathers the moments at which a decision could come out differently by the passing of time alone.

use std::cell::Cell;

use drop_protocol::Monotonic;

/// The earliest moment after `now` that somebody asked for.
#[derive(Debug)]
pub(crate) struct Wake {
    now: Monotonic,
    earliest: Cell<Option<Monotonic>>,
}

impl Wake {
    pub(crate) const fn new(now: Monotonic) -> Self {
        Self { now, earliest: Cell::new(None) }
    }

    /// Asks for `at`; says whether it still lies ahead.
    pub(crate) fn ahead(&self, at: Monotonic) -> bool {
        let ahead = at > self.now;
        if ahead {
            self.earliest.set(Some(self.earliest.get().map_or(at, |earliest| earliest.min(at))));
        }
        ahead
    }

    pub(crate) fn earliest(&self) -> Option<Monotonic> {
        self.earliest.get()
    }
}
