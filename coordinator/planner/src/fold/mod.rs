//! Folds what nodes reported into the status of each CachedImage.
//!
//! Every write counts, so a status is written only when it differs, and what flickers while nodes pull waits longer
//! than what people wait for.

mod conditions;
mod events;
mod obstacle;
mod pace;
mod tally;
#[cfg(test)]
mod tests;
mod words;

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::CachedImage;
use crate::memory::WriteKey;
use crate::memory::images::plausible;
use crate::plan::{PlannedEvent, StatusWrite};
use crate::status::{self, DigestNodes, FailedNode, ImageStatus, Phase, WaitingNodes};
use crate::survey::{ImageFacts, Survey};
use crate::wake::Wake;
use tally::{Names, Tally};

/// At most this many failed nodes are listed.
const FAILED_NODES: usize = 20;
/// At most this many digests are listed.
const DIGESTS: usize = 10;
/// At most this many reasons to wait are listed.
const WAITING: usize = 30;
/// The names of cached nodes take at most this many bytes, so that a status stays under 512 KiB.
const CACHED_NODES_BYTES: usize = 440 * 1024;
/// The least time between two writes of one status.
const GAP: Duration = Duration::from_secs(2);
/// One more second between two writes for so many bytes of status.
const BYTES_A_SECOND: u64 = 20 * 1024;
/// The first status of an image is written so long after it was first seen: by then it says who pulls.
const FIRST: Duration = Duration::from_secs(1);
/// The least time until a change that only flickers is written.
const QUIET_GAP: Duration = Duration::from_secs(10);

/// Statuses to write now, and the events that go with them.
pub(crate) fn fold(survey: &Survey<'_>, wake: &Wake) -> (Vec<StatusWrite>, Vec<PlannedEvent>) {
    let mut writes = Vec::new();
    let mut events = Vec::new();
    let mut names = Names::of(survey);
    for facts in &survey.images {
        let image = facts.image;
        let tally = Tally::new(survey, facts, &names);
        let status = without_nodes(survey, facts, &tally);
        let stored = &image.status;
        let same_nodes = tally.lists(&stored.cached_nodes, facts, &mut names);
        if same_nodes && same_but_nodes(stored, &status) {
            continue;
        }
        let gap = Duration::from_secs(tally.bytes / BYTES_A_SECOND).max(GAP);
        let last = survey.memory.writes.statuses.get(&image.name).copied();
        let not_before = if stored.observed_generation.is_none() {
            let seen = survey.memory.images.get(&image.uid);
            last.map(|last| last.after(gap)).max(seen.and_then(|seen| Some(seen.wanted_since?.after(FIRST))))
        } else if only_progress(stored, &status) || same_nodes && only_flickers(stored, &status) {
            Some(last.unwrap_or(survey.leadership.since).after(gap.max(QUIET_GAP)))
        } else {
            last.map(|last| last.after(gap))
        };
        let failed = survey.memory.writes.left_alone_until(&WriteKey::Status(image.name.clone()));
        if not_before.max(failed).is_some_and(|at| wake.ahead(at)) {
            continue;
        }
        let cached_nodes = tally.cached_names(survey, facts).map(Arc::from).collect();
        let status = ImageStatus { cached_nodes, ..status };
        events.extend(events::of(survey, facts, &tally, &status));
        writes.push(StatusWrite { image: image.name.clone(), uid: image.uid.clone(), status });
    }
    (writes, events)
}

/// The status but for the names of cached nodes: they are many, and mostly the same as before.
fn without_nodes(survey: &Survey<'_>, facts: &ImageFacts<'_>, tally: &Tally<'_>) -> ImageStatus {
    let image = facts.image;
    let stored = &image.status;
    let memory = survey.memory.images.get(&image.uid);
    let phase = conditions::phase(image, tally);
    ImageStatus {
        observed_generation: Some(image.generation),
        phase: Some(phase),
        ready: format!("{}/{}", tally.ready, tally.targeted),
        resolved_digest: facts
            .digests
            .newest()
            .or_else(|| memory.and_then(|memory| memory.newest_digest()))
            .map(str::to_owned),
        nodes_targeted: tally.targeted,
        nodes_ready: tally.ready,
        nodes_pulling: tally.pulling,
        nodes_failing: tally.failing,
        nodes_waiting: tally.waiting,
        cached_nodes: Vec::new(),
        consecutive_failures: tally.failures.iter().map(|f| f.failure.attempts).max().unwrap_or_default(),
        last_pulled_at: stored.last_pulled_at.max(memory.and_then(|memory| memory.pulled_at)),
        last_attempted_at: stored.last_attempted_at.max(memory.and_then(|memory| memory.attempted_at)),
        failed_nodes: failed_nodes(survey, image, tally),
        failed_nodes_total: count(tally.failures.len()),
        digests: facts
            .digests
            .held
            .iter()
            .take(DIGESTS)
            .enumerate()
            .map(|(place, &(digest, nodes))| DigestNodes {
                digest: digest.to_owned(),
                nodes,
                newest: place == 0,
            })
            .collect(),
        digests_total: count(facts.digests.held.len()),
        registry_check: facts.check.answer().map(|answer| answer.check.clone()),
        waiting: waiting(tally),
        conditions: conditions::conditions(survey, facts, tally, phase),
    }
}

