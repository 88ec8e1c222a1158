//! Nodes that come, go, change and fall silent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use drop_devtools::control_plane::kubectl;
use drop_devtools::{command, node as parts};
use drop_harness::{Cluster, Wanted, machine, processes, run};
use drop_protocol::names;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
/// So long at most takes a small image from its creation to two nodes, one after the other.
const PULLED: Duration = Duration::from_secs(8);
/// A node's agent that has gone is missed at the next of its Pod's probes.
const MISSED: Duration = Duration::from_secs(120);

fn nodes(cluster: &Cluster) -> Api<Node> {
    Api::all(cluster.client.clone())
}

async fn edit_node(cluster: &Cluster, name: &str, patch: Value) -> Result<()> {
    nodes(cluster).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Waits until the status of `image` shows so many nodes of so many.
async fn wait_fraction(cluster: &Cluster, image: &Wanted, fraction: &str) -> Result<()> {
    let what = format!("{} is ready on {fraction}", image.name);
    cluster.wait_until(SOON, &what, async || Ok(cluster.status(&image.name).await?.ready == fraction)).await
}

/// Waits until so many nodes wait for this reason.
async fn wait_waiting(cluster: &Cluster, image: &Wanted, reason: &str, nodes: i32) -> Result<()> {
    cluster
        .wait_until(MISSED, &format!("{nodes} nodes wait: {reason}"), async || {
            let waiting = cluster.status(&image.name).await?.waiting;
            Ok(waiting.iter().any(|waiting| waiting.reason == reason && waiting.nodes == nodes))
        })
        .await
}

fn kubectl_run(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    Ok(command::run(kubectl(&cluster.info).args(arguments))?)
}

#[test]
fn labels_taints_and_cordons_decide_at_once_where_an_image_is_wanted() -> Result<()> {
    run("places", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        let last = cluster.nodes[2].0.as_str();
        kubectl_run(cluster, &["label", "node", last, "places-"])?;
        cluster.apply_policy(3, Duration::ZERO).await?;
        cluster.apply_image_with(&image, &json!({ "nodeSelector": { "places": "here" } })).await?;
        wait_fraction(cluster, &image, "0/0").await?;
        kubectl_run(cluster, &["label", "node", last, "places=here"])?;
        wait_fraction(cluster, &image, "1/1").await?;
        anyhow::ensure!(cluster.status(&image.name).await?.cached_nodes == [last]);
        kubectl_run(cluster, &["label", "node", last, "places-"])?;
        cluster.edit_spec(&image.name, &json!({ "nodeSelector": null })).await?;
        wait_fraction(cluster, &image, "3/3").await?;

        let untaint = ["taint", "node", last, "places:NoSchedule-"];
        kubectl_run(cluster, &["taint", "node", last, "places=only:NoSchedule"])?;
        let tainted = async {
            wait_fraction(cluster, &image, "2/2").await?;
            let tolerations = json!([{ "key": "places", "operator": "Exists" }]);
            cluster.edit_spec(&image.name, &json!({ "tolerations": tolerations })).await?;
            wait_fraction(cluster, &image, "3/3").await?;
            cluster.edit_spec(&image.name, &json!({ "tolerations": null })).await?;
            wait_fraction(cluster, &image, "2/2").await?;
            cluster.edit_policy(&json!({ "tolerations": tolerations })).await?;
            wait_fraction(cluster, &image, "3/3").await
        };
        let outcome = tainted.await;
        kubectl_run(cluster, &untaint)?;
        outcome?;

        kubectl_run(cluster, &["cordon", last])?;
        let outcome = wait_fraction(cluster, &image, "2/2").await;
        kubectl_run(cluster, &["uncordon", last])?;
        outcome?;
        wait_fraction(cluster, &image, "3/3").await?;
        cluster.clean().await
    })
}

#[test]
fn a_node_that_is_drained_in_mid_rollout_is_left_out_until_it_is_back() -> Result<()> {
    run("drained", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        let last = cluster.nodes[2].0.as_str();
        cluster.apply_policy(1, Duration::from_secs(5)).await?;
        cluster.apply_image(&image).await?;
        kubectl_run(
            cluster,
            &["drain", last, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s"],
        )?;
        let outcome = wait_fraction(cluster, &image, "2/2").await;
        kubectl_run(cluster, &["uncordon", last])?;
        outcome?;
        wait_fraction(cluster, &image, "3/3").await?;
        cluster.clean().await
    })
}

#[test]
fn a_node_that_comes_back_with_an_empty_disk_starts_from_nothing() -> Result<()> {
    run("reborn", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        let (last, cri) = &cluster.nodes[2];
        cluster.apply_policy(3, Duration::ZERO).await?;
        cluster.apply_image_with(&image, &json!({ "imagePullPolicy": "IfNotPresent" })).await?;
        wait_fraction(cluster, &image, "3/3").await?;
        let before = cluster.leases().get(last).await?.metadata.uid;

        let kubelet = format!("kubelet-{last}");
        machine::stop(cluster, &kubelet)?;
        nodes(cluster).delete(last, &DeleteParams::default()).await?;
        let outcome = async {
            wait_fraction(cluster, &image, "2/2").await?;
            cri.remove(&image.reference()).await
        }
        .await;
        machine::bring_up(cluster).await?;
        outcome?;
        wait_fraction(cluster, &image, "3/3").await?;
        anyhow::ensure!(cri.has(&image.reference()).await?, "taken for what its predecessor held");
        anyhow::ensure!(
            cluster.leases().get(last).await?.metadata.uid != before,
            "the Lease is its predecessor's"
        );
        cluster.clean().await
    })
}

