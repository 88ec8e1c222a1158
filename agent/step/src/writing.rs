//! Which write to the node Lease is due: take, finish, refuse, renew, report, in this order, one at a time.

use drop_protocol::failure::cut;
use drop_protocol::names::FAILURE_TEXT_MAX_BYTES;
use drop_protocol::{GrantId, GrantOutcome, GrantState, Holder, Monotonic, NodeLease, Now, Outcome, Report};

use crate::agent::Agent;
use crate::api::{Effect, WriteKind};
use crate::report::{News, compose, news};

/// Outside a grant reports may follow each other this many times faster than [`crate::Config::report_gap`].
const QUICKER_OUTSIDE_GRANT: u32 = 5;
/// During the last pull of a grant they follow so many times slower: it ends the grant, which is told with all the rest.
const SLOWER_AT_LAST: u32 = 2;

impl Agent {
    /// Sends the write that is due, if one is and none is on its way.
    pub(crate) fn write(&mut self, now: Now) {
        if !self.writer.is_free() || self.writer.delayed(now.monotonic).is_some() {
            return;
        }
        // Taken out for the time of the decision, so that deciding may change the rest.
        let Some(lease) = self.lease.take() else { return };
        self.write_to(&lease, now);
        self.lease = Some(lease);
    }

    fn write_to(&mut self, lease: &NodeLease, now: Now) {
        match (&lease.grant, lease.state()) {
            (Some(grant), GrantState::Untaken) => {
                if let Some(reason) = self.refusal(lease, grant) {
                    let report = self.compose(lease, Some((&grant.id, Outcome::Refused, &reason)));
                    self.send(WriteKind::Refuse, lease, lease.report_patch(&report), true, now);
                } else if self.shutdown.is_none() && self.is_admitted(lease, grant) {
                    self.take(lease, &grant.id, now);
                } else if !self.leader.is_reading() {
                    // A report sent while the check is on its way would only make the take wait.
                    self.report_if_due(lease, now);
                }
            }
            (Some(grant), GrantState::Taken) => self.keep(lease, &grant.id, now),
            _ => self.report_if_due(lease, now),
        }
    }

    /// Finishes, takes again or renews the grant being worked on.
    fn keep(&mut self, lease: &NodeLease, grant: &GrantId, now: Now) {
        // Without any, somebody else of this node holds it and reports.
        let Some(work) = &self.work else { return };
        if let Some(reason) = work.ended.clone().filter(|_| self.pull.is_none()) {
            let report = self.compose(lease, Some((grant, Outcome::Finished, &reason)));
            return self.send(WriteKind::Finish, lease, lease.finish_patch(&report), true, now);
        }
        let Some(held) = work.held else { return self.take(lease, grant, now) };
        let report_at = self.report_at(lease);
        let renewal_due = held.renew_at <= now.monotonic;
        if !renewal_due && report_at.is_none_or(|at| at > now.monotonic) {
            self.wake_no_later_than(report_at.map_or(held.renew_at, |at| at.min(held.renew_at)));
            return;
        }
        let report = report_at.map(|_| self.compose(lease, None));
        let patch = lease.renew_patch(report.as_ref(), now.wall);
        self.send(WriteKind::Renew, lease, patch, report.is_some(), now);
    }

    fn take(&mut self, lease: &NodeLease, grant: &GrantId, now: Now) {
        let holder = Holder { process: self.config.process.clone(), grant: grant.clone() };
        self.send(WriteKind::Take, lease, lease.take_patch(&holder, now.wall), false, now);
    }

    fn report_if_due(&mut self, lease: &NodeLease, now: Now) {
        match self.report_at(lease) {
            None => {}
            Some(at) if at > now.monotonic => self.wake_no_later_than(at),
            Some(_) => {
                let report = self.compose(lease, None);
                self.send(WriteKind::Report, lease, lease.report_patch(&report), true, now);
            }
        }
    }

    /// From when on there is something to report; `None`: nothing.
    fn report_at(&mut self, lease: &NodeLease) -> Option<Monotonic> {
        let last = lease.report.as_ref();
        let news = match self.news {
            Some(news) => news,
            // Before the runtime was asked, nothing is known better than what the Lease says.
            None if !self.known.has_inventory() => News::None,
            // The coordinator grants nothing to a node whose report it can't read.
            None if lease.report_error.is_some() => News::Change,
            None => news(&self.compose(lease, None), last, &self.known),
        };
        self.news = Some(news);
        let gap = match &self.work {
            None => self.config.report_gap / QUICKER_OUTSIDE_GRANT,
            Some(work) if work.is_at_last() => self.config.report_gap * SLOWER_AT_LAST,
            Some(_) => self.config.report_gap,
        };
        let quiet = self.writer.last_sent().map_or(Monotonic::default(), |sent| sent.after(gap));
        match news {
            News::None => None,
            News::Answers(at) => Some(at.max(quiet)),
            News::Change => Some(quiet),
        }
    }

    fn compose(&self, lease: &NodeLease, ended: Option<(&GrantId, Outcome, &str)>) -> Report {
        let ended = ended.map(|(id, outcome, reason)| GrantOutcome {
            id: id.clone(),
            outcome,
            reason: cut(reason, FAILURE_TEXT_MAX_BYTES - 1).to_owned(),
        });
        compose(&self.known, lease.report.as_ref(), &self.config.pod_uid, self.disk.low(), ended)
    }

    fn send(&mut self, kind: WriteKind, lease: &NodeLease, patch: serde_json::Value, report: bool, now: Now) {
        let write = self.writer.send(kind, lease.resource_version, report, now.monotonic);
        self.effects.push(Effect::WriteLease { write, patch, kind });
    }
}
