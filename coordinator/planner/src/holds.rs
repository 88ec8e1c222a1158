//! Failures that concern more than one pair: the others wait behind one probe at a time.
//!
//! An image, a registry host or a node is *held* while failures that concern it were seen on two nodes (for a node:
//! with two images) and no success since. While it is held, one pair tries at a time, a different one each time, at
//! growing intervals; any success releases all. One node alone never holds up others, whatever it reports: how often it has
//! failed and how long it was told to wait counts for them only as far as another node says as much, and a probe that does not
//! end keeps others from trying no longer than a turn.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::Monotonic;
use drop_protocol::failure::FailureScope;
use drop_protocol::reference::registry_host;

use crate::backoff;
use crate::policy::Pacing;
use crate::survey::{Failing, Need, Survey};
use crate::waiting::WaitReason;
use crate::wake::Wake;
use crate::withdraw::TURN;

/// What a failure concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Concern {
    /// The image of this number, everywhere.
    Image(usize),
    /// The image of this number, on nodes of this architecture.
    Platform(usize, String),
    /// A registry host.
    Host(String),
    /// The node of this number.
    Node(usize),
}

/// What was seen of failures of one concern.
#[derive(Debug, Default)]
struct Hold {
    /// By number of the nodes, or for a node of the images, that failed.
    failed: BTreeMap<usize, Told>,
    latest: Monotonic,
    in_flight: bool,
}

/// What one node tells of its failures; what a node tells of one image, where a node itself is held.
#[derive(Debug, Default)]
struct Told {
    attempts: u32,
    /// What the registry asked for.
    retry_after: Monotonic,
}

impl Hold {
    fn is_held(&self) -> bool {
        self.failed.len() > 1
    }

    fn next_probe(&self, pacing: &Pacing<'_>) -> Monotonic {
        let failed = u32::try_from(self.failed.len()).unwrap_or(u32::MAX);
        let attempts = second(self.failed.values().map(|told| told.attempts));
        let times = attempts.max(failed.saturating_sub(1));
        let after = self.latest.after(backoff::delay(pacing.initial, pacing.max, times));
        after.max(second(self.failed.values().map(|told| told.retry_after)))
    }
}

/// The most that at least two say.
fn second<T: Ord + Copy + Default>(said: impl Iterator<Item = T>) -> T {
    let (mut most, mut second) = (T::default(), T::default());
    for one in said {
        if one > most {
            (most, second) = (one, most);
        } else {
            second = second.max(one);
        }
    }
    second
}

/// Lets only the probes of what is held stay due.
pub(crate) fn apply(survey: &mut Survey<'_>, wake: &Wake) {
    let mut holds = gather(survey);
    holds.retain(|_, hold| hold.is_held());
    if holds.is_empty() {
        return;
    }
    let hosts: Vec<String> =
        survey.images.iter().map(|facts| registry_host(&facts.image.reference)).collect();
    note_in_flight(survey, &hosts, &mut holds, wake);
    for (concern, hold) in &holds {
        gate(survey, &hosts, concern, hold, wake);
    }
    // The order of concerns matters: hosts, then images, then nodes; each choice is made among what is left.
    let rank = |concern: &Concern| match concern {
        Concern::Host(_) => 0,
        Concern::Image(_) | Concern::Platform(..) => 1,
        Concern::Node(_) => 2,
    };
    let mut concerns: Vec<&Concern> = holds.keys().collect();
    concerns.sort_by_key(|concern| rank(concern));
    for concern in concerns {
        choose_probe(survey, &hosts, concern);
    }
}

fn gather(survey: &Survey<'_>) -> BTreeMap<Concern, Hold> {
    let mut holds: BTreeMap<Concern, Hold> = BTreeMap::new();
    for failing in &survey.failing {
        let Some((concern, success)) = concern(survey, failing) else { continue };
        if success.is_some_and(|success| success >= failing.at) {
            continue;
        }
        let member = if matches!(concern, Concern::Node(_)) { failing.image } else { failing.node };
        let hold = holds.entry(concern).or_default();
        hold.latest = hold.latest.max(failing.at);
        let told = hold.failed.entry(member).or_default();
        told.attempts = told.attempts.max(failing.failure.attempts);
        if let Some(seconds) = failing.failure.retry_after_seconds {
            let until = failing.at.after(Duration::from_secs(seconds.into()));
            told.retry_after = told.retry_after.max(until);
        }
    }
    holds
}

/// What a failure concerns, and when a success of the same was last seen.
fn concern(survey: &Survey<'_>, failing: &Failing<'_>) -> Option<(Concern, Option<Monotonic>)> {
    let image = survey.images.get(failing.image)?.image;
    let node = survey.nodes.get(failing.node)?;
    let seen = survey.memory.images.get(&image.uid);
    Some(match failing.failure.scope {
        FailureScope::Image => (Concern::Image(failing.image), seen.and_then(|seen| seen.success)),
        FailureScope::Platform => {
            let architecture = node.node.architecture.clone();
            let success = seen.and_then(|seen| seen.success_on.get(&architecture).copied());
            (Concern::Platform(failing.image, architecture), success)
        }
        FailureScope::Registry => {
            let host = registry_host(&image.reference);
            let success = survey.memory.host_success.get(&host).copied();
            (Concern::Host(host), success)
        }
        FailureScope::Node => (Concern::Node(failing.node), node.success),
    })
}

