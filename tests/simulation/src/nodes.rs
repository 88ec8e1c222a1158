//! What happens to Nodes: kubelets, the node controller and the garbage collector, and machines that come and go.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::{AgentPod, Node};

use crate::api::{Kind, Object, Writer};
use crate::faults::Heal;
use crate::simulation::{Event, Simulation};

impl Simulation {
    /// Somebody, or the kubelet, changes the Node of a machine.
    pub fn change_node(&mut self, machine: usize, change: impl FnOnce(&mut Node)) {
        let Some(node) = self.api.node(&self.machines[machine].name) else { return };
        let mut node = (**node).clone();
        change(&mut node);
        let name = node.name.clone();
        self.commit(Kind::Node, &name, Some(Object::Node(Arc::new(node))));
    }

    /// Deletes the Node; its Lease goes with it before long.
    pub fn delete_node(&mut self, machine: usize) {
        let name = self.machines[machine].name.clone();
        if self.api.node(&name).is_none() {
            return;
        }
        self.commit(Kind::Node, &name, None);
        if let Some(pod) = self.api.pod(&name) {
            let uid = pod.uid.clone();
            let delay = self.seconds(40.0, 60.0);
            self.after(delay, Event::CollectPod(name.clone(), uid));
        }
        if let Some(lease) = self.api.lease(&name) {
            let uid = lease.lease.uid.clone();
            let delay = self.seconds(0.1, 30.0);
            self.after(delay, Event::Collect(name, uid));
        }
    }

    /// A Pod whose Node is gone is deleted after a while, unless another has taken its place.
    pub fn collect_pod(&mut self, name: &str, uid: &str) {
        if self.api.pod(name).is_some_and(|pod| pod.uid == uid) {
            self.commit(Kind::Pod, name, None);
        }
    }

    /// The garbage collector deletes a Lease whose Node is gone.
    pub fn collect(&mut self, name: &str, uid: &str) {
        let orphan = self.api.lease(name).is_some_and(|lease| {
            lease.lease.uid == uid
                && lease.lease.node_uid.as_ref() != self.api.node(name).map(|node| &node.uid)
        });
        if orphan && self.api.delete_lease(self.now, &Writer::Other, name, Some(uid), None).is_ok() {
            self.spread_news();
        }
    }

    /// The Node is deleted, and the same machine registers again.
    pub fn reregister(&mut self, machine: usize) {
        if !self.machines[machine].powered {
            return;
        }
        self.delete_node(machine);
        // The old Pod is deleted; its process may live on for a while.
        if self.rng.bool() {
            self.agent_dies(machine, "its Pod was deleted");
        } else {
            let grace = self.seconds(1.0, 30.0);
            self.terminate_agent(machine, grace);
        }
        self.machines[machine].pod = self.api.new_uid(&format!("pod-{}", self.machines[machine].name));
        let delay = self.seconds(0.05, 20.0);
        self.after(delay, Event::Heal(Heal::Register(machine)));
    }

    /// A new machine takes the place and the name of this one.
    pub fn replace_machine(&mut self, machine: usize) {
        if !self.machines[machine].powered {
            return;
        }
        self.power_off(machine);
        let pod = self.api.new_uid(&format!("pod-{}", self.machines[machine].name));
        let host = &mut self.machines[machine];
        host.powered = true;
        host.pod = pod;
        host.runtime.images.clear();
        let delay = self.seconds(0.05, 60.0);
        self.after(delay, Event::Heal(Heal::Register(machine)));
    }

    /// The machine goes off, and its Node is deleted.
    pub fn power_off(&mut self, machine: usize) {
        self.agent_dies(machine, "power off");
        let host = &mut self.machines[machine];
        host.powered = false;
        host.runtime.pulls.clear();
        self.pull_changes += 1;
        self.delete_node(machine);
    }

    /// The kubelet brings Node and Pod up to date.
    pub fn kubelet(&mut self, machine: usize) {
        let host = &self.machines[machine];
        if host.cut || !host.powered {
            return;
        }
        if self.api.down {
            return self.after(Duration::from_secs(5), Event::Kubelet(machine));
        }
        let name = host.name.clone();
        let pod =
            AgentPod { uid: host.pod.clone(), ready: host.agent.as_ref().is_some_and(|agent| !agent.paused) };
        let Some(node) = self.api.node(&name) else { return };
        if !node.ready {
            self.change_node(machine, |node| node.ready = true);
        }
        if self.api.pod(&name) != Some(&pod) {
            self.commit(Kind::Pod, &name, Some(Object::Pod(pod)));
        }
    }

    /// Nothing was heard of a node for a while.
    pub fn node_lost(&mut self, machine: usize, cut: u64) {
        let host = &self.machines[machine];
        if !host.cut || host.cuts != cut {
            return;
        }
        let name = host.name.clone();
        self.change_node(machine, |node| node.ready = false);
        if let Some(pod) = self.api.pod(&name).cloned() {
            self.commit(Kind::Pod, &name, Some(Object::Pod(AgentPod { ready: false, ..pod })));
        }
    }
}
