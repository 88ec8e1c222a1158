//! What users see when something goes wrong, and that it heals.

use std::time::Duration;

use anyhow::Result;
use drop_harness::{Wanted, run};

#[test]
fn a_missing_image_is_named_and_holds_up_no_other() -> Result<()> {
    run("missing", async |cluster| {
        let wanted = cluster.fresh_images(1, 5).await?;
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        let missing = Wanted { name: "missing-tag".into(), tag: "no-such-tag".into(), ..wanted[0].clone() };
        cluster.apply_image(&missing).await?;
        cluster.apply_image(&wanted[0]).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(60)).await?;
        cluster
            .wait_until(Duration::from_secs(60), "the failure in the condition", async || {
                let status = cluster.status(&missing.name).await?;
                let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
                Ok(ready.is_some_and(|condition| {
                    condition.status == "False"
                        && condition.reason == "NotFound"
                        && condition.message.contains("no-such-tag")
                }))
            })
            .await?;
        cluster.edit_image(&missing.name, &wanted[0]).await?;
        let healed = Wanted { name: missing.name.clone(), ..wanted[0].clone() };
        cluster.wait_ready(&[healed], Duration::from_secs(60)).await?;
        cluster.clean().await
    })
}

#[test]
fn an_image_whose_policy_is_missing_waits_and_says_so() -> Result<()> {
    run("nopolicy", async |cluster| {
        let wanted = cluster.fresh_images(1, 5).await?;
        cluster.apply_image(&wanted[0]).await?;
        cluster
            .wait_until(Duration::from_secs(30), "the name of the missing policy", async || {
                let status = cluster.status(&wanted[0].name).await?;
                Ok(status.conditions.iter().any(|c| c.type_ == "Ready" && c.message.contains("nopolicy")))
            })
            .await?;
        for (_, cri) in &cluster.nodes {
            anyhow::ensure!(!cri.has(&wanted[0].reference()).await?, "pulled without its policy");
        }
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(60)).await?;
        cluster.clean().await
    })
}

#[test]
fn an_image_removed_by_hand_is_noticed_and_comes_back() -> Result<()> {
    run("evicted", async |cluster| {
        let wanted = cluster.fresh_images(1, 5).await?;
        cluster.apply_policy(3, Duration::from_millis(500)).await?;
        cluster.apply_image(&wanted[0]).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(60)).await?;
        // One node may pull at once; the others have to wait, so that their loss stays visible.
        cluster.edit_delay(Duration::from_secs(3600)).await?;
        cluster.remove_everywhere(&wanted).await?;
        cluster
            .wait_until(Duration::from_secs(30), "status shows the loss", async || {
                let status = cluster.status(&wanted[0].name).await?;
                let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
                Ok(status.nodes_ready < 2 && ready.is_some_and(|condition| condition.status == "False"))
            })
            .await?;
        cluster.edit_delay(Duration::from_millis(500)).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(60)).await?;
        for (node, cri) in &cluster.nodes {
            anyhow::ensure!(cri.has(&wanted[0].reference()).await?, "not back on {node}");
        }
        cluster.clean().await
    })
}
