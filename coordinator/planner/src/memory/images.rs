//! The order in which digests of an image were first seen, and its latest successes.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::reference::registry_host;
use drop_protocol::{Monotonic, Now};
use jiff::Timestamp;

use super::checks::CheckMemory;
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
    /// Host of its registry.
    pub(crate) host: String,
    pub(crate) generation: i64,
    /// When this reference was first wanted; `None` if an earlier leader knew it.
    pub(crate) wanted_since: Option<Monotonic>,
    /// Digests that nodes confirmed or the registry gave, oldest first.
    digests: Vec<Digest>,
    /// When a pull of it was last seen to succeed.
    pub(crate) success: Option<Monotonic>,
    /// The same by architecture of the node.
    pub(crate) success_on: BTreeMap<String, Monotonic>,
    /// What was seen of checks against its registry.
    pub(crate) check: CheckMemory,
    /// The latest confirmation by any node, not later than when it was seen.
    pub(crate) pulled_at: Option<Timestamp>,
    /// The latest end of an attempt on any node, not later than when it was seen.
    pub(crate) attempted_at: Option<Timestamp>,
    /// Its stored status was once seen to be ready.
    pub(crate) was_ready: bool,
    /// Its stored status was seen degraded, and not ready since.
    pub(crate) was_degraded: bool,
}

/// A digest that a node got from the registry.
#[derive(Debug, Clone)]
struct Digest {
    digest: String,
    /// In which observation it was first seen; 0 stands for before this leadership.
    tick: u64,
    /// The only node that confirmed it; `None`: another did too, or an earlier leader saw it.
    only_by: Option<String>,
}

/// So many digests that it alone confirmed are remembered of one node: one that names others all the time takes no room.
const OF_ONE_NODE: usize = 4;

/// Brings `memory` up to date with the CachedImages that there are.
pub(crate) fn observe(
    memory: &mut BTreeMap<String, ImageMemory>,
    bursts: &mut Bursts,
    cluster: &Cluster,
    now: Now,
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
            Some(seen) => *seen = ImageMemory::new(image, Some(now.monotonic)),
            None => {
                let is_new = image.status.observed_generation.is_none();
                let mut seen = ImageMemory::new(image, is_new.then_some(now.monotonic));
                if is_new {
                    bursts.note(now.monotonic);
                }
                seen.recall(image, now);
                memory.insert(image.uid.clone(), seen);
            }
        }
    }
}

/// CachedImages come in bursts, from one `kubectl apply` or one set.
///
/// What is listed in the middle of a burst is listed anew for each image in it, so the catalog waits until it has settled, and
/// grants with it: nothing is due before it is listed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bursts {
    /// Beginning and latest arrival of the last one.
    last: Option<(Monotonic, Monotonic)>,
}

impl Bursts {
    fn note(&mut self, now: Monotonic) {
        let under_way = self.last.filter(|(_, latest)| now <= latest.after(QUIET));
        self.last = Some((under_way.map_or(now, |(began, _)| began), now));
    }

    /// When the last one has settled, or had settled.
    pub(crate) fn settled(&self) -> Option<Monotonic> {
        self.last.map(|(began, latest)| latest.after(QUIET).min(began.after(LONGEST)))
    }
}

impl ImageMemory {
    fn new(image: &CachedImage, wanted_since: Option<Monotonic>) -> Self {
        Self {
            reference: image.reference.clone(),
            host: registry_host(&image.reference),
            generation: image.generation,
            wanted_since,
            digests: Vec::new(),
            success: None,
            success_on: BTreeMap::new(),
            check: CheckMemory::default(),
            pulled_at: None,
            attempted_at: None,
            was_ready: false,
            was_degraded: false,
        }
    }

    /// Takes over what the registry said, and the order of digests, from an earlier leader's status.
    fn recall(&mut self, image: &CachedImage, now: Now) {
        let stored = &image.status;
        self.check = CheckMemory::recall(stored.registry_check.as_ref(), &image.reference, now);
        if stored.observed_generation != Some(image.generation) {
            // It may be about another reference.
            self.note_said();
            self.observe(image);
            return;
        }
        let newest = stored.resolved_digest.as_ref();
        let older =
            stored.digests.iter().rev().map(|held| &held.digest).filter(|digest| Some(*digest) != newest);
        let earlier = |digest: &String| Digest { digest: digest.clone(), tick: 0, only_by: None };
        self.digests = older.chain(newest).map(earlier).collect();
        self.note_said();
        self.observe(image);
    }

    /// Gives what the registry said a place among the digests, if no node holds it.
    fn note_said(&mut self) {
        if let Some(answer) = &self.check.answer
            && self.age_of(&answer.check.digest).is_none()
        {
            self.digests.push(Digest {
                digest: answer.check.digest.clone(),
                tick: answer.tick,
                only_by: None,
            });
        }
    }

