//! Counts the pairs of one image by where they stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use drop_protocol::failure::Failure;

use super::CACHED_NODES_BYTES;
use crate::survey::{ImageFacts, Need, Survey};
use crate::waiting::WaitReason;

/// One image in figures.
pub(super) struct Tally<'w> {
    pub(super) targeted: u32,
    pub(super) ready: u32,
    /// Pairs in flight that lack the image.
    pub(super) pulling: u32,
    /// Pairs whose last attempt failed.
    pub(super) failing: Vec<FailingPair<'w>>,
    /// Numbers of the nodes that lack the image because it was evicted.
    pub(super) evicted: Vec<usize>,
    /// Pairs that lack the image and wait, by the word of the reason.
    pub(super) waiting: BTreeMap<&'static str, u32>,
    /// About how large the status is.
    pub(super) bytes: u64,
    /// How many cached nodes are listed by name.
    listed: usize,
    /// The reason of the pairs looked at last, and how many in a row have it: mostly it is the same for many.
    run: (&'static str, u32),
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
    pub(super) fn new(survey: &Survey<'w>, facts: &ImageFacts<'w>) -> Self {
        let mut tally = Self {
            targeted: super::count(facts.pairs.len()),
            ready: 0,
            pulling: 0,
            failing: Vec::new(),
            evicted: Vec::new(),
            waiting: BTreeMap::new(),
            bytes: 1024,
            listed: 0,
            run: ("", 0),
        };
        let mut name_bytes = 0;
        for pair in facts.pairs.iter() {
            let Some(node) = survey.nodes.get(pair.node) else { continue };
            if pair.cached {
                tally.ready += 1;
                name_bytes += node.node.name.len() + 3;
                if name_bytes <= CACHED_NODES_BYTES {
                    tally.listed += 1;
                    tally.bytes = 1024 + u64::try_from(name_bytes).unwrap_or(u64::MAX);
                }
            }
            let eventful = pair.reported.eventful && !node.forgotten;
            let entry = eventful.then(|| node.entry(&facts.image.uid, pair.reported)).flatten();
            let Some(entry) = entry else {
                tally.note_need(pair.cached, pair.need);
                continue;
            };
            if let Some(failure) = &entry.failure {
                tally.failing.push(FailingPair { node: pair.node, failure, cached: pair.cached });
            }
            if entry.digest.is_none() && entry.evictions.is_some() {
                tally.evicted.push(pair.node);
            }
            tally.note_need(pair.cached, pair.need);
        }
        tally.end_run();
        tally
    }

    fn waits(&mut self, reason: &'static str) {
        if !std::ptr::eq(self.run.0, reason) {
            self.end_run();
            self.run = (reason, 0);
        }
        self.run.1 += 1;
    }

    fn end_run(&mut self) {
        let (reason, pairs) = std::mem::take(&mut self.run);
        if pairs > 0 {
            *self.waiting.entry(reason).or_default() += pairs;
        }
    }

    fn note_need(&mut self, cached: bool, need: Need) {
        match need {
            Need::InFlight if !cached => self.pulling += 1,
            Need::Waits(reason) if !cached => self.waits(reason.as_str()),
            // Whatever is still due at the end of a pass got no slot.
            Need::Due { .. } if !cached => self.waits(WaitReason::WaitingForSlot.as_str()),
            Need::InFlight | Need::Waits(_) | Need::Due { .. } | Need::Nothing => {}
        }
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
        self.listed(facts).filter_map(|node| Some(survey.nodes.get(node)?.node.name.as_str()))
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
        Self { known: survey.nodes.iter().map(|facts| facts.node.name.as_str()).collect() }
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
