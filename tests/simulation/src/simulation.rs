//! One run: the parts, the event queue, and the loop that takes one event after another.
//!
//! What an event does to a part stands with that part; here stands who is told.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::CheckOutcome;

use crate::agent::Machine;
use crate::api::watch::Watch;
use crate::api::{ApiServer, Change, Kind, Object, Snapshot};
use crate::breaks::Break;
use crate::clock::Time;
use crate::coordinator::Coordinator;
use crate::coverage::Coverage;
use crate::faults::{Heal, Strike};
use crate::invariants::quiet::Question;
use crate::invariants::{Checker, Violation};
use crate::network::{self, Client, Place, Weather};
use crate::queue::Queue;
use crate::registry::Registry;
use crate::request::{Answer, Request};
use crate::runtime::PullKey;
use crate::streams::{Part, Streams, Thing};
use crate::trace::Trace;

/// What may happen.
#[derive(Debug)]
pub enum Event {
    /// A request reaches the API server; the answer, if it gets through, is under way for the first time, and if
    /// none gets through its sender gives up at the second.
    Arrive(Client, u64, Arc<Request>, Option<Time>, Time),
    /// A message reaches a process.
    Message(Client, Message),
    /// A watch has something to tell.
    Watch(usize),
    /// A broken watch is opened again.
    Reconnect(usize),
    /// A paused process goes on.
    Resume(Client),
    /// The container of a machine's agent starts.
    AgentStart(usize),
    /// A question reaches its registry.
    CheckArrives(Client, u64, String),
    /// The kernel timer of a process fires, if it was not armed anew.
    KernelTimer(usize, u64, u64),
    /// SIGKILL at the end of the grace period.
    Kill(usize, u64),
    /// The runtime is asked for its images.
    ListImages(usize, u64),
    /// A PullImage reaches the runtime.
    PullArrives(usize, PullKey),
    /// A pull ends by itself.
    PullEnds(usize, PullKey),
    /// A pull whose client cancelled it, or is gone, ends.
    PullStops(usize, PullKey),
    /// The agent looks how far a pull has come.
    PullProgress(usize, PullKey),
    /// The kubelet brings Node and Pod up to date.
    Kubelet(usize),
    /// The node controller notices that nothing was heard of a node for a while.
    NodeLost(usize, u64),
    /// The garbage collector deletes a Lease whose Node is gone.
    Collect(String, String),
    /// The garbage collector deletes a Pod whose Node is gone.
    CollectPod(String, String),
    /// The garbage collector comes to a CachedImage whose set is gone or about to go.
    CollectImage(String, String),
    /// It comes to a set that waits for its children to go.
    CollectSet(String, String),
    /// A coordinator's container starts.
    CoordinatorStart(usize),
    /// A fault strikes, or begins to wait for its moment.
    Fault(Strike),
    /// A fault ends.
    Heal(Heal),
}

/// What may reach a process.
#[derive(Debug, Clone)]
pub enum Message {
    /// The answer to a call.
    Answer(u64, Answer),
    /// A call has taken too long.
    TimedOut(u64),
    /// What a registry said when it was asked by a call: coordinators only.
    Checked(u64, CheckOutcome),
    /// A watch tells of a change.
    Heard(Change),
    /// A watch was opened anew and lists what there is of its kind (and name).
    Relisted(Kind, Arc<Snapshot>),
    /// The moment has come that the process waits for.
    Wake(Time),
    /// Something from the machine: agents only.
    Local(Box<drop_agent_step::Input>),
}

/// When an agent gives up on a request.
pub const AGENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for the election.
pub const ELECTION_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for everything else of coordinators.
pub const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(10);

/// One run.
#[derive(Debug)]
pub struct Simulation {
    /// Where all chance comes from.
    pub streams: Streams,
    /// What the event at hand draws from.
    pub rng: fastrand::Rng,
    /// True time.
    pub now: Time,
    /// What is to come.
    pub queue: Queue<Event>,
    /// The API server.
    pub api: ApiServer,
    /// The registries.
    pub registry: Registry,
    /// Machines with their runtimes and agents.
    pub machines: Vec<Machine>,
    /// Coordinator replicas.
    pub coordinators: Vec<Coordinator>,
    /// Watches, open and broken.
    pub watches: Vec<Watch>,
    /// How bad the network is.
    pub weather: Weather,
    /// What is deliberately broken.
    pub broken: Option<Break>,
    /// Looks at everything.
    pub checker: Checker,
    /// Tells what happens.
    pub trace: Trace,
    /// Chance that a process is paused between two effects of one step.
    pub pauses: f64,
    /// Chance that a pull goes wrong on the node itself.
    pub mishaps: f64,
    /// Whether coordinators ask registries.
    pub checks: bool,
    /// Chance that a question to a registry gets no answer.
    pub checks_lost: f64,
    /// What coordinators have asked registries.
    pub questions: Vec<Question>,
    /// References that every machine holds from the beginning.
    pub baked_in: Vec<String>,
    /// How often a pull has begun or ended.
    pub pull_changes: u64,
    /// Number of the next call.
    pub counter: u64,
    /// Faults that wait for their moment.
    pub aims: Vec<Strike>,
    /// What struck when.
    pub coverage: Coverage,
    /// Events that were taken from the queue.
    pub steps: u64,
}

