//! A running cluster with Drop on it: its API, its nodes, and the objects that a test creates and removes.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use drop_crds::{CachedImage, CachedImageSet, CachedImageStatus, PullPolicy};
use drop_devtools::images;
use drop_devtools::network;
use drop_devtools::settings::{self, Settings};
use drop_devtools::state::ClusterInfo;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::cri::Cri;

/// Layers of a synthetic image.
const LAYERS: u32 = 3;

/// Runs `body` inside the network of the cluster that `hack/cluster up` started, on this thread.
///
/// # Errors
/// What `body` returns, or why there is no cluster to run it on.
pub fn run(prefix: &str, body: impl AsyncFnOnce(&Cluster) -> Result<()>) -> Result<()> {
    let state = std::env::var_os("DROP_CLUSTER_STATE")
        .map_or_else(|| settings::default_state(settings::DEFAULT_NAME), PathBuf::from);
    let info = ClusterInfo::load(&state)?;
    network::enter(&info.netns)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = Cluster::connect(info, prefix).await?;
        body(&cluster).await
    })
}

/// A cluster with Drop on it.
pub struct Cluster {
    /// The cluster as its program describes it.
    pub info: ClusterInfo,
    /// API client as the administrator.
    pub client: Client,
    /// Name and bare CRI client of each node.
    pub nodes: Vec<(String, Cri)>,
    /// Name prefix of everything that this user of the cluster creates, and name of its PullPolicy.
    pub prefix: String,
}

/// An image that a test wants cached.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Name of the CachedImage.
    pub name: String,
    /// Repository with registry host, without tag.
    pub image: String,
    /// Tag.
    pub tag: String,
}

impl Wanted {
    /// The reference that nodes pull.
    pub fn reference(&self) -> String {
        format!("{}:{}", self.image, self.tag)
    }
}

/// What users read in the condition `Ready` of a CachedImage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Every target has the image.
    pub ready: bool,
    /// In one word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

impl Cluster {
    /// Connects to the API server and every node's containerd; removes what an earlier user of this prefix left.
    pub(crate) async fn connect(info: ClusterInfo, prefix: &str) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(&info.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        client
            .apiserver_version()
            .await
            .context("reaching the API server; is it up? `hack/cluster status` tells")?;
        let mut nodes = Vec::new();
        for node in &info.nodes {
            nodes.push((node.name.clone(), Cri::connect(&node.containerd_socket).await?));
        }
        let cluster = Self { info, client, nodes, prefix: prefix.to_owned() };
        cluster.clean().await?;
        Ok(cluster)
    }

    /// CachedImages.
    pub fn images(&self) -> Api<CachedImage> {
        Api::all(self.client.clone())
    }

    /// CachedImageSets.
    pub fn sets(&self) -> Api<CachedImageSet> {
        Api::all(self.client.clone())
    }

    /// PullPolicies.
    pub fn policies(&self) -> Api<PullPolicy> {
        Api::all(self.client.clone())
    }

