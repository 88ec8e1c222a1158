//! What faults do to processes, machines and servers. Each tells whether it struck anything.

use std::time::Duration;

use drop_planner::{Taint, TaintEffect};
use drop_protocol::names;
use jiff::SignedDuration;

use super::{Fault, Heal};
use crate::api::{Kind, Writer};
use crate::network::{Client, Place};
use crate::registry::{HostFault, ImageFault};
use crate::scenario::{DEDICATED, POOL};
use crate::simulation::{Event, Simulation};
use crate::streams::choose;

/// No more machines than this.
const MACHINES: usize = 8;

impl Simulation {
    pub(super) fn strike_node(&mut self, fault: Fault, machine: usize) -> bool {
        if !self.machines[machine].powered {
            return false;
        }
        let agent = self.machines[machine].agent.as_ref();
        let (runs, paused) = (agent.is_some(), agent.is_some_and(|agent| agent.paused));
        match fault {
            Fault::CrashAgent if runs => self.agent_dies(machine, "crash"),
            Fault::PauseAgent if runs && !paused => {
                let pause = self.seconds(1.0, 150.0);
                self.pause_agent(machine, pause);
            }
            Fault::ReplaceAgent if runs => self.replace_agent(machine),
            Fault::CutMachine => self.cut_machine(machine),
            Fault::SetNodeClock => {
                let error = SignedDuration::from_secs(self.rng.i64(-200_000..200_000));
                self.machines[machine].clock.set_wall_error(error);
            }
            Fault::RestartRuntime => self.restart_runtime(machine),
            Fault::Evict => return self.evict(machine),
            Fault::PodPulls => return self.pod_pulls(machine),
            Fault::LowDisk => {
                self.machines[machine].runtime.free_percent = self.rng.u8(0..25);
                let delay = self.seconds(5.0, 200.0);
                self.after(delay, Event::Heal(Heal::Disk(machine)));
            }
            Fault::DeleteLease => return self.delete_lease_by_hand(machine),
            Fault::ReregisterNode => self.reregister(machine),
            Fault::ReplaceMachine => self.replace_machine(machine),
            Fault::RemoveMachine if self.machines.iter().filter(|machine| machine.powered).count() > 1 => {
                self.power_off(machine);
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
            _ => return false,
        }
        true
    }

    pub(super) fn strike_replica(&mut self, fault: Fault, replica: usize) -> bool {
        if self.coordinators[replica].absent {
            return false;
        }
        match fault {
            Fault::CrashCoordinator => self.coordinator_dies(replica),
            Fault::EndCoordinator => self.terminate_coordinator(replica),
            Fault::PauseCoordinator => {
                let pause = self.seconds(1.0, 90.0);
                self.pause_coordinator(replica, pause);
            }
            Fault::CutCoordinator => {
                self.coordinators[replica].cut = true;
                let delay = self.seconds(1.0, 90.0);
                self.after(delay, Event::Heal(Heal::Coordinator(replica)));
            }
            Fault::DeafLeader => {
                let until = self.now + self.seconds(20.0, 200.0);
                let Some(process) = self.coordinators[replica].process.as_mut() else { return false };
                if process.world.leadership.is_none() {
                    return false;
                }
                process.deaf_until = until;
                let client = Client { place: Place::Coordinator(replica), process: process.id };
                self.queue.push(until, Event::Resume(client));
            }
            Fault::SetCoordinatorClock => {
                let error = SignedDuration::from_secs(self.rng.i64(-200_000..200_000));
                self.coordinators[replica].clock.set_wall_error(error);
            }
            _ => return false,
        }
        true
    }

    pub(super) fn strike_cluster(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::RestartApi => {
                self.api.down = true;
                self.break_watches();
                let delay = self.seconds(2.0, 40.0);
                self.after(delay, Event::Heal(Heal::Api));
            }
            Fault::BreakWatches => self.break_watches(),
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
            Fault::DeleteLeaderLease => return self.delete(Kind::Lease, names::LEADER_LEASE),
            Fault::DeleteCatalog => return self.delete(Kind::Catalog, names::CATALOG),
            Fault::AddMachine if self.machines.len() < MACHINES => self.add_machine(),
            _ => return self.people_do(fault),
        }
        true
    }

    fn delete(&mut self, kind: Kind, name: &str) -> bool {
        let there = self.api.get(kind, name).is_some();
        if there {
            self.commit(kind, name, None);
        }
        there
    }

    fn break_watches(&mut self) {
        for index in 0..self.watches.len() {
            self.break_watch(index);
        }
    }

    fn replace_agent(&mut self, machine: usize) {
        let grace = self.seconds(5.0, 60.0);
        self.terminate_agent(machine, grace);
        self.machines[machine].pod = self.api.new_uid(&format!("pod-{}", self.machines[machine].name));
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

    fn evict(&mut self, machine: usize) -> bool {
        let images = &mut self.machines[machine].runtime.images;
        let Some(reference) = choose(&mut self.rng, images.keys().cloned()) else { return false };
        images.remove(&reference);
        self.tell(&format!("{:9} loses {reference}", self.machines[machine].name));
        // Now and then the event is lost, and only the next look tells.
        if self.rng.u32(0..4) > 0 {
            self.images_changed(machine);
        }
        true
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

    fn pod_pulls(&mut self, machine: usize) -> bool {
        let reference = self.any_reference();
        let host = &mut self.machines[machine];
        let Ok(published) = self.registry.resolve(&reference, &host.runtime.architecture) else {
            return false;
        };
        let digest = host.runtime.served(published).clone();
        host.runtime.images.insert(reference, digest);
        self.images_changed(machine);
        true
    }

    fn delete_lease_by_hand(&mut self, machine: usize) -> bool {
        let name = self.machines[machine].name.clone();
        let deleted = self.api.delete_lease(self.now, &Writer::Other, &name, None, None).is_ok();
        if deleted {
            self.spread_news();
        }
        deleted
    }
}
