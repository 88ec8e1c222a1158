//! Uninstalling leaves the images on the nodes and nothing else; installing again finds them there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_devtools::command;
use drop_devtools::control_plane::kubectl;
use drop_devtools::demo::install;
use drop_harness::{processes, run};

#[test]
fn uninstalling_leaves_images_and_nothing_else() -> Result<()> {
    run("uninstalled", async |cluster| {
        let wanted = cluster.fresh_images(1, 5).await?;
        cluster.apply_policy(3, Duration::from_millis(200)).await?;
        cluster.apply_image(&wanted[0]).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(60)).await?;

        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        install::uninstall(&cluster.info, &repository)?;
        let outcome = async {
            cluster
                .wait_until(Duration::from_secs(60), "no process of Drop", async || {
                    Ok(processes::running("drop-agent")?.is_empty()
                        && processes::running("drop-coordinator")?.is_empty())
                })
                .await?;
            for (node, cri) in &cluster.nodes {
                anyhow::ensure!(cri.has(&wanted[0].reference()).await?, "the image is gone from {node}");
            }
            let traces = traces(cluster)?;
            anyhow::ensure!(traces.is_empty(), "left behind: {traces:?}");
            anyhow::Ok(())
        }
        .await;

        install::reinstall(&cluster.info).context("installing again")?;
        outcome?;
        cluster.apply_policy(1, Duration::from_secs(3600)).await?;
        // Under this policy a second node would not pull within the hour: they are taken for what they hold.
        let present = serde_json::json!({ "imagePullPolicy": "IfNotPresent" });
        cluster.apply_image_with(&wanted[0], &present).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(60)).await?;
        cluster.clean().await
    })
}

/// Objects of any kind that carry Drop's name; events go by themselves.
fn traces(cluster: &drop_harness::Cluster) -> Result<Vec<String>> {
    let info = &cluster.info;
    let kinds = command::output(kubectl(info).args(["api-resources", "--verbs=list", "-o", "name"]))?;
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("events")).collect();
    let listed =
        command::output(kubectl(info).args(["get", "--all-namespaces", "-o", "name", &kinds.join(",")]))?;
    let ours = |name: &&str| name.contains("/drop-") || name.contains("drop.corewire.io");
    Ok(listed.lines().filter(ours).map(str::to_owned).collect())
}
