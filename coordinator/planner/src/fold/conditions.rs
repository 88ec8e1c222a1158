//! Phase and conditions: short, for people, and the same for as long as nothing changes.

use super::tally::Tally;
use super::{obstacle, pace, words};
use crate::cluster::CachedImage;
use crate::status::{Condition, ConditionStatus, PULL_PROGRESS, Phase, READY, reason};
use crate::survey::{ImageFacts, Survey};
use crate::waiting::WaitReason;

/// What a condition says.
struct Saying {
    status: ConditionStatus,
    reason: String,
    message: String,
}

fn saying(status: ConditionStatus, reason: &str, message: String) -> Saying {
    Saying { status, reason: reason.to_owned(), message }
}

pub(super) fn phase(image: &CachedImage, tally: &Tally<'_>) -> Phase {
    if image.problem.is_some() {
        Phase::Degraded
    } else if tally.targeted == 0 {
        Phase::Pending
    } else if tally.missing() == 0 {
        Phase::Ready
    } else if tally.failures.iter().any(|failing| !failing.cached) {
        Phase::Degraded
    } else if tally.pulling > 0 || tally.ready > 0 {
        Phase::Pulling
    } else {
        Phase::Pending
    }
}

/// The conditions, with the times at which their status last changed.
pub(super) fn conditions(
    survey: &Survey<'_>,
    facts: &ImageFacts<'_>,
    tally: &Tally<'_>,
    phase: Phase,
) -> Vec<Condition> {
    let stored = &facts.image.status;
    let ours = [(READY, ready(survey, facts, tally)), (PULL_PROGRESS, progress(survey, facts, tally, phase))];
    let mut conditions: Vec<Condition> = ours
        .into_iter()
        .map(|(kind, saying)| Condition {
            kind: kind.to_owned(),
            status: saying.status,
            reason: saying.reason,
            message: saying.message,
            observed_generation: Some(facts.image.generation),
            last_transition_time: stored
                .condition(kind)
                .filter(|stored| stored.status == saying.status)
                .map_or(survey.now.wall, |stored| stored.last_transition_time),
        })
        .collect();
    let others = stored.conditions.iter().filter(|c| ![READY, PULL_PROGRESS].contains(&c.kind.as_str()));
    conditions.extend(others.cloned());
    conditions
}

fn ready(survey: &Survey<'_>, facts: &ImageFacts<'_>, tally: &Tally<'_>) -> Saying {
    let image = facts.image;
    if let Some(problem) = &image.problem {
        return saying(ConditionStatus::False, WaitReason::InvalidSpec.as_str(), problem.clone());
    }
    let policy = survey
        .pacings
        .all
        .get(facts.pacing)
        .and_then(|pacing| Some((pacing.obstacle?.as_str(), obstacle::policy(pacing)?)));
    if tally.targeted == 0 {
        let mut text = words::no_targets(survey, facts);
        if let Some((_, problem)) = policy {
            text = format!("{text}; {problem}");
        }
        return saying(ConditionStatus::False, reason::NO_TARGETS, text);
    }
    if tally.missing() == 0 {
        let mut text =
            format!("cached on {}{}", words::nodes(tally.ready), words::older_digests(survey, facts));
        if let Some((_, failed)) = words::failed(survey, tally, true) {
            text = format!("{text}; the latest check {failed}");
        }
        if let Some((_, problem)) = policy {
            text = format!("{text}; {problem}");
        }
        return saying(ConditionStatus::True, reason::CACHED, text);
    }
    let so_far = format!(
        "{}/{} nodes have the image{}",
        tally.ready,
        tally.targeted,
        words::older_digests(survey, facts)
    );
    if let Some((reason, problem)) = policy {
        return saying(ConditionStatus::False, reason, format!("{so_far}; {problem}"));
    }
    if let Some((reason, failed)) = words::failed(survey, tally, false) {
        return saying(ConditionStatus::False, reason, format!("{so_far}; {failed}"));
    }
    if tally.pulling == 0
        && obstacle::is_all(tally)
        && let Some(most) = obstacle::of_most(tally)
    {
        let text = obstacle::text(survey, facts, most);
        return saying(ConditionStatus::False, most.why.as_str(), format!("{so_far}; {text}"));
    }
    saying(ConditionStatus::False, reason::IN_PROGRESS, so_far)
}

fn progress(survey: &Survey<'_>, facts: &ImageFacts<'_>, tally: &Tally<'_>, phase: Phase) -> Saying {
    let done = format!("{}/{} done", tally.ready, tally.targeted);
    let (status, reason, doing) = match phase {
        _ if tally.pulling > 0 => (
            ConditionStatus::True,
            reason::PULLING,
            format!("pulling on {}, {done}", words::nodes(tally.pulling)),
        ),
        Phase::Ready => {
            let text = "all nodes have the image".to_owned();
            return saying(ConditionStatus::False, reason::COMPLETE, text);
        }
        Phase::Degraded if facts.image.problem.is_some() => {
            let text = "nothing is pulled until the spec is mended".to_owned();
            return saying(ConditionStatus::False, reason::STALLED, text);
        }
        Phase::Degraded => (ConditionStatus::False, reason::STALLED, format!("waiting to try again, {done}")),
        _ if tally.targeted == 0 => {
            let text = "there is nothing to pull".to_owned();
            return saying(ConditionStatus::False, reason::IDLE, text);
        }
        Phase::Pending | Phase::Pulling => {
            (ConditionStatus::False, reason::IDLE, format!("nothing is being pulled, {done}"))
        }
    };
    let in_line = tally.in_line();
    let left = survey.pacings.all.get(facts.pacing).map_or(String::new(), |pace| pace::left(in_line, pace));
    // Where nothing goes on, Ready says what stands in the way.
    let beside = if in_line > 0 || tally.pulling > 0 { obstacle::of_most(tally) } else { None };
    let beside = beside.map_or(String::new(), |most| format!("; {}", obstacle::text(survey, facts, most)));
    let unanswered = words::unanswered(tally);
    saying(status, reason, format!("{doing}{left}{unanswered}{beside}"))
}
