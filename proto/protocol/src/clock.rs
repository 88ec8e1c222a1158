//! The two clocks that every decision is given, so that no decision reads one itself.

use std::time::Duration;

use jiff::Timestamp;

/// A point on one process's monotonic clock, counted from an arbitrary start.
///
/// Points of two processes can't be compared, and none is ever written to an API object: leases expire by what a
/// process has itself watched, never by comparing somebody's timestamp with the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(Duration);

impl Monotonic {
    /// The point `since_start` after the clock's start.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long the clock had been running at this point.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// The point `by` later; saturates at the end of time.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// The point `by` earlier; saturates at the clock's start.
    #[must_use]
    pub const fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(by))
    }

    /// How much time lies between `earlier` and this point; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The instant at which a decision is made, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For every interval: delays, backoff, expiry.
    pub monotonic: Monotonic,
    /// For what people read: issue times, `lastPulledAt`. Never for deciding whether a lease lives.
    pub wall: Timestamp,
}
