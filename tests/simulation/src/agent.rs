//! A machine and the agent process on it: what the thin runtime around the real step function does.
//!
//! Effects are carried out one by one, and the process may be paused between any two of them. The kernel timer is the
//! machine's: it fires also while the process is paused.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use drop_agent_step::{Agent, Config, Effect, Input, WriteId, WriteKind, WriteResult};
use drop_protocol::{Epoch, GrantId, Holder, names};

use crate::api::{Kind, Object, Refusal};
use crate::breaks::Break;
use crate::clock::{Clock, Time};
use crate::network::{Client, Place};
use crate::request::{Answer, Request};
use crate::runtime::{PullKey, Runtime};
use crate::simulation::{Event, Message, Simulation};

/// A machine.
#[derive(Debug)]
pub struct Machine {
    /// Name of its Node.
    pub name: String,
    /// Whether its Node object is meant to exist and the machine runs.
    pub powered: bool,
    /// Its clock; processes come and go, the clock stays.
    pub clock: Clock,
    /// Its containerd.
    pub runtime: Runtime,
    /// Uid of the agent's Pod.
    pub pod: String,
    /// The agent, while its container runs.
    pub agent: Option<Process>,
    /// Cut off from the API server.
    pub cut: bool,
    /// Counts partitions, so that an old one's consequences don't strike in a new one.
    pub cuts: u64,
    /// How often its agent was started.
    pub starts: u64,
    /// Its Node object and Pod are kept up to date by the kubelet.
    pub labels: BTreeMap<String, String>,
}

/// A process of the agent.
#[derive(Debug)]
pub struct Process {
    /// Number of the process.
    pub id: u64,
    /// SIGSTOPped, or starved.
    pub paused: bool,
    /// What reached it meanwhile.
    pub inbox: VecDeque<Message>,
    /// The grant that it last tried to take.
    pub grant: Option<GrantId>,
    /// A grant whose withdrawal it has heard of: it starts nothing of it any more.
    pub withdrawn: Option<GrantId>,
    /// It has asked for its grant to be finished, and does not know what became of it.
    pub finishing: bool,
    step: Agent,
    effects: VecDeque<Effect>,
    calls: BTreeMap<u64, Call>,
    wake: Option<Time>,
    arm: u64,
}

#[derive(Debug)]
enum Call {
    ReadLeader,
    ReadLease,
    Write(WriteId),
    Unasked,
}

impl Simulation {
    /// The client that the agent of a machine is now.
    #[must_use]
    pub fn agent_client(&self, machine: usize) -> Option<Client> {
        let process = self.machines[machine].agent.as_ref()?.id;
        Some(Client { place: Place::Agent(machine), process })
    }

    /// Starts the agent's container, unless one runs or the machine is off.
    pub fn agent_start(&mut self, machine: usize) {
        let host = &self.machines[machine];
        // Without a Node there is no Pod to start.
        if !host.powered || host.agent.is_some() || self.api.node(&host.name).is_none() {
            return;
        }
        let host = &mut self.machines[machine];
        host.starts += 1;
        let id = (machine as u64 + 1) * 1_000 + host.starts;
        let host = &self.machines[machine];
        let now = host.clock.now(self.now);
        let config = Config::new(&host.name, &host.pod, &format!("p{id}"));
        let step = Agent::new(config, now);
        let name = host.name.clone();
        self.tell(&format!("{name:9} agent starts as p{id}"));
        self.machines[machine].agent = Some(Process {
            id,
            paused: false,
            inbox: VecDeque::new(),
            grant: None,
            withdrawn: None,
            finishing: false,
            step,
            effects: VecDeque::new(),
            calls: BTreeMap::new(),
            wake: None,
            arm: 0,
        });
        let client = Client { place: Place::Agent(machine), process: id };
        self.open_watch(client, Kind::Lease, Some(name));
        self.open_watch(client, Kind::Catalog, Some(names::CATALOG.to_owned()));
        self.step(machine, Input::Tick);
        let delay = self.seconds(0.5, 3.0);
        self.after(delay, Event::Kubelet(machine));
    }

    /// The process is gone: its socket closes, its timer with it, and the kubelet starts another.
    pub fn agent_dies(&mut self, machine: usize, why: &str) {
        let Some(process) = self.machines[machine].agent.take() else { return };
        let name = self.machines[machine].name.clone();
        self.tell(&format!("{name:9} agent p{} dies: {why}", process.id));
        self.stop_pulls(machine, |key| key.process == process.id);
        let noticed = self.seconds(0.2, 1.5);
        self.after(noticed, Event::Kubelet(machine));
        let back = self.seconds(1.0, 12.0);
        self.after(back, Event::AgentStart(machine));
    }

