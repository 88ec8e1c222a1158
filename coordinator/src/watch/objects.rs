//! Nodes and Pods with only the fields that are used, so that the rest is never even decoded.

use k8s_openapi::api::core::v1::{NodeCondition, NodeSystemInfo, PodCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

/// A Node, pruned.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Node)]
#[serde(default)]
pub struct SlimNode {
    /// `metadata`
    pub metadata: ObjectMeta,
    /// `spec`
    pub spec: SlimNodeSpec,
    /// `status`
    pub status: SlimNodeStatus,
}

/// `spec` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlimNodeSpec {
    /// `spec.taints`
    pub taints: Vec<Taint>,
}

/// `status` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SlimNodeStatus {
    /// `status.conditions`
    pub conditions: Vec<NodeCondition>,
    /// `status.nodeInfo`
    pub node_info: Option<NodeSystemInfo>,
}

/// A Pod, pruned.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
#[serde(default)]
pub struct SlimPod {
    /// `metadata`
    pub metadata: ObjectMeta,
    /// `spec`
    pub spec: SlimPodSpec,
    /// `status`
    pub status: SlimPodStatus,
}

/// `spec` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SlimPodSpec {
    /// `spec.nodeName`
    pub node_name: Option<String>,
}

/// `status` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlimPodStatus {
    /// `status.conditions`
    pub conditions: Vec<PodCondition>,
}
