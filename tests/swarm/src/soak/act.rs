//! Carries churn out: on the API server, on nodes and agents, on coordinators.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use drop_crds::{CachedImage, CachedImageSet, DiscoveryPolicy, PullPolicy};
use fastrand::Rng;
use jiff::Timestamp;
use kube::Resource;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::churn::{self, Event, Kind};
use super::fleet::Fleet;
use super::samples::{self, Process, Sample};
use super::settled::Found;
use super::source::Server;
use super::wanted::{self, Policy, Wanted};
use crate::api_server::Counters;
use crate::coordinators::Coordinators;
use crate::heartbeats;
use crate::place::Place;
use crate::population;
use crate::swarm::PATIENCE;

/// How often it is looked whether all is as wanted.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A cluster in which things happen.
pub(super) struct Soak {
    /// Where it lives.
    pub(super) place: Place,
    /// What it is to look like.
    pub(super) wanted: Wanted,
    /// Nodes and agents.
    pub(super) fleet: Fleet,
    coordinators: Coordinators,
    source: Server,
}

/// How all became as wanted, or did not.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Settled {
    /// After so many seconds.
    pub(super) seconds: f64,
    /// What is not as wanted still.
    pub(super) differences: Vec<String>,
}

/// What there is when nothing happens.
#[derive(Debug, Clone, Serialize)]
pub(super) struct AtRest {
    /// Nodes.
    pub(super) nodes: usize,
    /// CachedImages.
    pub(super) images: usize,
    /// Watches at the API server by resource.
    pub(super) watches: BTreeMap<String, i64>,
    /// Requests of Drop's that were turned away until now.
    pub(super) rejected: f64,
    /// Coordinators.
    pub(super) coordinators: Vec<Process>,
    /// This process.
    pub(super) agents: Process,
}

impl AtRest {
    /// Watches that are more than `before`. Of Lease and catalog each agent has one.
    pub(super) fn surplus_watches(&self, before: &Self) -> i64 {
        let of_others = |rest: &Self, resource: &str| {
            let all = rest.watches.get(resource).copied().unwrap_or_default();
            let by_agents = matches!(resource, "leases" | "configmaps");
            all - if by_agents { i64::try_from(rest.nodes).unwrap_or(i64::MAX) } else { 0 }
        };
        let surplus = |resource| (of_others(self, resource) - of_others(before, resource)).max(0);
        self.watches.keys().map(|resource| surplus(resource)).sum()
    }
}

impl Soak {
    /// Starts everything, with what there is at first.
    pub(super) async fn start(place: Place, program: PathBuf, nodes: usize, seed: u64) -> Result<Self> {
        let coordinators = Coordinators::start(&place, program).await?;
        coordinators.wait_planned(PATIENCE).await?;
        let mut soak = Self {
            wanted: churn::nothing(nodes),
            fleet: Fleet::new(),
            coordinators,
            source: Server::start().await?,
            place,
        };
        soak.discover().await?;
        let mut at_once = BTreeMap::new();
        for event in churn::beginning(nodes, &mut Rng::with_seed(seed)) {
            if let Event::AddNode { number, node } = event {
                soak.wanted.apply(&event);
                at_once.insert(number, node);
                continue;
            }
            soak.act(&event).await?;
        }
        println!("{nodes} nodes…");
        soak.fleet.add_all(&soak.place, &at_once).await?;
        Ok(soak)
    }

    /// The DiscoveryPolicies, whose sources change and they do not.
    async fn discover(&self) -> Result<()> {
        for number in 0..self.wanted.sources.len() {
            let name = wanted::source_name(number);
            let query = json!({ "endpoint": self.source.url, "query": name });
            let spec = json!({
                "sources": [{ "type": "prometheus", "prometheus": query }], "syncInterval": "10s",
            });
            self.write::<DiscoveryPolicy>("DiscoveryPolicy", &name, &spec).await?;
        }
        Ok(())
    }

