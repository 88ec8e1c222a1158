//! Nodes that come, go, change and fall silent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use drop_devtools::control_plane::kubectl;
use drop_devtools::{command, node as parts};
use drop_harness::faulty::{Door, Fault, Trust};
use drop_harness::{Cluster, Wanted, machine, metrics, processes, run, scrape};
use drop_protocol::names;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
/// So long at most takes a small image from its creation to two nodes, one after the other.
const PULLED: Duration = Duration::from_secs(8);
/// A node's agent that has gone is missed at the next of its Pod's probes.
const MISSED: Duration = Duration::from_secs(120);
/// So long a grant lives without a renewal, of which there is one every [`RENEWED`].
const EXPIRED: Duration = Duration::from_secs(60);
const RENEWED: Duration = Duration::from_secs(15);

fn nodes(cluster: &Cluster) -> Api<Node> {
    Api::all(cluster.client.clone())
}

/// Changes on which nodes there are agents, and how the Pods of those that stay follow the DaemonSet.
async fn place_agents(agents: &Api<DaemonSet>, affinity: &Value, strategy: &Value) -> Result<()> {
    let pod = json!({ "spec": { "affinity": affinity } });
    let patch = json!({ "spec": { "template": pod, "updateStrategy": strategy } });
    agents.patch(names::AGENT_APP, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
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

/// Does something to a node with kubectl, looks at what comes of it, and undoes it whatever that is.
async fn meanwhile(
    cluster: &Cluster,
    done: &[&str],
    undone: &[&str],
    look: impl Future<Output = Result<()>>,
) -> Result<()> {
    kubectl_run(cluster, done)?;
    let outcome = look.await;
    kubectl_run(cluster, undone)?;
    outcome
}

#[test]
fn labels_taints_and_cordons_decide_at_once_where_an_image_is_wanted() -> Result<()> {
    run("places", async |cluster| {
        let image = cluster.fresh_images(1, 1).await?.remove(0);
        let last = cluster.nodes[2].0.as_str();
        kubectl_run(cluster, &["label", "node", last, "places-"])?;
        cluster.apply_policy(3, Duration::ZERO).await?;
        cluster.apply_image_with(&image, &json!({ "nodeSelector": { "places": "here" } })).await?;
        cluster.wait_fraction(&image.name, "0/0", SOON).await?;
        kubectl_run(cluster, &["label", "node", last, "places=here"])?;
        cluster.wait_fraction(&image.name, "1/1", SOON).await?;
        anyhow::ensure!(cluster.status(&image.name).await?.cached_nodes == [last]);
        kubectl_run(cluster, &["label", "node", last, "places-"])?;
        cluster.edit_spec(&image.name, &json!({ "nodeSelector": null })).await?;
        cluster.wait_fraction(&image.name, "3/3", SOON).await?;

        let taint = ["taint", "node", last, "places=only:NoSchedule"];
        let tainted = async {
            cluster.wait_fraction(&image.name, "2/2", SOON).await?;
            let tolerations = json!([{ "key": "places", "operator": "Exists" }]);
            cluster.edit_spec(&image.name, &json!({ "tolerations": tolerations })).await?;
            cluster.wait_fraction(&image.name, "3/3", SOON).await?;
            cluster.edit_spec(&image.name, &json!({ "tolerations": null })).await?;
            cluster.wait_fraction(&image.name, "2/2", SOON).await?;
            cluster.edit_policy(&json!({ "tolerations": tolerations })).await?;
            cluster.wait_fraction(&image.name, "3/3", SOON).await
        };
        meanwhile(cluster, &taint, &["taint", "node", last, "places:NoSchedule-"], tainted).await?;
        let left_out = cluster.wait_fraction(&image.name, "2/2", SOON);
        meanwhile(cluster, &["cordon", last], &["uncordon", last], left_out).await?;
        cluster.wait_fraction(&image.name, "3/3", SOON).await?;
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
        let drain = ["drain", last, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s"];
        let left_out = cluster.wait_fraction(&image.name, "2/2", SOON);
        meanwhile(cluster, &drain, &["uncordon", last], left_out).await?;
        cluster.wait_fraction(&image.name, "3/3", SOON).await?;
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
        cluster.wait_fraction(&image.name, "3/3", SOON).await?;
        let before = cluster.leases().get(last).await?.metadata.uid;

        let kubelet = format!("kubelet-{last}");
        machine::stop(cluster, &kubelet)?;
        nodes(cluster).delete(last, &DeleteParams::default()).await?;
        let outcome = async {
            cluster.wait_fraction(&image.name, "2/2", SOON).await?;
            cri.remove(&image.reference()).await
        }
        .await;
        machine::bring_up(cluster).await?;
        outcome?;
        cluster.wait_fraction(&image.name, "3/3", SOON).await?;
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
        let agents: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), names::DEFAULT_NAMESPACE);
        let usual =
            agents.get(names::AGENT_APP).await?.spec.context("a DaemonSet without spec")?.update_strategy;
        // The other nodes' Pods stay as they are, and are of the usual kind once more when this is undone.
        let terms =
            json!([{ "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": [last] }] }]);
        let elsewhere = json!({
            "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } },
        });
        place_agents(&agents, &elsewhere, &json!({ "type": "OnDelete", "rollingUpdate": null })).await?;
        let outcome = async {
            let selector = format!("app.kubernetes.io/name={}", names::AGENT_APP);
            let there = ListParams::default().labels(&selector).fields(&format!("spec.nodeName={last}"));
            let gone = async || Ok(cluster.pods().list(&there).await?.items.is_empty());
            cluster.wait_until(SOON, "the agent is gone", gone).await?;
            cluster.apply_image(&image).await?;
            cluster.wait_fraction(&image.name, "2/3", SOON).await?;
            wait_waiting(cluster, &image, "AgentNotReady", 1).await
        }
        .await;
        place_agents(&agents, &Value::Null, &json!(usual)).await?;
        outcome?;
        cluster.wait_fraction(&image.name, "3/3", SOON).await?;
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
            cluster.wait_fraction(&image.name, "3/3", SOON).await?;
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
            cluster.wait_fraction(&image.name, "3/4", SOON).await?;
            wait_waiting(cluster, &image, "AgentNotReady", 1).await?;
            cluster.leases().get(&name).await.context("it has no Lease")
        }
        .await;
        nodes(cluster).delete(&name, &DeleteParams::default()).await?;
        outcome?;
        cluster.wait_fraction(&image.name, "3/3", SOON).await?;
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
            cluster.wait_fraction(&image.name, "2/3", SOON).await?;
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
        cluster.wait_fraction(&image.name, "3/3", MISSED).await?;
        cluster.clean().await
    })
}

