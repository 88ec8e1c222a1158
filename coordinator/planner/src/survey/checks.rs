//! What the registry said about an image, and whether it is to be asked again: once for all nodes that hold the image.
//!
//! A check only ever saves grants. A pair waits for one for a moment at most, and only if its node holds the image;
//! without an answer that helps, the node asks the registry itself by pulling.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::failure::Failure;
use drop_protocol::{ImagePullPolicy, Monotonic};

use crate::cluster::{CachedImage, World};
use crate::memory::Memory;
use crate::memory::checks::{Answer, CheckMemory};
use crate::memory::reported::Reported;
use crate::wake::Wake;

/// So long a registry may take to answer before nodes that wait for it ask it themselves.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many checks are under way at a time.
const AT_ONCE: usize = 32;
/// So many of them ask one registry host.
const PER_HOST: usize = 8;
/// An answer is good for images that appear on nodes so long after it.
const FRESH: Duration = Duration::from_secs(300);

/// The checks that are under way.
#[derive(Default)]
pub(crate) struct Line<'w> {
    hosts: BTreeMap<&'w str, AtHost>,
    total: usize,
    /// Some of them have had no answer for too long.
    stalled: bool,
}

/// Those at one registry host.
#[derive(Default)]
struct AtHost {
    count: usize,
    stalled: bool,
}

impl<'w> Line<'w> {
    pub(crate) fn new(memory: &'w Memory, wake: &Wake) -> Self {
        let mut line = Self::default();
        for seen in memory.images.values() {
            let Some(sent) = seen.check.under_way else { continue };
            let stalled = !wake.ahead(sent.after(PATIENCE));
            line.join(&seen.host);
            line.stalled |= stalled;
            line.hosts.entry(&seen.host).or_default().stalled |= stalled;
        }
        line
    }

    /// Whether one more check may ask `host`.
    pub(crate) fn has_room(&self, host: &str) -> bool {
        self.total < AT_ONCE && self.hosts.get(host).is_none_or(|at_host| at_host.count < PER_HOST)
    }

    /// One more check asks `host`.
    pub(crate) fn join(&mut self, host: &'w str) {
        self.total += 1;
        self.hosts.entry(host).or_default().count += 1;
    }

    /// Whether who stands in line for `host` may have to stand there for long.
    fn is_held_up(&self, host: &str) -> bool {
        self.hosts.get(host).is_some_and(|at_host| at_host.stalled) || self.stalled && self.total >= AT_ONCE
    }
}

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
    /// It would have to wait for registries that do not answer.
    held_up: bool,
    wanted: Cell<bool>,
}

impl<'w> ImageCheck<'w> {
    pub(super) fn new(world: &'w World, line: &Line<'w>, image: &CachedImage, pinned: bool) -> Self {
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
            held_up: false,
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
            check.held_up = line.is_held_up(&seen.host);
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

    /// Whether a pair that holds the image, and is due since `since`, waits for the registry's word.
    pub(crate) fn is_awaited(&self, since: Monotonic, wake: &Wake) -> bool {
        if !self.possible {
            return false;
        }
        let memory = self.memory;
        let asked = memory.and_then(|memory| memory.asked).is_some_and(|asked| asked >= since);
        if asked && self.appeared_since().is_none() {
            // The answer was another digest, or there was none. Where there was none, there may be one later.
            if memory.is_some_and(|memory| memory.failures.any()) {
                self.wanted.set(true);
            }
            return false;
        }
        self.wanted.set(true);
        match memory.and_then(|memory| memory.under_way) {
            Some(sent) => wake.ahead(sent.after(PATIENCE)),
            // It is asked at once, or when others have been answered.
            None => !self.held_up && self.may_be_asked(wake),
        }
    }

    /// Whether no failure forbids to ask.
    pub(crate) fn may_be_asked(&self, wake: &Wake) -> bool {
        self.possible && !wake.ahead(self.not_before)
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