    /// Has `event` happen.
    pub(super) async fn act(&mut self, event: &Event) -> Result<()> {
        let known = match event {
            Event::WriteImage { name, .. } => self.wanted.images.contains_key(name),
            Event::WriteSet { name, .. } => self.wanted.sets.contains_key(name),
            Event::WritePolicy { number, .. } => {
                self.wanted.policies.get(number).is_some_and(Option::is_some)
            }
            _ => false,
        };
        self.wanted.apply(event);
        match event {
            Event::WriteImage { name, image } => {
                self.put::<CachedImage>("CachedImage", name, &image.spec(), known).await?;
            }
            Event::DeleteImage { name } => self.delete::<CachedImage>(name).await?,
            Event::WriteSet { name, set } => {
                self.put::<CachedImageSet>("CachedImageSet", name, &set.spec(), known).await?;
            }
            Event::DeleteSet { name } => self.delete::<CachedImageSet>(name).await?,
            Event::WritePolicy { number, policy } => self.write_policy(*number, *policy, known).await?,
            Event::DeletePolicy { number } => {
                self.delete::<PullPolicy>(&wanted::policy_name(*number)).await?;
            }
            Event::ChangeSource { number, source } => self.source.tell(*number, source),
            Event::AddNode { number, node } => self.fleet.add(&self.place, *number, *node).await?,
            Event::RemoveNode { number } => self.fleet.remove(&self.place, *number).await?,
            Event::ReplaceNode { number, node } => {
                self.fleet.remove(&self.place, *number).await?;
                self.fleet.add(&self.place, *number, *node).await?;
            }
            Event::ChangeNode { number, node } => {
                self.fleet.change_number(&self.place, *number, *node).await?;
            }
            Event::Heartbeat { number } => {
                heartbeats::beat_once(&self.place.client, &population::node_name(*number)).await?;
                self.fleet.collect_garbage(*number, self.wanted.references());
            }
            Event::StopAgent { number, killed } => self.fleet.stop_agent(*number, *killed).await?,
            Event::StartAgent { number } => self.fleet.start_agent(&self.place, *number)?,
            Event::ReplacePod { number } => self.fleet.replace_pod(&self.place, *number).await?,
            Event::Evict { number, reference } => self.fleet.evict(*number, reference),
            Event::EndLeader { killed } => self.end_leader(*killed).await?,
            Event::FailImage { .. }
            | Event::HealImage { .. }
            | Event::FailHost { .. }
            | Event::HealHost { .. } => {}
        }
        let mut ailments = self.fleet.ailments.borrow_mut();
        ailments.images.clone_from(&self.wanted.failing);
        ailments.hosts = self.wanted.hosts_down.iter().map(|host| wanted::host_name(*host)).collect();
        Ok(())
    }

    /// Ends the leader and starts it again. While nobody leads there is nobody to end.
    async fn end_leader(&mut self, killed: bool) -> Result<()> {
        if self.coordinators.leader().await?.is_some() {
            if killed {
                self.coordinators.kill_leader().await?;
            } else {
                self.coordinators.end_leader().await?;
            }
            self.coordinators.start_missing()?;
        }
        Ok(())
    }

    async fn write_policy(&self, number: usize, policy: Policy, known: bool) -> Result<()> {
        let (name, sent) = (wanted::policy_name(number), Timestamp::now());
        self.put::<PullPolicy>("PullPolicy", &name, &policy.spec(), known).await?;
        let delay = Duration::from_millis(policy.delay_ms);
        self.fleet.truth.borrow_mut().policy_written(&name, policy.cap, delay, sent, Timestamp::now());
        Ok(())
    }

    async fn put<K>(&self, kind: &str, name: &str, spec: &Value, known: bool) -> Result<()>
    where
        K: Object,
    {
        if known {
            let patch = Patch::Merge(json!({ "spec": spec }));
            self.api::<K>().patch(name, &PatchParams::default(), &patch).await?;
            return Ok(());
        }
        self.write::<K>(kind, name, spec).await
    }

