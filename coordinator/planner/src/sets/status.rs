//! What the status of a set says: how many of its images are there, and in one sentence why not all.

use std::time::Duration;

use drop_protocol::Now;

use super::children::{Children, Staying};
use super::wanted::{Found, Wanted};
use crate::cluster::{CachedImage, World};
use crate::memory::WriteKey;
use crate::plan::{EventType, SetEvent, SetStatusWrite};
use crate::set::{CachedImageSet, SetPhase, SetStatus};
use crate::status::{Condition, ConditionStatus, Phase, READY};
use crate::waiting::WaitReason;
use crate::wake::Wake;

/// The least time between two writes of one status.
const GAP: Duration = Duration::from_secs(2);
/// The same while only numbers and messages change.
const QUIET_GAP: Duration = Duration::from_secs(10);
/// Messages are cut to so many bytes.
const LONGEST_MESSAGE: usize = 1024;

/// The status to write now, with what there is to tell about it.
pub(super) fn fold(
    world: &World,
    set: &CachedImageSet,
    wanted: &Wanted<'_>,
    children: &Children<'_>,
    now: Now,
    wake: &Wake,
) -> Option<SetStatusWrite> {
    let stored = &set.status;
    let status = status(world, set, wanted, children, now);
    if *stored == status {
        return None;
    }
    let memory = &world.memory;
    let gap = if is_news(stored, &status) { GAP } else { QUIET_GAP };
    let last = memory.sets.statuses.get(&set.name).map(|last| last.after(gap));
    let failed = memory.writes.left_alone_until(&WriteKey::SetStatus(set.name.clone()));
    if last.max(failed).is_some_and(|at| wake.ahead(at)) {
        return None;
    }
    let event = event(stored, &status);
    Some(SetStatusWrite { set: set.name.clone(), uid: set.uid.clone(), status, event })
}

fn status(
    world: &World,
    set: &CachedImageSet,
    wanted: &Wanted<'_>,
    children: &Children<'_>,
    now: Now,
) -> SetStatus {
    let tally = Tally::of(children);
    let mut saying = saying(world, set, wanted, children, &tally);
    saying.message.truncate(saying.message.floor_char_boundary(LONGEST_MESSAGE));
    let status = match saying.phase {
        SetPhase::Ready => ConditionStatus::True,
        SetPhase::Pending | SetPhase::Degraded => ConditionStatus::False,
    };
    let before = set.status.condition(READY).filter(|before| before.status == status);
    let ready = Condition {
        kind: READY.to_owned(),
        status,
        reason: saying.reason,
        message: saying.message,
        observed_generation: Some(set.generation),
        last_transition_time: before.map_or(now.wall, |before| before.last_transition_time),
    };
    let others = set.status.conditions.iter().filter(|condition| condition.kind != READY).cloned();
    SetStatus {
        observed_generation: Some(set.generation),
        phase: Some(saying.phase),
        images_managed: count(children.staying.len()),
        images_ready: count(tally.ready),
        conditions: std::iter::once(ready).chain(others).collect(),
    }
}

/// The children by how they stand.
struct Tally<'c> {
    /// How many are in phase `Ready`.
    ready: usize,
    /// How many have no node to be on.
    without_targets: usize,
    /// The others, those that failed first.
    unready: Vec<&'c CachedImage>,
    /// How many of those failed.
    degraded: usize,
}

impl<'c> Tally<'c> {
    fn of(children: &'c Children<'_>) -> Self {
        let mut tally = Self { ready: 0, without_targets: 0, unready: Vec::new(), degraded: 0 };
        let mut pending = Vec::new();
        for Staying { image, differs, .. } in &children.staying {
            let status = &image.status;
            // What was reported of an earlier spec tells nothing about this one.
            let known = !differs && status.observed_generation == Some(image.generation);
            let reason = status.condition(READY).map(|ready| ready.reason.as_str());
            match status.phase.filter(|_| known) {
                Some(Phase::Ready) => tally.ready += 1,
                Some(Phase::Pending) if reason == Some("NoTargets") => tally.without_targets += 1,
                Some(Phase::Degraded) => tally.unready.push(*image),
                Some(Phase::Pending | Phase::Pulling) | None => pending.push(*image),
            }
        }
        tally.degraded = tally.unready.len();
        tally.unready.append(&mut pending);
        tally
    }
}

