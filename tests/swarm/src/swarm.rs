//! A whole swarm: control plane, nodes, agents and coordinators, ready to be given something to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use drop_crds::{CachedImage, PullPolicy};
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::agents::Agents;
use crate::coordinators::Coordinators;
use crate::place::Place;
use crate::population::{self, Member};
use crate::scenario::Scenario;
use crate::{heartbeats, runtime};

/// Name of the PullPolicy.
const POLICY: &str = "swarm";
/// Whatever a swarm waits for comes within this time or never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// After this long without a change nothing is written any more: status and reports are coalesced for less.
pub(crate) const QUIET: Duration = Duration::from_secs(15);

/// A running swarm.
pub(crate) struct Swarm {
    /// What it is for.
    pub(crate) scenario: Scenario,
    /// Where it lives.
    pub(crate) place: Place,
    /// Its agents.
    pub(crate) agents: Agents,
    /// Its coordinators.
    pub(crate) coordinators: Coordinators,
    /// How many nodes there are.
    nodes: usize,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Swarm {
    /// Starts everything and waits until it is ready and has nothing to do.
    pub(crate) async fn start(place: Place, scenario: &Scenario, program: PathBuf) -> Result<Self> {
        let started = Instant::now();
        println!("{} nodes and agent Pods…", scenario.nodes);
        let members = population::create(&place, 0..scenario.nodes).await?;
        println!("  there after {:.1} s; coordinators and agents…", started.elapsed().as_secs_f64());
        let coordinators = Coordinators::start(&place, program).await?;
        coordinators.wait_planned(PATIENCE).await?;
        let mut agents = Agents::new(scenario.runtime.clone());
        agents.start(&place, &members).await?;
        let mut swarm = Self {
            scenario: scenario.clone(),
            place,
            agents,
            coordinators,
            nodes: members.len(),
            tasks: Vec::new(),
        };
        swarm.apply_policy().await?;
        swarm.agents.wait_ready(PATIENCE).await?;
        let names = members.into_iter().map(|member| member.node).collect();
        swarm.tasks.push(tokio::task::spawn_local(heartbeats::beat(swarm.place.client.clone(), names)));
        println!("  ready after {:.1} s", started.elapsed().as_secs_f64());
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(swarm)
    }

    /// Lets images vanish at the rate of the scenario from now on.
    pub(crate) fn begin_evictions(&mut self) {
        let references = (0..self.scenario.images).map(reference).collect();
        let a_minute = self.scenario.runtime.evictions_per_minute;
        let runtimes = self.agents.runtimes.clone();
        self.tasks.push(tokio::task::spawn_local(runtime::evict_at_random(runtimes, references, a_minute)));
    }

    /// One more node with its agent.
    pub(crate) async fn join(&mut self) -> Result<Member> {
        let member = population::create(&self.place, [self.nodes]).await?.remove(0);
        self.nodes += 1;
        self.agents.start(&self.place, std::slice::from_ref(&member)).await?;
        Ok(member)
    }

    async fn apply_policy(&self) -> Result<()> {
        let policy: PullPolicy = serde_json::from_value(json!({
            "apiVersion": "drop.corewire.io/v1alpha1", "kind": "PullPolicy", "metadata": { "name": POLICY },
            "spec": {
                "maxConcurrentNodes": self.scenario.cap,
                "minDelayBetweenPulls": format!("{}ms", self.scenario.delay_ms),
                // A node that lost a race is back within moments, and a swarm has no registry to spare.
                "failureBackoff": { "initial": "1s", "max": "10s" },
            },
        }))?;
        Api::<PullPolicy>::all(self.place.client.clone()).create(&PostParams::default(), &policy).await?;
        Ok(())
    }

    /// Creates the CachedImage of this number.
    pub(crate) async fn apply_image(&self, number: usize, fields: &Value) -> Result<()> {
        let mut image = json!({
            "apiVersion": "drop.corewire.io/v1alpha1", "kind": "CachedImage",
            "metadata": { "name": name(number) },
            "spec": { "image": repository(number), "tag": TAG, "policyRef": { "name": POLICY } },
        });
        for (field, value) in fields.as_object().into_iter().flatten() {
            image["spec"][field] = value.clone();
        }
        let image: CachedImage = serde_json::from_value(image)?;
        Api::<CachedImage>::all(self.place.client.clone()).create(&PostParams::default(), &image).await?;
        Ok(())
    }

    /// Waits until the status of every CachedImage counts all nodes as ready. Watches, and asks the API server for
    /// nothing else: its processor time is measured meanwhile.
    pub(crate) async fn wait_ready(&self, limit: Duration) -> Result<()> {
        let (started, mut told) = (Instant::now(), Instant::now());
        let images: Api<CachedImage> = Api::all(self.place.client.clone());
        let mut changes = pin!(watcher(images, watcher::Config::default()));
        let mut ready: BTreeMap<String, bool> = BTreeMap::new();
        let mut listed = false;
        loop {
            let done = ready.values().filter(|ready| **ready).count();
            if listed && done == ready.len() {
                return Ok(());
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                let seconds = started.elapsed().as_secs();
                println!("  {seconds:4} s: {} pulls, {done} images ready", self.agents.tally.pulled.get());
            }
            let (all, seconds) = (ready.len(), limit.as_secs());
            ensure!(started.elapsed() < limit, "{done} of {all} images are ready after {seconds} s");
            self.agents.all_run()?;
            let Ok(change) = tokio::time::timeout(Duration::from_secs(1), changes.next()).await else {
                continue;
            };
            match change.context("a watch ended")? {
                Ok(Event::InitApply(image) | Event::Apply(image)) => {
                    let nodes = image.status.as_ref().map_or(0, |status| status.nodes_ready);
                    let is_ready = usize::try_from(nodes).is_ok_and(|nodes| nodes == self.nodes);
                    ready.insert(image.name_any(), is_ready);
                }
                Ok(Event::Delete(image)) => drop(ready.remove(&image.name_any())),
                Ok(Event::Init) => {}
                Ok(Event::InitDone) => listed = true,
                Err(error) => eprintln!("watching CachedImages: {error}"),
            }
        }
    }

    /// Waits until no pull is asked for any more.
    pub(crate) async fn quiet(&self) {
        tokio::time::sleep(QUIET).await;
    }

    /// Ends agents, coordinators and control plane.
    pub(crate) async fn end(mut self) -> Result<()> {
        let agents = std::mem::replace(&mut self.agents, Agents::new(self.scenario.runtime.clone()));
        agents.stop().await?;
        self.coordinators.end_all().await
    }
}

const TAG: &str = "v1.0";

fn name(number: usize) -> String {
    format!("app-{number:03}")
}

fn repository(number: usize) -> String {
    format!("registry.example.com/team/app-{number:03}")
}

/// The reference of the image of this number.
pub(crate) fn reference(number: usize) -> String {
    format!("{}:{TAG}", repository(number))
}
