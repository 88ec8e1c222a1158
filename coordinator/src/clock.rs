//! The only place where this program reads a clock.
//!
//! Everything that decides is given a [`Now`]; everything that waits waits here. Intervals are measured with
//! `CLOCK_BOOTTIME`, which, unlike `CLOCK_MONOTONIC`, also counts while the machine sleeps: a leader that slept past
//! its lease must notice.

use std::time::{Duration, Instant};

use drop_protocol::{Monotonic, Now};
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// A handle to this machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    fallback: Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// The clocks of this machine.
    #[must_use]
    pub fn new() -> Self {
        Self { fallback: Instant::now() }
    }

    /// The monotonic clock. A kernel without `CLOCK_BOOTTIME` (older than Linux 2.6.39) gets the process's own.
    #[must_use]
    pub fn monotonic(&self) -> Monotonic {
        Monotonic::from_start(
            clock_gettime(ClockId::CLOCK_BOOTTIME).map_or_else(|_| self.fallback.elapsed(), Duration::from),
        )
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), wall: Timestamp::now() }
    }

    /// Returns when the monotonic clock has reached `deadline`; at once if it has passed.
    pub async fn sleep_until(&self, deadline: Monotonic) {
        loop {
            let left = deadline.since(self.monotonic());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }
}