    /// Pauses the process for a while.
    pub fn pause_agent(&mut self, machine: usize, pause: Time) {
        let Some(client) = self.agent_client(machine) else { return };
        let host = &mut self.machines[machine];
        if let Some(agent) = host.agent.as_mut().filter(|agent| !agent.paused) {
            agent.paused = true;
            let text = format!("{:9} agent p{} is paused for {pause:?}", host.name, agent.id);
            self.tell(&text);
            self.after(pause, Event::Resume(client));
            let noticed = self.seconds(10.0, 30.0);
            self.after(noticed, Event::Kubelet(machine));
        }
    }

    /// The process goes on where it stood.
    pub fn agent_resumes(&mut self, machine: usize, process: u64) {
        let Some(agent) = self.machines[machine].agent.as_mut().filter(|a| a.id == process && a.paused)
        else {
            return;
        };
        agent.paused = false;
        self.tell(&format!("{:9} agent p{process} goes on", self.machines[machine].name));
        self.after(Duration::from_secs(1), Event::Kubelet(machine));
        self.carry_out(machine);
        while let Some(agent) = self.machines[machine].agent.as_mut().filter(|a| a.id == process && !a.paused)
        {
            let Some(message) = agent.inbox.pop_front() else { break };
            self.agent_hears(machine, message);
        }
    }

    /// The timer of the kernel fires.
    pub fn kernel_timer(&mut self, machine: usize, process: u64, arm: u64) {
        let armed = self.machines[machine].agent.as_ref().is_some_and(|a| a.id == process && a.arm == arm);
        if armed && self.broken != Some(Break::TimerNeverFires) {
            self.agent_dies(machine, "kernel timer");
        }
    }

    /// A message reaches the (running) process.
    pub fn agent_hears(&mut self, machine: usize, message: Message) {
        match message {
            Message::Local(input) => self.step(machine, *input),
            Message::Wake(at) => {
                let due = self.machines[machine].agent.as_mut().is_some_and(|agent| {
                    let due = agent.wake.is_some_and(|wake| wake <= at);
                    if due {
                        agent.wake = None;
                    }
                    due
                });
                if due {
                    self.step(machine, Input::Tick);
                }
            }
            Message::Heard(change) => match (change.kind, change.object) {
                (Kind::Lease, object) => self.agent_hears_lease(machine, object),
                (_, object) => self.agent_hears_catalog(machine, object),
            },
            Message::Relisted(kind, snapshot) => {
                let object = snapshot.objects.values().next().map(|stored| stored.object.clone());
                if kind == Kind::Lease {
                    self.agent_hears_lease(machine, object);
                } else {
                    self.agent_hears_catalog(machine, object);
                }
            }
            Message::Answer(call, answer) => self.agent_answered(machine, call, answer),
            Message::TimedOut(call) => self.agent_answered(machine, call, Answer::Unavailable),
            Message::Checked(..) => {}
        }
    }

    fn agent_hears_lease(&mut self, machine: usize, object: Option<Object>) {
        let Some(Object::Lease(stored)) = object else {
            return self.step(machine, Input::LeaseGone);
        };
        if let Some(agent) = self.machines[machine].agent.as_mut() {
            let marked = stored.lease.grant.as_ref().filter(|grant| grant.withdrawn.is_some());
            agent.withdrawn = marked.map(|grant| grant.id.clone()).or(agent.withdrawn.take());
        }
        self.step(machine, Input::Lease(stored.lease.clone()));
    }

    fn agent_hears_catalog(&mut self, machine: usize, object: Option<Object>) {
        let input = match object {
            Some(Object::Catalog(stored)) => Input::Catalog(stored.catalog.clone()),
            _ => Input::CatalogGone,
        };
        self.step(machine, input);
    }

