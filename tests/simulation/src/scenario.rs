//! What a run begins with: registries, nodes, images, policies and replicas, as its schedule says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use drop_planner::{AgentPod, CachedImage, Node, PullPolicy, Toleration, TolerationOperator};
use drop_protocol::ImagePullPolicy;
use jiff::Timestamp;

use crate::agent::Machine;
use crate::api::{ApiServer, Kind, Object};
use crate::clock::{Clock, Time};
use crate::coordinator::Coordinator;
use crate::coverage::Coverage;
use crate::invariants::Checker;
use crate::queue::Queue;
use crate::registry::{ImageFault, Published, Registry};
use crate::runtime::Runtime;
use crate::schedule::Schedule;
use crate::simulation::{Event, Simulation};
use crate::streams::{Streams, Thing, choose};
use crate::trace::Trace;

/// Label by which some images choose their nodes.
pub const POOL: &str = "pool";
/// Taint that some images tolerate.
pub const DEDICATED: &str = "dedicated";

impl Simulation {
    /// The beginning of what a schedule says.
    #[must_use]
    pub fn new(schedule: &Schedule, trace: Trace) -> Self {
        let mut simulation = Self {
            streams: Streams::new(schedule.seed, schedule.stir),
            rng: fastrand::Rng::with_seed(schedule.seed),
            now: Time::ZERO,
            queue: Queue::default(),
            api: ApiServer::default(),
            registry: Registry::default(),
            machines: Vec::new(),
            coordinators: Vec::new(),
            watches: Vec::new(),
            weather: schedule.weather,
            broken: schedule.broken,
            checker: Checker::default(),
            trace,
            pauses: schedule.pauses,
            mishaps: schedule.mishaps,
            checks: true,
            checks_lost: 0.0,
            questions: Vec::new(),
            baked_in: Vec::new(),
            pull_changes: 0,
            counter: 0,
            aims: Vec::new(),
            coverage: Coverage::default(),
            steps: 0,
        };
        simulation.begin(schedule);
        for planned in &schedule.faults {
            simulation.queue.push(planned.time(), Event::Fault(planned.into()));
        }
        simulation.spread_news();
        simulation
    }

    /// Puts in what is there from the beginning. What a thing is like follows from its number alone; of what the
    /// schedule leaves out, the place stays empty.
    fn begin(&mut self, schedule: &Schedule) {
        self.rng = self.streams.once(Thing::Registry, 0);
        self.publish();
        self.checks = self.rng.u32(0..10) > 0;
        self.checks_lost = [0.0, 0.0, 0.3, 1.0][self.rng.usize(0..4)];
        if self.rng.bool() {
            // All machines come from one template.
            self.baked_in = (0..self.rng.u32(1..5)).map(|_| self.any_reference()).collect();
        }
        for number in &schedule.policies {
            self.rng = self.streams.once(Thing::Policy, *number as u64);
            self.add_policy(*number);
        }
        for number in 0..schedule.machines.iter().max().map_or(0, |last| last + 1) {
            self.rng = self.streams.once(Thing::Machine, number as u64);
            self.add_machine();
            if !schedule.machines.contains(&number) {
                self.leave_out(number);
            }
        }
        for number in &schedule.images {
            self.rng = self.streams.once(Thing::Image, *number as u64);
            self.create_image();
        }
        for number in &schedule.sets {
            self.rng = self.streams.once(Thing::Set, *number as u64);
            self.add_discovery(*number);
            self.add_set(*number);
        }
        for number in 0..schedule.coordinators.iter().max().map_or(0, |last| last + 1) {
            self.rng = self.streams.once(Thing::Coordinator, number as u64);
            let (clock, absent) = (self.clock(), !schedule.coordinators.contains(&number));
            self.coordinators.push(Coordinator { clock, process: None, cut: false, starts: 0, absent });
            let delay = self.seconds(0.0, 3.0);
            self.after(delay, Event::CoordinatorStart(number));
        }
    }

