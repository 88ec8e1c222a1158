//! From a CachedImageSet to its images on every node, and back to nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use drop_crds::cached_image_set::SetPhase;
use drop_crds::{CachedImageSet, CachedImageSetStatus, IMAGE_SET_LABEL};
use drop_harness::{Cluster, Wanted, run};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(120);

fn entries(wanted: &[Wanted]) -> Vec<Value> {
    wanted.iter().map(|image| json!({ "image": image.image, "tag": image.tag })).collect()
}

async fn status(cluster: &Cluster) -> Result<CachedImageSetStatus> {
    let set = cluster.sets().get(&cluster.prefix).await?;
    let status = set.status.unwrap_or_default();
    // What is told of an earlier edit is nothing yet.
    Ok(if status.observed_generation == set.metadata.generation { status } else { Default::default() })
}

async fn wait_ready(cluster: &Cluster, images: i32) -> Result<()> {
    cluster
        .wait_until(LIMIT, "the set is ready", async || {
            let status = status(cluster).await?;
            Ok(status.phase == Some(SetPhase::Ready)
                && (status.images_ready, status.images_managed) == (images, images))
        })
        .await
}

#[test]
fn the_images_of_a_set_land_on_every_node_and_follow_its_edits() -> Result<()> {
    run("imageset", async |cluster| {
        let wanted = cluster.fresh_images(3, 5).await?;
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        let set: CachedImageSet = serde_json::from_value(json!({
            "apiVersion": "drop.corewire.io/v1alpha1",
            "kind": "CachedImageSet",
            "metadata": { "name": cluster.prefix },
            "spec": { "policyRef": { "name": cluster.prefix }, "images": entries(&wanted[..2]) },
        }))?;
        cluster.sets().create(&PostParams::default(), &set).await?;
        wait_ready(cluster, 2).await?;
        for (node, cri) in &cluster.nodes {
            for image in &wanted[..2] {
                ensure!(cri.has(&image.reference()).await?, "{} is not on {node}", image.reference());
            }
        }

        let edit = Patch::Merge(json!({ "spec": { "images": entries(&wanted[1..]) } }));
        cluster.sets().patch(&cluster.prefix, &PatchParams::default(), &edit).await?;
        wait_ready(cluster, 2).await?;
        for (node, cri) in &cluster.nodes {
            ensure!(cri.has(&wanted[2].reference()).await?, "what was added is not on {node}");
            ensure!(
                cri.has(&wanted[0].reference()).await?,
                "what was taken from the set is gone from {node}"
            );
        }

        cluster.sets().delete(&cluster.prefix, &DeleteParams::foreground()).await?;
        let children = ListParams::default().labels(&format!("{IMAGE_SET_LABEL}={}", cluster.prefix));
        cluster
            .wait_until(LIMIT, "the images of the set are gone from the API", async || {
                Ok(cluster.images().list(&children).await?.items.is_empty())
            })
            .await?;
        for (node, cri) in &cluster.nodes {
            ensure!(cri.has(&wanted[2].reference()).await?, "the image itself is gone from {node}");
        }
        cluster.clean().await?;
        cluster.remove_everywhere(&wanted).await
    })
}
