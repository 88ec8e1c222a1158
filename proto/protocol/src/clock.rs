//! The two clocks that every decision is given, so that no decision reads one itself.

use std::time::Duration;

use jiff::Timestamp;

/// A point on one process's monotonic clock, counted from an arbitrary start.
///
/// Points of two processes can't be compared, and none is ever written to an API object: leases expire by what a
/// process has itself watched, never by comparing somebody's timestamp with the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic {
    /// Enough for five centuries, and half the size of a [`Duration`]: there is one in every pair of image and node.
    nanoseconds: u64,
}

impl Monotonic {
    /// The point `since_start` after the clock's start.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Self {
        Self { nanoseconds: nanoseconds(since_start) }
    }

    /// How long the clock had been running at this point.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.nanoseconds)
    }

    /// The point `by` later; saturates at the end of time.
    #[must_use]
    pub const fn after(self, by: Duration) -> Self {
        Self { nanoseconds: self.nanoseconds.saturating_add(nanoseconds(by)) }
    }

    /// The point `by` earlier; saturates at the clock's start.
    #[must_use]
    pub const fn before(self, by: Duration) -> Self {
        Self { nanoseconds: self.nanoseconds.saturating_sub(nanoseconds(by)) }
    }

    /// How much time lies between `earlier` and this point; zero if `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.nanoseconds.saturating_sub(earlier.nanoseconds))
    }
}

const fn nanoseconds(duration: Duration) -> u64 {
    const LONGEST: Duration = Duration::from_nanos(u64::MAX);
    // Compared by parts: comparing durations is not possible in a constant function.
    if duration.as_secs() >= LONGEST.as_secs() {
        return u64::MAX;
    }
    duration.as_secs() * 1_000_000_000 + duration.subsec_nanos() as u64
}

/// The instant at which a decision is made, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For every interval: delays, backoff, expiry.
    pub monotonic: Monotonic,
    /// For what people read: issue times, `lastPulledAt`. Never for deciding whether a lease lives.
    pub wall: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_at_both_ends() {
        let end = Monotonic::from_start(Duration::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(Monotonic::default().before(Duration::MAX), Monotonic::default());
        assert_eq!(Monotonic::default().since(end), Duration::ZERO);
    }

    #[test]
    fn nothing_is_lost_to_the_nanosecond() {
        let point = Monotonic::from_start(Duration::new(86_400, 123_456_789));
        assert_eq!(point.since_start(), Duration::new(86_400, 123_456_789));
        assert_eq!(point.after(Duration::from_nanos(1)).since(point), Duration::from_nanos(1));
    }
}
