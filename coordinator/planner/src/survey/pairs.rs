//! Where one pair stands by itself: cached, and if not, or not for ever, what it needs.

use std::time::Duration;

use drop_protocol::catalog::ANSWER_MARGIN;
use drop_protocol::failure::{Failure, FailureScope};
use drop_protocol::{ImagePullPolicy, Monotonic, Now, ReportEntry};

use super::Need;
use super::checks::ImageCheck;
use super::nodes::NodeFacts;
use crate::backoff;
use crate::cluster::CachedImage;
use crate::memory::listing::Listed;
use crate::memory::pairs::{FailureSeen, PairMemory, elapsed};
use crate::memory::reported::Reported;
use crate::policy::Pacing;
use crate::waiting::WaitReason;
use crate::wake::Wake;

/// Of nodes that hold a newly listed image that has to be confirmed, some say so within this time, however many they are.
const FIRST_ANSWER: Duration = Duration::from_secs(1);
/// Where all nodes have answered sooner: so long after the last of them was to answer.
const FIRST_ANSWER_MARGIN: Duration = Duration::from_millis(150);
/// The longest that an evicted image waits before it is pulled again.
const EVICTION_BACKOFF_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// All that decides about one pair.
pub(super) struct Judge<'a, 'w> {
    pub(super) image: &'w CachedImage,
    /// Its reference names exact content.
    pub(super) pinned: bool,
    pub(super) secrets_pending: bool,
    pub(super) pacing: &'a Pacing<'w>,
    pub(super) node: &'a NodeFacts<'w>,
    /// What the node last reported about the present reference.
    pub(super) reported: Reported,
    pub(super) listed: Option<&'w Listed>,
    pub(super) check: &'a ImageCheck<'w>,
    pub(super) answer_within: Duration,
    /// Generation of the catalog: nobody has answered a later one.
    pub(super) latest: u64,
    pub(super) now: Now,
    pub(super) wake: &'a Wake,
}

/// What is known of the image on the node.
enum Presence {
    Present,
    /// Absent, or present but to be confirmed by a pull in any case.
    Wanting {
        since: Monotonic,
    },
    Unknown(WaitReason),
}

/// Whether being there is not enough.
pub(super) fn must_be_confirmed(image: &CachedImage, pinned: bool) -> bool {
    image.pull_policy == ImagePullPolicy::Always && !pinned
}

