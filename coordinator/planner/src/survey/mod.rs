//! Where every pair stands, before anything is shared out.
//!
//! Images and nodes are numbered in the order of their names, and pairs refer to them by number: with thousands of
//! nodes a plan looks at hundreds of thousands of pairs.

pub(crate) mod digests;
pub(crate) mod nodes;
mod pairs;

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use drop_protocol::failure::Failure;
use drop_protocol::{GrantedImage, Monotonic, Now, ReportEntry};

use crate::cluster::{CachedImage, Leadership, World};
use crate::memory::Memory;
use crate::memory::listing::Listed;
use crate::policy::{Pacing, Pacings};
use crate::pull_secrets;
use crate::targets;
use crate::waiting::WaitReason;
use crate::wake::Wake;
use digests::{Count, Digests};
use nodes::NodeFacts;
use pairs::Judge;

/// Everything that is known, pair by pair.
pub(crate) struct Survey<'w> {
    pub(crate) world: &'w World,
    pub(crate) memory: &'w Memory,
    pub(crate) leadership: &'w Leadership,
    pub(crate) now: Now,
    pub(crate) pacings: Pacings<'w>,
    pub(crate) nodes: Vec<NodeFacts<'w>>,
    pub(crate) images: Vec<ImageFacts<'w>>,
    /// Number of the image with this uid.
    by_uid: BTreeMap<&'w str, usize>,
    /// Pairs whose last attempt failed.
    pub(crate) failing: Vec<Failing<'w>>,
}

/// One CachedImage.
pub(crate) struct ImageFacts<'w> {
    pub(crate) image: &'w Arc<CachedImage>,
    /// Number of its pacing.
    pub(crate) pacing: usize,
    /// Its reference names exact content, which no check can change.
    pub(crate) pinned: bool,
    /// Since when the catalog lists it.
    pub(crate) listed: Option<&'w Listed>,
    /// Agents may not read its Secrets yet.
    pub(crate) secrets_pending: bool,
    /// Its targets, by number of the node.
    pub(crate) pairs: Vec<Pair<'w>>,
    pub(crate) digests: Digests<'w>,
}

impl<'w> ImageFacts<'w> {
    /// The pair with the node of this number, if that is a target.
    pub(crate) fn pair(&self, node: usize) -> Option<&Pair<'w>> {
        self.pairs.get(self.place(node)?)
    }

    fn place(&self, node: usize) -> Option<usize> {
        // Mostly every node is a target, and the place of a pair is the number of its node.
        if self.pairs.get(node).is_some_and(|pair| pair.node == node) {
            return Some(node);
        }
        self.pairs.binary_search_by_key(&node, |pair| pair.node).ok()
    }
}

/// One image on one target.
pub(crate) struct Pair<'w> {
    /// Number of the node.
    pub(crate) node: usize,
    /// What the node last reported about the present reference.
    pub(crate) entry: Option<&'w ReportEntry>,
    /// The entry tells of a failure or an eviction.
    pub(crate) eventful: bool,
    pub(crate) cached: bool,
    pub(crate) need: Need,
}

/// What a pair needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Nothing,
    /// A live grant names it.
    InFlight,
    /// A pull, and nothing of its own stands in the way.
    Due {
        /// Since when.
        since: Monotonic,
        /// The node is to ask the registry although it holds the image.
        refresh: bool,
    },
    /// A pull or an answer, which has to wait.
    Waits(WaitReason),
}

/// A pair whose last attempt failed.
pub(crate) struct Failing<'w> {
    pub(crate) image: usize,
    pub(crate) node: usize,
    pub(crate) failure: &'w Failure,
    /// When it was first seen.
    pub(crate) at: Monotonic,
}

impl<'w> Survey<'w> {
    pub(crate) fn new(world: &'w World, leadership: &'w Leadership, now: Now, wake: &Wake) -> Self {
        let cluster = &world.cluster;
        let pacings = Pacings::new(cluster);
        let images: Vec<ImageFacts<'w>> = cluster
            .images
            .values()
            .map(|image| ImageFacts {
                image,
                pacing: pacings.index(image.policy.as_deref()),
                pinned: image.reference.contains('@'),
                listed: world.memory.listing.of(&image.uid, &image.reference),
                secrets_pending: pull_secrets::are_pending(cluster, image),
                pairs: Vec::new(),
                digests: Digests::default(),
            })
            .collect();
        let by_uid = images.iter().enumerate().map(|(ix, facts)| (facts.image.uid.as_str(), ix)).collect();
        let mut survey = Self {
            world,
            memory: &world.memory,
            leadership,
            now,
            pacings,
            nodes: nodes::facts(world, now, wake),
            images,
            by_uid,
            failing: Vec::new(),
        };
        survey.survey_pairs(wake);
        survey.catch_up(wake);
        survey
    }

