//! A coordinator replica: what the runtime around the real planner and the real election does.
//!
//! | module | subject |
//! |---|---|
//! | [`lead`] | the election, driven by the product's own state machine |
//! | [`index`] | watch events and write responses folded into the planner's cluster |
//! | [`execute`] | one plan, carried out once |
//! | [`answer`] | what became of its requests |
//! | [`checks`] | questions to registries |

mod answer;
mod checks;
mod execute;
mod index;
mod lead;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use drop_planner::{Leadership, Memory, World};

use crate::api::Kind;
use crate::clock::{Clock, Time};
use crate::network::{Client, Place};
use crate::request::Answer;
use crate::simulation::{Event, Message, Simulation};
use execute::{Purpose, Queued};
use lead::Candidate;

/// Passes of the planner are at least this far apart.
const PASS_GAP: Duration = Duration::from_millis(100);

/// A replica.
#[derive(Debug)]
pub struct Coordinator {
    /// The clock of the machine that it runs on.
    pub clock: Clock,
    /// Its process, while its container runs.
    pub process: Option<Process>,
    /// Cut off from the API server.
    pub cut: bool,
    /// How often it was started.
    pub starts: u64,
    /// The schedule has no such replica: it is never started.
    pub absent: bool,
}

/// A process of the coordinator.
#[derive(Debug)]
pub struct Process {
    /// Number of the process.
    pub id: u64,
    /// SIGSTOPped, or starved.
    pub paused: bool,
    /// What reached it meanwhile.
    pub inbox: VecDeque<Message>,
    /// What the planner is given.
    pub world: World,
    /// Kinds that have not been listed since the leadership began.
    pub unlisted: BTreeSet<Kind>,
    /// Until then it believes that it leads, whatever the election says.
    pub deaf_until: Time,
    candidate: Candidate,
    calls: BTreeMap<u64, Purpose>,
    queues: BTreeMap<String, Queued>,
    /// Version of the newest that was heard of each object, deletions among it: late news is not believed.
    versions: [BTreeMap<String, u64>; Kind::ALL.len()],
    /// Issues that may or may not have been applied: version of the Lease that each was for, by node.
    unknown_issues: BTreeMap<String, u64>,
    changed: bool,
    plan_at: Option<Time>,
    last_pass: Option<Time>,
    wake: Option<Time>,
}

impl Process {
    /// Whether it has asked for the leader Lease and does not know what became of it.
    #[must_use]
    pub fn stands_for_election(&self) -> bool {
        self.calls.values().any(|purpose| matches!(purpose, Purpose::Lead(asked) if asked.acquires()))
    }

    /// Whether it does not know if its issue to this node was applied.
    #[must_use]
    pub fn wonders_about(&self, node: &str) -> bool {
        self.unknown_issues.contains_key(node)
    }

    /// Whether it has asked for this node's grant to be removed, and does not know what became of it.
    #[must_use]
    pub fn withdraws_from(&self, node: &str) -> bool {
        self.calls.values().any(|purpose| matches!(purpose, Purpose::Withdraw(w) if w.node == node))
    }

    /// Whether it plans now.
    #[must_use]
    pub fn plans(&self) -> bool {
        self.unlisted.is_empty() && self.world.leadership.is_some()
    }
}

impl Simulation {
    /// Starts a replica's container.
    pub fn coordinator_start(&mut self, index: usize) {
        let replica = &mut self.coordinators[index];
        if replica.process.is_some() || replica.absent {
            return;
        }
        replica.starts += 1;
        let id = (index as u64 + 1) * 1_000 + replica.starts;
        self.tell(&format!("coord-{index}   starts as c{id}"));
        self.coordinators[index].process = Some(Process {
            id,
            paused: false,
            inbox: VecDeque::new(),
            world: World { checks: self.checks, ..World::default() },
            unlisted: Kind::ALL.into(),
            deaf_until: Time::ZERO,
            candidate: Candidate::new(id),
            calls: BTreeMap::new(),
            queues: BTreeMap::new(),
            versions: Default::default(),
            unknown_issues: BTreeMap::new(),
            changed: false,
            plan_at: None,
            last_pass: None,
            wake: None,
        });
        let client = Client { place: Place::Coordinator(index), process: id };
        for kind in Kind::ALL {
            self.open_watch(client, kind, None);
        }
        self.advance(index);
    }

    /// SIGKILL, or the machine is gone.
    pub fn coordinator_dies(&mut self, index: usize) {
        let Some(process) = self.coordinators[index].process.take() else { return };
        self.tell(&format!("coord-{index}   c{} dies", process.id));
        self.leader_moment();
        let back = self.seconds(0.5, 20.0);
        self.after(back, Event::CoordinatorStart(index));
    }

