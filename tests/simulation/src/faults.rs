//! What goes wrong, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::{CachedImage, PullPolicy, Taint, TaintEffect};
use drop_protocol::names;
use jiff::SignedDuration;

use crate::api::{Kind, Object, Writer};
use crate::coordinator::{Coordinator, Process};
use crate::network::{Client, Place};
use crate::registry::{HostFault, ImageFault};
use crate::scenario::{DEDICATED, POOL};
use crate::simulation::{Event, Simulation};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A kind of fault; whom it strikes is drawn when it does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }
        impl Fault {
            /// All kinds.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];
        }
    };
}

faults! {
    /// An agent is killed.
    CrashAgent,
    /// An agent is paused, perhaps beyond its deadline.
    PauseAgent,
    /// An agent's Pod is replaced, with a grace period.
    ReplaceAgent,
    /// A machine is cut off from the API server.
    CutMachine,
    /// A coordinator is killed.
    CrashCoordinator,
    /// A coordinator is asked to end.
    EndCoordinator,
    /// A coordinator is paused.
    PauseCoordinator,
    /// A coordinator is cut off from the API server.
    CutCoordinator,
    /// A leader goes on believing that it leads.
    DeafLeader,
    /// The API server restarts.
    RestartApi,
    /// Every watch breaks.
    BreakWatches,
    /// A wall clock is set to something.
    SetClock,
    /// containerd restarts.
    RestartRuntime,
    /// An image is evicted.
    Evict,
    /// A pod brings an image.
    PodPulls,
    /// A disk fills up.
    LowDisk,
    /// A registry fails.
    FailRegistry,
    /// An image vanishes from its registry, or comes back.
    FailImage,
    /// A tag is moved.
    MoveTag,
    /// Somebody edits a CachedImage.
    EditImage,
    /// Somebody deletes a CachedImage.
    DeleteImage,
    /// Somebody creates a CachedImage.
    CreateImage,
    /// Somebody edits a PullPolicy.
    EditPolicy,
    /// Somebody deletes a PullPolicy.
    DeletePolicy,
    /// Somebody deletes a node Lease.
    DeleteLease,
    /// Somebody deletes the leader Lease.
    DeleteLeaderLease,
    /// Somebody deletes the catalog.
    DeleteCatalog,
    /// A Node is deleted and registers again, as the same machine.
    ReregisterNode,
    /// A machine is replaced by a new one of the same name.
    ReplaceMachine,
    /// A machine is taken out for good.
    RemoveMachine,
    /// A machine joins.
    AddMachine,
    /// A Node is tainted, or no longer.
    Taint,
    /// A Node changes its pool.
    Relabel,
}

/// The end of a fault.
#[derive(Debug, Clone)]
pub enum Heal {
    /// A machine is reachable again, unless it was cut off anew.
    Machine(usize, u64),
    /// A coordinator is.
    Coordinator(usize),
    /// The API server is back.
    Api,
    /// containerd is back.
    Runtime(usize),
    /// A disk has room again.
    Disk(usize),
    /// A registry works again.
    Registry(String),
    /// A PullPolicy is created again.
    Policy(Arc<PullPolicy>),
    /// The machine that was replaced registers.
    Register(usize),
    /// Everything: from here on nothing goes wrong.
    Everything,
    /// Registries hold what users want, and policies ask for nothing more.
    Registries,
}

impl Simulation {
    /// Any machine; rather one that pulls than one that is idle.
    fn any_machine(&mut self) -> usize {
        let busy: Vec<usize> =
            (0..self.machines.len()).filter(|m| !self.machines[*m].runtime.pulls.is_empty()).collect();
        if !busy.is_empty() && self.rng.bool() {
            return busy[self.rng.usize(0..busy.len())];
        }
        self.rng.usize(0..self.machines.len())
    }

    /// Any replica; rather the leader than another.
    fn any_coordinator(&mut self) -> usize {
        let leads = |coordinator: &Coordinator| coordinator.process.as_ref().is_some_and(Process::plans);
        if let Some(leader) = self.coordinators.iter().position(leads)
            && self.rng.bool()
        {
            return leader;
        }
        self.rng.usize(0..self.coordinators.len())
    }