    /// Walks node by node, with the node's report and the images both in the order of uids.
    fn survey_pairs(&mut self, wake: &Wake) {
        let answer_within = self.answer_within();
        let (nodes, images, pacings) = (&self.nodes, &self.images, &self.pacings.all);
        let in_order = self.by_uid.values().filter_map(|&ix| Some((ix, images.get(ix)?)));
        let mut rows: Vec<Row<'_, 'w>> = in_order
            .filter_map(|(ix, facts)| Some(Row::new(ix, facts, pacings.get(facts.pacing)?, nodes.len())))
            .collect();
        for (number, node) in nodes.iter().enumerate() {
            let mut entries = node.report.iter().flat_map(|report| &report.images).peekable();
            for row in &mut rows {
                if !targets::is_target(row.facts.image, row.pacing.object, node.node) {
                    continue;
                }
                let judge = Judge {
                    image: row.facts.image,
                    pinned: row.facts.pinned,
                    secrets_pending: row.facts.secrets_pending,
                    pacing: row.pacing,
                    node,
                    entry: row.entry(&mut entries),
                    listed: row.facts.listed,
                    answer_within,
                    now: self.now,
                    wake,
                };
                if let Some((failure, seen)) = judge.failing() {
                    self.failing.push(Failing { image: row.image, node: number, failure, at: seen.at });
                }
                row.take(number, &judge);
            }
        }
        let found: Vec<_> = rows.into_iter().map(|row| (row.image, row.pairs, row.digests)).collect();
        for (image, pairs, digests) in found {
            if let Some(facts) = self.images.get_mut(image) {
                (facts.pairs, facts.digests) = (pairs, digests.finish());
            }
        }
    }

    /// How long silence of an agent may mean that it has not answered yet.
    fn answer_within(&self) -> Duration {
        let told = self.world.cluster.catalog.as_ref().map(|stored| stored.catalog.answer_within);
        told.unwrap_or_default().max(crate::catalog::answer_within(self.world))
    }

    /// The pair of the image with this uid and the node of this number.
    pub(crate) fn pair_mut(&mut self, uid: &str, node: usize) -> Option<&mut Pair<'w>> {
        let facts = self.images.get_mut(*self.by_uid.get(uid)?)?;
        let place = facts.place(node)?;
        facts.pairs.get_mut(place)
    }

    pub(crate) fn pacing(&self, image: usize) -> Option<&Pacing<'w>> {
        self.pacings.all.get(self.images.get(image)?.pacing)
    }

    /// Whether what a grant to `node` says of one image still holds: `None` if nobody wants it there any more, else
    /// whether it is (still) to be pulled under `policy`.
    pub(crate) fn still_wanted(&self, node: &str, policy: &str, granted: &GrantedImage) -> Option<bool> {
        let facts = self.images.get(*self.by_uid.get(granted.uid.as_str())?)?;
        let number = self.nodes.binary_search_by(|facts| facts.node.name.as_str().cmp(node)).ok()?;
        facts.pair(number)?;
        let image = facts.image;
        let wanted = image.reference == granted.reference
            && image.problem.is_none()
            && image.pull_policy != drop_protocol::ImagePullPolicy::Never;
        let pacing = self.pacings.all.get(facts.pacing)?;
        wanted.then_some(pacing.name == policy && pacing.obstacle.is_none())
    }
}

/// One image, and what is found of it node after node.
struct Row<'a, 'w> {
    /// Number of the image.
    image: usize,
    facts: &'a ImageFacts<'w>,
    pacing: &'a Pacing<'w>,
    /// The uid and the reference as reports last named them. Reports that share their strings name the very same ones,
    /// which needs no look at them.
    uid: &'w str,
    reference: &'w str,
    pairs: Vec<Pair<'w>>,
    digests: Count<'w>,
}

impl<'a, 'w> Row<'a, 'w> {
    fn new(image: usize, facts: &'a ImageFacts<'w>, pacing: &'a Pacing<'w>, nodes: usize) -> Self {
        let (uid, reference) = (facts.image.uid.as_str(), facts.image.reference.as_str());
        let (pairs, digests) = (Vec::with_capacity(nodes), Count::default());
        Self { image, facts, pacing, uid, reference, pairs, digests }
    }

    /// What a node reported about the present reference; takes from `entries` what comes before.
    fn entry(
        &mut self,
        entries: &mut Peekable<impl Iterator<Item = (&'w Arc<str>, &'w ReportEntry)>>,
    ) -> Option<&'w ReportEntry> {
        let entry = advance(entries, &self.facts.image.uid, &mut self.uid)?;
        is(&entry.reference, &self.facts.image.reference, &mut self.reference).then_some(entry)
    }

    fn take(&mut self, node: usize, judge: &Judge<'_, 'w>) {
        let entry = judge.entry;
        let cached = judge.is_cached();
        if let (true, Some(digest)) = (cached, entry.and_then(|entry| entry.digest.as_deref())) {
            self.digests.add(digest);
        }
        let eventful = entry.is_some_and(|entry| entry.failure.is_some() || entry.evictions.is_some());
        self.pairs.push(Pair { node, entry, eventful, cached, need: judge.need(cached) });
    }
}

/// Whether `named` is `wanted`, given that `known` is.
fn is<'w>(named: &'w str, wanted: &str, known: &mut &'w str) -> bool {
    let is = std::ptr::eq(named, *known) || named == wanted;
    if is {
        *known = named;
    }
    is
}

/// The value of `uid` in a sequence by uid, of which it takes what comes before. `known` is as in [`is`].
fn advance<'w, T>(
    sorted: &mut Peekable<impl Iterator<Item = (&'w Arc<str>, &'w T)>>,
    uid: &str,
    known: &mut &'w str,
) -> Option<&'w T> {
    loop {
        let next: &'w str = sorted.peek()?.0;
        if is(next, uid, known) {
            return sorted.next().map(|(_, value)| value);
        }
        if next > uid {
            return None;
        }
        sorted.next();
    }
}