    /// Pauses the process for a while.
    pub fn pause_coordinator(&mut self, index: usize, pause: Time) {
        let Some(process) = self.coordinators[index].process.as_mut().filter(|p| !p.paused) else { return };
        process.paused = true;
        let client = Client { place: Place::Coordinator(index), process: process.id };
        self.tell(&format!("coord-{index}   is paused for {pause:?}"));
        self.after(pause, Event::Resume(client));
    }

    /// The process goes on where it stood.
    pub fn coordinator_resumes(&mut self, index: usize, id: u64) {
        let Some(process) = self.coordinators[index].process.as_mut().filter(|p| p.id == id) else { return };
        if process.paused {
            process.paused = false;
            self.tell(&format!("coord-{index}   goes on"));
        }
        while let Some(process) =
            self.coordinators[index].process.as_mut().filter(|p| p.id == id && !p.paused)
        {
            let Some(message) = process.inbox.pop_front() else { break };
            self.coordinator_hears(index, message);
        }
        self.advance(index);
    }

    /// A message reaches the (running) process.
    pub fn coordinator_hears(&mut self, index: usize, message: Message) {
        match message {
            Message::Wake(at) => {
                if let Some(process) = self.process(index)
                    && process.wake.is_some_and(|wake| wake <= at)
                {
                    process.wake = None;
                }
            }
            Message::Heard(change) => self.coordinator_learns(index, change),
            Message::Relisted(kind, snapshot) => self.coordinator_relists(index, kind, &snapshot),
            Message::Answer(call, answer) => self.coordinator_answered(index, call, answer),
            Message::Checked(call, outcome) => self.coordinator_checked(index, call, outcome),
            Message::TimedOut(call) => self.coordinator_answered(index, call, Answer::Unavailable),
            Message::Local(_) => {}
        }
        self.advance(index);
    }

    fn process(&mut self, index: usize) -> Option<&mut Process> {
        self.coordinators[index].process.as_mut()
    }

    /// Client and process of a replica that runs.
    fn coordinator_client(&self, index: usize) -> Option<Client> {
        let process = self.coordinators[index].process.as_ref()?.id;
        Some(Client { place: Place::Coordinator(index), process })
    }

    /// Goes on with whatever can be gone on with: election, leadership, executing, planning.
    fn advance(&mut self, index: usize) {
        let Some(client) = self.coordinator_client(index) else { return };
        let elect_at = self.elect(index, client);
        self.follow_term(index, client);
        let queue_at = self.advance_queues(index, client);
        let pass_at = self.maybe_pass(index, client);
        let now = self.now;
        let Some(process) = self.process(index) else { return };
        let at = [elect_at, queue_at, pass_at, Some(process.deaf_until).filter(|until| *until > now)]
            .into_iter()
            .flatten()
            .min();
        let Some(at) = at.map(|at| at.max(now + Duration::from_micros(50))) else { return };
        if process.wake != Some(at) {
            process.wake = Some(at);
            self.queue.push(at, Event::Message(client, Message::Wake(at)));
        }
    }

    /// Takes up or lays down the leadership as the election says.
    fn follow_term(&mut self, index: usize, client: Client) {
        let true_now = self.now;
        let now = self.coordinators[index].clock.monotonic(self.now);
        let Some(process) = self.process(index) else { return };
        let term = process.candidate.term(now);
        let mine = process.world.leadership.as_ref().map(|leadership| &leadership.epoch);
        if mine == term.as_ref().map(|term| &term.epoch) {
            return;
        }
        if term.is_none() && process.deaf_until > true_now {
            return;
        }
        process.world.leadership =
            term.map(|term| Leadership { epoch: term.epoch.clone(), since: term.since });
        process.world.memory = Memory::default();
        process.queues.clear();
        process.unknown_issues.clear();
        process.calls.retain(|_, purpose| matches!(purpose, Purpose::Lead(..)));
        process.deaf_until = Time::ZERO;
        process.plan_at = None;
        let text = format!("coord-{index}   leads: {:?}", process.world.leadership);
        let lists = process.world.leadership.is_some();
        self.tell(&text);
        self.leader_moment();
        if lists {
            self.list_all(index, client);
        }
    }

    /// Plans, if there is a reason to and nothing of the last plan is under way.
    fn maybe_pass(&mut self, index: usize, client: Client) -> Option<Time> {
        let now = self.now;
        let process = self.process(index)?;
        if !process.plans() || process.busy() {
            return None;
        }
        let wanted = if process.changed { Some(now) } else { process.plan_at };
        let earliest = process.last_pass.map_or(now, |last| last + PASS_GAP);
        let at = wanted?.max(earliest);
        if at > now {
            return Some(at);
        }
        process.changed = false;
        process.last_pass = Some(now);
        self.pass(index, client);
        let process = self.process(index)?;
        if process.busy() { None } else { process.plan_at.map(|at| at.max(now + PASS_GAP)) }
    }
}
