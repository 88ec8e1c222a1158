//! The kubelet's image garbage collection takes an image away; Drop brings it back, and does not fight over it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use drop_devtools::node::kubelet_part;
use drop_devtools::state::NodeInfo;
use drop_harness::faulty::{Door, Fault, Trust};
use drop_harness::machine::{self, KubeletSetting};
use drop_harness::{Cluster, Wanted, run};
use k8s_openapi::api::core::v1::Event;
use kube::api::{Api, ListParams};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
/// The policy's first backoff.
const BACKOFF: Duration = Duration::from_secs(15);
/// Bytes a second of each layer: the image is seen to be missing before it is back.
const PACE: u32 = 100_000;
/// What the kubelet says of each image that it collects.
const COLLECTED: &str = "Removing image to free bytes";

/// The kubelet of one node, which collects every unused image whenever it starts: elsewhere it does so every five
/// minutes, with what is older than `imageMaximumGCAge`.
struct Collector<'a> {
    cluster: &'a Cluster,
    node: &'a NodeInfo,
    _setting: KubeletSetting,
}

impl<'a> Collector<'a> {
    fn on(cluster: &'a Cluster, node: &'a NodeInfo) -> Result<Self> {
        let setting = KubeletSetting::write(node, "imageMinimumGCAge: 1ns\nimageMaximumGCAge: 2ns")?;
        Ok(Self { cluster, node, _setting: setting })
    }

    /// How many images it has collected so far.
    fn collected(&self) -> Result<usize> {
        let log = std::fs::read_to_string(self.cluster.info.log(&kubelet_part(self.node)))?;
        Ok(log.lines().filter(|line| line.contains(COLLECTED)).count())
    }

    /// Lets it collect; returns what `watch` returns, which looks on meanwhile.
    async fn collect<T>(&self, watch: impl Future<Output = Result<T>>) -> Result<T> {
        let before = self.collected()?;
        let kubelet = kubelet_part(self.node);
        let (restarted, seen) = tokio::join!(machine::restart(self.cluster, &kubelet), watch);
        restarted?;
        ensure!(self.collected()? > before, "the kubelet says nothing of having collected an image");
        seen
    }
}

/// When the image was seen to be gone from the node, once the status says so too.
async fn gone(cluster: &Cluster, image: &Wanted) -> Result<Instant> {
    let (_, cri) = cluster.nodes.last().context("no node")?;
    let gone = async || Ok(!cri.has(&image.reference()).await?);
    cluster.wait_until(SOON, "the kubelet collects the image", gone).await?;
    let since = Instant::now();
    cluster.wait_fraction(&image.name, "2/3", Duration::from_secs(15)).await?;
    Ok(since)
}

/// How long it then took until the image was back, and the status said so.
async fn back(cluster: &Cluster, image: &Wanted, since: Instant) -> Result<Duration> {
    let (_, cri) = cluster.nodes.last().context("no node")?;
    let limit = BACKOFF * 2 + SOON;
    cluster.wait_until(limit, "the image is back", async || cri.has(&image.reference()).await).await?;
    let took = since.elapsed();
    cluster.wait_fraction(&image.name, "3/3", SOON).await?;
    Ok(took)
}

#[test]
fn an_image_that_the_kubelet_collects_comes_back_at_once_and_then_after_a_time_that_doubles() -> Result<()> {
    run("collected", async |cluster| {
        let door = Door::open(&cluster.info)?;
        let _plain = Trust::plain(&cluster.info, &door.host)?;
        let image = door.leads_to(&cluster.fresh_images(1, 1).await?[0]);
        let backoff = json!({ "failureBackoff": { "initial": format!("{}s", BACKOFF.as_secs()) } });
        cluster.apply_policy_with(3, Duration::ZERO, &backoff).await?;
        cluster.apply_image_with(&image, &json!({ "imagePullPolicy": "IfNotPresent" })).await?;
        cluster.wait_ready(std::slice::from_ref(&image), SOON).await?;
        door.fail(Fault::Slow(PACE));

        let node = cluster.info.nodes.last().context("no node")?;
        let collector = Collector::on(cluster, node)?;
        let outcome = async {
            let since = collector.collect(gone(cluster, &image)).await?;
            let first = back(cluster, &image, since).await?;
            ensure!(first < BACKOFF, "it was not pulled again at once, but after {first:?}");
            let collected = async || was_told(cluster, &image, "Evicted").await;
            cluster.wait_until(SOON, "an event tells of the eviction", collected).await?;
            for wait in [BACKOFF, BACKOFF * 2] {
                let since = collector.collect(gone(cluster, &image)).await?;
                let told = async || {
                    let status = cluster.status(&image.name).await?;
                    let waits =
                        |reason: &str| status.waiting.iter().any(|w| w.reason == reason && w.nodes == 1);
                    Ok(waits("EvictionBackoff"))
                };
                cluster.wait_until(BACKOFF, "the status says what the node waits for", told).await?;
                let took = back(cluster, &image, since).await?;
                ensure!(took >= wait, "it was back after {took:?}, not after {wait:?}");
            }
            anyhow::Ok(())
        }
        .await;
        drop(collector);
        machine::restart(cluster, &kubelet_part(node)).await?;
        outcome?;
        cluster.clean().await
    })
}

/// Whether there is an event of this reason about `image`.
async fn was_told(cluster: &Cluster, image: &Wanted, reason: &str) -> Result<bool> {
    let uid = cluster.images().get(&image.name).await?.metadata.uid.context("no uid")?;
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid},reason={reason}"));
    Ok(!Api::<Event>::all(cluster.client.clone()).list(&about).await?.items.is_empty())
}
