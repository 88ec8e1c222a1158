//! Whether the Lease's grant may be taken: the fence against coordinators that lead no more.

use std::time::Duration;

use drop_protocol::{Epoch, Grant, GrantId, GrantState, Monotonic, NodeLease};

use crate::agent::Agent;
use crate::api::Effect;
use crate::work::Work;

/// Between two attempts to read the leader Lease.
const RETRY: Duration = Duration::from_secs(1);

/// What a check of the leader Lease is about: a read that began before this was seen proves nothing about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    lease: String,
    grant: GrantId,
    epoch: Epoch,
}

/// The one read of the leader Lease that stands before a take.
#[derive(Debug, Clone, Default)]
pub(crate) struct LeaderCheck {
    reading: Option<Subject>,
    passed: Option<Subject>,
    failed: Option<Subject>,
    retry_at: Option<Monotonic>,
}

impl LeaderCheck {
    /// The leader Lease shows `epoch`.
    pub(crate) fn answered(&mut self, epoch: Option<&Epoch>) {
        let Some(subject) = self.reading.take() else { return };
        self.retry_at = None;
        if epoch == Some(&subject.epoch) {
            self.passed = Some(subject);
        } else {
            self.failed = Some(subject);
        }
    }

    /// Whether the answer is still awaited.
    pub(crate) const fn is_reading(&self) -> bool {
        self.reading.is_some()
    }

    /// The leader Lease could not be read.
    pub(crate) fn unanswered(&mut self, now: Monotonic) {
        self.reading = None;
        self.retry_at = Some(now.after(RETRY));
    }
}

impl Agent {
    /// Has the leader Lease read for an untaken grant; takes up a grant that an earlier process has taken.
    pub(crate) fn admit(&mut self, now: Monotonic) {
        let Some(lease) = &self.lease else { return };
        let Some(grant) = lease.live_grant() else { return };
        match (lease.state(), &lease.holder) {
            (GrantState::Untaken, _) => {
                let subject = Subject::of(lease, grant);
                let decided =
                    self.leader.passed.as_ref() == Some(&subject) || self.refusal(lease, grant).is_some();
                // A grant that can't be acted on yet is left untaken: the coordinator withdraws it.
                let able = self.known.has_inventory() && self.shutdown.is_none();
                if decided || !able || self.leader.reading.is_some() {
                    return;
                }
                if let Some(at) = self.leader.retry_at.filter(|at| *at > now) {
                    return self.wake_no_later_than(at);
                }
                self.leader.reading = Some(subject);
                self.effects.push(Effect::ReadLeader);
            }
            (GrantState::Taken, Some(holder))
                if self.work.is_none() && self.known.has_inventory() && self.may_resume(holder) =>
            {
                // No check: its slot is occupied as long as the Lease shows it, whoever leads. But it has to be
                // taken once more before anything is pulled.
                self.work = Some(Work::new(grant));
            }
            _ => {}
        }
    }

    /// Whether the leader Lease agreed with the Lease's grant.
    pub(crate) fn is_admitted(&self, lease: &NodeLease, grant: &Grant) -> bool {
        self.leader.passed.as_ref() == Some(&Subject::of(lease, grant))
    }

    /// Why the Lease's untaken grant is not taken.
    pub(crate) fn refusal(&self, lease: &NodeLease, grant: &Grant) -> Option<String> {
        if let Some(withdrawal) = &grant.withdrawn {
            return Some(format!("withdrawn: {}", withdrawal.reason));
        }
        if self.leader.failed.as_ref() == Some(&Subject::of(lease, grant)) {
            return Some("issued by a coordinator that does not lead".to_owned());
        }
        self.disk.low().map(|low| low_disk_text(low.free_percent, low.wanted_percent))
    }
}

impl Subject {
    fn of(lease: &NodeLease, grant: &Grant) -> Self {
        Self { lease: lease.uid.clone(), grant: grant.id.clone(), epoch: grant.epoch.clone() }
    }
}

/// What people read when the disk guard is closed.
pub(crate) fn low_disk_text(free: u8, wanted: u8) -> String {
    format!("low disk: {free} % of the image file system free, {wanted} % wanted")
}
