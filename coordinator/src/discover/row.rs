//! A DiscoveryPolicy as a row, also one that doesn't decode.

use drop_crds::{DiscoveryPolicySpec, DiscoveryPolicyStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

use crate::watch::stored;

/// A DiscoveryPolicy whose parts are read one by one: a spec that can't be read hides no status.
#[derive(Debug, Clone, Default, Deserialize, Resource)]
#[resource(inherit = drop_crds::DiscoveryPolicy)]
#[serde(default)]
pub struct StoredPolicy {
    /// `metadata`
    pub metadata: ObjectMeta,
    /// `spec`
    pub spec: Value,
    /// `status`
    pub status: Value,
}

/// A DiscoveryPolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`
    pub generation: i64,
    /// What is asked for, or why it can't be read.
    pub spec: Result<DiscoveryPolicySpec, String>,
    /// What was last found.
    pub status: DiscoveryPolicyStatus,
}

/// An object as a row.
#[must_use]
pub fn row(object: StoredPolicy) -> Row {
    let meta = object.metadata;
    let status: Option<DiscoveryPolicyStatus> = serde_json::from_value(object.status).unwrap_or_default();
    Row {
        name: meta.name.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        spec: stored::part("spec", object.spec).map_err(|error| stored::unreadable(&error)),
        status: status.unwrap_or_default(),
    }
}