#[test]
fn a_node_that_dies_in_mid_pull_keeps_its_slot_for_a_minute_and_no_longer() -> Result<()> {
    run("dying", async |cluster| {
        let door = Door::open(&cluster.info)?;
        let _plain = Trust::plain(&cluster.info, &door.host)?;
        let images = cluster.fresh_images(2, 1).await?;
        let (first, second) = (door.leads_to(&images[0]), &images[1]);
        let last = cluster.nodes[2].0.as_str();
        let expired = async || {
            let text = metrics::of_coordinators(cluster).await?;
            anyhow::Ok(scrape::total(&text, "drop_grants_withdrawn_total", &["reason=\"Expired\""]))
        };
        let before = expired().await?;
        // It never ends by itself.
        door.fail(Fault::Slow(1));
        cluster.apply_policy(1, Duration::ZERO).await?;
        // A node that is not ready is tainted after a while, and then no target.
        let anywhere = json!([{ "operator": "Exists" }]);
        let there = json!({ "kubernetes.io/hostname": last });
        cluster.apply_image_with(&first, &json!({ "nodeSelector": there, "tolerations": anywhere })).await?;
        cluster.wait_until(SOON, "the node downloads", async || Ok(door.downloads() > 0)).await?;

        let pid = processes::with_environment("drop-agent", "NODE_NAME", |node| node == last)?;
        // Without a kubelet nobody starts the agent again.
        machine::stop(cluster, &format!("kubelet-{last}"))?;
        processes::kill(pid).await?;
        let start = Instant::now();
        let outcome = async {
            cluster
                .wait_until(Duration::from_secs(10), "its download ends", async || Ok(door.downloads() == 0))
                .await?;
            door.mend();
            cluster.apply_image_with(second, &json!({ "tolerations": anywhere })).await?;
            cluster.wait_fraction(&second.name, "2/3", EXPIRED + SOON).await?;
            let took = start.elapsed();
            anyhow::ensure!(took > EXPIRED - RENEWED, "others have it after {took:?}: the slot was not kept");
            anyhow::ensure!(expired().await? == before + 1.0, "no grant counts as expired");
            Ok(())
        }
        .await;
        machine::bring_up(cluster).await?;
        outcome?;
        cluster.wait_fraction(&first.name, "1/1", MISSED).await?;
        cluster.wait_fraction(&second.name, "3/3", MISSED).await?;
        cluster.clean().await
    })
}