impl Simulation {
    /// A number that nothing else has.
    pub fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// Whether `p` comes true.
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.rng.f64() < p
    }

    /// A time between `low` and `high` seconds.
    pub fn seconds(&mut self, low: f64, high: f64) -> Time {
        Duration::from_secs_f64(low + self.rng.f64() * (high - low))
    }

    /// Puts in what happens after `delay`.
    pub fn after(&mut self, delay: Time, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// Takes one event after another up to `end`.
    ///
    /// # Errors
    /// With the first violation of an invariant.
    pub fn run_until(&mut self, end: Time) -> Result<(), Violation> {
        let mut left = 400_000_u32;
        while let Some((at, event)) = self.queue.pop() {
            if at > end {
                self.queue.push(at, event);
                break;
            }
            self.now = at;
            self.steps += 1;
            self.rng = match &event {
                Event::Fault(strike) => self.streams.once(Thing::Fault, strike.number),
                event => self.streams.next(self.part(event)),
            };
            self.handle(event);
            self.check_step();
            if let Some(violation) = self.checker.violation.take() {
                return Err(violation);
            }
            left -= 1;
            if left == 0 {
                return Err(Violation {
                    invariant: 3,
                    at,
                    what: "an endless number of events: a hot loop".into(),
                });
            }
        }
        self.now = end;
        Ok(())
    }

    /// Whose event this is: what is drawn for it follows from that part's earlier events alone.
    fn part(&self, event: &Event) -> Part {
        let of_watch = |index: &usize| {
            let watch = &self.watches[*index];
            Part::Watch(watch.client.place, watch.kind)
        };
        match event {
            Event::Arrive(client, ..) | Event::CheckArrives(client, ..) => Part::Served(client.place),
            Event::Message(client, _) | Event::Resume(client) => Part::Place(client.place),
            Event::Watch(index) | Event::Reconnect(index) => of_watch(index),
            Event::AgentStart(machine)
            | Event::KernelTimer(machine, ..)
            | Event::Kill(machine, _)
            | Event::ListImages(machine, _)
            | Event::PullArrives(machine, _)
            | Event::PullEnds(machine, _)
            | Event::PullStops(machine, _)
            | Event::PullProgress(machine, _)
            | Event::Kubelet(machine)
            | Event::NodeLost(machine, _) => Part::Place(Place::Agent(*machine)),
            Event::CoordinatorStart(index) => Part::Place(Place::Coordinator(*index)),
            Event::Collect(..)
            | Event::CollectPod(..)
            | Event::CollectImage(..)
            | Event::CollectSet(..)
            | Event::Fault(_)
            | Event::Heal(_) => Part::World,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(client, call, request, answer, until) => {
                self.arrive(client, call, &request, answer, until);
            }
            Event::Message(client, message) => self.deliver(client, message),
            Event::Watch(watch) => self.watch_tells(watch),
            Event::Reconnect(watch) => self.reconnect(watch),
            Event::Resume(client) => self.resume(client),
            Event::AgentStart(machine) => self.agent_start(machine),
            Event::CheckArrives(client, call, reference) => self.check_arrives(client, call, &reference),
            Event::KernelTimer(machine, process, arm) => self.kernel_timer(machine, process, arm),
            Event::Kill(machine, process) => {
                if self.machines[machine].agent.as_ref().is_some_and(|agent| agent.id == process) {
                    self.agent_dies(machine, "killed at the end of its grace period");
                }
            }
            Event::ListImages(machine, process) => self.list_images(machine, process),
            Event::PullArrives(machine, key) => self.pull_arrives(machine, key),
            Event::PullEnds(machine, key) => self.pull_ends(machine, key),
            Event::PullStops(machine, key) => self.pull_stops(machine, key),
            Event::PullProgress(machine, key) => self.pull_progress(machine, key),
            Event::Kubelet(machine) => self.kubelet(machine),
            Event::NodeLost(machine, cut) => self.node_lost(machine, cut),
            Event::Collect(name, uid) => self.collect(&name, &uid),
            Event::CollectPod(name, uid) => self.collect_pod(&name, &uid),
            Event::CollectImage(name, uid) => self.collect_image(&name, &uid),
            Event::CollectSet(name, uid) => self.collect_set(&name, &uid),
            Event::CoordinatorStart(index) => self.coordinator_start(index),
            Event::Fault(strike) => self.fault(strike),
            Event::Heal(heal) => self.heal(heal),
        }
    }

    /// Hands a message to its process, or leaves it in the inbox of a paused one.
    pub fn deliver(&mut self, client: Client, message: Message) {
        match client.place {
            Place::Agent(machine) => {
                let Some(agent) = self.machines[machine].agent.as_mut().filter(|a| a.id == client.process)
                else {
                    return;
                };
                if agent.paused {
                    agent.inbox.push_back(message);
                } else {
                    self.agent_hears(machine, message);
                }
            }
            Place::Coordinator(index) => {
                let Some(process) =
                    self.coordinators[index].process.as_mut().filter(|p| p.id == client.process)
                else {
                    return;
                };
                if process.paused {
                    process.inbox.push_back(message);
                } else {
                    self.coordinator_hears(index, message);
                }
            }
        }
    }

    fn resume(&mut self, client: Client) {
        match client.place {
            Place::Agent(machine) => self.agent_resumes(machine, client.process),
            Place::Coordinator(index) => self.coordinator_resumes(index, client.process),
        }
    }

    /// Whether the process is there.
    #[must_use]
    pub fn alive(&self, client: Client) -> bool {
        match client.place {
            Place::Agent(machine) => {
                self.machines[machine].agent.as_ref().is_some_and(|a| a.id == client.process)
            }
            Place::Coordinator(index) => {
                self.coordinators[index].process.as_ref().is_some_and(|p| p.id == client.process)
            }
        }
    }

    /// Whether the process is cut off from the API server.
    #[must_use]
    pub fn cut(&self, client: Client) -> bool {
        match client.place {
            Place::Agent(machine) => self.machines[machine].cut,
            Place::Coordinator(index) => self.coordinators[index].cut,
        }
    }

    /// Sends a request; its answer, or a timeout, comes as a [`Message`].
    pub fn call(&mut self, client: Client, request: Request) -> u64 {
        let call = self.number();
        let cut = self.cut(client);
        let mut rng = self.streams.next(Part::Requests(client.place));
        // Each copy of a request gets the same verdict.
        let vetoed = self.weather.refused > 0.0 && rng.f64() < self.weather.refused;
        let request = if vetoed && request.is_write() { Request::Vetoed } else { request };
        let fate = network::fate(&mut rng, &self.weather, cut);
        let request = Arc::new(request);
        let until = self.now
            + match client.place {
                Place::Agent(_) => AGENT_TIMEOUT,
                Place::Coordinator(_) if request.elects() => ELECTION_TIMEOUT,
                Place::Coordinator(_) => COORDINATOR_TIMEOUT,
            };
        let answered = rng.usize(0..fate.arrivals.len().max(1));
        let mut in_time = false;
        for (copy, delay) in fate.arrivals.iter().enumerate() {
            let answer = fate.answer.filter(|_| copy == answered);
            in_time |= answer.is_some_and(|answer| self.now + *delay + answer < until);
            self.after(*delay, Event::Arrive(client, call, Arc::clone(&request), answer, until));
        }
        if !in_time {
            self.queue.push(until, Event::Message(client, Message::TimedOut(call)));
        }
        call
    }

    fn arrive(
        &mut self,
        client: Client,
        call: u64,
        request: &Arc<Request>,
        answer: Option<Time>,
        until: Time,
    ) {
        let response = if self.api.down { Answer::Unavailable } else { self.serve(client, request) };
        let Some(delay) = answer else { return };
        if self.cut(client) {
            self.queue.push(until.max(self.now), Event::Message(client, Message::TimedOut(call)));
        } else {
            self.after(delay, Event::Message(client, Message::Answer(call, response)));
        }
    }

    /// Commits a change, and tells all that watch it.
    pub fn commit(&mut self, kind: Kind, name: &str, object: Option<Object>) {
        self.api.commit(self.now, kind, name, object);
        self.spread_news();
    }
}