/// What the condition says.
struct Saying {
    phase: SetPhase,
    reason: String,
    message: String,
}

fn saying(
    world: &World,
    set: &CachedImageSet,
    wanted: &Wanted<'_>,
    children: &Children<'_>,
    tally: &Tally<'_>,
) -> Saying {
    let say = |phase, reason: &str, message| Saying { phase, reason: reason.to_owned(), message };
    if let Some(problem) = &set.problem {
        return say(SetPhase::Degraded, WaitReason::InvalidSpec.as_str(), problem.clone());
    }
    if let [first, others @ ..] = &set.images.malformed[..] {
        let message = format!("{first}{}; the other images go on", and_others(others.len(), "like it"));
        return say(SetPhase::Degraded, WaitReason::InvalidSpec.as_str(), message);
    }
    if let [first, others @ ..] = &children.taken[..] {
        let others = and_others(others.len(), "like it");
        let message = format!(
            "CachedImage {first} exists and does not belong to this set{others}: delete it, and the set makes its own"
        );
        return say(SetPhase::Degraded, "NameTaken", message);
    }
    let progress = progress(world, children, tally);
    let policy = policy_problem(world, set);
    let discovery = discovery_problem(wanted.discovery);
    let notes = notes(wanted, children, tally);
    let say = |phase, reason: &str, parts: &[Option<&str>]| {
        let parts = parts.iter().copied().chain(notes.iter().map(|note| Some(note.as_str())));
        say(phase, reason, parts.flatten().collect::<Vec<_>>().join("; "))
    };
    let unready = progress.as_deref();
    if let Some((reason, problem)) = &discovery {
        return say(SetPhase::Degraded, reason, &[Some(problem), unready]);
    }
    if tally.degraded > 0 {
        return say(SetPhase::Degraded, "Degraded", &[unready]);
    }
    match (&policy, unready) {
        (Some((reason, problem)), Some(_)) => say(SetPhase::Pending, reason, &[Some(problem), unready]),
        (None, Some(_)) => say(SetPhase::Pending, "Progressing", &[unready]),
        (policy, None) => {
            if let Some(text) = nothing_yet(wanted, children) {
                return say(SetPhase::Pending, "Progressing", &[Some(&text)]);
            }
            let text = format!("all images are ready: {}", tally.ready + tally.without_targets);
            let problem = policy.as_ref().map(|(_, problem)| problem.as_str());
            say(SetPhase::Ready, "Ready", &[Some(&text), problem])
        }
    }
}

/// How far the images are, which one is not ready, and why; `None` once all are.
fn progress(world: &World, children: &Children<'_>, tally: &Tally<'_>) -> Option<String> {
    let absent = children.missing.len() + children.occupied.len();
    let behind = tally.unready.len() + absent;
    if behind == 0 {
        return None;
    }
    let total = children.staying.len() + absent;
    let so_far = format!("{}/{total} images are ready", total - behind);
    let first = tally.unready.first().map(|image| match image.status.condition(READY) {
        Some(ready) if image.status.observed_generation == Some(image.generation) => {
            format!("{}: {}", image.name, ready.message)
        }
        _ => format!("{}: just changed", image.name),
    });
    let refused = children.missing.keys().find(|name| world.memory.sets.failed(name));
    let first = first
        .or_else(|| refused.map(|name| format!("{name} can't be created: the coordinator's log tells why")))
        .or_else(|| children.missing.keys().next().map(|name| format!("{name}: to be created")))
        .or_else(|| {
            let name = children.occupied.first()?;
            Some(format!("{name}: waits until the earlier one of this name is deleted"))
        })?;
    let others = match behind - 1 {
        0 => String::new(),
        1 => "; 1 other is not ready either".to_owned(),
        n => format!("; {n} others are not ready either"),
    };
    Some(format!("{so_far}; {first}{others}"))
}

