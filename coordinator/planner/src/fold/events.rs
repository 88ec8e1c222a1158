//! Events: one for a change worth reading, never one per node and pull.
//!
//! They follow from the stored status and the new one, so that a new leader does not repeat them.

use super::tally::Tally;
use super::words::listed;
use crate::plan::{EventType, PlannedEvent};
use crate::status::{ConditionStatus, ImageStatus, Phase, READY};
use crate::survey::{ImageFacts, Survey};

/// The event that goes with writing `status`.
pub(super) fn of(
    survey: &Survey<'_>,
    facts: &ImageFacts<'_>,
    tally: &Tally<'_>,
    status: &ImageStatus,
) -> Option<PlannedEvent> {
    let image = facts.image;
    let stored = &image.status;
    let memory = survey.memory.images.get(&image.uid);
    let is_ready = status.phase == Some(Phase::Ready);
    let was_ready = stored.phase == Some(Phase::Ready);
    let (kind, reason, note) = if is_ready && !was_ready {
        if stored.phase == Some(Phase::Degraded) || memory.is_some_and(|memory| memory.was_degraded) {
            (EventType::Normal, "Recovered".to_owned(), message(status))
        } else if memory.is_none_or(|memory| !memory.was_ready) {
            (EventType::Normal, "Cached".to_owned(), message(status))
        } else {
            // Back after an eviction, or once more with new nodes.
            return None;
        }
    } else if status.phase == Some(Phase::Degraded) && reason(stored) != reason(status) {
        (EventType::Warning, reason(status).unwrap_or_default().to_owned(), message(status))
    } else if was_ready && !is_ready && !tally.evicted.is_empty() {
        let nodes = tally.evicted.iter().filter_map(|node| survey.nodes.get(*node));
        let names = listed(nodes.map(|facts| facts.node.name.as_str()));
        let note = format!("no longer on {names}: evicted or removed by hand");
        (EventType::Normal, "Evicted".to_owned(), note)
    } else {
        return None;
    };
    Some(PlannedEvent { image: image.name.clone(), uid: image.uid.clone(), kind, reason, note })
}

fn message(status: &ImageStatus) -> String {
    status.condition(READY).map(|condition| condition.message.clone()).unwrap_or_default()
}

/// Why a status is not ready.
fn reason(status: &ImageStatus) -> Option<&str> {
    let condition = status.condition(READY)?;
    (condition.status == ConditionStatus::False).then_some(condition.reason.as_str())
}