    fn any_image(&mut self) -> Option<Arc<CachedImage>> {
        let images: Vec<&Object> = self.api.list(Kind::Image).map(|(_, object)| object).collect();
        match images.get(self.rng.usize(0..images.len().max(1)))? {
            Object::Image(image) => Some(Arc::clone(image)),
            _ => None,
        }
    }

    fn any_existing_policy(&mut self) -> Option<Arc<PullPolicy>> {
        let policies: Vec<&Object> = self.api.list(Kind::Policy).map(|(_, object)| object).collect();
        match policies.get(self.rng.usize(0..policies.len().max(1)))? {
            Object::Policy(policy) => Some(Arc::clone(policy)),
            _ => None,
        }
    }

    /// A fault strikes.
    pub fn strike(&mut self, fault: Fault) {
        if self.trace.on() {
            self.tell(&format!("fault     {fault:?}"));
        }
        let machine = self.any_machine();
        let coordinator = self.any_coordinator();
        match fault {
            Fault::CrashAgent => self.agent_dies(machine, "crash"),
            Fault::PauseAgent => {
                let pause = self.seconds(1.0, 150.0);
                self.pause_agent(machine, pause);
            }
            Fault::ReplaceAgent => self.replace_agent(machine),
            Fault::CutMachine => self.cut_machine(machine),
            Fault::CrashCoordinator => self.coordinator_dies(coordinator),
            Fault::EndCoordinator => self.terminate_coordinator(coordinator),
            Fault::PauseCoordinator => {
                let pause = self.seconds(1.0, 90.0);
                self.pause_coordinator(coordinator, pause);
            }
            Fault::CutCoordinator => {
                self.coordinators[coordinator].cut = true;
                let delay = self.seconds(1.0, 90.0);
                self.after(delay, Event::Heal(Heal::Coordinator(coordinator)));
            }
            Fault::DeafLeader => {
                let until = self.now + self.seconds(20.0, 200.0);
                for index in 0..self.coordinators.len() {
                    if let Some(process) = self.coordinators[index].process.as_mut().filter(|p| p.plans()) {
                        process.deaf_until = until;
                        let client = Client { place: Place::Coordinator(index), process: process.id };
                        self.queue.push(until, Event::Resume(client));
                    }
                }
            }
            Fault::RestartApi => {
                self.api.down = true;
                self.break_watches();
                let delay = self.seconds(2.0, 40.0);
                self.after(delay, Event::Heal(Heal::Api));
            }
            Fault::BreakWatches => self.break_watches(),
            Fault::SetClock => {
                let error = SignedDuration::from_secs(self.rng.i64(-200_000..200_000));
                if self.rng.bool() {
                    self.machines[machine].clock.set_wall_error(error);
                } else {
                    self.coordinators[coordinator].clock.set_wall_error(error);
                }
            }
            Fault::RestartRuntime => self.restart_runtime(machine),
            Fault::Evict => self.evict(machine),
            Fault::PodPulls => {
                let reference = self.any_reference();
                let host = &mut self.machines[machine];
                if let Ok(published) = self.registry.resolve(&reference, &host.runtime.architecture) {
                    let digest = host.runtime.served(published).clone();
                    host.runtime.images.insert(reference, digest);
                    self.images_changed(machine);
                }
            }
            Fault::LowDisk => {
                self.machines[machine].runtime.free_percent = self.rng.u8(0..25);
                let delay = self.seconds(5.0, 200.0);
                self.after(delay, Event::Heal(Heal::Disk(machine)));
            }
            Fault::FailRegistry => self.fail_registry(),
            Fault::FailImage => {
                let reference = self.any_reference();
                let fault =
                    [None, Some(ImageFault::Missing), Some(ImageFault::Unauthorized)][self.rng.usize(0..3)];
                if let Some(published) = self.registry.images.get_mut(&reference) {
                    published.fault = fault;
                }
            }
            Fault::MoveTag => {
                let reference = self.any_reference();
                let digest = self.registry.new_digest();
                if let Some(published) = self.registry.images.get_mut(&reference)
                    && !reference.contains('@')
                {
                    published.before = Some(std::mem::replace(&mut published.digest, digest));
                }
            }
            Fault::EditImage => self.edit_image(),
            Fault::DeleteImage => {
                if let Some(image) = self.any_image() {
                    self.commit(Kind::Image, &image.name, None);
                }
            }
            Fault::CreateImage => self.add_image(),
            Fault::EditPolicy => self.edit_policy(),
            Fault::DeletePolicy => {
                if let Some(policy) = self.any_existing_policy() {
                    self.commit(Kind::Policy, &policy.name, None);
                    if self.rng.u32(0..4) > 0 {
                        let delay = self.seconds(1.0, 120.0);
                        self.after(delay, Event::Heal(Heal::Policy(policy)));
                    }
                }
            }
            Fault::DeleteLease => self.delete_lease_by_hand(machine),
            Fault::DeleteLeaderLease => {
                if self.api.lease(names::LEADER_LEASE).is_some() {
                    self.commit(Kind::Lease, names::LEADER_LEASE, None);
                }
            }
            Fault::DeleteCatalog => {
                if self.api.get(Kind::Catalog, names::CATALOG).is_some() {
                    self.commit(Kind::Catalog, names::CATALOG, None);
                }
            }
            Fault::ReregisterNode => self.reregister(machine),
            Fault::ReplaceMachine => self.replace_machine(machine),
            Fault::RemoveMachine => {
                if self.machines.iter().filter(|machine| machine.powered).count() > 2 {
                    self.power_off(machine);
                }
            }
            Fault::AddMachine => {
                if self.machines.len() < 8 {
                    self.add_machine();
                }
            }
            Fault::Taint => self.change_node(machine, |node| {
                if node.taints.pop().is_none() {
                    node.taints.push(Taint {
                        key: DEDICATED.to_owned(),
                        value: "ci".to_owned(),
                        effect: TaintEffect::NoSchedule,
                    });
                }
            }),
            Fault::Relabel => {
                let pool = if self.rng.bool() { "blue" } else { "green" };
                self.machines[machine].labels.insert(POOL.to_owned(), pool.to_owned());
                self.change_node(machine, |node| drop(node.labels.insert(POOL.to_owned(), pool.to_owned())));
            }
        }
    }