    /// Leases in Drop's namespace.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), drop_protocol::names::DEFAULT_NAMESPACE)
    }

    /// Pods in Drop's namespace.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), drop_protocol::names::DEFAULT_NAMESPACE)
    }

    /// Creates this user's PullPolicy with this cap and delay between nodes.
    pub async fn apply_policy(&self, cap: usize, delay: Duration) -> Result<()> {
        self.apply_policy_with(cap, delay, &serde_json::json!({})).await
    }

    /// Creates this user's PullPolicy with this cap and delay between nodes, and further fields of its spec.
    pub async fn apply_policy_with(
        &self,
        cap: usize,
        delay: Duration,
        fields: &serde_json::Value,
    ) -> Result<()> {
        let mut policy = serde_json::json!({
            "apiVersion": "drop.corewire.io/v1alpha1",
            "kind": "PullPolicy",
            "metadata": { "name": self.prefix },
            "spec": { "maxConcurrentNodes": cap, "minDelayBetweenPulls": format!("{}ms", delay.as_millis()) },
        });
        for (name, value) in fields.as_object().into_iter().flatten() {
            policy["spec"][name] = value.clone();
        }
        let policy: PullPolicy = serde_json::from_value(policy)?;
        self.policies().create(&PostParams::default(), &policy).await?;
        Ok(())
    }

    /// Merges these fields into the spec of that policy.
    pub async fn edit_policy(&self, fields: &serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(serde_json::json!({ "spec": fields }));
        self.policies().patch(&self.prefix, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Changes the delay between nodes of that policy.
    pub async fn edit_delay(&self, delay: Duration) -> Result<()> {
        let delay = format!("{}ms", delay.as_millis());
        self.edit_policy(&serde_json::json!({ "minDelayBetweenPulls": delay })).await
    }

    /// Creates a CachedImage for `wanted` under that policy.
    pub async fn apply_image(&self, wanted: &Wanted) -> Result<()> {
        self.apply_image_with(wanted, &serde_json::json!({})).await
    }

    /// Creates a CachedImage for `wanted` under that policy, with further fields of its spec.
    pub async fn apply_image_with(&self, wanted: &Wanted, fields: &serde_json::Value) -> Result<()> {
        let mut image = serde_json::json!({
            "apiVersion": "drop.corewire.io/v1alpha1",
            "kind": "CachedImage",
            "metadata": { "name": wanted.name },
            "spec": { "image": wanted.image, "tag": wanted.tag, "policyRef": { "name": self.prefix } },
        });
        for (name, value) in fields.as_object().into_iter().flatten() {
            image["spec"][name] = value.clone();
        }
        let image: CachedImage = serde_json::from_value(image)?;
        self.images().create(&PostParams::default(), &image).await?;
        Ok(())
    }

    /// Makes the CachedImage `name` ask for what `wanted` names.
    pub async fn edit_image(&self, name: &str, wanted: &Wanted) -> Result<()> {
        self.edit_spec(name, &serde_json::json!({ "image": wanted.image, "tag": wanted.tag })).await
    }

    /// Merges these fields into the spec of the CachedImage `name`.
    pub async fn edit_spec(&self, name: &str, fields: &serde_json::Value) -> Result<()> {
        let patch = Patch::Merge(serde_json::json!({ "spec": fields }));
        self.images().patch(name, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// The status of the CachedImage `name`, empty before there is one.
    pub async fn status(&self, name: &str) -> Result<CachedImageStatus> {
        Ok(self.images().get_status(name).await?.status.unwrap_or_default())
    }

    /// The condition `Ready` of the CachedImage `name`; `None` before there is one.
    pub async fn told(&self, name: &str) -> Result<Option<Told>> {
        let conditions = self.status(name).await?.conditions;
        Ok(conditions.into_iter().find(|condition| condition.type_ == "Ready").map(|condition| Told {
            ready: condition.status == "True",
            reason: condition.reason,
            message: condition.message,
        }))
    }

    /// What nodes that lack `name` wait for a probe of, because others failed: `WaitingForRegistryProbe` and the like.
    pub async fn probes(&self, name: &str) -> Result<BTreeSet<String>> {
        let waiting = self.status(name).await?.waiting;
        let reasons = waiting.into_iter().map(|waiting| waiting.reason);
        Ok(reasons.filter(|reason| reason.starts_with("WaitingFor") && reason.ends_with("Probe")).collect())
    }

    /// How many nodes the status of `name` shows as ready; `None` before there is a status.
    pub async fn ready_nodes(&self, name: &str) -> Result<Option<i32>> {
        let image = self.images().get_status(name).await?;
        Ok(image.status.map(|status| status.nodes_ready))
    }

    /// Waits until every one of `wanted` is ready on every node.
    pub async fn wait_ready(&self, wanted: &[Wanted], limit: Duration) -> Result<()> {
        self.wait_until(limit, "all images cached", async || self.all_ready(wanted).await).await
    }

    /// Whether every one of `wanted` is ready on every node.
    pub async fn all_ready(&self, wanted: &[Wanted]) -> Result<bool> {
        let nodes = i32::try_from(self.nodes.len())?;
        let list = self.images().list(&ListParams::default()).await?;
        let ready = |name: &str| {
            list.items.iter().any(|image| {
                image.metadata.name.as_deref() == Some(name)
                    && image.status.as_ref().is_some_and(|status| status.nodes_ready == nodes)
            })
        };
        Ok(wanted.iter().all(|image| ready(&image.name)))
    }

    /// Waits until the status of `name` shows so many nodes of so many.
    pub async fn wait_fraction(&self, name: &str, fraction: &str, limit: Duration) -> Result<()> {
        let what = format!("{name} is ready on {fraction}");
        self.wait_until(limit, &what, async || Ok(self.status(name).await?.ready == fraction)).await
    }

    /// Asks `done` every 50 ms until it says yes; fails after `limit`.
    pub async fn wait_until(
        &self,
        limit: Duration,
        what: &str,
        done: impl AsyncFn() -> Result<bool>,
    ) -> Result<()> {
        let start = Instant::now();
        while !done().await? {
            if start.elapsed() > limit {
                bail!("{what}: not within {} s", limit.as_secs());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Removes what was created under this prefix, from the API and from the nodes.
    pub async fn clean(&self) -> Result<()> {
        // Before their images, or those would be made again.
        for set in self.sets().list(&ListParams::default()).await?.items {
            let name = set.metadata.name.unwrap_or_default();
            if name.starts_with(&self.prefix) {
                ignore_absent(self.sets().delete(&name, &DeleteParams::default()).await.map(drop))?;
            }
        }
        let list = self.images().list(&ListParams::default()).await?;
        for image in list.items {
            let name = image.metadata.name.unwrap_or_default();
            if name.starts_with(&self.prefix) {
                let reference = image.spec.reference();
                ignore_absent(self.images().delete(&name, &DeleteParams::default()).await.map(drop))?;
                for (_, cri) in &self.nodes {
                    cri.remove(&reference).await?;
                }
            }
        }
        ignore_absent(self.policies().delete(&self.prefix, &DeleteParams::default()).await.map(drop))
    }

    /// Makes sure that `count` images of `megabytes` of random bytes are in the registry and on no node.
    pub async fn fresh_images(&self, count: usize, megabytes: u32) -> Result<Vec<Wanted>> {
        let name = format!("{}-{megabytes}mb", self.prefix);
        let (info, repository) = (self.info.clone(), name.clone());
        let number = u32::try_from(count)?;
        let cache = Settings::new(settings::DEFAULT_NAME, None)?.cache;
        tokio::task::spawn_blocking(move || {
            images::synthetic::push_all(&info, &cache, &repository, number, megabytes, LAYERS)
        })
        .await??;
        let wanted: Vec<Wanted> = (1..=count)
            .map(|n| Wanted {
                name: format!("{name}-{n}"),
                image: format!("{}/{name}-{n}", self.info.registry),
                tag: "1".to_owned(),
            })
            .collect();
        self.remove_everywhere(&wanted).await?;
        Ok(wanted)
    }

    /// Removes `wanted` from every node.
    pub async fn remove_everywhere(&self, wanted: &[Wanted]) -> Result<()> {
        for (_, cri) in &self.nodes {
            for image in wanted {
                cri.remove(&image.reference()).await?;
            }
        }
        Ok(())
    }
}

fn ignore_absent(result: kube::Result<()>) -> Result<()> {
    match result {
        Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
        other => Ok(other?),
    }
}
