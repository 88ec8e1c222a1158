//! Counts the pairs of one image by where they stand.

use std::collections::BTreeMap;

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
        };
        let mut name_bytes = 0;
        for pair in &facts.pairs {
            let Some(node) = survey.nodes.get(pair.node) else { continue };
            if pair.cached {
                tally.ready += 1;
                name_bytes += node.node.name.len() + 3;
                if name_bytes <= CACHED_NODES_BYTES {
                    tally.listed += 1;
                    tally.bytes = 1024 + u64::try_from(name_bytes).unwrap_or(u64::MAX);
                }
            }
            let Some(entry) = pair.entry.filter(|_| pair.eventful && !node.forgotten) else {
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
        tally
    }

    fn note_need(&mut self, cached: bool, need: Need) {
        match need {
            Need::InFlight if !cached => self.pulling += 1,
            Need::Waits(reason) if !cached => *self.waiting.entry(reason.as_str()).or_default() += 1,
            // Whatever is still due at the end of a pass got no slot.
            Need::Due { .. } if !cached => {
                *self.waiting.entry(WaitReason::WaitingForSlot.as_str()).or_default() += 1;
            }
            Need::InFlight | Need::Waits(_) | Need::Due { .. } | Need::Nothing => {}
        }
    }

    pub(super) fn missing(&self) -> u32 {
        self.targeted - self.ready
    }

    /// Names of the cached nodes that are listed.
    pub(super) fn cached_names<'s>(
        &self,
        survey: &'s Survey<'_>,
        facts: &'s ImageFacts<'_>,
    ) -> impl Iterator<Item = &'s str> + Clone + use<'s> {
        facts
            .pairs
            .iter()
            .filter(|pair| pair.cached)
            .filter_map(|pair| survey.nodes.get(pair.node))
            .map(|node| node.node.name.as_str())
            .take(self.listed)
    }
}
