//! Where every pair stands, before anything is shared out.
//!
//! Images and nodes are numbered in the order of their names, and pairs refer to them by number: with thousands of
//! nodes a plan looks at hundreds of thousands of pairs.

pub(crate) mod digests;
pub(crate) mod nodes;
mod pairs;

use std::cmp::Ordering;
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
    /// Since when the catalog lists it.
    pub(crate) listed: Option<&'w Listed>,
    /// Agents may not read its Secrets yet.
    pub(crate) secrets_pending: bool,
    /// Its targets, by number of the node.
    pub(crate) pairs: Vec<Pair<'w>>,
    pub(crate) digests: Digests<'w>,
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
        let mut found: Vec<(Vec<Pair<'w>>, Count<'w>)> =
            self.images.iter().map(|_| (Vec::with_capacity(self.nodes.len()), Count::default())).collect();
        for (number, node) in self.nodes.iter().enumerate() {
            let mut entries = node.report.iter().flat_map(|report| &report.images).peekable();
            for (uid, &ix) in &self.by_uid {
                let (Some(facts), Some((pairs, digests))) = (self.images.get(ix), found.get_mut(ix)) else {
                    continue;
                };
                let Some(pacing) = self.pacings.all.get(facts.pacing) else { continue };
                if !targets::is_target(facts.image, pacing.object, node.node) {
                    continue;
                }
                let entry = advance(&mut entries, uid);
                let entry = entry.filter(|entry| *entry.reference == *facts.image.reference);
                let judge = Judge {
                    image: facts.image,
                    secrets_pending: facts.secrets_pending,
                    pacing,
                    node,
                    entry,
                    listed: facts.listed,
                    answer_within,
                    now: self.now,
                    wake,
                };
                if let Some((failure, seen)) = judge.failing() {
                    self.failing.push(Failing { image: ix, node: number, failure, at: seen.at });
                }
                let cached = judge.is_cached();
                if let (true, Some(digest)) = (cached, entry.and_then(|entry| entry.digest.as_deref())) {
                    digests.add(digest);
                }
                let eventful = entry.filter(|entry| entry.failure.is_some() || entry.evictions.is_some());
                pairs.push(Pair {
                    node: number,
                    entry,
                    eventful: eventful.is_some(),
                    cached,
                    need: judge.need(cached),
                });
            }
        }
        for (facts, (pairs, digests)) in self.images.iter_mut().zip(found) {
            facts.pairs = pairs;
            facts.digests = digests.finish();
        }
    }

    /// How long silence of an agent may mean that it has not answered yet.
    fn answer_within(&self) -> Duration {
        let told = self.world.cluster.catalog.as_ref().map(|stored| stored.catalog.answer_within);
        told.unwrap_or_default().max(crate::catalog::answer_within(self.world))
    }

    pub(crate) fn pacing(&self, image: usize) -> Option<&Pacing<'w>> {
        self.pacings.all.get(self.images.get(image)?.pacing)
    }

    /// Whether what a grant to `node` says of one image still holds: `None` if nobody wants it there any more, else
    /// whether it is (still) to be pulled under `policy`.
    pub(crate) fn still_wanted(&self, node: &str, policy: &str, granted: &GrantedImage) -> Option<bool> {
        let facts = self.images.get(*self.by_uid.get(granted.uid.as_str())?)?;
        let number = self.nodes.binary_search_by(|facts| facts.node.name.as_str().cmp(node)).ok()?;
        facts.pairs.binary_search_by_key(&number, |pair| pair.node).ok()?;
        let image = facts.image;
        let wanted = image.reference == granted.reference
            && image.problem.is_none()
            && image.pull_policy != drop_protocol::ImagePullPolicy::Never;
        let pacing = self.pacings.all.get(facts.pacing)?;
        wanted.then_some(pacing.name == policy && pacing.obstacle.is_none())
    }
}

/// The value of `uid` in a sequence by uid, of which it takes what comes before.
fn advance<'w, T>(
    sorted: &mut Peekable<impl Iterator<Item = (&'w Arc<str>, &'w T)>>,
    uid: &str,
) -> Option<&'w T> {
    loop {
        match (**sorted.peek()?.0).cmp(uid) {
            Ordering::Less => drop(sorted.next()),
            Ordering::Equal => return sorted.next().map(|(_, value)| value),
            Ordering::Greater => return None,
        }
    }
}
