//! Which churn comes next. Pure: a seeded source of randomness and what there is go in, an event comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;

use super::wanted::{HOSTS, Image, Node, Policy, Reach, STEADY, Set, Source, Wanted};

/// How many PullPolicies there are.
const POLICIES: usize = 4;
/// How many DiscoveryPolicies there are.
const SOURCES: usize = 2;
/// How many pools of nodes there are.
const POOLS: usize = 3;
/// Between so many CachedImages that belong to nobody.
const IMAGES: std::ops::Range<usize> = 15..30;
/// Between so many sets.
const SETS: std::ops::Range<usize> = 3..7;

/// Something that happens to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A CachedImage is created or edited.
    WriteImage { name: String, image: Image },
    /// A CachedImage is deleted.
    DeleteImage { name: String },
    /// A CachedImageSet is created or edited.
    WriteSet { name: String, set: Set },
    /// A CachedImageSet is deleted.
    DeleteSet { name: String },
    /// A PullPolicy is created or edited.
    WritePolicy { number: usize, policy: Policy },
    /// A PullPolicy is deleted.
    DeletePolicy { number: usize },
    /// The source of a DiscoveryPolicy tells something else, or nothing.
    ChangeSource { number: usize, source: Source },
    /// A Node comes, with an agent.
    AddNode { number: usize, node: Node },
    /// A Node goes and comes again under its name, with nothing on it.
    ReplaceNode { number: usize, node: Node },
    /// A Node gets other labels or taints, or is cordoned or uncordoned.
    ChangeNode { number: usize, node: Node },
    /// A Node goes.
    RemoveNode { number: usize },
    /// A kubelet writes the status of its Node, and removes images that nobody wants.
    Heartbeat { number: usize },
    /// An agent ends: killed, or by SIGTERM.
    StopAgent { number: usize, killed: bool },
    /// An agent starts again in its Pod.
    StartAgent { number: usize },
    /// An agent's Pod is replaced, as in a rollout of the DaemonSet.
    ReplacePod { number: usize },
    /// An image vanishes from a node.
    Evict { number: usize, reference: String },
    /// A registry says that it has no such image.
    FailImage { reference: String },
    /// It has it again.
    HealImage { reference: String },
    /// A registry answers nothing any more.
    FailHost { host: usize },
    /// It answers again.
    HealHost { host: usize },
    /// The leading coordinator ends, by SIGKILL or SIGTERM, and is started again.
    EndLeader { killed: bool },
}

impl Event {
    /// The number after which it calls something new.
    pub(super) fn named(&self) -> Option<usize> {
        match self {
            Self::WriteImage { image, .. } => Some(image.app),
            Self::WriteSet { name, set } => {
                set.apps.last().copied().max(name.rsplit('-').next().and_then(|n| n.parse().ok()))
            }
            Self::ChangeSource { source, .. } => source.apps.last().copied(),
            Self::AddNode { number, .. } => Some(*number),
            _ => None,
        }
    }
}

/// Kinds of churn, each with a pace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Kind {
    NewImage,
    EditImage,
    DeleteImage,
    NewSet,
    EditSet,
    DeleteSet,
    EditPolicy,
    DeletePolicy,
    RestorePolicy,
    ChangeSource,
    FailSource,
    AddNode,
    RemoveNode,
    ReplaceNode,
    ChangeNode,
    Heartbeat,
    StopAgent,
    StartAgent,
    ReplacePod,
    Evict,
    FailImage,
    HealImage,
    FailHost,
    HealHost,
    EndLeader,
}

/// When each kind of churn comes next.
#[derive(Debug)]
pub(super) struct Churn {
    random: Rng,
    pace: BTreeMap<Kind, Duration>,
    due: BTreeMap<Kind, Duration>,
}

