//! Disks that are full, or nearly so.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use drop_devtools::state::NodeInfo;
use drop_devtools::{command, mounts};
use drop_harness::{Cluster, run};
use nix::sys::statvfs::statvfs;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
/// Where containerd keeps what it downloads.
const CONTENT: &str = "/var/lib/containerd/io.containerd.content.v1.content";
/// Where a file system of one page lies for a while, below a directory that is the node's own.
const PAGE: &str = "/run/containerd/page";

fn on_node(cluster: &Cluster, node: &NodeInfo, words: &[&str]) -> Result<()> {
    let mut command: Command = mounts::on_node(&cluster.info, node, words[0]);
    Ok(command::run(command.args(&words[1..]))?)
}

/// A file that takes room on a node's disk until this is dropped.
struct Filler(PathBuf);

impl Filler {
    /// Leaves so many percent free.
    fn leave(node: &NodeInfo, percent: u64) -> Result<Self> {
        let disk = statvfs(&node.directory.join("disk"))?;
        let bytes = |blocks: u64| blocks * disk.fragment_size();
        let wanted = bytes(disk.blocks()) / 100 * percent;
        let file = Self(node.directory.join("disk/filler"));
        let size = bytes(disk.blocks_available()).saturating_sub(wanted).to_string();
        command::run(Command::new("fallocate").args(["-l", &size]).arg(&file.0))?;
        Ok(file)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_disk_that_is_full_fails_its_node_alone_and_heals() -> Result<()> {
    run("full", async |cluster| {
        let images = cluster.fresh_images(2, 5).await?;
        let last = cluster.info.nodes.last().context("no node")?;
        let quickly = json!({ "failureBackoff": { "initial": "2s", "max": "4s" } });
        cluster.apply_policy_with(3, Duration::ZERO, &quickly).await?;
        // What is written from now on goes to a file system of a single page.
        let layers = format!("lowerdir={CONTENT},upperdir={PAGE}/upper,workdir={PAGE}/work");
        let fill = format!(
            "mkdir -p {PAGE} && mount -t tmpfs -o size=4k full {PAGE} && mkdir {PAGE}/upper {PAGE}/work
             mount -t overlay -o {layers} full {CONTENT}"
        );
        on_node(cluster, last, &["sh", "-ec", &fill])?;
        let outcome = async {
            for image in &images {
                cluster.apply_image(image).await?;
            }
            for image in &images {
                cluster.wait_fraction(&image.name, "2/3", SOON).await?;
            }
            cluster
                .wait_until(SOON, "the full disk is told", async || {
                    let told = cluster.told(&images[0].name).await?.context("no condition")?;
                    Ok(told.reason == "DiskError" && told.message.contains(&last.name))
                })
                .await?;
            // Two images failed there: it is the node that tries one at a time.
            cluster
                .wait_until(SOON * 2, "the node is held, and nobody else", async || {
                    let mut probes = BTreeSet::new();
                    for image in &images {
                        probes.extend(cluster.probes(&image.name).await?);
                    }
                    ensure!(probes.iter().all(|probe| probe == "WaitingForNodeProbe"), "{probes:?}");
                    Ok(!probes.is_empty())
                })
                .await
        }
        .await;
        on_node(cluster, last, &["umount", CONTENT, PAGE])?;
        outcome?;
        cluster.wait_ready(&images, SOON).await?;
        cluster.clean().await
    })
}

#[test]
fn a_disk_that_fills_up_is_left_alone_before_the_kubelet_minds() -> Result<()> {
    run("lowdisk", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        let last = cluster.info.nodes.last().context("no node")?;
        cluster.apply_policy(3, Duration::ZERO).await?;
        // The agent stops at 20 % free, the kubelet begins to collect images at 15.
        let filler = Filler::leave(last, 18)?;
        let outcome = async {
            cluster.apply_image(&image).await?;
            cluster
                .wait_until(SOON, "the full disk is told", async || {
                    let status = cluster.status(&image.name).await?;
                    let told = cluster.told(&image.name).await?;
                    Ok(status.ready == "2/3" && told.is_some_and(|told| told.reason == "LowDisk"))
                })
                .await
        }
        .await;
        drop(filler);
        outcome?;
        cluster.wait_ready(std::slice::from_ref(&image), SOON).await?;
        cluster.clean().await
    })
}
