//! Nodes and Pods with only the fields that are used, so that the rest is never even decoded: every kubelet writes its
//! Node every five minutes, and what such a heartbeat costs is most of what an idle coordinator costs.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};

/// A Node, pruned.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Node)]
#[serde(default)]
pub struct SlimNode {
    /// `metadata`
    #[serde(deserialize_with = "slim_meta")]
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
    pub conditions: Vec<SlimCondition>,
    /// `status.nodeInfo`
    pub node_info: SlimNodeInfo,
}

/// `status.nodeInfo` of a Node.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SlimNodeInfo {
    /// `architecture`
    pub architecture: String,
    /// `operatingSystem`
    pub operating_system: String,
}

/// A condition of a Node or Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct SlimCondition {
    /// `type`
    #[serde(rename = "type")]
    pub type_: String,
    /// `status`
    pub status: String,
}

impl SlimCondition {
    /// Whether `conditions` say `Ready`.
    #[must_use]
    pub fn is_ready(conditions: &[Self]) -> bool {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    }
}

/// A Pod, pruned.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = k8s_openapi::api::core::v1::Pod)]
#[serde(default)]
pub struct SlimPod {
    /// `metadata`
    #[serde(deserialize_with = "slim_meta")]
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
    pub conditions: Vec<SlimCondition>,
}

/// What is used of `metadata`; the largest part, `managedFields`, is not.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SlimMeta {
    name: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
}

fn slim_meta<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let slim = SlimMeta::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: slim.name,
        uid: slim.uid,
        resource_version: slim.resource_version,
        labels: slim.labels,
        creation_timestamp: slim.creation_timestamp,
        deletion_timestamp: slim.deletion_timestamp,
        ..ObjectMeta::default()
    })
}
