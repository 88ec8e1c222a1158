//! What the registry said about an image, and whether it is to be asked again: once for all nodes that hold the image.
//!
//! A check only ever saves grants. A pair waits for one for a moment at most, and only if its node holds the image;
//! without an answer that helps, the node asks the registry itself by pulling.

use std::cell::Cell;
use std::time::Duration;

use drop_protocol::failure::Failure;
use drop_protocol::{ImagePullPolicy, Monotonic};

use crate::cluster::{CachedImage, World};
use crate::memory::checks::{Answer, CheckMemory};
use crate::memory::reported::Reported;
use crate::wake::Wake;

/// So long a pair waits for a check before its node asks the registry itself.
const PATIENCE: Duration = Duration::from_secs(15);
/// An answer is good for images that appear on nodes so long after it.
const FRESH: Duration = Duration::from_secs(300);

/// Checks of one image.
pub(crate) struct ImageCheck<'w> {
    memory: Option<&'w CheckMemory>,
    /// Numbers of the digests that the registry gave and some node reports, the latest first.
    given: Vec<u32>,
    /// Number of the digest that the registry gave last, if some node reports it.
    latest: Option<u32>,
    /// Whether the registry can be asked.
    pub(crate) possible: bool,
    /// When it may be asked again after failures.
    pub(crate) not_before: Monotonic,
    wanted: Cell<bool>,
}

impl<'w> ImageCheck<'w> {
    pub(super) fn new(world: &'w World, image: &CachedImage, pinned: bool) -> Self {
        let seen = world.memory.images.get(&image.uid).filter(|seen| seen.reference == image.reference);
        let memory = seen.map(|seen| &seen.check);
        let mut check = Self {
            memory,
            given: Vec::new(),
            latest: None,
            possible: world.checks
                && image.problem.is_none()
                && !pinned
                && image.pull_policy != ImagePullPolicy::Never,
            not_before: Monotonic::default(),
            wanted: Cell::new(false),
        };
        if let Some(answer) = check.answer() {
            let columns = &world.memory.columns;
            let said = &answer.check;
            check.latest = columns.number_of(&said.digest);
            let earlier = said.earlier_digests.iter().filter_map(|digest| columns.number_of(digest));
            check.given = check.latest.into_iter().chain(earlier).collect();
        }
        if let Some(seen) = seen {
            let host = world.memory.check_hosts.get(&seen.host).map(|host| host.until);
            check.not_before = seen.check.failures.until.max(host.unwrap_or_default());
        }
        // Images that pods bring, or new nodes, may be newer than the answer, or older than the registry by now.
        if image.pull_policy == ImagePullPolicy::Always && check.appeared_since().is_some() {
            check.wanted.set(true);
        }
        check
    }

    pub(crate) fn answer(&self) -> Option<&'w Answer> {
        self.memory?.answer.as_ref()
    }

    /// Whether it is the registry's own word that the node holds what the reference stands, or stood, for.
    pub(crate) fn confirms(&self, reported: Reported) -> bool {
        reported.digest().is_some_and(|digest| self.given.contains(&digest))
    }

    /// When the registry last said, and how long ago that was when it was first seen, that what the node holds is
    /// what the reference stands for.
    pub(crate) fn up_to_date(&self, reported: Reported) -> Option<(Monotonic, Duration)> {
        let digest = reported.digest()?;
        self.answer().filter(|_| self.latest == Some(digest)).map(|answer| (answer.at, answer.age))
    }

    /// Whether a failure is of no interest any more: later on, the registry itself confirmed what the node holds.
    pub(crate) fn outdates(&self, reported: Reported, failure: &Failure, seen: Monotonic) -> bool {
        let Some(answer) = self.answer().filter(|_| self.up_to_date(reported).is_some()) else {
            return false;
        };
        // Which was first under an earlier leader, only their times can tell.
        if answer.tick == 0 { failure.at <= answer.check.at } else { seen <= answer.at }
    }

    /// Whether a pair that holds the image waits for the registry's word since `since`.
    pub(crate) fn is_awaited(&self, since: Monotonic, wake: &Wake) -> bool {
        if !self.possible {
            return false;
        }
        let appeared = self.appeared_since();
        let memory = self.memory;
        if appeared.is_none() && memory.and_then(|memory| memory.asked).is_some_and(|asked| asked >= since) {
            // The answer was another digest, or there was none. Where there was none, there may be one later.
            if memory.is_some_and(|memory| memory.failures.any()) {
                self.wanted.set(true);
            }
            return false;
        }
        self.wanted.set(true);
        let under_way = memory.is_some_and(|memory| memory.under_way.is_some());
        (under_way || !wake.ahead(self.not_before))
            && wake.ahead(since.max(appeared.unwrap_or_default()).after(PATIENCE))
    }

    /// Whether the registry is to be asked.
    pub(crate) fn is_wanted(&self) -> bool {
        self.possible && self.wanted.get()
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.memory.is_some_and(|memory| memory.under_way.is_some())
    }

    /// Whether a node was seen to hold the image without having confirmed it itself.
    pub(crate) fn has_appeared(&self) -> bool {
        self.memory.is_some_and(|memory| memory.appeared.is_some())
    }

    /// When the image last appeared on a node, if the registry was not asked for long before that.
    fn appeared_since(&self) -> Option<Monotonic> {
        let memory = self.memory?;
        let answered = memory.answer.as_ref().map(|answer| answer.at.after(FRESH.saturating_sub(answer.age)));
        let good_until = answered.max(memory.asked.map(|asked| asked.after(FRESH)));
        memory.appeared.filter(|appeared| good_until.is_none_or(|until| until < *appeared))
    }
}
