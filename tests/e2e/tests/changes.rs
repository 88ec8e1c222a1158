//! Everything that users change, in the middle of whatever is going on: each change ends in the right status.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_harness::faulty::content::copy;
use drop_harness::faulty::{Door, Fault, Kind, Trust};
use drop_harness::{Cluster, Wanted, run};
use kube::api::DeleteParams;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);

/// Waits until users read this reason why `name` is not ready.
async fn wait_reason(cluster: &Cluster, name: &str, reason: &str) -> Result<()> {
    let is_told = async || Ok(cluster.told(name).await?.is_some_and(|told| told.reason == reason));
    cluster.wait_until(SOON, &format!("{name}: {reason}"), is_told).await
}

/// Waits until every node holds `digest` for `name`, and the status says so.
async fn wait_digest(cluster: &Cluster, image: &Wanted, digest: &str) -> Result<()> {
    cluster
        .wait_until(SOON, &format!("{} is {digest}", image.name), async || {
            let status = cluster.status(&image.name).await?;
            Ok(status.resolved_digest.as_deref() == Some(digest) && status.ready == "3/3")
        })
        .await?;
    for (node, cri) in &cluster.nodes {
        let held = cri.repo_digests(&image.reference()).await?.unwrap_or_default();
        anyhow::ensure!(held.iter().any(|held| held.ends_with(digest)), "{node} holds {held:?}");
    }
    Ok(())
}

#[test]
fn every_edit_of_what_is_wanted_is_followed() -> Result<()> {
    run("edits", async |cluster| {
        let images = cluster.fresh_images(2, 1).await?;
        let image = &images[0];
        cluster.apply_policy(3, Duration::ZERO).await?;
        for image in &images {
            cluster.apply_image(image).await?;
        }
        cluster.wait_ready(&images, SOON).await?;
        let first = cluster.status(&image.name).await?.resolved_digest.context("no digest")?;
        let second = cluster.status(&images[1].name).await?.resolved_digest.context("no digest")?;

        let other_tag = Wanted { tag: "other".into(), ..image.clone() };
        copy(&cluster.info, &images[1], &other_tag).await?;
        cluster.edit_spec(&image.name, &json!({ "tag": "other" })).await?;
        wait_digest(cluster, &other_tag, &second).await?;

        cluster.edit_spec(&image.name, &json!({ "tag": null, "digest": first })).await?;
        cluster
            .wait_until(SOON, "the digest that is asked for", async || {
                let status = cluster.status(&image.name).await?;
                Ok(status.resolved_digest.as_ref() == Some(&first) && status.ready == "3/3")
            })
            .await?;

        let other_image = Wanted { name: image.name.clone(), ..images[1].clone() };
        let fields = json!({ "image": other_image.image, "tag": other_image.tag, "digest": null });
        cluster.edit_spec(&image.name, &fields).await?;
        wait_digest(cluster, &other_image, &second).await?;
        cluster.clean().await?;
        cluster.remove_everywhere(&[image.clone(), other_tag]).await
    })
}

#[test]
fn edits_of_where_and_how_it_is_wanted_are_followed() -> Result<()> {
    run("ways", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        let name = &image.name;
        let absent = json!({ "policyRef": { "name": "ways-absent" }, "imagePullPolicy": "Never" });
        cluster.apply_image_with(&image, &absent).await?;
        wait_reason(cluster, name, "PolicyNotFound").await?;
        cluster.apply_policy(3, Duration::ZERO).await?;
        cluster.edit_spec(name, &json!({ "policyRef": { "name": cluster.prefix } })).await?;
        wait_reason(cluster, name, "ErrImageNeverPull").await?;

        let one = json!({ "kubernetes.io/hostname": cluster.nodes[1].0 });
        cluster.edit_spec(name, &json!({ "imagePullPolicy": "IfNotPresent", "nodeSelector": one })).await?;
        cluster.wait_fraction(name, "1/1", SOON).await?;
        anyhow::ensure!(!cluster.nodes[0].1.has(&image.reference()).await?, "pulled where it is not wanted");
        cluster.edit_spec(name, &json!({ "nodeSelector": null })).await?;
        cluster.wait_fraction(name, "3/3", SOON).await?;
        cluster.edit_policy(&json!({ "nodeSelector": one })).await?;
        cluster.wait_fraction(name, "1/1", SOON).await?;
        cluster.edit_spec(name, &json!({ "nodeSelector": { "no-such": "label" } })).await?;
        wait_reason(cluster, name, "NoTargets").await?;
        cluster.clean().await
    })
}

