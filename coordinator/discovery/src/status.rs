//! What becomes of the answers: old status and answers in, new status out.
//!
//! The status is all that is remembered. A source that fails keeps the images that the status says it once named, also
//! after a restart of whoever asks. Messages hold no times and no counts of attempts: as long as the same things are
//! wrong, the same status comes out, and nobody has to write it again.

use drop_crds::DiscoveryPolicyStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::answer::Answer;
use crate::policy::{Policy, Source};
use crate::rank::{Named, rank, sources};

const READY: &str = "Ready";
const SOURCE_HEALTHY: &str = "SourceHealthy";
const INVALID_SPEC: &str = "InvalidSpec";

/// A message tells about this many sources.
const TOLD: usize = 3;

/// The status after every source of `policy` was asked. `answers` are in the order of its sources.
#[must_use]
pub fn conclude(
    old: &DiscoveryPolicyStatus,
    generation: i64,
    policy: &Policy,
    answers: &[Answer],
    now: Timestamp,
) -> DiscoveryPolicyStatus {
    let asked = || policy.sources.iter().zip(answers);
    let fresh = asked().flat_map(|(source, answer)| {
        answer.images.iter().map(|found| Named {
            image: &found.image,
            score: found.score,
            source: &source.name,
        })
    });
    let kept = old.discovered_images.iter().flat_map(|image| {
        asked()
            .filter(|(source, answer)| {
                answer.keep.iter().any(|shape| shape.fits(&image.image))
                    && sources(image).any(|name| name == source.name)
            })
            .map(|(source, _)| Named { image: &image.image, score: image.score, source: &source.name })
    });
    let ranked = rank(fresh.chain(kept), policy.filter.as_ref(), policy.max_images);

    let failed: Vec<(&Source, &Answer)> = asked().filter(|(_, answer)| answer.failure.is_some()).collect();
    let silent = !answers.is_empty() && answers.iter().all(Answer::is_silent);
    let count = counted(ranked.images.len(), "image");
    let mut parts = Vec::new();
    let (status, reason) = if silent {
        parts.push(told(&failed));
        if !ranked.images.is_empty() {
            parts.push(format!("{count} of earlier answers kept"));
        }
        (
            "False",
            failed
                .first()
                .and_then(|(_, answer)| answer.failure.as_ref())
                .map_or("SyncFailed", |f| f.reason.as_str()),
        )
    } else {
        parts.push(format!("{count} from {}", counted(policy.sources.len(), "source")));
        if ranked.left_out > 0 {
            parts.push(format!("{} more do not fit into a status", ranked.left_out));
        }
        let noted = asked().filter(|(_, answer)| !answer.notes.is_empty());
        parts.extend(
            noted.take(TOLD).map(|(source, answer)| format!("{}: {}", source.name, answer.notes.join(", "))),
        );
        if failed.is_empty() {
            ("True", "Synced")
        } else {
            parts.push(told(&failed));
            ("True", "PartiallyFailed")
        }
    };
    let ready = condition(READY, status, reason, parts.join("; "));
    let healthy = if failed.is_empty() {
        condition(SOURCE_HEALTHY, "True", "AllSourcesHealthy", answered(policy.sources.len()))
    } else {
        condition(SOURCE_HEALTHY, "False", "SourceError", told(&failed))
    };
    DiscoveryPolicyStatus {
        last_sync_time: if silent { old.last_sync_time.clone() } else { Some(Time(now)) },
        image_count: int(ranked.images.len()),
        discovered_images: ranked.images,
        source_count: int(policy.sources.len()),
        conditions: merged(&old.conditions, &[ready, healthy], generation, now),
    }
}

/// The status of a policy whose spec can't be acted on: what was found stays.
#[must_use]
pub fn invalid(
    old: &DiscoveryPolicyStatus,
    generation: i64,
    sources: usize,
    problem: String,
    now: Timestamp,
) -> DiscoveryPolicyStatus {
    let ready = condition(READY, "False", INVALID_SPEC, problem);
    let healthy = condition(SOURCE_HEALTHY, "Unknown", INVALID_SPEC, "no source is asked".to_owned());
    DiscoveryPolicyStatus {
        source_count: int(sources),
        conditions: merged(&old.conditions, &[ready, healthy], generation, now),
        ..old.clone()
    }
}

/// Whether `new` says anything that `old` does not, the time of the sync aside.
#[must_use]
pub fn differs(old: &DiscoveryPolicyStatus, new: &DiscoveryPolicyStatus) -> bool {
    DiscoveryPolicyStatus { last_sync_time: None, ..old.clone() }
        != DiscoveryPolicyStatus { last_sync_time: None, ..new.clone() }
}

/// What a status says about the state of affairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is about another generation of the spec, or about none.
    Outdated,
    /// It is about this one, and something failed.
    Failing,
    /// It is about this one, and all is well.
    Settled,
}

/// What `status` says of the spec with this generation.
#[must_use]
pub fn standing(status: &DiscoveryPolicyStatus, generation: i64) -> Standing {
    let find = |kind: &str| status.conditions.iter().find(|condition| condition.type_ == kind);
    let (Some(ready), Some(healthy)) = (find(READY), find(SOURCE_HEALTHY)) else { return Standing::Outdated };
    if ready.observed_generation != Some(generation) {
        Standing::Outdated
    } else if ready.status == "True" && healthy.status == "True" {
        Standing::Settled
    } else {
        Standing::Failing
    }
}

fn condition(kind: &str, status: &str, reason: &str, message: String) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: None,
        last_transition_time: Time(Timestamp::UNIX_EPOCH),
    }
}

/// Our conditions in place of the old ones. A status that stays keeps its time; conditions of others stay.
fn merged(old: &[Condition], ours: &[Condition; 2], generation: i64, now: Timestamp) -> Vec<Condition> {
    let others = old.iter().filter(|known| ours.iter().all(|new| new.type_ != known.type_)).cloned();
    let renewed = ours.iter().map(|new| {
        let known = old.iter().find(|known| known.type_ == new.type_ && known.status == new.status);
        Condition {
            observed_generation: Some(generation),
            last_transition_time: known.map_or(Time(now), |known| known.last_transition_time.clone()),
            ..new.clone()
        }
    });
    renewed.chain(others).collect()
}

/// What went wrong with the first few sources.
fn told(failed: &[(&Source, &Answer)]) -> String {
    let mut texts: Vec<String> = failed
        .iter()
        .filter_map(|(source, answer)| Some(format!("{}: {}", source.name, answer.failure.as_ref()?.message)))
        .take(TOLD)
        .collect();
    if failed.len() > TOLD {
        texts.push(format!("{} more", failed.len() - TOLD));
    }
    texts.join("; ")
}

fn answered(sources: usize) -> String {
    if sources == 1 { "the source answered".to_owned() } else { format!("all {sources} sources answered") }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
