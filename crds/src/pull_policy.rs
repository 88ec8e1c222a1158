//! `PullPolicy`: how fast and how often nodes may pull the images that name it. Settings only, no status.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Toleration;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// Pacing, retries and reach of pulls.
#[derive(Debug, Clone, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drop.corewire.io",
    version = "v1alpha1",
    kind = "PullPolicy",
    plural = "pullpolicies",
    doc = "Paces pulls: how many nodes at once, how far apart, and when to try again. It has no status.",
    derive = "PartialEq",
    category = "drop",
    printcolumn(name = "MaxNodes", type_ = "integer", json_path = ".spec.maxConcurrentNodes"),
    printcolumn(name = "MinDelay", type_ = "string", json_path = ".spec.minDelayBetweenPulls"),
    printcolumn(name = "RepullInterval", type_ = "string", json_path = ".spec.repullInterval"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct PullPolicySpec {
    /// How many nodes may pull images of this policy at the same time.
    #[serde(default = "one")]
    #[schemars(schema_with = "schema::positive_int32")]
    pub max_concurrent_nodes: i32,
    /// The least time between a start on one node and the next start on another, for example 30s. 0s means none.
    #[serde(default = "ten_seconds")]
    #[schemars(schema_with = "schema::duration")]
    pub min_delay_between_pulls: String,
    /// When a node that failed may try again. Unset means 30s, doubling up to 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<BackoffConfig>")]
    pub failure_backoff: Option<BackoffConfig>,
    /// How long after its last successful pull or check a node asks the registry again, for example 24h. Unset or 0s
    /// means never. The image stays ready meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub repull_interval: Option<String>,
    /// Narrows the images of this policy to nodes that carry all of these labels, beside the image's own selector.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep images of this policy from a node, beside those that the image tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
}

/// Waiting times between attempts on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackoffConfig {
    /// Waiting time after the first failure; it doubles with each further one. 0s means the default.
    #[serde(default = "thirty_seconds")]
    #[schemars(schema_with = "schema::duration")]
    pub initial: String,
    /// The longest waiting time. 0s means the default.
    #[serde(default = "five_minutes")]
    #[schemars(schema_with = "schema::duration")]
    pub max: String,
}

impl Default for PullPolicySpec {
    fn default() -> Self {
        Self {
            max_concurrent_nodes: one(),
            min_delay_between_pulls: ten_seconds(),
            failure_backoff: None,
            repull_interval: None,
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
        }
    }
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self { initial: thirty_seconds(), max: five_minutes() }
    }
}

fn one() -> i32 {
    1
}

fn ten_seconds() -> String {
    "10s".to_owned()
}

fn thirty_seconds() -> String {
    "30s".to_owned()
}

fn five_minutes() -> String {
    "5m".to_owned()
}