impl<'w> Judge<'_, 'w> {
    /// What was seen of its entry. Few pairs need it: it is looked up for those.
    fn seen(&self) -> Option<&'w PairMemory> {
        self.node.pairs.filter(|_| self.reported.known)?.get(self.image.uid.as_str())
    }

    /// The entry, if it tells of a failure or an eviction.
    fn eventful(&self) -> Option<&'w ReportEntry> {
        self.reported.eventful.then(|| self.node.entry(&self.image.uid, self.reported))?
    }

    /// The failure of the last attempt, if it still matters.
    pub(super) fn failing(&self) -> Option<(&'w Failure, &'w FailureSeen)> {
        self.failed().filter(|(failure, seen)| !self.check.outdates(self.reported, failure, seen.at))
    }

    /// The failure of the last attempt.
    fn failed(&self) -> Option<(&'w Failure, &'w FailureSeen)> {
        let failure = self.eventful()?.failure.as_ref()?;
        (!self.node.forgotten).then_some((failure, self.seen()?.failure.as_ref()?))
    }

    fn must_be_confirmed(&self) -> bool {
        must_be_confirmed(self.image, self.pinned)
    }

    /// What the pair needs.
    pub(super) fn need(&self, cached: bool) -> Need {
        if self.image.problem.is_some() {
            return if cached { Need::Nothing } else { Need::Waits(WaitReason::InvalidSpec) };
        }
        if self.is_in_flight(cached) {
            return Need::InFlight;
        }
        if !cached {
            return self.need_of_missing();
        }
        match self.recheck_since() {
            Some(since) if self.check.is_awaited(since, self.wake) => {
                Need::Waits(WaitReason::CheckingRegistry)
            }
            Some(since) => self.once_possible(since, true),
            None => Need::Nothing,
        }
    }

    /// Whether the node's live grant names this pair and has not dealt with it yet.
    fn is_in_flight(&self, cached: bool) -> bool {
        let Some((grant, first_seen)) = self.node.grant else { return false };
        let named = if first_seen.is_some() {
            self.reported.granted
        } else {
            grant.images.iter().any(|i| i.uid == self.image.uid && i.reference == self.image.reference)
        };
        let Some((seen, granted_at)) = self.seen().zip(first_seen).filter(|_| named) else { return named };
        let pulled = seen.pulled.is_some_and(|pulled| pulled.at > granted_at);
        let failed = seen.failure.as_ref().is_some_and(|failure| failure.at > granted_at);
        !(failed || cached && pulled)
    }

    fn need_of_missing(&self) -> Need {
        let never = self.image.pull_policy == ImagePullPolicy::Never;
        if let Some(obstacle) = self.pacing.obstacle.filter(|_| !never) {
            return Need::Waits(obstacle);
        }
        if let Some(obstacle) = self.node.obstacle {
            return Need::Waits(obstacle);
        }
        match self.presence() {
            Presence::Unknown(reason) => Need::Waits(reason),
            Presence::Wanting { .. } if never => Need::Waits(WaitReason::ErrImageNeverPull),
            Presence::Wanting { since }
                if self.reported.is_present() && self.check.is_awaited(since, self.wake) =>
            {
                Need::Waits(WaitReason::CheckingRegistry)
            }
            Presence::Wanting { since } => self.once_possible(since, false),
            Presence::Present => Need::Nothing,
        }
    }

    fn presence(&self) -> Presence {
        let Some(listed) = self.listed else { return Presence::Unknown(WaitReason::NotYetAnswered) };
        let asked = listed.at.max(self.node.ready_since.unwrap_or_default());
        if self.reported.known {
            return if !self.reported.is_present() || self.must_be_confirmed() && !self.node.forgotten {
                Presence::Wanting { since: asked }
            } else if self.node.forgotten {
                Presence::Unknown(WaitReason::AgentNotReady)
            } else {
                Presence::Present
            };
        }
        if self.is_left_out() {
            return Presence::Unknown(WaitReason::ReportFull);
        }
        // If nobody asks the registry, a pull confirms it whether it is there or not: nothing would be won by waiting
        // for the node's answer.
        let answered = self.must_be_confirmed() && !self.check.may_be_asked(self.wake)
            || self.node.report.is_some_and(|report| {
                (listed.generation..=self.latest.max(listed.generation)).contains(&report.catalog)
            });
        let within = if self.must_be_confirmed() && !self.check.has_appeared() {
            FIRST_ANSWER.min(self.answer_within.saturating_sub(ANSWER_MARGIN) + FIRST_ANSWER_MARGIN)
        } else {
            self.answer_within
        };
        let answered_by = asked.after(within);
        if answered {
            Presence::Wanting { since: asked }
        } else if self.wake.ahead(answered_by) {
            Presence::Unknown(WaitReason::NotYetAnswered)
        } else {
            Presence::Wanting { since: answered_by }
        }
    }

    /// Whether the node's report had no room for this image: the last by reference, and then by uid, are left out.
    fn is_left_out(&self) -> bool {
        let place = (self.image.reference.as_str(), self.image.uid.as_str());
        self.node.report.is_some_and(|report| {
            report.left_out > 0
                && report.images.iter().all(|(uid, entry)| (&*entry.reference, &**uid) < place)
        })
    }

    /// Since when a cached pair is due to ask the registry again.
    fn recheck_since(&self) -> Option<Monotonic> {
        let interval = self.pacing.repull?;
        if self.pinned || self.image.pull_policy == ImagePullPolicy::Never {
            return None;
        }
        let after = |(at, age): (Monotonic, Duration)| at.after(interval.saturating_sub(age));
        let pulled = self.seen().and_then(|seen| seen.pulled).map(|pulled| (pulled.at, pulled.age));
        let last = pulled.map(after).max(self.check.up_to_date(self.reported).map(after));
        // Never confirmed: it may be as old as the wish for it.
        let due = match last {
            Some(due) => due,
            None => after(self.wished()?),
        };
        (!self.wake.ahead(due)).then_some(due)
    }

    /// When the catalog was first seen to list the image, and how old the wish for it was then.
    fn wished(&self) -> Option<(Monotonic, Duration)> {
        let at = self.listed?.at;
        let age = elapsed(self.image.created, self.now.wall);
        Some((at, age.saturating_sub(self.now.monotonic.since(at))))
    }

    /// Due since then, unless something that passes stands in the way.
    pub(super) fn once_possible(&self, since: Monotonic, refresh: bool) -> Need {
        if let Some(obstacle) = self.pacing.obstacle.or(self.node.obstacle) {
            return Need::Waits(obstacle);
        }
        if self.secrets_pending {
            return Need::Waits(WaitReason::PullSecretsPending);
        }
        let mut since = since;
        if let Some(until) = self.failed_until() {
            if self.wake.ahead(until) {
                return Need::Waits(WaitReason::BackingOff { until });
            }
            since = since.max(until);
        }
        if let Some(until) = self.evicted_until().filter(|_| !refresh) {
            if self.wake.ahead(until) {
                return Need::Waits(WaitReason::EvictionBackoff { until });
            }
            since = since.max(until);
        }
        if self.node.report.is_some_and(|report| report.low_disk.is_some()) {
            return Need::Waits(WaitReason::LowDisk);
        }
        if let Some((times, at)) = self.node.unanswered {
            let until = at.after(backoff::delay(self.pacing.initial, self.pacing.max, times));
            if self.wake.ahead(until) {
                return Need::Waits(WaitReason::NotAnswering { until });
            }
        }
        Need::Due { since, refresh }
    }

    /// When the next attempt may start after a failed one.
    fn failed_until(&self) -> Option<Monotonic> {
        let (failure, seen) = self.failed()?;
        if seen.generation != self.image.generation {
            return Some(seen.at);
        }
        let mut wait = backoff::delay(self.pacing.initial, self.pacing.max, failure.attempts);
        if failure.scope == FailureScope::Registry {
            wait = wait.max(Duration::from_secs(failure.retry_after_seconds.unwrap_or_default().into()));
        }
        Some(seen.at.after(wait))
    }

    /// When an evicted image may be pulled again: at once the first time.
    fn evicted_until(&self) -> Option<Monotonic> {
        let evictions = self.eventful()?.evictions.as_ref()?;
        let seen = self.seen()?.evicted?;
        let times = evictions.count.saturating_sub(1);
        let wait = if seen.generation == self.image.generation {
            backoff::delay(self.pacing.initial, EVICTION_BACKOFF_MAX, times)
        } else {
            Duration::ZERO
        };
        Some(seen.at.after(wait))
    }
}