/// Seconds between two events of each kind on average, on `nodes` nodes. `leader`: how far apart leaders end.
pub(super) fn pace(nodes: usize, leader: Duration) -> BTreeMap<Kind, Duration> {
    let seconds = Duration::from_secs_f64;
    // What befalls nodes befalls each as often.
    let of_nodes = |apart: f64| seconds(apart / nodes.max(1) as f64);
    [
        (Kind::NewImage, seconds(9.0)),
        (Kind::EditImage, seconds(8.0)),
        (Kind::DeleteImage, seconds(9.0)),
        (Kind::NewSet, seconds(40.0)),
        (Kind::EditSet, seconds(20.0)),
        (Kind::DeleteSet, seconds(40.0)),
        (Kind::EditPolicy, seconds(15.0)),
        (Kind::DeletePolicy, seconds(60.0)),
        (Kind::RestorePolicy, seconds(8.0)),
        (Kind::ChangeSource, seconds(20.0)),
        (Kind::FailSource, seconds(30.0)),
        (Kind::AddNode, of_nodes(3000.0)),
        (Kind::RemoveNode, of_nodes(3000.0)),
        (Kind::ReplaceNode, of_nodes(4000.0)),
        (Kind::ChangeNode, of_nodes(1000.0)),
        (Kind::Heartbeat, of_nodes(300.0)),
        (Kind::StopAgent, of_nodes(1600.0)),
        (Kind::StartAgent, seconds(2.0)),
        (Kind::ReplacePod, of_nodes(3000.0)),
        (Kind::Evict, of_nodes(400.0)),
        (Kind::FailImage, seconds(15.0)),
        (Kind::HealImage, seconds(12.0)),
        (Kind::FailHost, seconds(60.0)),
        (Kind::HealHost, seconds(10.0)),
        (Kind::EndLeader, leader),
    ]
    .into()
}

impl Churn {
    /// Churn of this pace.
    pub(super) fn new(seed: u64, pace: BTreeMap<Kind, Duration>) -> Self {
        let mut churn = Self { random: Rng::with_seed(seed), pace, due: BTreeMap::new() };
        let kinds: Vec<Kind> = churn.pace.keys().copied().collect();
        for kind in kinds {
            churn.draw(kind, Duration::ZERO);
        }
        churn
    }

    /// No more of this kind.
    pub(super) fn end(&mut self, kind: Kind) {
        self.pace.remove(&kind);
        self.due.remove(&kind);
    }

    /// What happens next, and how long after the beginning; nothing if there is nothing for it to happen to.
    pub(super) fn next(&mut self, wanted: &Wanted) -> (Duration, Option<(Kind, Event)>) {
        let Some((kind, at)) = self.due.iter().min_by_key(|(_, at)| **at).map(|(kind, at)| (*kind, *at))
        else {
            return (Duration::MAX, None);
        };
        self.draw(kind, at);
        (at, choose(kind, wanted, &mut self.random).map(|event| (kind, event)))
    }

    fn draw(&mut self, kind: Kind, after: Duration) {
        let mean = self.pace.get(&kind).copied().unwrap_or(Duration::MAX);
        self.due.insert(kind, after.saturating_add(mean.mul_f64(-(1.0 - self.random.f64()).ln())));
    }
}

/// Nothing yet, where there are to be about so many nodes.
pub(super) fn nothing(nodes: usize) -> Wanted {
    Wanted { size: nodes, sources: vec![Source::default(); SOURCES], ..Wanted::default() }
}

/// What there is before anything happens: policies, sources, nodes, images and sets.
pub(super) fn beginning(nodes: usize, random: &mut Rng) -> Vec<Event> {
    let mut wanted = nothing(nodes);
    let mut events = Vec::new();
    let mut happens = |event: Event, wanted: &mut Wanted| {
        wanted.apply(&event);
        events.push(event);
    };
    for number in 0..POLICIES {
        let policy = if number == STEADY { Policy::PLAIN } else { some_policy(random) };
        happens(Event::WritePolicy { number, policy }, &mut wanted);
    }
    for number in 0..nodes {
        happens(Event::AddNode { number, node: some_node(random) }, &mut wanted);
    }
    for number in 0..SOURCES {
        let apps = new_apps(&wanted, 4);
        happens(Event::ChangeSource { number, source: Source { apps, down: false } }, &mut wanted);
    }
    while wanted.images.len() < IMAGES.start + 5 {
        let event = new_image(&wanted, random);
        happens(event, &mut wanted);
    }
    while wanted.sets.len() < SETS.start + 1 {
        let event = new_set(&wanted, random);
        happens(event, &mut wanted);
    }
    events
}

