//! How faults end.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::{Discovery, PullPolicy};

use crate::api::{Kind, Object};
use crate::network::{Client, Place};
use crate::simulation::{Event, Simulation};

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
    /// A DiscoveryPolicy is.
    Discovery(Arc<Discovery>),
    /// The machine that was replaced registers.
    Register(usize),
    /// Everything: from here on nothing goes wrong.
    Everything,
    /// Registries hold what users want, and policies ask for nothing more.
    Registries,
}

impl Simulation {
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
            Heal::Discovery(discovery) => {
                if self.api.discovery(&discovery.name).is_none() {
                    let name = discovery.name.clone();
                    self.commit(Kind::Discovery, &name, Some(Object::Discovery(discovery)));
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
        self.aims.clear();
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
}
