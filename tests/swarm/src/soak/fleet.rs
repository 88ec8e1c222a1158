//! The nodes and agents of a soak: they come, go, and are replaced.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use drop_agent::kubernetes::KubeApi;
use kube::api::{Patch, PatchParams};

use super::truth::Truth;
use super::wanted::Node;
use super::watched::{Ailments, Seen, WatchedApi, WatchedRuntime};
use crate::agents::{self, Agent};
use crate::place::{NAMESPACE, Place};
use crate::population::{self, Member};
use crate::runtime::{Handle, Runtime, Tally};
use crate::scenario::{RuntimeModel, Spread};

struct Live {
    member: Member,
    runtime: Rc<Runtime>,
    agent: Option<Agent>,
}

/// All nodes.
pub(super) struct Fleet {
    nodes: BTreeMap<usize, Live>,
    /// What was pulled when, and whether that was allowed.
    pub(super) truth: Rc<RefCell<Truth>>,
    /// What ails the registries.
    pub(super) ailments: Rc<RefCell<Ailments>>,
    /// What the runtimes did.
    pub(super) tally: Rc<Tally>,
    /// Agents that ended although nobody told them to.
    ended: Rc<Cell<usize>>,
}

impl Fleet {
    /// No nodes yet.
    pub(super) fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            truth: Rc::default(),
            ailments: Rc::default(),
            tally: Rc::default(),
            ended: Rc::default(),
        }
    }

    /// Many nodes come at once. The agents start afterwards, one by one.
    pub(super) async fn add_all(&mut self, place: &Place, nodes: &BTreeMap<usize, Node>) -> Result<()> {
        let members = population::create(place, nodes.keys().copied()).await?;
        for member in members {
            let node = nodes.get(&member.number).context("a node that nobody asked for")?;
            self.change(place, &member.node, *node).await?;
            self.join(place, member)?;
        }
        Ok(())
    }

    /// A node comes.
    pub(super) async fn add(&mut self, place: &Place, number: usize, node: Node) -> Result<()> {
        self.add_all(place, &[(number, node)].into()).await
    }

    fn join(&mut self, place: &Place, member: Member) -> Result<()> {
        let model = RuntimeModel {
            pull_ms: Spread::Even(50.0, 250.0),
            image_mb: Spread::Fixed(0.0),
            node_mbps: 100,
            failures_per_mille: 0,
            evictions_per_minute: 0,
        };
        let seed = u64::try_from(member.number)?;
        let runtime = Rc::new(Runtime::new(model, seed, Rc::clone(&self.tally)));
        let number = member.number;
        self.nodes.insert(number, Live { member, runtime, agent: None });
        self.start_agent(place, number)
    }

    /// A node goes, with its Pod: both are deleted.
    pub(super) async fn remove(&mut self, place: &Place, number: usize) -> Result<()> {
        let live = self.nodes.remove(&number).context("no such node")?;
        if let Some(agent) = live.agent {
            agent.kill().await;
        }
        population::delete_pod(place, number).await?;
        population::delete_node(place, number).await
    }

    /// Label, taints and cordon of a node change.
    pub(super) async fn change_number(&self, place: &Place, number: usize, node: Node) -> Result<()> {
        self.change(place, &population::node_name(number), node).await
    }

    async fn change(&self, place: &Place, name: &str, node: Node) -> Result<()> {
        let nodes = kube::Api::<k8s_openapi::api::core::v1::Node>::all(place.client.clone());
        nodes.patch(name, &PatchParams::default(), &Patch::Merge(node.patch())).await?;
        Ok(())
    }

    /// The agent of a node ends: killed, or by SIGTERM.
    pub(super) async fn stop_agent(&mut self, number: usize, killed: bool) -> Result<()> {
        let live = self.nodes.get_mut(&number).context("no such node")?;
        match live.agent.take() {
            Some(agent) if killed => agent.kill().await,
            Some(agent) => agent.stop(&self.ended).await?,
            None => {}
        }
        Ok(())
    }

    /// The agent of a node starts.
    pub(super) fn start_agent(&mut self, place: &Place, number: usize) -> Result<()> {
        let live = self.nodes.get_mut(&number).context("no such node")?;
        let seen = Rc::new(Seen::default());
        let client = agents::client(place, &live.member.token)?;
        let api = KubeApi::new(client, NAMESPACE, &live.member.node, fastrand::u64(..));
        let runtime = WatchedRuntime {
            runtime: Handle(Rc::clone(&live.runtime)),
            node: live.member.node.clone(),
            seen: Rc::clone(&seen),
            truth: Rc::clone(&self.truth),
            ailments: Rc::clone(&self.ailments),
        };
        let parts = agents::parts(Rc::new(WatchedApi { api, seen }), Rc::new(runtime));
        live.agent = Some(Agent::start(&live.member, parts, Rc::clone(&self.ended)));
        Ok(())
    }

    /// The Pod of an agent is replaced by another.
    pub(super) async fn replace_pod(&mut self, place: &Place, number: usize) -> Result<()> {
        self.stop_agent(number, false).await?;
        population::delete_pod(place, number).await?;
        let live = self.nodes.get_mut(&number).context("no such node")?;
        live.member = population::create_pod(place, number).await?;
        self.start_agent(place, number)
    }

    /// An image vanishes from a node, if it is there.
    pub(super) fn evict(&self, number: usize, reference: &str) {
        if let Some(live) = self.nodes.get(&number)
            && live.runtime.has(reference)
        {
            live.runtime.evict(reference);
        }
    }

    /// The kubelet of a node removes all images but these: without that, nodes would fill up with what once was wanted.
    pub(super) fn collect_garbage(&self, number: usize, in_use: impl IntoIterator<Item = String>) {
        if let Some(live) = self.nodes.get(&number) {
            live.runtime.collect_garbage(in_use);
        }
    }

    /// Names of the nodes that hold an image.
    pub(super) fn holders(&self, reference: &str) -> BTreeSet<String> {
        let holders = self.nodes.values().filter(|live| live.runtime.has(reference));
        holders.map(|live| live.member.node.clone()).collect()
    }

    /// How many pulls failed.
    pub(super) fn failed(&self) -> usize {
        self.ailments.borrow().failed
    }

    /// Agents that ended although nobody told them to.
    pub(super) fn ended(&self) -> usize {
        self.ended.get()
    }

    /// Ends all agents as a SIGTERM would.
    pub(super) async fn end(&mut self) -> Result<()> {
        let agents = std::mem::take(&mut self.nodes).into_values().filter_map(|live| live.agent);
        futures::future::try_join_all(agents.map(|agent| agent.stop(&self.ended))).await?;
        Ok(())
    }
}