#[test]
fn a_node_without_an_agent_is_named_as_the_reason_and_holds_up_nobody() -> Result<()> {
    run("agentless", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        let last = cluster.nodes[2].0.as_str();
        cluster.apply_policy(1, Duration::ZERO).await?;
        // The DaemonSet leaves out nodes that say so; what the kubelet tells of the node stays as it is.
        let os = |os: &str| json!({ "metadata": { "labels": { "kubernetes.io/os": os } } });
        edit_node(cluster, last, os("none")).await?;
        let outcome = async {
            let selector = format!("app.kubernetes.io/name={}", names::AGENT_APP);
            let agents = ListParams::default().labels(&selector).fields(&format!("spec.nodeName={last}"));
            let gone = async || Ok(cluster.pods().list(&agents).await?.items.is_empty());
            cluster.wait_until(SOON, "the agent is gone", gone).await?;
            cluster.apply_image(&image).await?;
            wait_fraction(cluster, &image, "2/3").await?;
            wait_waiting(cluster, &image, "AgentNotReady", 1).await
        }
        .await;
        edit_node(cluster, last, os("linux")).await?;
        outcome?;
        wait_fraction(cluster, &image, "3/3").await?;
        cluster.clean().await
    })
}

#[test]
fn a_dead_agent_costs_others_nothing_at_a_cap_of_two_and_ten_seconds_at_a_cap_of_one() -> Result<()> {
    run("dead", async |cluster| {
        let images = cluster.fresh_images(2, 1).await?;
        let first = cluster.nodes[0].0.as_str();
        let pid = processes::agent_on(first)?;
        let soon = json!({ "failureBackoff": { "initial": "2s", "max": "2s" } });
        cluster.apply_policy_with(1, Duration::ZERO, &soon).await?;
        // It answers nobody any more, and for a while its Pod counts as ready all the same.
        processes::signal(pid, "STOP").await?;
        let outcome = async {
            // At a cap of 1 it may hold the only slot until a grant that is not taken is taken back; at 2, one is left.
            for (image, cap, limit) in [(&images[0], 1, 10), (&images[1], 2, 0)] {
                cluster.edit_policy(&json!({ "maxConcurrentNodes": cap })).await?;
                let start = Instant::now();
                cluster.apply_image(image).await?;
                let others = async || {
                    let (one, other) = (&cluster.nodes[1].1, &cluster.nodes[2].1);
                    Ok(one.has(&image.reference()).await? && other.has(&image.reference()).await?)
                };
                cluster.wait_until(SOON, "the others have it", others).await?;
                let (took, limit) = (start.elapsed(), Duration::from_secs(limit) + PULLED);
                anyhow::ensure!(took < limit, "at a cap of {cap} others have it after {took:?}");
            }
            Ok(())
        }
        .await;
        processes::signal(pid, "CONT").await?;
        outcome?;
        for image in &images {
            wait_fraction(cluster, image, "3/3").await?;
        }
        cluster.clean().await
    })
}

#[test]
fn a_node_with_the_longest_name_is_treated_as_any_other() -> Result<()> {
    run("longnode", async |cluster| {
        let name =
            format!("node-{}", ["x".repeat(60), "y".repeat(60), "z".repeat(60), "w".repeat(60)].join("."));
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        // What an earlier run left.
        let _ = nodes(cluster).delete(&name, &DeleteParams::default()).await;
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": name, "labels": { "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" } },
        }))?;
        nodes(cluster).create(&PostParams::default(), &node).await?;
        let outcome = async {
            cluster.apply_policy(3, Duration::ZERO).await?;
            // Nobody stands behind it, so it is tainted soon.
            let anywhere = json!({ "tolerations": [{ "operator": "Exists" }] });
            cluster.apply_image_with(&image, &anywhere).await?;
            wait_fraction(cluster, &image, "3/4").await?;
            wait_waiting(cluster, &image, "AgentNotReady", 1).await?;
            cluster.leases().get(&name).await.context("it has no Lease")
        }
        .await;
        nodes(cluster).delete(&name, &DeleteParams::default()).await?;
        outcome?;
        wait_fraction(cluster, &image, "3/3").await?;
        cluster.clean().await
    })
}

#[test]
fn a_node_whose_runtime_is_stopped_holds_up_nobody_and_comes_back() -> Result<()> {
    run("stopped", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        let last = cluster.info.nodes.last().context("no node")?;
        cluster.apply_policy(3, Duration::ZERO).await?;
        machine::stop(cluster, &parts::containerd_part(last))?;
        let outcome = async {
            // A node that is not ready is tainted after a while, and then no target.
            let anywhere = json!({ "tolerations": [{ "operator": "Exists" }] });
            cluster.apply_image_with(&image, &anywhere).await?;
            wait_fraction(cluster, &image, "2/3").await?;
            cluster
                .wait_until(MISSED, "the status says why", async || {
                    let status = cluster.status(&image.name).await?;
                    let failed = status
                        .failed_nodes
                        .iter()
                        .any(|failed| failed.node == last.name && failed.reason == "RuntimeError");
                    Ok(failed || status.waiting.iter().any(|waiting| waiting.reason == "AgentNotReady"))
                })
                .await
        }
        .await;
        machine::bring_up(cluster).await?;
        outcome?;
        cluster
            .wait_until(MISSED, "the node has it", async || {
                Ok(cluster.status(&image.name).await?.ready == "3/3")
            })
            .await?;
        cluster.clean().await
    })
}