    fn agent_answered(&mut self, machine: usize, call: u64, answer: Answer) {
        let Some(call) = self.machines[machine].agent.as_mut().and_then(|agent| agent.calls.remove(&call))
        else {
            return;
        };
        let unknown = || "no answer".to_owned();
        let input = match (call, answer) {
            (Call::Unasked, _) => return,
            (Call::ReadLeader, Answer::Lease(stored)) => Input::LeaderEpoch(Some(Epoch {
                lease: stored.lease.uid.clone(),
                transitions: stored.lease.transitions,
            })),
            (Call::ReadLeader, Answer::Refused(Refusal::NotFound)) => Input::LeaderEpoch(None),
            (Call::ReadLeader, _) => Input::LeaderUnknown(unknown()),
            (Call::ReadLease, Answer::Lease(stored)) => {
                return self.agent_hears_lease(machine, Some(Object::Lease(stored)));
            }
            (Call::ReadLease, Answer::Refused(Refusal::NotFound)) => Input::LeaseGone,
            (Call::ReadLease, _) => Input::LeaseUnknown(unknown()),
            (Call::Write(write), answer) => {
                if let Some(agent) = self.machines[machine].agent.as_mut() {
                    agent.finishing = false;
                }
                let result = match answer {
                    Answer::Lease(stored) => {
                        let mut lease = stored.lease.clone();
                        if self.broken == Some(Break::EarlyExpiry) {
                            lease.duration *= 2;
                        }
                        WriteResult::Applied(lease)
                    }
                    Answer::Refused(Refusal::Conflict) => WriteResult::Conflict,
                    Answer::Refused(Refusal::NotFound) => WriteResult::Gone,
                    Answer::Refused(Refusal::Forbidden(why)) => WriteResult::Unknown(why),
                    _ => WriteResult::Unknown(unknown()),
                };
                Input::WriteDone { write, result }
            }
        };
        self.step(machine, input);
    }

    /// Steps the real state machine, and begins to carry out what it decides.
    fn step(&mut self, machine: usize, input: Input) {
        let now = self.machines[machine].clock.now(self.now);
        if self.trace.on() && !matches!(input, Input::Tick | Input::Inventory(_) | Input::PullProgress { .. })
        {
            let text = format!("{:9} <- {}", self.machines[machine].name, describe_input(&input));
            self.tell(&text);
        }
        let Some(agent) = self.machines[machine].agent.as_mut() else { return };
        let effects = agent.step.step(input, now);
        agent.effects.extend(effects);
        self.carry_out(machine);
        self.schedule_agent(machine);
    }

    fn schedule_agent(&mut self, machine: usize) {
        let Some(client) = self.agent_client(machine) else { return };
        let host = &mut self.machines[machine];
        let Some(agent) = host.agent.as_mut() else { return };
        let Some(point) = agent.step.wake_at() else {
            agent.wake = None;
            return;
        };
        // A moment in the past is served at once, though not within the same instant.
        let at = host.clock.when(point).max(self.now + Duration::from_micros(50));
        if agent.wake.is_none_or(|wake| wake != at) {
            agent.wake = Some(at);
            self.queue.push(at, Event::Message(client, Message::Wake(at)));
        }
    }

    fn carry_out(&mut self, machine: usize) {
        loop {
            let Some(agent) = self.machines[machine].agent.as_mut().filter(|agent| !agent.paused) else {
                return;
            };
            let Some(effect) = agent.effects.pop_front() else { return };
            self.effect(machine, effect);
            if self.chance(self.pauses) {
                let pause = self.seconds(0.05, 90.0);
                self.pause_agent(machine, pause);
            }
        }
    }

    fn effect(&mut self, machine: usize, effect: Effect) {
        let Some(client) = self.agent_client(machine) else { return };
        if self.trace.on() && !matches!(effect, Effect::ListImages) {
            let text = format!("{:9} -> {}", self.machines[machine].name, describe_effect(&effect));
            self.tell(&text);
        }
        match effect {
            Effect::ReadLeader => {
                if self.broken == Some(Break::NoFencing) {
                    let name = &self.machines[machine].name;
                    let epoch =
                        self.api.lease(name).and_then(|l| Some(l.lease.grant.as_ref()?.epoch.clone()));
                    let answer = Message::Local(Box::new(Input::LeaderEpoch(epoch)));
                    return self.after(Duration::from_millis(1), Event::Message(client, answer));
                }
                let call = self.call(client, Request::GetLease(names::LEADER_LEASE.to_owned()));
                self.expect(machine, call, Call::ReadLeader);
            }
            Effect::ReadLease => {
                let call = self.call(client, Request::GetLease(self.machines[machine].name.clone()));
                self.expect(machine, call, Call::ReadLease);
            }
            Effect::ListImages => {
                let delay = self.seconds(0.001, 0.03);
                self.after(delay, Event::ListImages(machine, client.process));
            }
            Effect::WriteLease { write, patch, kind } => {
                self.write_lease(machine, client, write, patch, kind);
            }
            Effect::ArmTimer { deadline } => {
                let host = &mut self.machines[machine];
                let at = host.clock.when(deadline).max(self.now);
                let Some(agent) = host.agent.as_mut() else { return };
                agent.arm += 1;
                self.queue.push(at, Event::KernelTimer(machine, client.process, agent.arm));
            }
            Effect::DisarmTimer => {
                if let Some(agent) = self.machines[machine].agent.as_mut() {
                    agent.arm += 1;
                }
            }
            Effect::StartPull { pull, image } => {
                let key = PullKey { process: client.process, pull };
                self.checker_sees_start(machine, key, &image);
                let delay = self.seconds(0.000_2, 0.004);
                self.after(delay, Event::PullArrives(machine, key));
            }
            Effect::CancelPull { pull } => {
                let key = PullKey { process: client.process, pull };
                // Behind the PullImage itself on the same connection.
                let delay = self.seconds(0.004, 0.006);
                self.after(delay, Event::PullStops(machine, key));
            }
            Effect::Exit => self.agent_dies(machine, "it has given everything back"),
        }
    }

