//! Where every pair stands, before anything is shared out.
//!
//! Images and nodes are numbered in the order of their names, and pairs refer to them by number: with thousands of
//! nodes a plan looks at hundreds of thousands of pairs.

pub(crate) mod checks;
pub(crate) mod digests;
pub(crate) mod nodes;
mod pairs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drop_protocol::failure::Failure;
use drop_protocol::{GrantedImage, Monotonic, Now};

use crate::cluster::{CachedImage, Leadership, World};
use crate::memory::Memory;
use crate::memory::listing::Listed;
use crate::memory::reported::Reported;
use crate::policy::{Pacing, Pacings};
use crate::pull_secrets;
use crate::targets;
use crate::waiting::WaitReason;
use crate::wake::Wake;
use checks::{ImageCheck, Line};
use digests::{Count, Digests};
use nodes::{Granted, NodeFacts};
use pairs::Judge;

/// Everything that is known, pair by pair.
pub(crate) struct Survey<'w> {
    pub(crate) world: &'w World,
    pub(crate) memory: &'w Memory,
    pub(crate) leadership: &'w Leadership,
    pub(crate) now: Now,
    pub(crate) pacings: Pacings<'w>,
    pub(crate) nodes: Vec<NodeFacts<'w>>,
    /// Leases with a live grant, or with one that can't be read, by name.
    pub(crate) granted: Vec<Granted<'w>>,
    pub(crate) images: Vec<ImageFacts<'w>>,
    /// Number of the image with this uid.
    by_uid: BTreeMap<&'w str, usize>,
    /// Pairs whose last attempt under a grant failed.
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
    /// What its registry said.
    pub(crate) check: ImageCheck<'w>,
    /// Its targets, by number of the node.
    pub(crate) pairs: &'w mut [Pair],
    pub(crate) digests: Digests<'w>,
}

