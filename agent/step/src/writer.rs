//! One write at a time, and what is done after its outcome: repeat nothing blindly, read first when in doubt.

use std::time::Duration;

use drop_protocol::Monotonic;

use crate::api::{WriteId, WriteKind};
use crate::spread::spread;

/// Conflicts in a row after which the next attempt is delayed.
const PATIENCE: u32 = 3;
/// Longest delay while a grant is worked on: it has to be renewed.
const MAX_DELAY_WORKING: Duration = Duration::from_secs(2);
/// Longest delay otherwise.
const MAX_DELAY: Duration = Duration::from_secs(30);
/// Longest time between looking for a Lease that is not there.
const MAX_DELAY_GONE: Duration = Duration::from_secs(120);

/// A write that was sent and not answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) id: WriteId,
    pub(crate) kind: WriteKind,
    pub(crate) at: Monotonic,
    /// The resourceVersion that it is conditional on.
    pub(crate) base: u64,
    /// Whether it carries a report.
    pub(crate) report: bool,
}

/// Bookkeeping of writes to the node Lease and of reading it again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer {
    last_id: u64,
    in_flight: Option<Sent>,
    /// Our view of the Lease is known to be, or may be, out of date.
    doubtful: bool,
    reading: bool,
    failures: u32,
    retry_at: Option<Monotonic>,
    last_sent: Option<Monotonic>,
}

impl Writer {
    pub(crate) fn send(&mut self, kind: WriteKind, base: u64, report: bool, now: Monotonic) -> WriteId {
        self.last_id += 1;
        let id = WriteId(self.last_id);
        self.in_flight = Some(Sent { id, kind, at: now, base, report });
        self.last_sent = Some(now);
        id
    }

    /// Whether a write may be sent now.
    pub(crate) const fn is_free(&self) -> bool {
        self.in_flight.is_none() && !self.doubtful
    }

    pub(crate) const fn in_flight(&self) -> Option<&Sent> {
        self.in_flight.as_ref()
    }

    /// When anything was last sent.
    pub(crate) const fn last_sent(&self) -> Option<Monotonic> {
        self.last_sent
    }

    /// Takes the answered write out; `None` if it is not the one in flight.
    pub(crate) fn answered(&mut self, id: WriteId) -> Option<Sent> {
        self.in_flight.take_if(|sent| sent.id == id)
    }

    pub(crate) fn applied(&mut self) {
        self.doubtful = false;
        self.failures = 0;
        self.retry_at = None;
    }

    /// Somebody else was first. `stale`: what we know of the Lease is not newer than what the write was based on.
    pub(crate) fn conflict(&mut self, stale: bool, node: &str, now: Monotonic) {
        self.doubtful = stale;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = (self.failures > PATIENCE).then(|| now.after(self.delay(node, MAX_DELAY_WORKING)));
    }

    /// No outcome, or the Lease could not be read: read it, after a delay that grows.
    pub(crate) fn unknown(&mut self, working: bool, node: &str, now: Monotonic) {
        self.reading = false;
        self.doubt_after(if working { MAX_DELAY_WORKING } else { MAX_DELAY }, node, now);
    }

    /// There is no Lease: look again, ever less often. The watch tells sooner if it comes back.
    pub(crate) fn gone(&mut self, node: &str, now: Monotonic) {
        self.reading = false;
        self.doubt_after(MAX_DELAY_GONE, node, now);
    }

    /// The Lease was seen. `newer`: it is newer than what was known before.
    pub(crate) fn seen(&mut self, newer: bool) {
        if newer || self.reading {
            self.doubtful = false;
            self.reading = false;
            self.retry_at = None;
        }
    }

    /// Whether the Lease has to be read now; if so, that counts as begun.
    pub(crate) fn begin_read(&mut self, now: Monotonic) -> bool {
        let due = self.doubtful && !self.reading && self.in_flight.is_none() && self.delayed(now).is_none();
        self.reading |= due;
        due
    }

    /// Until when nothing is to be read or written; `None`: no delay.
    pub(crate) fn delayed(&self, now: Monotonic) -> Option<Monotonic> {
        self.retry_at.filter(|at| *at > now)
    }

    /// A delay that matters to the next wake-up.
    pub(crate) fn wake_at(&self, now: Monotonic) -> Option<Monotonic> {
        self.delayed(now).filter(|_| self.in_flight.is_none() && !self.reading)
    }

    fn doubt_after(&mut self, longest: Duration, node: &str, now: Monotonic) {
        self.doubtful = true;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.after(self.delay(node, longest)));
    }

    /// Doubles from half a second; between half and all of that, so that nodes don't come back together.
    fn delay(&self, node: &str, longest: Duration) -> Duration {
        let exponent = self.failures.min(9);
        let whole = Duration::from_millis(500).saturating_mul(1 << exponent).min(longest);
        whole / 2 + spread(node, u64::from(self.failures), whole / 2)
    }
}