    /// Takes a machine out before anything happens.
    fn leave_out(&mut self, machine: usize) {
        self.machines[machine].powered = false;
        let name = self.machines[machine].name.clone();
        self.commit(Kind::Node, &name, None);
        self.commit(Kind::Pod, &name, None);
    }

    fn clock(&mut self) -> Clock {
        let drift = match self.rng.u32(0..3) {
            0 => 0,
            1 => self.rng.i32(-100..100),
            _ => self.rng.i32(-2_000..2_000),
        };
        let start = self.seconds(1_000.0, 1_000_000.0);
        Clock::new(drift, start)
    }

    fn publish(&mut self) {
        for host in ["a.test", "b.test:5000"] {
            for app in 0..4 {
                for tag in ["v1", "v2"] {
                    let digest = self.registry.new_digest();
                    let mut architectures = BTreeSet::from(["amd64".to_owned()]);
                    if self.rng.u32(0..4) > 0 {
                        architectures.insert("arm64".to_owned());
                    }
                    let fault = match self.rng.u32(0..12) {
                        0 => Some(ImageFault::Missing),
                        1 => Some(ImageFault::Unauthorized),
                        _ => None,
                    };
                    let fetch = match self.rng.u32(0..3) {
                        0 => self.seconds(0.2, 3.0),
                        1 => self.seconds(3.0, 20.0),
                        _ => self.seconds(20.0, 80.0),
                    };
                    let published =
                        Published { digest: digest.clone(), before: None, architectures, fetch, fault };
                    let by_digest = format!("{host}/team/app-{app}@{digest}");
                    self.registry.images.insert(by_digest, published.clone());
                    self.registry.images.insert(format!("{host}/team/app-{app}:{tag}"), published);
                }
            }
        }
    }

    /// A reference that a user might want.
    pub fn any_reference(&mut self) -> String {
        // People want on all nodes what nodes come with, more often than chance would have it.
        if !self.baked_in.is_empty() && self.rng.u32(0..3) == 0 {
            return self.baked_in[self.rng.usize(0..self.baked_in.len())].clone();
        }
        let references: Vec<String> = self.registry.images.keys().cloned().collect();
        // Digests are the rarer choice.
        loop {
            let reference = &references[self.rng.usize(0..references.len())];
            if !reference.contains('@') || self.rng.u32(0..4) == 0 {
                return reference.clone();
            }
        }
    }

    /// Somebody creates a PullPolicy.
    fn add_policy(&mut self, number: usize) {
        let name = format!("policy-{number}");
        let initial = Duration::from_secs(self.rng.u64(1..30));
        let repull = self.rng.u32(0..5) == 0;
        let policy = PullPolicy {
            name: name.clone(),
            max_concurrent_nodes: self.rng.u32(1..4),
            min_delay: match self.rng.u32(0..4) {
                0 => Duration::ZERO,
                1 => Duration::from_millis(self.rng.u64(10..900)),
                _ => Duration::from_secs(self.rng.u64(1..12)),
            },
            backoff_initial: initial,
            backoff_max: initial * self.rng.u32(1..5),
            repull_interval: repull.then(|| Duration::from_secs(self.rng.u64(60..300))),
            node_selector: BTreeMap::new(),
            tolerations: self.any_tolerations(),
            problem: None,
        };
        self.commit(Kind::Policy, &name.clone(), Some(Object::Policy(Arc::new(policy))));
    }

    fn any_tolerations(&mut self) -> Vec<Toleration> {
        if self.rng.u32(0..4) > 0 {
            return Vec::new();
        }
        vec![Toleration {
            key: DEDICATED.to_owned(),
            operator: TolerationOperator::Exists,
            value: String::new(),
            effect: None,
        }]
    }

