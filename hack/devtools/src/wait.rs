//! Waiting for a condition that only polling can tell.

use std::thread::sleep;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(200);

/// Asks `done` five times a second until it says yes or `patience` is over; tells which of both.
pub fn until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if done() {
            return true;
        }
        if started.elapsed() >= patience {
            return false;
        }
        sleep(POLL);
    }
}
