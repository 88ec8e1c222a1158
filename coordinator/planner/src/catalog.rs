//! What the catalog is to say, and when it is rewritten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_protocol::Catalog;
use drop_protocol::catalog::{ANSWER_MARGIN, ANSWER_WITHIN_MOST};

use crate::cluster::{CachedImage, StoredCatalog, World};
use crate::memory::WriteKey;
use crate::survey::{Need, Survey};
use crate::waiting::WaitReason;
use crate::wake::Wake;

/// While things change, it is rewritten no more often than this.
const GAP: Duration = Duration::from_secs(5);
/// The references may take so many bytes: a ConfigMap holds 1 MiB.
const ROOM: usize = 900 * 1024;
/// So far above the stored generation a report may claim to have answered: more than any catalog gets, and so little that a node
/// that lies brings nobody near the last one.
const LEAP: u64 = 1 << 32;
/// A catalog from a time with more nodes may give agents more time than they need now, up to this or so many times as much. Beyond
/// it, somebody has edited it by hand, and all that is newly listed would wait for as long.
const PATIENT: Duration = Duration::from_secs(30);
const FAR_MORE: u32 = 4;

/// How long the agents of so many nodes may take to answer a newly listed reference.
pub(crate) fn answer_within(nodes: usize) -> Duration {
    let time =
        ANSWER_MARGIN + Duration::from_millis(u64::try_from(nodes).unwrap_or(u64::MAX).saturating_mul(5));
    time.min(ANSWER_WITHIN_MOST)
}

/// The CachedImages that find room in the catalog: all that can be acted on, the first by name up to its size.
fn listable(world: &World) -> impl Iterator<Item = &CachedImage> {
    let mut room = ROOM;
    actionable(world).take_while(move |image| {
        let bytes = image.reference.len() + image.uid.len() + 2;
        room.checked_sub(bytes).inspect(|left| room = *left).is_some()
    })
}

fn actionable(world: &World) -> impl Iterator<Item = &CachedImage> {
    world.cluster.images.values().map(AsRef::as_ref).filter(|image| {
        image.problem.is_none() && !image.reference.is_empty() && !image.reference.contains([' ', '\n'])
    })
}

/// Says of the images for which the catalog has no room that this is what they wait for.
pub(crate) fn explain(survey: &mut Survey<'_>) {
    let listed = listable(survey.world).count();
    let left_out: BTreeSet<&str> =
        actionable(survey.world).skip(listed).map(|image| image.uid.as_str()).collect();
    if left_out.is_empty() {
        return;
    }
    for facts in survey.images.iter_mut().filter(|facts| left_out.contains(facts.image.uid.as_str())) {
        for pair in facts.pairs.iter_mut() {
            if pair.need == Need::Waits(WaitReason::NotYetAnswered) {
                pair.need = Need::Waits(WaitReason::CatalogFull);
            }
        }
    }
}

/// The new content, if it is to be written now.
pub(crate) fn plan(survey: &Survey<'_>, wake: &Wake) -> Option<Catalog> {
    let (world, nodes) = (survey.world, survey.nodes.len());
    let mut wanted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for image in listable(world) {
        wanted.entry(&image.reference).or_default().insert(&image.uid);
    }
    let stored = world.cluster.catalog.as_ref();
    if stored.is_some_and(|stored| is_sound(nodes, stored) && says(&stored.catalog, &wanted)) {
        return None;
    }
    let writes = &world.memory.writes;
    let not_before = writes
        .catalog
        .map(|at| at.after(GAP))
        .max(writes.left_alone_until(&WriteKey::Catalog))
        .max(world.memory.bursts.settled());
    if not_before.is_some_and(|at| wake.ahead(at)) {
        return None;
    }
    let stored = stored.map_or(0, |stored| stored.catalog.generation);
    // Above every generation that a report answers: the ConfigMap may have been deleted by hand.
    let answered = world.cluster.leases.values().filter_map(|lease| Some(lease.report.as_ref()?.catalog));
    let answered = answered.filter(|answered| answered.saturating_sub(stored) <= LEAP).max();
    Some(Catalog {
        generation: answered.unwrap_or_default().max(stored).saturating_add(1),
        answer_within: answer_within(nodes),
        wanted: wanted
            .into_iter()
            .map(|(reference, uids)| (reference.to_owned(), uids.into_iter().map(str::to_owned).collect()))
            .collect(),
    })
}

/// Whether the catalog is one that a coordinator may have written, and asks of nobody to wait for the agents of so many nodes much
/// longer than they need.
pub(crate) fn is_sound(nodes: usize, stored: &StoredCatalog) -> bool {
    let patient = stored.catalog.answer_within <= answer_within(nodes).saturating_mul(FAR_MORE).max(PATIENT);
    !stored.damaged && stored.strays.is_empty() && patient
}

fn says(stored: &Catalog, wanted: &BTreeMap<&str, BTreeSet<&str>>) -> bool {
    stored.wanted.len() == wanted.len()
        && stored.wanted.iter().zip(wanted).all(|((stored, stored_uids), (reference, uids))| {
            stored == reference && stored_uids.iter().map(String::as_str).eq(uids.iter().copied())
        })
}
