//! The order in which digests of an image were first seen, and its latest successes.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::{Monotonic, Now};
use jiff::Timestamp;

use crate::cluster::{CachedImage, Cluster};
use crate::status::Phase;

/// A burst is over when nothing new came for so long.
const QUIET: Duration = Duration::from_millis(300);
/// Nobody waits longer than this for a burst to be over.
const LONGEST: Duration = Duration::from_secs(2);

/// What was seen of one CachedImage. A new reference starts from nothing.
#[derive(Debug, Clone)]
pub(crate) struct ImageMemory {
    pub(crate) reference: String,
    pub(crate) generation: i64,
    /// When this reference was first wanted; `None` if an earlier leader knew it.
    pub(crate) wanted_since: Option<Monotonic>,
    /// Digests that nodes confirmed, oldest first, and in which observation each was first seen; 0 stands for before
    /// this leadership.
    digests: Vec<(String, u64)>,
    /// When a pull of it was last seen to succeed.
    pub(crate) success: Option<Monotonic>,
    /// The same by architecture of the node.
    pub(crate) success_on: BTreeMap<String, Monotonic>,
    /// The latest confirmation by any node, not later than when it was seen.
    pub(crate) pulled_at: Option<Timestamp>,
    /// The latest end of an attempt on any node, not later than when it was seen.
    pub(crate) attempted_at: Option<Timestamp>,
    /// Its stored status was once seen to be ready.
    pub(crate) was_ready: bool,
    /// Its stored status was seen degraded, and not ready since.
    pub(crate) was_degraded: bool,
}

/// Brings `memory` up to date with the CachedImages that there are.
pub(crate) fn observe(
    memory: &mut BTreeMap<String, ImageMemory>,
    bursts: &mut Bursts,
    cluster: &Cluster,
    now: Monotonic,
) {
    let known = cluster.images.values().filter(|image| memory.contains_key(&image.uid)).count();
    if known < memory.len() {
        let uids: std::collections::BTreeSet<&str> =
            cluster.images.values().map(|image| image.uid.as_str()).collect();
        memory.retain(|uid, _| uids.contains(uid.as_str()));
    }
    for image in cluster.images.values() {
        match memory.get_mut(&image.uid) {
            Some(seen) if seen.reference == image.reference => seen.observe(image),
            Some(seen) => *seen = ImageMemory::new(image, Some(now)),
            None => {
                let is_new = image.status.observed_generation.is_none();
                let mut seen = ImageMemory::new(image, is_new.then_some(now));
                if is_new {
                    bursts.note(image.policy.as_deref().unwrap_or_default(), now);
                }
                seen.recall(image);
                memory.insert(image.uid.clone(), seen);
            }
        }
    }
}

/// CachedImages come in bursts, from one `kubectl apply` or one set.
///
/// What is decided in the middle of a burst is decided anew for each image in it, so decisions wait until it has
/// settled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bursts {
    /// Beginning and latest arrival of the last burst, by name of the policy.
    by_policy: BTreeMap<String, (Monotonic, Monotonic)>,
}

impl Bursts {
    fn note(&mut self, policy: &str, now: Monotonic) {
        match self.by_policy.get_mut(policy) {
            Some((_, latest)) if now <= latest.after(QUIET) => *latest = now,
            Some(burst) => *burst = (now, now),
            None => {
                self.by_policy.insert(policy.to_owned(), (now, now));
            }
        }
    }

    /// When the last burst under `policy` has settled, or had settled.
    pub(crate) fn settled(&self, policy: &str) -> Option<Monotonic> {
        self.by_policy.get(policy).map(|burst| end_of(*burst))
    }

    /// When the last bursts under all policies have settled, or had settled.
    pub(crate) fn all_settled(&self) -> Option<Monotonic> {
        self.by_policy.values().map(|burst| end_of(*burst)).max()
    }
}

fn end_of((began, latest): (Monotonic, Monotonic)) -> Monotonic {
    latest.after(QUIET).min(began.after(LONGEST))
}

impl ImageMemory {
    fn new(image: &CachedImage, wanted_since: Option<Monotonic>) -> Self {
        Self {
            reference: image.reference.clone(),
            generation: image.generation,
            wanted_since,
            digests: Vec::new(),
            success: None,
            success_on: BTreeMap::new(),
            pulled_at: None,
            attempted_at: None,
            was_ready: false,
            was_degraded: false,
        }
    }

    /// Takes over the order of digests from an earlier leader's status.
    fn recall(&mut self, image: &CachedImage) {
        let stored = &image.status;
        if stored.observed_generation != Some(image.generation) {
            // It may be about another reference.
            self.observe(image);
            return;
        }
        let newest = stored.resolved_digest.as_ref();
        let older =
            stored.digests.iter().rev().map(|held| &held.digest).filter(|digest| Some(*digest) != newest);
        self.digests = older.chain(newest).map(|digest| (digest.clone(), 0)).collect();
        self.observe(image);
    }

    fn observe(&mut self, image: &CachedImage) {
        self.generation = image.generation;
        match image.status.phase {
            Some(Phase::Ready) => {
                self.was_ready = true;
                self.was_degraded = false;
            }
            Some(Phase::Degraded) => self.was_degraded = true,
            _ => {}
        }
    }

    /// A node confirmed the reference.
    pub(super) fn pulled(
        &mut self,
        digest: Option<&str>,
        at: Timestamp,
        first_sight: bool,
        tick: u64,
        now: Now,
    ) {
        self.success = Some(now.monotonic);
        if let Some(digest) = digest
            && !self.digests.iter().any(|(seen, _)| seen == digest)
        {
            self.digests.push((digest.to_owned(), tick));
        }
        raise(&mut self.pulled_at, at, first_sight, now.wall);
        raise(&mut self.attempted_at, at, first_sight, now.wall);
    }

    /// An attempt on a node failed.
    pub(super) fn attempted(&mut self, at: Timestamp, first_sight: bool, now: Now) {
        raise(&mut self.attempted_at, at, first_sight, now.wall);
    }

    /// The digest that was seen last for the first time.
    pub(crate) fn newest_digest(&self) -> Option<&str> {
        self.digests.last().map(|(digest, _)| digest.as_str())
    }

    /// Where a digest stands in the order of first sight (higher is newer), and in which observation it was first
    /// seen. A digest that no node confirmed is older than all others.
    pub(crate) fn age_of(&self, digest: &str) -> Option<(usize, u64)> {
        self.digests
            .iter()
            .enumerate()
            .find(|(_, (seen, _))| seen == digest)
            .map(|(position, (_, tick))| (position, *tick))
    }
}

/// Raises `latest` to `at`, clamped to `wall`. A time in the future that an earlier leader may have clamped already
/// is left to what it wrote.
fn raise(latest: &mut Option<Timestamp>, at: Timestamp, first_sight: bool, wall: Timestamp) {
    if first_sight && at > wall {
        return;
    }
    // A status holds whole seconds: anything finer would differ from what is stored for ever.
    let at = at.min(wall);
    *latest = (*latest).max(Some(Timestamp::from_second(at.as_second()).unwrap_or(at)));
}