    /// A machine joins.
    pub fn add_machine(&mut self) {
        let index = self.machines.len();
        let clock = self.clock();
        let architecture = if self.rng.u32(0..4) == 0 { "arm64" } else { "amd64" };
        let mut runtime = Runtime::new(architecture);
        runtime.slowness = self.rng.u32(50..200);
        runtime.lags = self.rng.u32(0..8) == 0;
        runtime.nonsense = (self.rng.u32(0..12) == 0).then_some(u64::try_from(index).unwrap_or(0) << 32);
        let mut held = self.baked_in.clone();
        if self.rng.bool() {
            // Some images are baked in, or pulled by pods, before Drop comes.
            held.push(self.any_reference());
        }
        for reference in held {
            if let Ok(published) = self.registry.resolve(&reference, architecture) {
                runtime.images.insert(reference, runtime.served(published).clone());
            }
        }
        let pool = if self.rng.bool() { "blue" } else { "green" };
        let machine = Machine {
            name: format!("node-{index}"),
            powered: true,
            clock,
            runtime,
            pod: self.api.new_uid(&format!("pod-node-{index}")),
            agent: None,
            starts: 0,
            cut: false,
            cuts: 0,
            labels: BTreeMap::from([(POOL.to_owned(), pool.to_owned())]),
        };
        self.machines.push(machine);
        self.register(index);
    }

    /// The kubelet of a machine creates its Node; the DaemonSet's Pod follows.
    pub fn register(&mut self, machine: usize) {
        let uid = self.api.new_uid(&self.machines[machine].name);
        let host = &self.machines[machine];
        let (name, pod) = (host.name.clone(), host.pod.clone());
        let node = Node {
            name: name.clone(),
            uid,
            labels: host.labels.clone(),
            taints: Vec::new(),
            architecture: host.runtime.architecture.clone(),
            os: "linux".to_owned(),
            ready: true,
            virtual_kubelet: false,
        };
        self.commit(Kind::Node, &name, Some(Object::Node(Arc::new(node))));
        self.commit(Kind::Pod, &name, Some(Object::Pod(AgentPod { uid: pod, ready: false })));
        let delay = self.seconds(0.1, 8.0);
        self.after(delay, Event::AgentStart(machine));
    }

    /// Somebody creates a CachedImage, unless there is one of that name.
    pub fn create_image(&mut self) -> bool {
        let name = format!("image-{}", self.rng.u32(0..9));
        if self.api.image(&name).is_some() {
            return false;
        }
        let image = CachedImage {
            uid: self.api.new_uid(&name),
            generation: 1,
            created: Timestamp::UNIX_EPOCH,
            reference: self.any_reference(),
            pull_policy: self.any_pull_policy(),
            node_selector: self.any_selector(),
            tolerations: self.any_tolerations(),
            priority: self.rng.i32(-1..2),
            policy: self.any_policy(),
            name: name.clone(),
            ..CachedImage::default()
        };
        self.commit(Kind::Image, &name, Some(Object::Image(Arc::new(image))));
        true
    }

    /// A pull policy, the default most often.
    pub fn any_pull_policy(&mut self) -> ImagePullPolicy {
        match self.rng.u32(0..10) {
            0 => ImagePullPolicy::Never,
            1..6 => ImagePullPolicy::IfNotPresent,
            _ => ImagePullPolicy::Always,
        }
    }

    /// A node selector; most have none.
    pub fn any_selector(&mut self) -> BTreeMap<String, String> {
        match self.rng.u32(0..6) {
            0 => BTreeMap::from([(POOL.to_owned(), "blue".to_owned())]),
            1 => BTreeMap::from([(POOL.to_owned(), "green".to_owned())]),
            _ => BTreeMap::new(),
        }
    }

    /// One of the policies, the built-in one now and then, rarely one that does not exist.
    pub fn any_policy(&mut self) -> Option<String> {
        if self.rng.u32(0..20) == 0 {
            return Some("missing".to_owned());
        }
        // The empty name stands for the built-in one.
        let Self { api, rng, .. } = self;
        let names = api.list(Kind::Policy).map(|(name, _)| name).chain([""]);
        choose(rng, names).filter(|name| !name.is_empty()).map(str::to_owned)
    }
}
