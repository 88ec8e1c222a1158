//! What a seed begins with: nodes, images, policies, replicas and the faults to come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use drop_planner::{AgentPod, CachedImage, Node, PullPolicy, Toleration, TolerationOperator};
use drop_protocol::ImagePullPolicy;
use jiff::Timestamp;

use crate::agent::Machine;
use crate::api::{ApiServer, Kind, Object};
use crate::breaks::Break;
use crate::clock::{Clock, Time};
use crate::coordinator::Coordinator;
use crate::faults::Fault;
use crate::invariants::Checker;
use crate::network::Weather;
use crate::queue::Queue;
use crate::registry::{ImageFault, Published, Registry};
use crate::runtime::Runtime;
use crate::simulation::{Event, Simulation};
use crate::trace::Trace;

/// Label by which some images choose their nodes.
pub const POOL: &str = "pool";
/// Taint that some images tolerate.
pub const DEDICATED: &str = "dedicated";

impl Simulation {
    /// The beginning of `seed`; faults last for `faults`.
    #[must_use]
    pub fn new(seed: u64, faults: Time, broken: Option<Break>, trace: Trace) -> Self {
        let mut simulation = Self {
            rng: fastrand::Rng::with_seed(seed),
            now: Time::ZERO,
            queue: Queue::default(),
            api: ApiServer::default(),
            registry: Registry::default(),
            machines: Vec::new(),
            coordinators: Vec::new(),
            watches: Vec::new(),
            weather: Weather::default(),
            broken,
            checker: Checker::default(),
            trace,
            pauses: 0.0,
            mishaps: 0.0,
            checks: true,
            checks_lost: 0.0,
            checks_sent: 0,
            baked_in: Vec::new(),
            pull_changes: 0,
            counter: 0,
        };
        simulation.publish();
        simulation.checks = simulation.rng.u32(0..10) > 0;
        simulation.checks_lost = [0.0, 0.0, 0.3, 1.0][simulation.rng.usize(0..4)];
        if simulation.rng.bool() {
            // All machines come from one template.
            simulation.baked_in = (0..simulation.rng.u32(1..5)).map(|_| simulation.any_reference()).collect();
        }
        for _ in 0..simulation.rng.u32(0..4) {
            simulation.add_policy();
        }
        for _ in 0..simulation.rng.u32(2..7) {
            simulation.add_machine();
        }
        for _ in 0..simulation.rng.u32(1..7) {
            simulation.add_image();
        }
        for index in 0..simulation.rng.usize(2..4) {
            let clock = simulation.clock();
            simulation.coordinators.push(Coordinator { clock, process: None, cut: false });
            let delay = simulation.seconds(0.0, 3.0);
            simulation.after(delay, Event::CoordinatorStart(index));
        }
        simulation.plan_faults(faults);
        simulation.spread_news();
        simulation
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
    pub fn add_policy(&mut self) {
        let name = format!("policy-{}", self.number());
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
            pod: self.api.new_uid(),
            agent: None,
            cut: false,
            cuts: 0,
            labels: BTreeMap::from([(POOL.to_owned(), pool.to_owned())]),
        };
        self.machines.push(machine);
        self.register(index);
    }

    /// The kubelet of a machine creates its Node; the DaemonSet's Pod follows.
    pub fn register(&mut self, machine: usize) {
        let uid = self.api.new_uid();
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

    /// Somebody creates a CachedImage.
    pub fn add_image(&mut self) {
        let name = format!("image-{}", self.rng.u32(0..9));
        if self.api.image(&name).is_some() {
            return;
        }
        let image = CachedImage {
            uid: self.api.new_uid(),
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
        let names: Vec<String> = self.api.list(Kind::Policy).map(|(name, _)| name.to_owned()).collect();
        if self.rng.u32(0..20) == 0 {
            return Some("missing".to_owned());
        }
        let choice = self.rng.usize(0..=names.len() * 2);
        names.get(choice % (names.len() + 1)).cloned()
    }

    /// Which faults strike when. Each seed knows only some kinds, so that rare combinations come up often enough.
    fn plan_faults(&mut self, faults: Time) {
        let known: Vec<Fault> = Fault::ALL.into_iter().filter(|_| self.rng.u32(0..100) < 45).collect();
        if !known.is_empty() {
            let faults_in_all = match self.rng.u32(0..10) {
                0..4 => self.rng.u32(0..10),
                4..8 => self.rng.u32(10..40),
                _ => self.rng.u32(40..120),
            };
            for _ in 0..faults_in_all {
                let kind = known[self.rng.usize(0..known.len())];
                let at = self.seconds(0.0, faults.as_secs_f64());
                self.after(at, Event::Fault(kind));
            }
        }
        let rng = &mut self.rng;
        let mut often = |p: f64| if rng.u32(0..3) == 0 { rng.f64() * p } else { 0.0 };
        self.weather = Weather {
            lost: often(0.1),
            answer_lost: often(0.1),
            late: often(0.1),
            twice: often(0.1),
            refused: often(0.05),
            slow_watch: often(0.1),
            broken_watch: often(0.05),
        };
        self.pauses = often(0.02);
        self.mishaps = often(0.3);
    }
}
