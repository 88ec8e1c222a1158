//! Simulated time, and the clocks of processes, which run at speeds of their own.
//!
//! Nothing in this crate reads a real clock except the binary's progress line.

use std::time::Duration;

use drop_protocol::{Monotonic, Now};
use jiff::{SignedDuration, Timestamp};

/// True time since the start of the simulation.
pub type Time = Duration;

/// Where wall clocks stand at the start, in seconds since the Unix epoch.
const WALL_START: i64 = 1_900_000_000;

/// The clock of one machine: starts anywhere, drifts, and shows a wall time that may be wrong by any amount.
#[derive(Debug, Clone)]
pub struct Clock {
    drift_ppm: i32,
    start: Duration,
    wall_error: SignedDuration,
}

impl Clock {
    /// A clock that gains `drift_ppm` microseconds a second (may be negative) and read `start` at time zero.
    #[must_use]
    pub fn new(drift_ppm: i32, start: Duration) -> Self {
        Self { drift_ppm, start, wall_error: SignedDuration::ZERO }
    }

    /// Somebody sets the wall clock; the monotonic one does not notice.
    pub fn set_wall_error(&mut self, error: SignedDuration) {
        self.wall_error = error;
    }

    /// What the monotonic clock shows at `time`.
    #[must_use]
    pub fn monotonic(&self, time: Time) -> Monotonic {
        Monotonic::from_start(self.start + self.scaled(time))
    }

    /// What both clocks show at `time`.
    #[must_use]
    pub fn now(&self, time: Time) -> Now {
        let monotonic = self.monotonic(time);
        let wall = Timestamp::from_second(WALL_START).unwrap_or(Timestamp::UNIX_EPOCH);
        let wall = wall.checked_add(time).unwrap_or(wall);
        Now { monotonic, wall: wall.checked_add(self.wall_error).unwrap_or(wall) }
    }

    /// The first moment at which the clock shows `point` or later.
    #[must_use]
    pub fn when(&self, point: Monotonic) -> Time {
        let shown = point.since_start().saturating_sub(self.start);
        let drift = shown.as_secs_f64() * f64::from(self.drift_ppm) / (1e6 + f64::from(self.drift_ppm));
        let mut moment = if drift < 0.0 {
            shown + Duration::from_secs_f64(-drift)
        } else {
            shown.saturating_sub(Duration::from_secs_f64(drift))
        };
        // Rounding may be off by a little.
        while self.monotonic(moment) < point {
            moment += Duration::from_nanos(100);
        }
        moment
    }

    fn scaled(&self, time: Time) -> Duration {
        // Seconds and the rest apart: both products fit into 64 bits.
        let rate = u64::try_from(1_000_000 + i64::from(self.drift_ppm)).unwrap_or(1_000_000);
        Duration::from_micros(time.as_secs() * rate)
            + Duration::from_nanos(u64::from(time.subsec_nanos()) * rate / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_point_at_the_moment_it_names_whatever_its_drift() {
        for drift in [-20_000, -1, 0, 1, 333, 20_000] {
            let clock = Clock::new(drift, Duration::from_secs(77));
            for seconds in [1, 59, 600, 7_201] {
                let point = clock.monotonic(Duration::from_secs(seconds));
                let moment = clock.when(point);
                assert!(clock.monotonic(moment) >= point);
                assert!(moment.abs_diff(Duration::from_secs(seconds)) < Duration::from_micros(1));
            }
        }
    }
}
