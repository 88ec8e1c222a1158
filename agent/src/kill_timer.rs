//! The timer by which the kernel ends this process at the deadline of its grant.
//!
//! A process that was stopped (SIGSTOP, a frozen cgroup, a debugger) can't notice that its grant expired, and the
//! runtime would pull on for it. The kernel notices: SIGKILL ends a stopped process too, its socket closes, and the
//! runtime ends the pull.

use std::cell::RefCell;
use std::time::Duration;

use drop_protocol::Monotonic;
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use crate::parts::KillTimer;

/// A POSIX timer on `CLOCK_BOOTTIME` that sends SIGKILL to this process.
#[derive(Debug)]
pub struct KernelTimer(RefCell<Timer>);

impl KernelTimer {
    /// Creates the timer, disarmed.
    ///
    /// # Errors
    /// If the kernel or its seccomp filter refuses.
    pub fn new() -> Result<Self, nix::Error> {
        let kill = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
        Timer::new(ClockId::CLOCK_BOOTTIME, kill).map(|timer| Self(RefCell::new(timer)))
    }

    fn set(&self, at: Duration) -> Result<(), nix::Error> {
        let at = Expiration::OneShot(TimeSpec::from_duration(at));
        self.0.borrow_mut().set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)
    }
}

impl KillTimer for KernelTimer {
    fn arm(&self, deadline: Monotonic) -> Result<(), String> {
        // Zero would disarm it.
        let at = deadline.since_start().max(Duration::from_nanos(1));
        self.set(at).map_err(|errno| errno.to_string())
    }

    fn disarm(&self) {
        if let Err(errno) = self.set(Duration::ZERO) {
            tracing::warn!(%errno, "the kernel timer could not be disarmed; this process will end at its deadline");
        }
    }
}