/// What is wrong with the PullPolicy of all children.
fn policy_problem(world: &World, set: &CachedImageSet) -> Option<(&'static str, String)> {
    let name = set.settings.policy.as_ref()?;
    let Some(policy) = world.cluster.policies.get(name) else {
        let text = format!("PullPolicy {name} does not exist: create it or change policyRef");
        return Some((WaitReason::PolicyNotFound.as_str(), text));
    };
    let problem = policy.problem.as_ref()?;
    Some((WaitReason::InvalidPolicy.as_str(), format!("PullPolicy {name}: {problem}")))
}

/// What is wrong with the DiscoveryPolicy.
fn discovery_problem(found: Found<'_>) -> Option<(&str, String)> {
    match found {
        Found::Missing(name) => Some((
            "DiscoveryPolicyNotFound",
            format!("DiscoveryPolicy {name} does not exist: create it or change discoveryPolicyRef"),
        )),
        Found::Failing { discovery, reason, message } => {
            Some((reason, format!("DiscoveryPolicy {}: {message}", discovery.name)))
        }
        Found::NotAsked | Found::NotYet(_) | Found::Nothing(_) | Found::Images(_) => None,
    }
}

/// Why a set without anything to do is not ready.
fn nothing_yet(wanted: &Wanted<'_>, children: &Children<'_>) -> Option<String> {
    match wanted.discovery {
        Found::NotYet(discovery) => Some(format!("DiscoveryPolicy {} has not looked yet", discovery.name)),
        _ if !children.staying.is_empty() => None,
        Found::Nothing(discovery) => Some(format!("DiscoveryPolicy {} has found no image", discovery.name)),
        _ => {
            Some("no image: list some in images, or name a DiscoveryPolicy in discoveryPolicyRef".to_owned())
        }
    }
}

/// What is good to know and makes nothing less ready.
fn notes(wanted: &Wanted<'_>, children: &Children<'_>, tally: &Tally<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if tally.without_targets > 0 {
        notes.push(format!("{} without a node to be on", images(tally.without_targets)));
    }
    let kept = children.staying.iter().filter(|staying| staying.is_kept()).count();
    if kept > 0 {
        notes.push(format!("{} found earlier kept", images(kept)));
    }
    if let Some(discovery) = wanted.discovery.discovery()
        && let [first, others @ ..] = &discovery.images.malformed[..]
    {
        let others = and_others(others.len(), "like it");
        notes.push(format!("DiscoveryPolicy {}: left out {first}{others}", discovery.name));
    }
    notes
}

fn images(n: usize) -> String {
    if n == 1 { "1 image".to_owned() } else { format!("{n} images") }
}

fn and_others(n: usize, what: &str) -> String {
    if n == 0 { String::new() } else { format!(" (and {n} more {what})") }
}

/// Whether more has changed than numbers and messages.
fn is_news(stored: &SetStatus, status: &SetStatus) -> bool {
    let reason = |status: &SetStatus| status.condition(READY).map(|ready| ready.reason.clone());
    (stored.phase, stored.observed_generation) != (status.phase, status.observed_generation)
        || reason(stored) != reason(status)
}

/// What is worth an event: all is well, or somebody should look, and it was not so before.
fn event(stored: &SetStatus, status: &SetStatus) -> Option<SetEvent> {
    let before = stored.condition(READY).map(|ready| ready.reason.as_str());
    let ready = status.condition(READY)?;
    let kind = match status.phase? {
        SetPhase::Ready if stored.phase != Some(SetPhase::Ready) => EventType::Normal,
        SetPhase::Degraded if before != Some(&ready.reason) => EventType::Warning,
        SetPhase::Pending | SetPhase::Ready | SetPhase::Degraded => return None,
    };
    Some(SetEvent { kind, reason: ready.reason.clone(), note: ready.message.clone() })
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