#[test]
fn an_edited_priority_counts_for_what_is_not_pulled_yet() -> Result<()> {
    run("priorities", async |cluster| {
        let door = Door::open(&cluster.info)?;
        let _plain = Trust::plain(&cluster.info, &door.host)?;
        let images: Vec<Wanted> =
            cluster.fresh_images(3, 1).await?.iter().map(|image| door.leads_to(image)).collect();
        for image in &images {
            cluster.apply_image(image).await?;
        }
        wait_reason(cluster, &images[2].name, "PolicyNotFound").await?;
        cluster.edit_spec(&images[2].name, &json!({ "priority": -1 })).await?;
        cluster.edit_spec(&images[0].name, &json!({ "priority": 1 })).await?;
        cluster.apply_policy(1, Duration::ZERO).await?;
        cluster.wait_ready(&images, SOON).await?;
        let order = door.order();
        let wanted: Vec<&str> = [2, 1, 0].map(|n| images[n].image.as_str()).into();
        anyhow::ensure!(
            wanted.iter().zip(&order).all(|(image, repository)| image.ends_with(repository.as_str())),
            "pulled in the order {order:?}"
        );
        cluster.clean().await
    })
}

#[test]
fn a_policy_may_be_edited_deleted_and_made_again_in_mid_rollout() -> Result<()> {
    run("policies", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        cluster.apply_policy(1, Duration::ZERO).await?;
        let one = json!({ "nodeSelector": { "kubernetes.io/hostname": cluster.nodes[0].0 } });
        cluster.apply_image_with(&image, &one).await?;
        cluster.wait_fraction(&image.name, "1/1", SOON).await?;
        cluster.edit_delay(Duration::from_secs(3600)).await?;
        cluster.edit_spec(&image.name, &json!({ "nodeSelector": null })).await?;
        cluster.wait_fraction(&image.name, "1/3", SOON).await?;
        cluster.policies().delete(&cluster.prefix, &DeleteParams::default()).await?;
        wait_reason(cluster, &image.name, "PolicyNotFound").await?;
        anyhow::ensure!(cluster.status(&image.name).await?.ready == "1/3", "what is cached stays so");
        cluster.apply_policy(1, Duration::from_secs(3600)).await?;
        wait_reason(cluster, &image.name, "InProgress").await?;
        cluster.edit_delay(Duration::ZERO).await?;
        cluster.wait_fraction(&image.name, "3/3", SOON).await?;
        cluster.clean().await
    })
}

#[test]
fn an_image_that_is_deleted_in_mid_pull_is_pulled_no_further() -> Result<()> {
    run("deleted", async |cluster| {
        let door = Door::open(&cluster.info)?;
        let _plain = Trust::plain(&cluster.info, &door.host)?;
        let image = door.leads_to(&cluster.fresh_images(1, 5).await?[0]);
        door.fail(Fault::Slow(32 * 1024));
        cluster.apply_policy(2, Duration::ZERO).await?;
        cluster.apply_image(&image).await?;
        cluster.wait_until(SOON, "nodes download", async || Ok(door.downloads() > 0)).await?;
        cluster.images().delete(&image.name, &DeleteParams::default()).await?;
        cluster
            .wait_until(Duration::from_secs(10), "nobody downloads", async || Ok(door.downloads() == 0))
            .await?;
        let asked = door.requests(Kind::Manifest);
        // What comes next under this policy shows that the slots are free, and that nobody went on with the old one.
        let next = cluster.fresh_images(2, 1).await?.remove(1);
        cluster.apply_image(&next).await?;
        cluster.wait_ready(std::slice::from_ref(&next), SOON).await?;
        anyhow::ensure!(door.requests(Kind::Manifest) == asked, "asked for it again");
        for (node, cri) in &cluster.nodes {
            anyhow::ensure!(!cri.has(&image.reference()).await?, "{node} has it all the same");
        }
        cluster.clean().await
    })
}

#[test]
fn two_that_want_the_same_are_both_ready_after_one_download_a_node() -> Result<()> {
    run("twins", async |cluster| {
        let door = Door::open(&cluster.info)?;
        let _plain = Trust::plain(&cluster.info, &door.host)?;
        let image = door.leads_to(&cluster.fresh_images(1, 1).await?[0]);
        let twin = Wanted { name: format!("{}-twin", image.name), ..image.clone() };
        cluster.apply_policy(3, Duration::ZERO).await?;
        for image in [&image, &twin] {
            cluster.apply_image_with(image, &json!({ "imagePullPolicy": "IfNotPresent" })).await?;
        }
        cluster.wait_ready(&[image.clone(), twin.clone()], SOON).await?;
        // Three layers and a configuration for each of three nodes.
        anyhow::ensure!(door.requests(Kind::Blob) == 12, "{} blobs", door.requests(Kind::Blob));
        cluster.images().delete(&image.name, &DeleteParams::default()).await?;
        cluster.remove_everywhere(std::slice::from_ref(&twin)).await?;
        cluster
            .wait_until(SOON, "the twin's loss shows", async || Ok(door.requests(Kind::Blob) > 12))
            .await?;
        cluster.wait_ready(&[twin], SOON).await?;
        cluster.clean().await
    })
}

#[test]
fn the_longest_name_is_as_good_as_any() -> Result<()> {
    run("longest", async |cluster| {
        let mut image = cluster.fresh_images(1, 1).await?.remove(0);
        image.name = format!("{}-{}", image.name, "x".repeat(252 - image.name.len()));
        cluster.apply_policy(3, Duration::ZERO).await?;
        cluster.apply_image(&image).await?;
        cluster.wait_ready(&[image], SOON).await?;
        cluster.clean().await
    })
}