/// An event of this kind, if there is anything for it to happen to.
fn choose(kind: Kind, wanted: &Wanted, random: &mut Rng) -> Option<Event> {
    match kind {
        Kind::NewImage => (wanted.images.len() < IMAGES.end).then(|| new_image(wanted, random)),
        Kind::EditImage => {
            let (name, image) = pick(wanted.images.iter(), random)?;
            Some(Event::WriteImage { name: name.clone(), image: edited(image, random) })
        }
        Kind::DeleteImage => {
            let (name, _) =
                pick(wanted.images.iter(), random).filter(|_| wanted.images.len() > IMAGES.start)?;
            Some(Event::DeleteImage { name: name.clone() })
        }
        Kind::NewSet => (wanted.sets.len() < SETS.end).then(|| new_set(wanted, random)),
        Kind::EditSet => {
            let (name, set) = pick(wanted.sets.iter(), random)?;
            Some(Event::WriteSet { name: name.clone(), set: edited_set(wanted, set, random) })
        }
        Kind::DeleteSet => {
            let (name, _) = pick(wanted.sets.iter(), random).filter(|_| wanted.sets.len() > SETS.start)?;
            Some(Event::DeleteSet { name: name.clone() })
        }
        Kind::EditPolicy | Kind::DeletePolicy => {
            let there =
                wanted.policies.iter().filter(|(number, policy)| **number != STEADY && policy.is_some());
            let number = *pick(there, random)?.0;
            Some(match kind {
                Kind::EditPolicy => Event::WritePolicy { number, policy: some_policy(random) },
                _ => Event::DeletePolicy { number },
            })
        }
        Kind::RestorePolicy => {
            let number = *pick(wanted.policies.iter().filter(|(_, policy)| policy.is_none()), random)?.0;
            Some(Event::WritePolicy { number, policy: some_policy(random) })
        }
        Kind::ChangeSource | Kind::FailSource => {
            let (number, source) = pick(wanted.sources.iter().enumerate(), random)?;
            let mut source = source.clone();
            if kind == Kind::FailSource {
                source.down = !source.down;
            } else {
                while source.apps.len() > random.usize(2..6) {
                    source.apps.pop_first();
                }
                source.apps.extend(new_apps(wanted, random.usize(1..4)));
            }
            Some(Event::ChangeSource { number, source })
        }
        Kind::FailImage => {
            let reference = pick(wanted.references(), random).filter(|_| wanted.failing.len() < 5)?;
            Some(Event::FailImage { reference })
        }
        Kind::HealImage => Some(Event::HealImage { reference: pick(wanted.failing.iter(), random)?.clone() }),
        Kind::FailHost => {
            (wanted.hosts_down.len() < 2).then(|| Event::FailHost { host: random.usize(0..HOSTS) })
        }
        Kind::HealHost => Some(Event::HealHost { host: *pick(wanted.hosts_down.iter(), random)? }),
        Kind::EndLeader => Some(Event::EndLeader { killed: random.bool() }),
        Kind::AddNode
        | Kind::RemoveNode
        | Kind::ReplaceNode
        | Kind::ChangeNode
        | Kind::Heartbeat
        | Kind::StopAgent
        | Kind::StartAgent
        | Kind::ReplacePod
        | Kind::Evict => choose_on_node(kind, wanted, random),
    }
}

