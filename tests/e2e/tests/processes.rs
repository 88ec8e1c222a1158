//! Drop's own processes: killed at any time, and holding no right that they don't need.

use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_harness::{leader, processes, run};
use drop_protocol::names;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};

#[test]
fn a_rollout_survives_its_leader() -> Result<()> {
    run("leader", async |cluster| {
        let wanted = cluster.fresh_images(3, 20).await?;
        cluster.apply_policy(1, Duration::from_secs(1)).await?;
        for image in &wanted {
            cluster.apply_image(image).await?;
        }
        cluster
            .wait_until(Duration::from_secs(60), "a first node has an image", async || {
                Ok(cluster.status(&wanted[0].name).await?.nodes_ready > 0)
            })
            .await?;
        processes::kill(leader::process(cluster).await?).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(120)).await?;
        cluster.clean().await
    })
}

#[test]
fn a_leader_that_is_told_to_end_hands_over_at_once() -> Result<()> {
    run("handover", async |cluster| {
        let before = leader::identity(cluster).await?;
        let pod = leader::pod(cluster).await?;
        cluster.pods().delete(&pod, &DeleteParams::default()).await?;
        // One that is killed leaves the others waiting until its Lease has been silent for 15 s.
        cluster
            .wait_until(Duration::from_secs(8), "the other replica leads", async || {
                let now = leader::identity(cluster).await?;
                Ok(now.is_some() && now != before)
            })
            .await?;
        // Both replicas are back for whatever comes next.
        let selector = "app.kubernetes.io/name=drop-coordinator";
        cluster
            .wait_until(Duration::from_secs(120), "two replicas", async || {
                let pods = cluster.pods().list(&ListParams::default().labels(selector)).await?;
                Ok(pods.items.iter().filter(|pod| is_ready(pod)).count() == 2 && pods.items.len() == 2)
            })
            .await
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[test]
fn a_rollout_survives_its_agents() -> Result<()> {
    run("agents", async |cluster| {
        let wanted = cluster.fresh_images(3, 20).await?;
        cluster.apply_policy(3, Duration::from_millis(200)).await?;
        for image in &wanted {
            cluster.apply_image(image).await?;
        }
        for pid in processes::running("drop-agent")? {
            processes::kill(pid).await?;
        }
        cluster.wait_ready(&wanted, Duration::from_secs(180)).await?;
        cluster.clean().await
    })
}

#[test]
fn a_replaced_agent_pod_goes_on_where_the_old_one_stopped() -> Result<()> {
    run("replaced", async |cluster| {
        let wanted = cluster.fresh_images(2, 20).await?;
        cluster.apply_policy(3, Duration::from_millis(200)).await?;
        let selector = format!("app.kubernetes.io/name={}", names::AGENT_APP);
        let pods = cluster.pods().list(&ListParams::default().labels(&selector)).await?;
        let pod = pods.items.first().and_then(|pod| pod.metadata.name.clone()).context("no agent Pod")?;
        for image in &wanted {
            cluster.apply_image(image).await?;
        }
        cluster.pods().delete(&pod, &DeleteParams::default()).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(180)).await?;
        cluster.clean().await
    })
}

#[test]
fn processes_hold_no_privilege() -> Result<()> {
    run("privilege", async |_| {
        for (program, group) in [("drop-agent", "0"), ("drop-coordinator", "65532")] {
            let pids = processes::running(program)?;
            anyhow::ensure!(!pids.is_empty(), "no {program} runs");
            for pid in pids {
                let line = |name: &str| processes::status_line(pid, name);
                anyhow::ensure!(line("Uid")?.split_whitespace().all(|uid| uid == "65532"), "{program} uid");
                anyhow::ensure!(line("Gid")?.split_whitespace().all(|gid| gid == group), "{program} gid");
                for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
                    anyhow::ensure!(u64::from_str_radix(&line(set)?, 16)? == 0, "{program} {set}");
                }
                anyhow::ensure!(line("NoNewPrivs")? == "1", "{program} may gain privileges");
                anyhow::ensure!(line("Seccomp")? == "2", "{program} has no seccomp filter");
                let mounts = std::fs::read_to_string(format!("/proc/{pid}/mounts"))?;
                let root = mounts.lines().find(|m| m.split(' ').nth(1) == Some("/")).context("no root")?;
                let options = root.split(' ').nth(3).unwrap_or_default();
                anyhow::ensure!(options.split(',').any(|o| o == "ro"), "{program}: root is writable");
            }
        }
        Ok(())
    })
}
