//! PullImage through the agent against a bare CRI client: same containerd, same image, alternating.

use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::runtime::wait::await_condition;

use drop_crds::CachedImage;
use drop_harness::figure::{Figure, median};
use drop_harness::{Cluster, Wanted, metrics, scrape};

const PULL_SECONDS: &str = "drop_pull_duration_seconds";
const GRANT_TO_PULL_SECONDS: &str = "drop_agent_grant_to_pull_seconds";

/// Pulls one image of 100 MB `rounds` times each way on the first node.
pub(crate) async fn measure(bench: &Cluster, rounds: usize) -> Result<Vec<Figure>> {
    let wanted = bench.fresh_images(1, 100).await?;
    let image = &wanted[0];
    let cri = &bench.nodes[0].1;
    bench.apply_policy(bench.nodes.len(), Duration::ZERO).await?;
    let (mut bare, mut through) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        // What one pull leaves to be written to the disk is in the way of the next: each follows the other equally often.
        for through_agent in [round % 2 == 0, round % 2 != 0] {
            if through_agent {
                through.push(pull_through_agent(bench, image).await?);
            } else {
                bare.push(cri.pull(&image.reference()).await?.as_secs_f64());
            }
            bench.remove_everywhere(&wanted).await?;
        }
        println!(
            "round {round}: bare {:.3} s, through the agent {:.3} s",
            bare.last().copied().unwrap_or_default(),
            through.last().copied().unwrap_or_default()
        );
    }
    let mut texts = Vec::new();
    for (node, _) in &bench.nodes {
        texts.push(metrics::of_agent(bench, node).await?);
    }
    bench.clean().await?;
    let ratio = median(through) / median(bare);
    let mut figures =
        vec![Figure::bounded("PullImage through the agent against bare CRI, median", ratio, "×", 1.03)];
    if let Some(seconds) = scrape::median(&texts, GRANT_TO_PULL_SECONDS) {
        figures.push(Figure::bounded("grant written → PullImage sent, median", seconds * 1e3, "ms", 100.0));
    }
    Ok(figures)
}

/// Has the first node's agent pull `image`; the seconds that its PullImage took.
async fn pull_through_agent(bench: &Cluster, image: &Wanted) -> Result<f64> {
    let node = &bench.nodes[0].0;
    let before = scrape::histogram(&metrics::of_agent(bench, node).await?, PULL_SECONDS);
    let there = serde_json::json!({ "nodeSelector": { "kubernetes.io/hostname": node } });
    bench.apply_image_with(image, &there).await?;
    on_its_node(bench, &image.name).await?;
    let after = scrape::histogram(&metrics::of_agent(bench, node).await?, PULL_SECONDS);
    anyhow::ensure!(after.count - before.count == 1.0, "the agent on {node} did not pull exactly once");
    bench.images().delete(&image.name, &kube::api::DeleteParams::default()).await?;
    Ok(after.sum - before.sum)
}

/// Waits until `image` is ready on one node. By a watch: whoever asks the API server again and again takes the
/// processor from the pull that is measured.
async fn on_its_node(bench: &Cluster, image: &str) -> Result<()> {
    let ready = await_condition(bench.images(), image, |image: Option<&CachedImage>| {
        image.and_then(|image| image.status.as_ref()).is_some_and(|status| status.nodes_ready == 1)
    });
    tokio::time::timeout(Duration::from_secs(120), ready)
        .await
        .context("the image never came to its node")??;
    Ok(())
}
