//! The Nodes and agent Pods of a swarm, as kubelets and a DaemonSet would leave them in the API.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::place::{NAMESPACE, Place};

/// So many requests at a time make a population.
const CONCURRENT: usize = 48;
/// Images that a kubelet lists in the status of its Node, at most.
const LISTED_IMAGES: usize = 50;

/// A node with its agent Pod.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its number.
    pub(crate) number: usize,
    /// Name of the Node.
    pub(crate) node: String,
    /// Uid of the agent Pod.
    pub(crate) pod_uid: String,
    /// The agent's token.
    pub(crate) token: String,
}

/// Creates the nodes with these numbers, and their agent Pods.
pub(crate) async fn create(
    place: &Place,
    numbers: impl IntoIterator<Item = usize, IntoIter: ExactSizeIterator>,
) -> Result<Vec<Member>> {
    let numbers = numbers.into_iter();
    let (started, count) = (Instant::now(), numbers.len());
    let mut made = Vec::with_capacity(count);
    let mut members =
        stream::iter(numbers).map(|number| create_one(place, number)).buffer_unordered(CONCURRENT);
    while let Some(member) = members.try_next().await? {
        made.push(member);
        if made.len() % 1000 == 0 && made.len() < count {
            println!("  {} of {count} nodes after {:.0} s", made.len(), started.elapsed().as_secs_f64());
        }
    }
    Ok(made)
}

async fn create_one(place: &Place, number: usize) -> Result<Member> {
    create_node(place, number).await?;
    create_pod(place, number).await
}

async fn create_node(place: &Place, number: usize) -> Result<()> {
    let nodes: Api<Node> = Api::all(place.client.clone());
    let name = node_name(number);
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "node.kubernetes.io/instance-type": "m7.xlarge", "topology.kubernetes.io/region": "swarm-1",
            "topology.kubernetes.io/zone": format!("swarm-1{}", number % 3),
        } },
    }))?;
    nodes.create(&PostParams::default(), &node).await?;
    let merge = PatchParams::default();
    nodes.patch_status(&name, &merge, &Patch::Merge(status(&now()))).await?;
    // What the node lifecycle controller does once a Node is ready.
    nodes.patch(&name, &merge, &Patch::Merge(json!({ "spec": { "taints": null } }))).await?;
    Ok(())
}

/// Creates the agent Pod of the node with this number.
pub(crate) async fn create_pod(place: &Place, number: usize) -> Result<Member> {
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), NAMESPACE);
    let (name, pod_name) = (node_name(number), pod_name(number));
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": pod_name, "labels": { "app.kubernetes.io/name": drop_protocol::names::AGENT_APP } },
        "spec": {
            "nodeName": name, "serviceAccountName": "drop-agent",
            "containers": [{ "name": "agent", "image": "ghcr.io/corewire/drop-agent:swarm" }],
        },
    }))?;
    let pod = pods.create(&PostParams::default(), &pod).await?;
    let pod_uid = pod.metadata.uid.context("a Pod without uid")?;
    let ready =
        json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    pods.patch_status(&pod_name, &PatchParams::default(), &Patch::Merge(ready)).await?;
    let token = place.token("drop-agent", Some((&pod_name, &pod_uid))).await?;
    Ok(Member { number, node: name, pod_uid, token })
}

/// Deletes the agent Pod of the node with this number, as its kubelet does when it has ended.
pub(crate) async fn delete_pod(place: &Place, number: usize) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(place.client.clone(), NAMESPACE);
    pods.delete(&pod_name(number), &DeleteParams::default().grace_period(0)).await?;
    Ok(())
}

/// Deletes the Node with this number.
pub(crate) async fn delete_node(place: &Place, number: usize) -> Result<()> {
    Api::<Node>::all(place.client.clone()).delete(&node_name(number), &DeleteParams::default()).await?;
    Ok(())
}

fn pod_name(number: usize) -> String {
    format!("drop-agent-{number}")
}

/// Name of the node with this number.
pub(crate) fn node_name(number: usize) -> String {
    format!("ip-10-{}-{}-{}.swarm.internal", number / 62_500, number / 250 % 250, number % 250)
}

/// The status that a kubelet writes, about as large as on a node in use.
pub(crate) fn status(heartbeat: &str) -> Value {
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "kubelet says so",
            "lastHeartbeatTime": heartbeat, "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let images: Vec<Value> = (0..LISTED_IMAGES)
        .map(|n| {
            let name = format!("registry.example.com/team/application-{n}");
            json!({ "names": [format!("{name}@{digest}"), format!("{name}:v1.{n}")], "sizeBytes": 100_000_000 })
        })
        .collect();
    json!({ "status": {
        "capacity": { "cpu": "4", "memory": "16Gi", "pods": "110", "ephemeral-storage": "100Gi" },
        "allocatable": { "cpu": "4", "memory": "15Gi", "pods": "110", "ephemeral-storage": "90Gi" },
        "conditions": [
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
            condition("Ready", "True", "KubeletReady"),
        ],
        "nodeInfo": {
            "architecture": "amd64", "operatingSystem": "linux", "bootID": "b", "machineID": "m", "systemUUID": "s",
            "kernelVersion": "6.12", "osImage": "Debian GNU/Linux 13", "kubeProxyVersion": "",
            "kubeletVersion": "v1.36.3", "containerRuntimeVersion": "containerd://2.3.5",
        },
        "images": images,
    } })
}

/// The time as the API writes it.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
