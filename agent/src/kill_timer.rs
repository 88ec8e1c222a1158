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

/// Why this process has no such timer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first process of a namespace ignores SIGKILL from within.
    #[error(
        "the kernel ends no process that is the first of its namespace (PID 1), and this one has to be ended when its \
         grant is over: set `shareProcessNamespace: true` in the agent's Pod"
    )]
    First,
    /// There is none to be had.
    #[error("the kernel refuses a timer (timer_create: {0}); allow it in the seccomp profile")]
    Refused(#[from] nix::Error),
}

/// A POSIX timer on `CLOCK_BOOTTIME` that sends SIGKILL to this process.
#[derive(Debug)]
pub struct KernelTimer(RefCell<Timer>);

impl KernelTimer {
    /// Creates the timer, disarmed.
    ///
    /// # Errors
    /// If the kernel or its seccomp filter refuses, or the timer could not end this process.
    pub fn new() -> Result<Self, Error> {
        if std::process::id() == 1 {
            return Err(Error::First);
        }
        let kill = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
        Ok(Self(RefCell::new(Timer::new(ClockId::CLOCK_BOOTTIME, kill)?)))
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
