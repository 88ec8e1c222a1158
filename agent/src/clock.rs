//! The machine's clocks.

use std::time::Duration;

use drop_protocol::{Monotonic, Now};
use futures::future::LocalBoxFuture;
use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::parts::Clock;

/// `CLOCK_BOOTTIME`, which goes on while the machine sleeps, and the wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineClock;

impl MachineClock {
    fn monotonic() -> Monotonic {
        // The kernel has had this clock since 2.6.39; without it every deadline has come, so nothing is ever pulled.
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from);
        Monotonic::from_start(since_boot)
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Now {
        Now { monotonic: Self::monotonic(), wall: Timestamp::now() }
    }

    fn sleep_until(&self, at: Monotonic) -> LocalBoxFuture<'static, ()> {
        let left = at.since(Self::monotonic());
        Box::pin(tokio::time::sleep(left))
    }
}
