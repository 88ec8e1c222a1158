//! The stage of a fault: a registry that sends layers slowly and logs who asked, one image that every node holds, and a
//! rollout of others in progress, under a cap that it has reached.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use drop_devtools::demo::install;
use drop_devtools::state::NodeInfo;
use drop_harness::faulty::{Door, Fault as Pace, Trust};
use drop_harness::{Cluster, Wanted};
use serde_json::json;

use crate::pulls;
use crate::seen::{self, Seen};

/// So many nodes may pull at once: one fewer than there are, so that one waits.
pub(crate) const CAP: usize = 2;
/// An image has three layers of a third of a megabyte, which come at the same time.
const MEGABYTES: u32 = 1;
const LAYER: u32 = 333_000;
/// Of a machine that is busy with other things too.
const PATIENCE: Duration = Duration::from_secs(200);

/// A rollout in progress.
pub(crate) struct Stage<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// The registry that layers come from slowly.
    pub(crate) door: Door,
    /// Every node holds it before the fault.
    pub(crate) kept: Wanted,
    /// What is being rolled out.
    pub(crate) rollout: Vec<Wanted>,
    _trust: Trust,
    before: BTreeMap<String, BTreeSet<String>>,
}

/// A rollout: so many images, each of which takes a node so long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rollout {
    /// Number of images.
    pub(crate) images: usize,
    /// How long an image takes.
    pub(crate) takes: Duration,
}

impl<'a> Stage<'a> {
    /// Sets it up and waits until as many nodes pull as may.
    pub(crate) async fn set(cluster: &'a Cluster, rollout: Rollout) -> Result<Self> {
        anyhow::ensure!(cluster.nodes.len() > CAP, "{CAP} nodes pull at once: one more is needed");
        cluster.clean().await?;
        let info = cluster.info.clone();
        tokio::task::spawn_blocking(move || install::wait_ready(&info)).await??;
        let door = Door::open(&cluster.info)?;
        let trust = Trust::plain_by_name(&cluster.info, &door.host)?;
        let images = cluster.fresh_images(rollout.images + 1, MEGABYTES).await?;
        let mut images: Vec<Wanted> = images.iter().map(|image| door.leads_to(image)).collect();
        let kept = images.pop().context("no image")?;
        let soon = json!({ "failureBackoff": { "initial": "2s", "max": "4s" } });
        cluster.apply_policy_with(CAP, Duration::from_secs(1), &soon).await?;
        cluster.apply_image(&kept).await?;
        cluster.wait_ready(std::slice::from_ref(&kept), PATIENCE).await?;
        let before = held(cluster).await?;
        let stage = Self { cluster, door, kept, rollout: images, _trust: trust, before };
        stage.pace(rollout.takes);
        for image in &stage.rollout {
            cluster.apply_image(image).await?;
        }
        stage.wait("as many nodes pull as may", async || Ok(stage.door.pulling().len() == CAP)).await?;
        Ok(stage)
    }

    /// From now on, an image that a node begins to pull takes it so long.
    pub(crate) fn pace(&self, takes: Duration) {
        let pace = LAYER / u32::try_from(takes.as_secs()).unwrap_or(u32::MAX).max(1);
        for image in &self.rollout {
            self.door.fail_for(image, Pace::Slow(pace));
        }
    }

    /// A node that pulls now, by name.
    pub(crate) fn puller(&self) -> Result<String> {
        self.door.pulling().pop().context("no node pulls")
    }

    /// A node that waits for its turn, by name.
    pub(crate) fn waiter(&self) -> Result<String> {
        let pulling = self.door.pulling();
        let mut nodes = self.cluster.nodes.iter().map(|(node, _)| node);
        nodes.find(|node| !pulling.contains(node)).cloned().context("no node waits")
    }

    /// A node that pulls now.
    pub(crate) fn pulling_node(&self) -> Result<&NodeInfo> {
        let name = self.puller()?;
        self.cluster.info.node(&name).with_context(|| format!("no node is called {name}"))
    }

    /// Waits until `done` says yes. Whatever can't be asked while a part is away is asked again.
    pub(crate) async fn wait(&self, what: &str, done: impl AsyncFn() -> Result<bool>) -> Result<()> {
        self.cluster.wait_until(PATIENCE, what, async || Ok(done().await.unwrap_or(false))).await
    }

    /// Waits until every image is on every node and the status says so; what was seen since the stage was set.
    pub(crate) async fn conclude(&self, name: &str, done: &str, lasted: Duration) -> Result<Seen> {
        let healed = Instant::now();
        self.pace(Duration::from_secs(2));
        let wanted = [self.rollout.as_slice(), std::slice::from_ref(&self.kept)].concat();
        self.wait("all images cached", async || self.cluster.all_ready(&wanted).await).await?;
        let converged = healed.elapsed();
        for (node, cri) in &self.cluster.nodes {
            for image in &wanted {
                let there = cri.has(&image.reference()).await?;
                anyhow::ensure!(there, "the status says that {} is on {node}, and it is not", image.name);
            }
        }
        let log = self.door.log();
        let pulls = pulls::pulls(&log, self.door.now());
        Ok(Seen {
            fault: name.to_owned(),
            done: done.to_owned(),
            lasted: lasted.as_secs_f64(),
            converged: converged.as_secs_f64(),
            most: pulls::most_at_once(&pulls),
            cap: CAP,
            repeated: pulls::repeated(&log).values().sum(),
            may_repeat: 0,
            lost: seen::lost(&self.before, &held(self.cluster).await?),
        })
    }
}

/// What each node holds, by containerd's own word.
async fn held(cluster: &Cluster) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut held = BTreeMap::new();
    for (node, cri) in &cluster.nodes {
        held.insert(node.clone(), cri.images().await?);
    }
    Ok(held)
}

/// The time that a fault lasts.
pub(crate) async fn last(time: Duration) {
    tokio::time::sleep(time).await;
}