impl<'w> ImageFacts<'w> {
    /// The pair with the node of this number, if that is a target.
    pub(crate) fn pair(&self, node: usize) -> Option<&Pair> {
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
pub(crate) struct Pair {
    /// Number of the node.
    pub(crate) node: usize,
    /// What the node last reported about the present reference.
    pub(crate) reported: Reported,
    pub(crate) cached: bool,
    /// Its last attempt failed, and that still matters.
    pub(crate) failing: bool,
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

/// A pair whose last attempt failed, under a grant: whom else it concerns is for [`crate::holds`].
pub(crate) struct Failing<'w> {
    pub(crate) image: usize,
    pub(crate) node: usize,
    pub(crate) failure: &'w Failure,
    /// When that was first seen.
    pub(crate) at: Monotonic,
}

impl<'w> Survey<'w> {
    /// Surveys everything, with all pairs laid out in `room`, one image after the other: one large allocation is
    /// kept by the allocator from plan to plan, many of middle size are given back and have to be paged in anew.
    pub(crate) fn new(
        world: &'w World,
        leadership: &'w Leadership,
        now: Now,
        wake: &Wake,
        room: &'w mut Vec<Pair>,
    ) -> Self {
        let cluster = &world.cluster;
        let pacings = Pacings::new(cluster);
        let line = Line::new(&world.memory, wake);
        let images: Vec<ImageFacts<'w>> = cluster
            .images
            .values()
            .map(|image| {
                let pinned = image.reference.contains('@');
                ImageFacts {
                    image,
                    pacing: pacings.index(image.policy.as_deref()),
                    pinned,
                    listed: world.memory.listing.of(&image.uid, &image.reference),
                    secrets_pending: pull_secrets::are_pending(cluster, image),
                    check: ImageCheck::new(world, &line, image, pinned),
                    pairs: &mut [],
                    digests: Digests::default(),
                }
            })
            .collect();
        let by_uid = images.iter().enumerate().map(|(ix, facts)| (facts.image.uid.as_str(), ix)).collect();
        let nodes = nodes::facts(world, wake);
        let mut survey = Self {
            world,
            memory: &world.memory,
            leadership,
            now,
            pacings,
            granted: nodes::granted(world, &nodes),
            nodes,
            images,
            by_uid,
            failing: Vec::new(),
        };
        survey.survey_pairs(wake, room);
        survey.catch_up(wake);
        survey
    }

    fn survey_pairs(&mut self, wake: &Wake, room: &'w mut Vec<Pair>) {
        let answer_within = self.answer_within();
        let latest = self.world.cluster.catalog.as_ref().map_or(0, |stored| stored.catalog.generation);
        room.reserve_exact(self.images.len() * self.nodes.len());
        let mut targets = Vec::with_capacity(self.images.len());
        for (image, facts) in self.images.iter_mut().enumerate() {
            let before = room.len();
            let pacing = self.pacings.all.get(facts.pacing);
            let mut digests = Count::default();
            let must_be_confirmed = pairs::must_be_confirmed(facts.image, facts.pinned);
            let is_followed = pacing.is_some_and(|pacing| pacing.repull.is_some());
            let is_for_all = pacing.is_some_and(|pacing| targets::is_for_all(facts.image, pacing.object));
            for (number, node) in self.nodes.iter().enumerate() {
                let Some(pacing) = pacing else { break };
                // Mostly that tells, without a look at the Node.
                if (node.tainted || !is_for_all) && !targets::is_target(facts.image, pacing.object, node.node)
                {
                    continue;
                }
                let reported = node.row.get(image).copied().unwrap_or_default();
                let cached = reported.is_present()
                    && !node.forgotten
                    && (!must_be_confirmed || reported.confirmed || facts.check.confirms(reported));
                if let Some(digest) = reported.digest().filter(|_| cached) {
                    digests.add(digest);
                }
                // Most pairs are like this most of the time.
                if cached && !is_followed && !reported.eventful && node.grant.is_none() {
                    room.push(Pair { node: number, reported, cached, failing: false, need: Need::Nothing });
                    continue;
                }
                let judge = Judge {
                    image: facts.image,
                    pinned: facts.pinned,
                    secrets_pending: facts.secrets_pending,
                    pacing,
                    node,
                    reported,
                    listed: facts.listed,
                    check: &facts.check,
                    answer_within,
                    latest,
                    now: self.now,
                    wake,
                };
                let failing = judge.failing();
                if let Some((failure, seen)) = failing
                    && let Some((at, _)) = seen.granted
                {
                    self.failing.push(Failing { image, node: number, failure, at });
                }
                let (failing, need) = (failing.is_some(), judge.need(cached));
                room.push(Pair { node: number, reported, cached, failing, need });
            }
            facts.digests = digests.finish(&self.memory.columns);
            targets.push(room.len() - before);
        }
        let mut rest = room.as_mut_slice();
        for (facts, targets) in self.images.iter_mut().zip(targets) {
            (facts.pairs, rest) = rest.split_at_mut(targets);
        }
    }

    /// How long silence of an agent may mean that it has not answered yet.
    fn answer_within(&self) -> Duration {
        let stored = self.world.cluster.catalog.as_ref();
        let told = stored.filter(|stored| crate::catalog::is_sound(self.nodes.len(), stored));
        let told = told.map(|stored| stored.catalog.answer_within);
        told.unwrap_or_default().max(crate::catalog::answer_within(self.nodes.len()))
    }

    /// The pair of the image with this uid and the node of this number.
    pub(crate) fn pair_mut(&mut self, uid: &str, node: usize) -> Option<&mut Pair> {
        let facts = self.images.get_mut(*self.by_uid.get(uid)?)?;
        let place = facts.place(node)?;
        facts.pairs.get_mut(place)
    }

    pub(crate) fn pacing(&self, image: usize) -> Option<&Pacing<'w>> {
        self.pacings.all.get(self.images.get(image)?.pacing)
    }

    /// Number of the node of this name.
    pub(crate) fn number_of(&self, node: &str) -> Option<usize> {
        self.nodes.binary_search_by(|facts| facts.name.cmp(node)).ok()
    }

    /// Whether what a grant to the node of this number says of one image still holds: `None` if nobody wants it there
    /// any more, else whether it is (still) to be pulled under `policy`.
    pub(crate) fn still_wanted(&self, node: usize, policy: &str, granted: &GrantedImage) -> Option<bool> {
        let facts = self.images.get(*self.by_uid.get(granted.uid.as_str())?)?;
        facts.pair(node)?;
        let image = facts.image;
        let wanted = image.reference == granted.reference
            && image.problem.is_none()
            && image.pull_policy != drop_protocol::ImagePullPolicy::Never;
        let pacing = self.pacings.all.get(facts.pacing)?;
        wanted.then_some(pacing.name == policy && pacing.obstacle.is_none())
    }
}