    async fn write<K: Object>(&self, kind: &str, name: &str, spec: &Value) -> Result<()> {
        let mut spec = spec.clone();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        let object = json!({
            "apiVersion": "drop.corewire.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec,
        });
        self.api::<K>().create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    async fn delete<K: Object>(&self, name: &str) -> Result<()> {
        self.api::<K>().delete(name, &DeleteParams::background()).await?;
        Ok(())
    }

    fn api<K: Object>(&self) -> Api<K> {
        Api::all(self.place.client.clone())
    }

    /// Fails if a process has ended by itself.
    pub(super) fn check(&self) -> Result<()> {
        self.coordinators.processes()?;
        ensure!(self.fleet.ended() == 0, "{} agents have ended by themselves", self.fleet.ended());
        Ok(())
    }

    /// Waits until all is as wanted.
    pub(super) async fn settle(&self, limit: Duration) -> Result<Settled> {
        let started = Instant::now();
        loop {
            self.check()?;
            let found = Found::read(&self.place).await?;
            let differences = found.differences(&self.wanted, &self.fleet);
            let seconds = started.elapsed().as_secs_f64();
            if differences.is_empty() || started.elapsed() > limit {
                println!("  after {seconds:.0} s {} things are not as wanted", differences.len());
                return Ok(Settled { seconds, differences });
            }
            if started.elapsed().as_secs() % 10 < LOOK_EVERY.as_secs() {
                println!(
                    "  {seconds:4.0} s: {} things are not as wanted yet, such as {}",
                    differences.len(),
                    differences[0]
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Looks at all processes.
    pub(super) async fn sample(&self, since: Duration) -> Result<Sample> {
        let mut coordinators = BTreeMap::new();
        let mut series = 0;
        for (port, pid) in self.coordinators.processes()? {
            coordinators.insert(port, Process::read(pid)?);
            series += samples::series(&self.coordinators.page_of(port).await);
        }
        Ok(Sample {
            seconds: since.as_secs_f64(),
            coordinators,
            agents: Process::read(std::process::id())?,
            nodes: self.wanted.nodes.len(),
            series,
        })
    }

    /// Says how far things are.
    pub(super) fn tell(&self, at: Duration, events: &BTreeMap<Kind, usize>, sample: Option<&Sample>) {
        let truth = self.fleet.truth.borrow();
        let tally = &self.fleet.tally;
        let memory = sample.map(|sample| {
            let coordinators: Vec<String> =
                sample.coordinators.values().map(|process| format!("{:.0}", process.resident_mb)).collect();
            format!(
                "coordinators {} MB, agents {:.0} MB",
                coordinators.join(" and "),
                sample.agents.resident_mb
            )
        });
        println!(
            "  {:4} s: {} events, {} pulls under {} grants, {} violations; {}",
            at.as_secs(),
            events.values().sum::<usize>(),
            tally.pulled.get(),
            truth.grants,
            truth.violated,
            memory.unwrap_or_default(),
        );
    }

    /// What there is now that nothing happens.
    pub(super) async fn at_rest(&self) -> Result<AtRest> {
        let page = crate::api_server::page(&self.place).await?;
        let counters = Counters::read(&self.place).await?;
        let processes = self.coordinators.processes()?;
        Ok(AtRest {
            nodes: self.wanted.nodes.len(),
            images: self.wanted.references().count(),
            watches: samples::watches(&page),
            rejected: counters.rejected,
            coordinators: processes.into_iter().map(|(_, pid)| Process::read(pid)).collect::<Result<_>>()?,
            agents: Process::read(std::process::id())?,
        })
    }

    /// How many series the leader shows, and those of them that are about what is gone.
    pub(super) async fn series(&self, found: &Found) -> Result<(usize, Vec<String>)> {
        let page = self.coordinators.metrics().await?;
        let (names, repositories) = (found.image_names(), found.repositories());
        let policies: BTreeSet<String> = (0..self.wanted.sources.len()).map(wanted::source_name).collect();
        let mut stale = samples::stale(&page, "cachedimage", |name| names.contains(name));
        stale.extend(samples::stale(&page, "image", |image| repositories.contains(image)));
        stale.extend(samples::stale(&page, "policy", |policy| policies.contains(policy)));
        Ok((samples::series(&page), stale.into_iter().map(str::to_owned).collect()))
    }

    /// Ends agents and coordinators.
    pub(super) async fn end(mut self) -> Result<()> {
        self.fleet.end().await?;
        self.coordinators.end_all().await
    }
}

/// A kind that Drop brings.
trait Object:
    Resource<Scope = kube::core::ClusterResourceScope, DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + Serialize
    + DeserializeOwned
{
}

impl Object for CachedImage {}
impl Object for CachedImageSet {}
impl Object for DiscoveryPolicy {}
impl Object for PullPolicy {}