/// Whether a pair is of a concern.
fn is_of(survey: &Survey<'_>, hosts: &[String], concern: &Concern, image: usize, node: usize) -> bool {
    match concern {
        Concern::Image(number) => *number == image,
        Concern::Platform(number, architecture) => {
            *number == image
                && survey.nodes.get(node).is_some_and(|facts| &facts.node.architecture == architecture)
        }
        Concern::Host(host) => hosts.get(image) == Some(host),
        Concern::Node(number) => *number == node,
    }
}

fn note_in_flight(survey: &Survey<'_>, hosts: &[String], holds: &mut BTreeMap<Concern, Hold>, wake: &Wake) {
    let has_its_turn = |node: usize| {
        let grant = survey.nodes.get(node).and_then(|facts| facts.grant);
        grant.is_some_and(|(_, first_seen)| first_seen.is_none_or(|seen| wake.ahead(seen.after(TURN))))
    };
    for (image, facts) in survey.images.iter().enumerate() {
        for pair in facts.pairs.iter().filter(|pair| pair.need == Need::InFlight && has_its_turn(pair.node)) {
            for (concern, hold) in holds.iter_mut().filter(|(_, hold)| !hold.in_flight) {
                hold.in_flight = is_of(survey, hosts, concern, image, pair.node);
            }
        }
    }
}

const fn reason(concern: &Concern) -> WaitReason {
    match concern {
        Concern::Image(_) => WaitReason::WaitingForProbe,
        Concern::Platform(..) => WaitReason::WaitingForPlatformProbe,
        Concern::Host(_) => WaitReason::WaitingForRegistryProbe,
        Concern::Node(_) => WaitReason::WaitingForNodeProbe,
    }
}

/// Lets nobody try before the time of the next probe, or while one is under way.
fn gate(survey: &mut Survey<'_>, hosts: &[String], concern: &Concern, hold: &Hold, wake: &Wake) {
    for (image, pair) in due_pairs(survey, hosts, concern) {
        let Some(pacing) = survey.pacing(image) else { continue };
        if hold.in_flight || wake.ahead(hold.next_probe(pacing)) {
            set_waiting(survey, image, pair, reason(concern));
        }
    }
}

/// Leaves one node (for a node: one image) that may try.
fn choose_probe(survey: &mut Survey<'_>, hosts: &[String], concern: &Concern) {
    let due = due_pairs(survey, hosts, concern);
    let mut last_failed: BTreeMap<usize, Option<Monotonic>> = BTreeMap::new();
    let member = |image: usize, node: usize| match concern {
        Concern::Node(_) => image,
        _ => node,
    };
    for &(image, pair) in &due {
        if let Some(node) = node_of(survey, image, pair)
            && survey.nodes.get(node).is_some_and(|facts| !facts.busy)
        {
            last_failed.entry(member(image, node)).or_default();
        }
    }
    for failing in &survey.failing {
        if is_of(survey, hosts, concern, failing.image, failing.node)
            && let Some(latest) = last_failed.get_mut(&member(failing.image, failing.node))
        {
            *latest = (*latest).max(Some(failing.at));
        }
    }
    // Who has not tried goes first, then who tried longest ago, then by name.
    let probe = last_failed.into_iter().min_by_key(|(member, latest)| (*latest, *member));
    for (image, pair) in due {
        let Some(node) = node_of(survey, image, pair) else { continue };
        if probe.is_none_or(|(chosen, _)| chosen != member(image, node)) {
            set_waiting(survey, image, pair, reason(concern));
        }
    }
}

/// Number of the image and position of the pair of each due pair of the concern.
fn due_pairs(survey: &Survey<'_>, hosts: &[String], concern: &Concern) -> Vec<(usize, usize)> {
    let mut due = Vec::new();
    for (image, facts) in survey.images.iter().enumerate() {
        for (position, pair) in facts.pairs.iter().enumerate() {
            let is_due = matches!(pair.need, Need::Due { .. });
            if is_due && is_of(survey, hosts, concern, image, pair.node) {
                due.push((image, position));
            }
        }
    }
    due
}

fn node_of(survey: &Survey<'_>, image: usize, pair: usize) -> Option<usize> {
    Some(survey.images.get(image)?.pairs.get(pair)?.node)
}

fn set_waiting(survey: &mut Survey<'_>, image: usize, pair: usize, reason: WaitReason) {
    if let Some(pair) = survey.images.get_mut(image).and_then(|facts| facts.pairs.get_mut(pair)) {
        pair.need = Need::Waits(reason);
    }
}
