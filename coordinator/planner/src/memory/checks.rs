//! What registries said when they were asked for the digest of a reference, and when they may be asked again.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::{Monotonic, Now};
use jiff::Timestamp;

use super::Memory;
use super::pairs::elapsed;
use crate::backoff;
use crate::cluster::Cluster;
use crate::status::RegistryCheck;

/// How long nobody asks again after a failure, the first time and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// A registry that asks for more patience than this gets this much.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// So many digests of earlier answers are remembered.
const EARLIER: usize = 10;

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The registry says that the reference stands for this digest.
    Digest(String),
    /// It can't be told for this image: it is not found there, or not for these credentials, or without a digest.
    Unknown,
    /// The registry can't be reached, fails, or wants to be left alone.
    Unavailable {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
}

/// What was seen of checks of one CachedImage's present reference.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckMemory {
    /// The latest answer.
    pub(crate) answer: Option<Answer>,
    /// When the check that is under way was sent.
    pub(crate) under_way: Option<Monotonic>,
    /// When the latest of those that have ended was sent, whatever came of it.
    pub(crate) asked: Option<Monotonic>,
    /// How often it failed in a row, and until when it is not repeated.
    pub(crate) failures: Failures,
    /// When a digest that its node has not confirmed itself last appeared on a node.
    pub(crate) appeared: Option<Monotonic>,
}

/// An answer of a registry.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// As the status tells it.
    pub(crate) check: RegistryCheck,
    /// When the check was sent, or its result was first seen in a status.
    pub(crate) at: Monotonic,
    /// How old it was then.
    pub(crate) age: Duration,
    /// The observation before which this digest was first given; 0 stands for before this leadership.
    pub(crate) tick: u64,
}

/// Failures in a row.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures {
    times: u32,
    /// Until when nobody asks again.
    pub(crate) until: Monotonic,
}

impl Failures {
    fn note(&mut self, retry_after: Duration, now: Monotonic) {
        self.times = self.times.saturating_add(1);
        let wait = backoff::delay(RETRY.0, RETRY.1, self.times).max(retry_after.min(LONGEST_RETRY_AFTER));
        self.until = now.after(wait);
    }

    pub(crate) const fn any(&self) -> bool {
        self.times > 0
    }
}

/// Registry hosts that did not answer.
pub(crate) type Hosts = BTreeMap<String, Failures>;

impl CheckMemory {
    /// What an earlier leader wrote down about `reference`.
    pub(super) fn recall(stored: Option<&RegistryCheck>, reference: &str, now: Now) -> Self {
        let stored = stored.filter(|check| check.reference == reference);
        let answer = stored.map(|check| Answer {
            check: check.clone(),
            at: now.monotonic,
            age: elapsed(check.at, now.wall),
            tick: 0,
        });
        Self { answer, ..Self::default() }
    }

    /// The registry gave `digest` when it was asked at `sent`.
    fn answered(&mut self, reference: &str, digest: String, sent: Monotonic, tick: u64, now: Now) {
        let before = self.answer.take();
        let (mut earlier, tick) = match before {
            Some(before) if before.check.digest == digest => (before.check.earlier_digests, before.tick),
            Some(mut before) => {
                before.check.earlier_digests.insert(0, before.check.digest);
                (before.check.earlier_digests, tick)
            }
            None => (Vec::new(), tick),
        };
        earlier.retain(|earlier| *earlier != digest);
        earlier.truncate(EARLIER);
        let at = Timestamp::from_second(now.wall.as_second()).unwrap_or(now.wall);
        self.answer = Some(Answer {
            check: RegistryCheck { reference: reference.to_owned(), digest, at, earlier_digests: earlier },
            at: sent,
            age: Duration::ZERO,
            tick,
        });
    }
}

impl Memory {
    /// A check of `reference` for the CachedImage `uid` is about to be sent. Exactly one [`Memory::check_settled`] follows.
    pub fn check_sent(&mut self, uid: &str, reference: &str, now: Now) {
        if let Some(image) = self.images.get_mut(uid).filter(|image| image.reference == reference) {
            image.check.under_way = Some(now.monotonic);
        }
    }

    /// A check has ended. What it says about a reference that has been edited meanwhile is void.
    pub fn check_settled(&mut self, uid: &str, reference: &str, outcome: CheckOutcome, now: Now) {
        let Some(image) = self.images.get_mut(uid).filter(|image| image.reference == reference) else {
            return;
        };
        let Some(sent) = image.check.under_way.take() else { return };
        image.check.asked = Some(sent);
        match outcome {
            CheckOutcome::Digest(digest) => {
                self.check_hosts.remove(&image.host);
                image.check.failures = Failures::default();
                image.registry_said(digest, sent, self.tick, now);
            }
            CheckOutcome::Unknown => image.check.failures.note(Duration::ZERO, now.monotonic),
            CheckOutcome::Unavailable { retry_after } => {
                image.check.failures.note(Duration::ZERO, now.monotonic);
                let host = self.check_hosts.entry(image.host.clone()).or_default();
                // Of several checks that were under way together, the first tells all.
                if host.until <= sent {
                    host.note(retry_after.unwrap_or_default(), now.monotonic);
                } else if let Some(wait) = retry_after {
                    host.until = host.until.max(now.monotonic.after(wait.min(LONGEST_RETRY_AFTER)));
                }
            }
        }
    }

    /// Forgets hosts that no image is on.
    pub(super) fn forget_check_hosts(&mut self, cluster: &Cluster) {
        if self.check_hosts.len() > cluster.images.len() {
            let images = &self.images;
            self.check_hosts.retain(|host, _| images.values().any(|image| image.host == *host));
        }
    }
}

impl super::images::ImageMemory {
    /// The registry said which digest the reference stands for: of all that were seen it is the newest.
    fn registry_said(&mut self, digest: String, sent: Monotonic, tick: u64, now: Now) {
        self.check.answered(&self.reference.clone(), digest, sent, tick, now);
        if let Some((digest, tick)) = self.check.answer.as_ref().map(|a| (a.check.digest.clone(), a.tick)) {
            self.given(&digest, tick);
        }
    }
}