    /// A fault ends.
    pub fn heal(&mut self, heal: Heal) {
        match heal {
            Heal::Machine(machine, cut) => {
                if self.machines[machine].cuts == cut {
                    self.machines[machine].cut = false;
                    self.after(Duration::from_secs(1), Event::Kubelet(machine));
                }
            }
            Heal::Coordinator(index) => self.coordinators[index].cut = false,
            Heal::Api => self.api.down = false,
            Heal::Runtime(machine) => self.machines[machine].runtime.down = false,
            Heal::Disk(machine) => self.machines[machine].runtime.free_percent = 60,
            Heal::Registry(host) => drop(self.registry.hosts.remove(&host)),
            Heal::Policy(policy) => {
                if self.api.policy(&policy.name).is_none() {
                    let name = policy.name.clone();
                    self.commit(Kind::Policy, &name, Some(Object::Policy(policy)));
                }
            }
            Heal::Register(machine) => {
                if self.machines[machine].powered && self.api.node(&self.machines[machine].name).is_none() {
                    self.register(machine);
                }
            }
            Heal::Everything => self.heal_everything(),
            Heal::Registries => self.heal_registries(),
        }
    }

    fn heal_everything(&mut self) {
        self.weather = crate::network::Weather::default();
        self.pauses = 0.0;
        self.mishaps = 0.0;
        // Where coordinators can't reach registries at all, that is how it stays.
        if self.checks_lost < 1.0 {
            self.checks_lost = 0.0;
        }
        self.api.down = false;
        self.registry.hosts.clear();
        self.checker.calm_since = Some(self.now);
        for index in 0..self.coordinators.len() {
            self.coordinators[index].cut = false;
            if let Some(process) = self.coordinators[index].process.as_mut() {
                process.deaf_until = self.now;
                let client = Client { place: Place::Coordinator(index), process: process.id };
                self.after(Duration::ZERO, Event::Resume(client));
            } else {
                self.after(Duration::from_secs(1), Event::CoordinatorStart(index));
            }
        }
        for machine in 0..self.machines.len() {
            let host = &mut self.machines[machine];
            host.cut = false;
            host.runtime.down = false;
            host.runtime.free_percent = 60;
            if let Some(agent) = &host.agent {
                let client = Client { place: Place::Agent(machine), process: agent.id };
                self.after(Duration::ZERO, Event::Resume(client));
            }
            self.after(Duration::ZERO, Event::Heal(Heal::Register(machine)));
            self.after(Duration::from_secs(1), Event::AgentStart(machine));
            self.after(Duration::from_secs(3), Event::Kubelet(machine));
        }
    }