fn failed_nodes(survey: &Survey<'_>, image: &CachedImage, tally: &Tally<'_>) -> Vec<FailedNode> {
    let mut failed: Vec<FailedNode> = tally
        .failures
        .iter()
        .filter_map(|failing| {
            let node = &survey.nodes.get(failing.node)?.node.name;
            let before = image.status.failed_nodes.iter().find(|before| &before.node == node);
            let failure = failing.failure;
            Some(FailedNode {
                node: node.clone(),
                reason: failure.reason.to_string(),
                message: failure.message.clone(),
                attempts: failure.attempts,
                since: before
                    .filter(|before| before.attempts <= failure.attempts)
                    .map_or(Some(plausible(failure.at, survey.now.wall)), |before| before.since),
            })
        })
        .collect();
    failed.sort_by(|a, b| (a.since, &a.node).cmp(&(b.since, &b.node)));
    failed.truncate(FAILED_NODES);
    failed
}

fn waiting(tally: &Tally<'_>) -> Vec<WaitingNodes> {
    let mut waiting: Vec<WaitingNodes> = tally
        .reasons
        .iter()
        .map(|(word, reason)| WaitingNodes { reason: (*word).to_owned(), nodes: reason.nodes })
        .collect();
    waiting.sort_by(|a, b| (b.nodes, &a.reason).cmp(&(a.nodes, &b.reason)));
    waiting.truncate(WAITING);
    waiting
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Whether two statuses differ in nothing but, perhaps, the names of cached nodes.
fn same_but_nodes(a: &ImageStatus, b: &ImageStatus) -> bool {
    a.observed_generation == b.observed_generation
        && a.phase == b.phase
        && (a.nodes_targeted, a.nodes_ready) == (b.nodes_targeted, b.nodes_ready)
        && (a.nodes_pulling, a.nodes_failing, a.nodes_waiting)
            == (b.nodes_pulling, b.nodes_failing, b.nodes_waiting)
        && a.ready == b.ready
        && a.resolved_digest == b.resolved_digest
        && a.consecutive_failures == b.consecutive_failures
        && (a.last_pulled_at, a.last_attempted_at) == (b.last_pulled_at, b.last_attempted_at)
        && (a.failed_nodes_total, &a.failed_nodes) == (b.failed_nodes_total, &b.failed_nodes)
        && (a.digests_total, &a.digests) == (b.digests_total, &b.digests)
        && a.registry_check == b.registry_check
        && a.waiting == b.waiting
        && a.conditions == b.conditions
}

/// Whether more nodes have the image and others are at it: soon there will be more to tell, and the last of it counts.
fn only_progress(stored: &ImageStatus, status: &ImageStatus) -> bool {
    let under_way = |phase| matches!(phase, Some(Phase::Pending | Phase::Pulling));
    under_way(stored.phase)
        && under_way(status.phase)
        && status.nodes_pulling > 0
        && status.nodes_ready >= stored.nodes_ready
        && status.observed_generation == stored.observed_generation
        && (status.nodes_targeted, status.failed_nodes_total)
            == (stored.nodes_targeted, stored.failed_nodes_total)
}

/// Whether only such things differ as come and go while nodes pull.
fn only_flickers(stored: &ImageStatus, status: &ImageStatus) -> bool {
    let mut calm = status.clone();
    let flickers = [Some(Phase::Pending), Some(Phase::Pulling)];
    if flickers.contains(&stored.phase) && flickers.contains(&calm.phase) {
        calm.phase = stored.phase;
    }
    (calm.nodes_pulling, calm.nodes_failing, calm.nodes_waiting) =
        (stored.nodes_pulling, stored.nodes_failing, stored.nodes_waiting);
    calm.waiting.clone_from(&stored.waiting);
    let progress = stored.condition(status::PULL_PROGRESS).cloned();
    for condition in &mut calm.conditions {
        if let Some(stored) = progress.as_ref().filter(|stored| stored.kind == condition.kind) {
            condition.clone_from(stored);
        }
    }
    same_but_nodes(stored, &calm)
}
