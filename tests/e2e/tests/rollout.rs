//! From `kubectl apply` to the image on every node, told truthfully by digest.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_harness::run;

#[test]
fn images_land_on_every_node_and_status_tells_their_digest() -> Result<()> {
    run("rollout", async |cluster| {
        let wanted = cluster.fresh_images(2, 5).await?;
        cluster.apply_policy(2, Duration::from_millis(200)).await?;
        for image in &wanted {
            cluster.apply_image(image).await?;
        }
        cluster.wait_ready(&wanted, Duration::from_secs(120)).await?;
        for image in &wanted {
            let status = cluster.status(&image.name).await?;
            let resolved = status.resolved_digest.context("no resolvedDigest")?;
            for (node, cri) in &cluster.nodes {
                let digests = cri.repo_digests(&image.reference()).await?.context("not on the node")?;
                anyhow::ensure!(
                    digests.iter().any(|digest| digest.ends_with(&resolved)),
                    "{node} holds {digests:?}, status says {resolved}"
                );
                anyhow::ensure!(status.cached_nodes.contains(node), "{node} is missing in cachedNodes");
            }
            anyhow::ensure!(status.ready == format!("{0}/{0}", cluster.nodes.len()), "{}", status.ready);
        }
        cluster.clean().await
    })
}

#[test]
fn an_edit_is_pulled_at_once_and_status_follows() -> Result<()> {
    run("edited", async |cluster| {
        let wanted = cluster.fresh_images(2, 5).await?;
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        cluster.apply_image(&wanted[0]).await?;
        cluster.wait_ready(&wanted[..1], Duration::from_secs(120)).await?;
        let before = cluster.status(&wanted[0].name).await?.resolved_digest;
        cluster.edit_image(&wanted[0].name, &wanted[1]).await?;
        cluster
            .wait_until(Duration::from_secs(60), "the edited image on every node", async || {
                let status = cluster.status(&wanted[0].name).await?;
                Ok(status.resolved_digest != before
                    && usize::try_from(status.nodes_ready)? == cluster.nodes.len())
            })
            .await?;
        for (_, cri) in &cluster.nodes {
            anyhow::ensure!(cri.has(&wanted[1].reference()).await?);
        }
        cluster.clean().await?;
        cluster.remove_everywhere(&wanted).await
    })
}