    fn heal_registries(&mut self) {
        for published in self.registry.images.values_mut() {
            published.fault = None;
            published.architectures.insert("arm64".to_owned());
        }
        let policies: Vec<Arc<PullPolicy>> = self.truth().policies.into_values().collect();
        for policy in policies.into_iter().filter(|policy| policy.repull_interval.is_some()) {
            let name = policy.name.clone();
            let policy = PullPolicy { repull_interval: None, ..(*policy).clone() };
            self.commit(Kind::Policy, &name, Some(Object::Policy(Arc::new(policy))));
        }
    }

    fn break_watches(&mut self) {
        for index in 0..self.watches.len() {
            self.break_watch(index);
        }
    }

    fn replace_agent(&mut self, machine: usize) {
        let grace = self.seconds(5.0, 60.0);
        self.terminate_agent(machine, grace);
        let pod = self.api.new_uid();
        self.machines[machine].pod = pod;
    }

    fn cut_machine(&mut self, machine: usize) {
        let host = &mut self.machines[machine];
        host.cut = true;
        host.cuts += 1;
        let cut = host.cuts;
        let delay = self.seconds(1.0, 150.0);
        self.after(delay, Event::Heal(Heal::Machine(machine, cut)));
        self.after(Duration::from_secs(40), Event::NodeLost(machine, cut));
    }

    fn restart_runtime(&mut self, machine: usize) {
        self.machines[machine].runtime.down = true;
        let running: Vec<_> = self.machines[machine].runtime.pulls.keys().copied().collect();
        for key in running {
            if let Some(pull) = self.machines[machine].runtime.pulls.get_mut(&key) {
                pull.course = crate::runtime::Course::Fail(14, "error reading from server: EOF".to_owned());
            }
            self.pull_ends(machine, key);
        }
        let delay = self.seconds(0.5, 20.0);
        self.after(delay, Event::Heal(Heal::Runtime(machine)));
    }

    fn evict(&mut self, machine: usize) {
        let images = &mut self.machines[machine].runtime.images;
        let held: Vec<String> = images.keys().cloned().collect();
        if let Some(reference) = held.get(self.rng.usize(0..held.len().max(1))) {
            images.remove(reference);
            self.tell(&format!("{:9} loses {reference}", self.machines[machine].name));
            // Now and then the event is lost, and only the next look tells.
            if self.rng.u32(0..4) > 0 {
                self.images_changed(machine);
            }
        }
    }

    fn fail_registry(&mut self) {
        let host = if self.rng.bool() { "a.test" } else { "b.test:5000" };
        let fault = match self.rng.u32(0..3) {
            0 => HostFault::Down,
            1 => HostFault::Failing,
            _ => HostFault::RateLimited(self.rng.u32(1..60)),
        };
        self.registry.hosts.insert(host.to_owned(), fault);
        let delay = self.seconds(5.0, 120.0);
        self.after(delay, Event::Heal(Heal::Registry(host.to_owned())));
    }

    fn edit_image(&mut self) {
        let Some(old) = self.any_image() else { return };
        let mut image = CachedImage { generation: old.generation + 1, ..(*old).clone() };
        match self.rng.u32(0..8) {
            0..4 => image.reference = self.any_reference(),
            4 => image.pull_policy = self.any_pull_policy(),
            5 => image.node_selector = self.any_selector(),
            6 => image.policy = self.any_policy(),
            _ => image.priority = self.rng.i32(-2..3),
        }
        self.commit(Kind::Image, &old.name, Some(Object::Image(Arc::new(image))));
    }

    fn edit_policy(&mut self) {
        let Some(old) = self.any_existing_policy() else { return };
        let mut policy = (*old).clone();
        if self.rng.bool() {
            policy.max_concurrent_nodes = self.rng.u32(1..5);
        } else {
            policy.min_delay = Duration::from_secs(self.rng.u64(0..12));
        }
        self.commit(Kind::Policy, &old.name, Some(Object::Policy(Arc::new(policy))));
    }

    fn delete_lease_by_hand(&mut self, machine: usize) {
        let name = self.machines[machine].name.clone();
        if self.api.delete_lease(self.now, &Writer::Other, &name, None, None).is_ok() {
            self.spread_news();
        }
    }
}
