//! Nodes and agent Pods → rows.

use drop_planner::{Node, Taint, TaintEffect};
use jiff::Timestamp;
use k8s_openapi::api::core::v1;

use super::objects::{SlimCondition, SlimNode, SlimPod};

/// Label by which virtual kubelets mark their Nodes.
const VIRTUAL_KUBELET_LABEL: (&str, &str) = ("type", "virtual-kubelet");
/// Taint by which virtual kubelets keep ordinary pods away.
const VIRTUAL_KUBELET_TAINT: &str = "virtual-kubelet.io/provider";

/// An agent Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentRow {
    /// The node that it runs on.
    pub node: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.creationTimestamp`: of two Pods on one node the newer counts.
    pub created: Timestamp,
    /// Whether condition `Ready` is `True` and it is not being deleted.
    pub ready: bool,
}

/// A Node as a row.
#[must_use]
pub fn node(node: SlimNode) -> Node {
    let labels = node.metadata.labels.unwrap_or_default();
    let info = node.status.node_info;
    // The kubelet fills `nodeInfo` before it registers; the labels are there for Nodes that are created by hand.
    let or_label = |told: String, label: &str| {
        if told.is_empty() { labels.get(label).cloned().unwrap_or_default() } else { told }
    };
    Node {
        architecture: or_label(info.architecture, "kubernetes.io/arch"),
        os: or_label(info.operating_system, "kubernetes.io/os"),
        ready: SlimCondition::is_ready(&node.status.conditions),
        virtual_kubelet: labels.get(VIRTUAL_KUBELET_LABEL.0).is_some_and(|v| v == VIRTUAL_KUBELET_LABEL.1)
            || node.spec.taints.iter().any(|taint| taint.key == VIRTUAL_KUBELET_TAINT),
        taints: node.spec.taints.into_iter().map(taint).collect(),
        name: node.metadata.name.unwrap_or_default(),
        uid: node.metadata.uid.unwrap_or_default(),
        labels,
    }
}

/// An agent Pod as a row; `None` while it has no node.
#[must_use]
pub fn agent(pod: SlimPod) -> Option<AgentRow> {
    let deleted = pod.metadata.deletion_timestamp.is_some();
    Some(AgentRow {
        node: pod.spec.node_name?,
        uid: pod.metadata.uid.unwrap_or_default(),
        created: pod.metadata.creation_timestamp.map(|time| time.0).unwrap_or_default(),
        ready: !deleted && SlimCondition::is_ready(&pod.status.conditions),
    })
}

fn taint(taint: v1::Taint) -> Taint {
    Taint { key: taint.key, value: taint.value.unwrap_or_default(), effect: effect(&taint.effect) }
}

/// Reads the effect of a taint or toleration.
#[must_use]
pub fn effect(text: &str) -> TaintEffect {
    match text {
        "NoSchedule" => TaintEffect::NoSchedule,
        "PreferNoSchedule" => TaintEffect::PreferNoSchedule,
        "NoExecute" => TaintEffect::NoExecute,
        _ => TaintEffect::Other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{agent, node};

    #[test]
    fn a_heartbeat_changes_no_row() {
        let at = |heartbeat: &str| {
            node(
                serde_json::from_value(json!({
                    "apiVersion": "v1", "kind": "Node",
                    "metadata": { "name": "node-1", "uid": "u", "resourceVersion": heartbeat.len().to_string() },
                    "spec": { "podCIDR": "10.0.0.0/24", "taints": [{ "key": "k", "effect": "NoExecute" }] },
                    "status": {
                        "images": [{ "names": [heartbeat], "sizeBytes": 1 }],
                        "nodeInfo": { "architecture": "arm64", "operatingSystem": "linux", "bootID": "", "containerRuntimeVersion": "",
                            "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "osImage": "", "systemUUID": "" },
                        "conditions": [{ "type": "Ready", "status": "True", "lastHeartbeatTime": heartbeat }],
                    },
                }))
                .unwrap(),
            )
        };
        let first = at("2026-01-01T00:00:00Z");
        assert_eq!(first, at("2026-01-01T00:05:00Z"));
        assert!(first.ready && !first.virtual_kubelet);
        assert_eq!((first.architecture.as_str(), first.os.as_str()), ("arm64", "linux"));
        assert_eq!(first.taints.len(), 1);
    }

    #[test]
    fn a_pod_that_is_being_deleted_is_not_ready() {
        let pod = |deleted: Option<&str>| {
            agent(
                serde_json::from_value(json!({
                    "metadata": { "name": "p", "uid": "u", "deletionTimestamp": deleted },
                    "spec": { "nodeName": "node-1" },
                    "status": { "conditions": [{ "type": "Ready", "status": "True" }] },
                }))
                .unwrap(),
            )
            .unwrap()
        };
        assert!(pod(None).ready);
        assert!(!pod(Some("2026-01-01T00:00:00Z")).ready);
    }

    #[test]
    fn a_virtual_kubelet_is_told_by_label_or_taint() {
        for spec in [
            json!({ "metadata": { "name": "v", "labels": { "type": "virtual-kubelet" } } }),
            json!({ "metadata": { "name": "v" }, "spec": { "taints": [{ "key": "virtual-kubelet.io/provider", "effect": "NoSchedule" }] } }),
        ] {
            assert!(node(serde_json::from_value(spec).unwrap()).virtual_kubelet);
        }
    }
}