fn choose_on_node(kind: Kind, wanted: &Wanted, random: &mut Rng) -> Option<Event> {
    let (fewest, most) = (wanted.size - wanted.size / 10, wanted.size + wanted.size / 10);
    if kind == Kind::RemoveNode && wanted.nodes.len() <= fewest {
        return None;
    }
    if kind == Kind::AddNode {
        if wanted.nodes.len() >= most {
            return None;
        }
        return Some(Event::AddNode { number: wanted.next, node: some_node(random) });
    }
    let (number, node) = pick(wanted.nodes.iter().filter(|(_, node)| fits(kind, **node)), random)?;
    let number = *number;
    Some(match kind {
        Kind::RemoveNode => Event::RemoveNode { number },
        Kind::ReplaceNode => Event::ReplaceNode { number, node: some_node(random) },
        Kind::ChangeNode => {
            Event::ChangeNode { number, node: Node { agent: node.agent, ..some_node(random) } }
        }
        Kind::StopAgent => Event::StopAgent { number, killed: random.bool() },
        Kind::StartAgent => Event::StartAgent { number },
        Kind::ReplacePod => Event::ReplacePod { number },
        Kind::Evict => Event::Evict { number, reference: pick(wanted.references(), random)? },
        _ => Event::Heartbeat { number },
    })
}

fn fits(kind: Kind, node: Node) -> bool {
    match kind {
        Kind::StartAgent => !node.agent,
        Kind::StopAgent | Kind::ReplacePod => node.agent,
        _ => true,
    }
}

fn pick<T>(from: impl Iterator<Item = T>, random: &mut Rng) -> Option<T> {
    let mut all: Vec<T> = from.collect();
    if all.is_empty() { None } else { Some(all.swap_remove(random.usize(0..all.len()))) }
}

fn new_image(wanted: &Wanted, random: &mut Rng) -> Event {
    let app = wanted.next;
    let image = Image { app, version: 1, reach: some_reach(random), priority: random.i32(-2..3) };
    Event::WriteImage { name: format!("image-{app}"), image }
}

fn edited(image: &Image, random: &mut Rng) -> Image {
    match random.u8(0..4) {
        0 => Image { reach: some_reach(random), ..image.clone() },
        1 => Image { priority: random.i32(-2..3), ..image.clone() },
        _ => Image { version: image.version + 1, ..image.clone() },
    }
}

fn new_set(wanted: &Wanted, random: &mut Rng) -> Event {
    let name = format!("set-{}", wanted.next);
    let apps = new_apps(wanted, random.usize(1..5));
    let source = random.bool().then(|| random.usize(0..SOURCES));
    Event::WriteSet { name, set: Set { apps, source, reach: some_reach(random) } }
}

fn edited_set(wanted: &Wanted, set: &Set, random: &mut Rng) -> Set {
    let mut set = set.clone();
    match random.u8(0..4) {
        0 => set.reach = some_reach(random),
        1 => set.source = random.bool().then(|| random.usize(0..SOURCES)),
        2 if set.apps.len() > 1 => drop(set.apps.pop_first()),
        _ if set.apps.len() < 6 => set.apps.extend(new_apps(wanted, 1)),
        _ => drop(set.apps.pop_last()),
    }
    set
}

fn new_apps(wanted: &Wanted, count: usize) -> BTreeSet<usize> {
    (wanted.next..wanted.next + count).collect()
}

fn some_reach(random: &mut Rng) -> Reach {
    Reach {
        policy: random.usize(0..POLICIES),
        pool: (random.u8(0..4) == 0).then(|| random.usize(0..POOLS)),
        tolerates: random.bool(),
        always: random.bool(),
    }
}

/// With a delay from which on the coordinator starts one node a pass: a grant tells when the pass began.
fn some_policy(random: &mut Rng) -> Policy {
    Policy { cap: random.usize(2..9), delay_ms: random.u64(2..6) * 50, backoff: random.u64(1..4) }
}

fn some_node(random: &mut Rng) -> Node {
    Node {
        pool: random.bool().then(|| random.usize(0..POOLS)),
        dedicated: random.u8(0..8) == 0,
        cordoned: random.u8(0..16) == 0,
        agent: true,
    }
}

#[cfg(test)]
mod tests;