    /// The registry gave this digest, at first in observation `tick`: of all that were seen it is the newest.
    pub(super) fn given(&mut self, digest: &str, tick: u64) {
        self.digests.retain(|seen| seen.digest != digest);
        self.digests.push(Digest { digest: digest.to_owned(), tick, only_by: None });
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
        node: &str,
        digest: Option<&str>,
        at: Timestamp,
        first_sight: bool,
        tick: u64,
        now: Now,
    ) {
        self.success = Some(now.monotonic);
        if let Some(digest) = digest {
            self.confirmed(node, digest, tick);
        }
        raise(&mut self.pulled_at, at, first_sight, now.wall);
        raise(&mut self.attempted_at, at, first_sight, now.wall);
    }

    fn confirmed(&mut self, node: &str, digest: &str, tick: u64) {
        if let Some(seen) = self.digests.iter_mut().find(|seen| seen.digest == digest) {
            seen.only_by.take_if(|only| only != node);
            return;
        }
        self.digests.push(Digest { digest: digest.to_owned(), tick, only_by: Some(node.to_owned()) });
        let mut of_node =
            self.digests.iter().enumerate().filter(|(_, seen)| seen.only_by.as_deref() == Some(node));
        let oldest = of_node.next().map(|(place, _)| place);
        if let Some(oldest) = oldest.filter(|_| of_node.count() >= OF_ONE_NODE) {
            self.digests.remove(oldest);
        }
    }

    /// An attempt on a node failed.
    pub(super) fn attempted(&mut self, at: Timestamp, first_sight: bool, now: Now) {
        raise(&mut self.attempted_at, at, first_sight, now.wall);
    }

    /// The digest that was seen last for the first time.
    pub(crate) fn newest_digest(&self) -> Option<&str> {
        self.digests.last().map(|newest| newest.digest.as_str())
    }

    /// Where a digest stands in the order of first sight (higher is newer), and in which observation it was first
    /// seen. A digest that no node confirmed is older than all others.
    pub(crate) fn age_of(&self, digest: &str) -> Option<(usize, u64)> {
        self.digests
            .iter()
            .enumerate()
            .find(|(_, seen)| seen.digest == digest)
            .map(|(position, seen)| (position, seen.tick))
    }
}

/// A time that a node reported, as it may stand in a status: not later than now, and a year that the API server can read.
pub(crate) fn plausible(at: Timestamp, wall: Timestamp) -> Timestamp {
    at.max(Timestamp::UNIX_EPOCH).min(wall)
}

/// Raises `latest` to `at`, as far as that is plausible. A time in the future that an earlier leader may have clamped already
/// is left to what it wrote.
fn raise(latest: &mut Option<Timestamp>, at: Timestamp, first_sight: bool, wall: Timestamp) {
    if first_sight && at > wall {
        return;
    }
    // A status holds whole seconds: anything finer would differ from what is stored for ever.
    let at = plausible(at, wall);
    *latest = (*latest).max(Some(Timestamp::from_second(at.as_second()).unwrap_or(at)));
}

#[cfg(test)]
mod tests {
    use drop_protocol::{Monotonic, Now};
    use jiff::Timestamp;

    use super::{ImageMemory, OF_ONE_NODE};
    use crate::cluster::CachedImage;
    use crate::status::{ImageStatus, RegistryCheck};

    fn memory() -> ImageMemory {
        ImageMemory::new(&CachedImage::default(), None)
    }

    #[test]
    fn what_the_registry_says_is_the_newest_and_the_others_keep_their_order() {
        let mut memory = memory();
        memory.confirmed("a", "one", 1);
        memory.confirmed("b", "two", 2);
        memory.given("one", 9);
        assert_eq!(memory.newest_digest(), Some("one"));
        assert_eq!([memory.age_of("two"), memory.age_of("one")], [Some((0, 2)), Some((1, 9))]);
    }

    #[test]
    fn of_many_digests_of_one_node_the_latest_stay_and_those_of_others_too() {
        let mut memory = memory();
        memory.confirmed("a", "of another", 1);
        memory.confirmed("liar", "of both", 2);
        memory.confirmed("a", "of both", 3);
        for tick in 4..20 {
            memory.confirmed("liar", &tick.to_string(), tick);
        }
        assert!(memory.age_of("of another").is_some() && memory.age_of("of both").is_some());
        assert_eq!(memory.digests.len(), 2 + OF_ONE_NODE);
        assert_eq!(memory.newest_digest(), Some("19"));
    }

    #[test]
    fn a_new_leader_takes_over_what_the_registry_said() {
        let said = |reference: &str| RegistryCheck {
            reference: reference.to_owned(),
            digest: "said".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            earlier_digests: Vec::new(),
        };
        let now = Now { monotonic: Monotonic::default(), wall: Timestamp::UNIX_EPOCH };
        for (observed, reference, known) in [(1, "app:1", true), (0, "app:1", true), (1, "app:0", false)] {
            let status = ImageStatus {
                observed_generation: Some(observed),
                registry_check: Some(said(reference)),
                ..ImageStatus::default()
            };
            let reference = "app:1".to_owned();
            let image = CachedImage { generation: 1, reference, status, ..CachedImage::default() };
            let mut memory = ImageMemory::new(&image, None);
            memory.recall(&image, now);
            assert_eq!(memory.age_of("said").is_some(), known, "{observed}");
        }
    }
}