    fn write_lease(
        &mut self,
        machine: usize,
        client: Client,
        write: WriteId,
        mut patch: serde_json::Value,
        kind: WriteKind,
    ) {
        if kind == WriteKind::Take {
            let holder = patch["spec"]["holderIdentity"].as_str().and_then(Holder::decode);
            if let Some(agent) = self.machines[machine].agent.as_mut() {
                agent.grant = holder.map(|holder| holder.grant);
            }
        }
        if kind == WriteKind::Finish && self.broken == Some(Break::UnconditionalFinish) {
            crate::breaks::unconditional(&mut patch);
        }
        let what = match kind {
            WriteKind::Take => "take",
            WriteKind::Renew => "renew",
            WriteKind::Refuse => "refuse",
            WriteKind::Finish => "finish",
            WriteKind::Report => "report",
        };
        let name = self.machines[machine].name.clone();
        let call = self.call(client, Request::PatchLease { name, patch, what, issue: None });
        self.expect(machine, call, Call::Write(write));
        if kind == WriteKind::Finish
            && let Some(agent) = self.machines[machine].agent.as_mut()
        {
            agent.finishing = true;
            self.node_moment(machine);
        }
    }

    fn expect(&mut self, machine: usize, call: u64, purpose: Call) {
        if let Some(agent) = self.machines[machine].agent.as_mut() {
            agent.calls.insert(call, purpose);
        }
    }

    /// containerd answers ListImages.
    pub fn list_images(&mut self, machine: usize, process: u64) {
        let client = Client { place: Place::Agent(machine), process };
        let host = &self.machines[machine];
        let mut input = if host.runtime.down {
            Input::InventoryFailed("container runtime: connection refused".to_owned())
        } else {
            Input::Inventory(host.runtime.inventory())
        };
        if self.broken == Some(Break::NoPresence) && self.now > Duration::from_secs(120) {
            input = Input::InventoryFailed("broken on purpose".to_owned());
        }
        if self.broken == Some(Break::Heartbeat) && self.chance(0.2) {
            let name = self.machines[machine].name.clone();
            let patch = serde_json::json!({ "spec": { "renewTime": null } });
            let call = self.call(client, Request::PatchLease { name, patch, what: "heartbeat", issue: None });
            self.expect(machine, call, Call::Unasked);
        }
        let delay = self.seconds(0.001, 0.05);
        self.after(delay, Event::Message(client, Message::Local(Box::new(input))));
    }

    /// Something local reaches the process within the instant.
    pub fn deliver_local(&mut self, client: Client, input: Input) {
        self.after(Duration::ZERO, Event::Message(client, Message::Local(Box::new(input))));
    }

    /// SIGTERM: the agent has until then to give everything back.
    pub fn terminate_agent(&mut self, machine: usize, grace: Time) {
        let Some(client) = self.agent_client(machine) else { return };
        let deadline = self.machines[machine].clock.monotonic(self.now + grace);
        self.deliver_local(client, Input::Shutdown { deadline });
        self.after(grace, Event::Kill(machine, client.process));
    }
}

fn describe_input(input: &Input) -> String {
    match input {
        Input::Lease(lease) => {
            let grant = lease.grant.as_ref().map(|g| g.id.to_string());
            format!("Lease {} {:?} {:?}", lease.resource_version, grant, lease.state())
        }
        Input::WriteDone { write, result } => match result {
            WriteResult::Applied(lease) => format!("{write:?} applied as {}", lease.resource_version),
            other => format!("{write:?} {other:?}"),
        },
        Input::Catalog(catalog) => format!("Catalog {}", catalog.generation),
        other => format!("{other:?}"),
    }
}

fn describe_effect(effect: &Effect) -> String {
    match effect {
        Effect::WriteLease { write, kind, .. } => format!("{kind:?} as {write:?}"),
        Effect::StartPull { pull, image } => {
            format!("StartPull {pull:?} {} ({})", image.reference, image.uid)
        }
        other => format!("{other:?}"),
    }
}
