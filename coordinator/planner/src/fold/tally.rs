//! Counts the pairs of one image by where they stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use drop_protocol::failure::Failure;

use super::CACHED_NODES_BYTES;
use crate::survey::{ImageFacts, Need, Pair, Survey};
use crate::waiting::WaitReason;

/// One image in figures. Each target is exactly one of ready, pulling, failing and waiting.
pub(super) struct Tally<'w> {
    pub(super) targeted: u32,
    /// Targets that have the image.
    pub(super) ready: u32,
    /// Those in flight that lack it.
    pub(super) pulling: u32,
    /// Those that lack it after a failed attempt and are not in flight.
    pub(super) failing: u32,
    /// All others.
    pub(super) waiting: u32,
    /// Pairs whose last attempt failed, cached and in flight or not.
    pub(super) failures: Vec<FailingPair<'w>>,
    /// Numbers of the nodes that lack the image because it was evicted.
    pub(super) evicted: Vec<usize>,
    /// Why failing and waiting targets are not pulling, by the word of the reason.
    pub(super) reasons: BTreeMap<&'static str, Reason>,
    /// About how large the status is.
    pub(super) bytes: u64,
    /// How many cached nodes are listed by name.
    listed: usize,
    /// The reason of the pairs looked at last: mostly it is the same for many in a row.
    run: Option<Reason>,
}

/// Why targets are not pulling.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reason {
    pub(super) why: WaitReason,
    /// How many targets.
    pub(super) nodes: u32,
    /// Number of the first of them.
    pub(super) first: usize,
}

/// A pair whose last attempt failed.
pub(super) struct FailingPair<'w> {
    /// Number of the node.
    pub(super) node: usize,
    pub(super) failure: &'w Failure,
    /// The node has the image all the same.
    pub(super) cached: bool,
}

impl<'w> Tally<'w> {
    pub(super) fn new(survey: &Survey<'w>, facts: &ImageFacts<'w>, names: &Names<'_>) -> Self {
        let mut tally = Self {
            targeted: super::count(facts.pairs.len()),
            ready: 0,
            pulling: 0,
            failing: 0,
            waiting: 0,
            failures: Vec::new(),
            evicted: Vec::new(),
            reasons: BTreeMap::new(),
            bytes: 1024,
            listed: 0,
            run: None,
        };
        let mut name_bytes = 0;
        for pair in facts.pairs.iter() {
            if pair.cached {
                name_bytes += names.length(pair.node) + 3;
                if name_bytes <= CACHED_NODES_BYTES {
                    tally.listed += 1;
                    tally.bytes = 1024 + u64::try_from(name_bytes).unwrap_or(u64::MAX);
                }
            }
            let eventful = || survey.nodes.get(pair.node).filter(|node| !node.forgotten);
            let entry = pair.reported.eventful.then(eventful).flatten();
            let entry = entry.and_then(|node| node.entry(&facts.image.uid, pair.reported));
            let mut failed = false;
            if let Some(entry) = entry {
                if let Some(failure) = entry.failure.as_ref().filter(|_| pair.failing) {
                    failed = true;
                    tally.failures.push(FailingPair { node: pair.node, failure, cached: pair.cached });
                }
                if entry.digest.is_none() && entry.evictions.is_some() {
                    tally.evicted.push(pair.node);
                }
            }
            tally.classify(pair, failed);
        }
        tally.end_run();
        tally
    }

    fn classify(&mut self, pair: &Pair, failed: bool) {
        if pair.cached {
            self.ready += 1;
            return;
        }
        let why = match pair.need {
            Need::InFlight => {
                self.pulling += 1;
                return;
            }
            Need::Waits(why) => why,
            // Whatever is still due at the end of a pass got no slot.
            Need::Due { .. } | Need::Nothing => WaitReason::WaitingForSlot,
        };
        if failed {
            self.failing += 1;
        } else {
            self.waiting += 1;
        }
        match &mut self.run {
            Some(run) if std::ptr::eq(run.why.as_str(), why.as_str()) => run.nodes += 1,
            _ => {
                self.end_run();
                self.run = Some(Reason { why, nodes: 1, first: pair.node });
            }
        }
    }

    fn end_run(&mut self) {
        let Some(run) = self.run.take() else { return };
        let known = self.reasons.entry(run.why.as_str());
        known.and_modify(|reason| reason.nodes += run.nodes).or_insert(run);
    }

    /// How many targets get their turn as time passes, without anything else having to change.
    pub(super) fn in_line(&self) -> u32 {
        self.reasons.values().filter(|reason| reason.why.is_in_line()).map(|reason| reason.nodes).sum()
    }

    pub(super) fn missing(&self) -> u32 {
        self.targeted - self.ready
    }

    /// Numbers of the cached nodes that are listed.
    fn listed<'s>(&self, facts: &'s ImageFacts<'_>) -> impl Iterator<Item = usize> + use<'s> {
        facts.pairs.iter().filter(|pair| pair.cached).map(|pair| pair.node).take(self.listed)
    }

    /// Names of the cached nodes that are listed.
    pub(super) fn cached_names<'s>(
        &self,
        survey: &'s Survey<'_>,
        facts: &'s ImageFacts<'_>,
    ) -> impl Iterator<Item = &'s str> + use<'s> {
        self.listed(facts).filter_map(|node| Some(survey.nodes.get(node)?.name))
    }

    /// Whether `stored` are the names of the cached nodes that are listed.
    pub(super) fn lists(
        &self,
        stored: &'w [Arc<str>],
        facts: &ImageFacts<'_>,
        names: &mut Names<'w>,
    ) -> bool {
        stored.len() == self.listed
            && self.listed(facts).zip(stored).all(|(node, stored)| names.is(node, stored))
    }
}

/// Names of all nodes as statuses last spelled them. Statuses that share their strings spell them by the very same ones,
/// which needs no look at them.
pub(super) struct Names<'w> {
    known: Vec<&'w str>,
}

impl<'w> Names<'w> {
    pub(super) fn of(survey: &Survey<'w>) -> Self {
        Self { known: survey.nodes.iter().map(|facts| facts.name).collect() }
    }

    fn length(&self, node: usize) -> usize {
        self.known.get(node).map_or(0, |name| name.len())
    }

    fn is(&mut self, node: usize, stored: &'w str) -> bool {
        let Some(known) = self.known.get_mut(node) else { return false };
        if std::ptr::eq(*known, stored) {
            return true;
        }
        let same = *known == stored;
        if same {
            *known = stored;
        }
        same
    }
}
