//! `CachedImage`: one image reference that is to be on nodes before a pod asks for it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{ImagePullPolicy, PolicyReference, compose_reference};
use crate::schema;

/// At most this many nodes are listed in [`CachedImageStatus::failed_nodes`].
pub const MAX_FAILED_NODES: usize = 20;
/// At most this many digests are listed in [`CachedImageStatus::digests`].
pub const MAX_DIGESTS: usize = 10;
/// At most this many reasons are listed in [`CachedImageStatus::waiting`]: more than there are.
pub const MAX_WAITING: usize = 30;
/// At most this many digests are listed in [`RegistryCheck::earlier_digests`].
pub const MAX_EARLIER_DIGESTS: usize = 10;

/// What is wanted: a reference, on which nodes, and when.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drop.corewire.io",
    version = "v1alpha1",
    kind = "CachedImage",
    plural = "cachedimages",
    doc = "Keeps one container image on nodes, so that pods there start without waiting for a pull.",
    status = "CachedImageStatus",
    derive = "PartialEq",
    category = "drop",
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "Tag", type_ = "string", json_path = ".spec.tag"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.ready"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.resolvedDigest", priority = 1),
    printcolumn(
        name = "Set",
        type_ = "string",
        description = "The CachedImageSet that made this image, if one did",
        json_path = ".metadata.labels.drop\\.corewire\\.io/imageset",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Policy", type_ = "string", json_path = ".spec.policyRef.name", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tag_or_digest)]
pub struct CachedImageSpec {
    /// The image's name with its registry, but without tag or digest, for example registry.example.com/team/app or
    /// host:5000/app. Short names mean what they mean to containerd: nginx is docker.io/library/nginx.
    #[schemars(schema_with = "schema::image")]
    pub image: String,
    /// The tag, for example 1.25-alpine. Either this or digest; with neither, the tag is latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::tag")]
    pub tag: Option<String>,
    /// The manifest digest that pins exact content, written sha256: and 64 hex digits. Either this or tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::digest")]
    pub digest: Option<String>,
    /// Always: every node confirms the reference against the registry once, even when it already holds it.
    /// IfNotPresent: an image that is on the node is good enough. Never: nothing is pulled; the status only tells
    /// where the image is.
    #[serde(default)]
    #[schemars(schema_with = "schema::image_pull_policy")]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets with registry credentials (key .dockerconfigjson) in the namespace that Drop runs in, usually
    /// drop-system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::pull_secrets")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Only nodes that carry all of these labels get the image. Empty means every node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Nodes whose NoSchedule or NoExecute taints are not tolerated here, or by the PullPolicy, are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Order of pulling, lower first, by name within one value. Unset counts as 0; negative values go ahead of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int32")]
    pub priority: Option<i32>,
    /// The PullPolicy that paces this image. Without one, a built-in policy is shared by all such images: one node at
    /// a time, 10s apart, retries after 30s up to 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<PolicyReference>")]
    pub policy_ref: Option<PolicyReference>,
}

impl CachedImageSpec {
    /// What nodes are asked for: `image@digest`, else `image:tag`, else `image:latest`. Not normalised.
    #[must_use]
    pub fn reference(&self) -> String {
        compose_reference(&self.image, self.tag.as_deref(), self.digest.as_deref())
    }
}

/// What nodes last reported, folded together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct CachedImageStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int64")]
    pub observed_generation: Option<i64>,
    /// Where things stand: Pending, Pulling, Ready or Degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<Phase>")]
    pub phase: Option<Phase>,
    /// Nodes that hold the image, of the nodes that should, written n/m.
    pub ready: String,
    /// Manifest digest of the reference, the newest that Drop has seen on a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::string")]
    pub resolved_digest: Option<String>,
    /// How many nodes should have the image.
    pub nodes_targeted: i32,
    /// How many of them have it.
    pub nodes_ready: i32,
    /// How many lack it and are working on it now.
    pub nodes_pulling: i32,
    /// How many lack it because their last attempt failed, and are not trying at this moment.
    pub nodes_failing: i32,
    /// How many lack it and have not had their turn: ready, pulling, failing and waiting add up to nodesTargeted.
    pub nodes_waiting: i32,
    /// Names of the nodes that have it.
    #[schemars(schema_with = "schema::atomic_list::<String>")]
    pub cached_nodes: Vec<String>,
    /// The most failures in a row that any target node has had; 0 once all is well.
    pub consecutive_failures: i32,
    /// When a pull last succeeded on some node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_pulled_at: Option<Time>,
    /// When a pull last ended on some node, well or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_attempted_at: Option<Time>,
    /// Nodes that failed and have not recovered, longest first. At most 20 are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::bounded_list::<FailedNode, MAX_FAILED_NODES>")]
    pub failed_nodes: Vec<FailedNode>,
    /// How many nodes have failed and not recovered, listed or not.
    pub failed_nodes_total: i32,
    /// The digests that nodes hold for the reference, newest first. At most 10 are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::bounded_list::<DigestNodes, MAX_DIGESTS>")]
    pub digests: Vec<DigestNodes>,
    /// How many different digests nodes hold, listed or not.
    pub digests_total: i32,
    /// What the registry said when the coordinator last asked it for the digest of the reference, on behalf of all nodes
    /// that hold the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<RegistryCheck>")]
    pub registry_check: Option<RegistryCheck>,
    /// Why the failing and the waiting nodes are not pulling it now, most nodes first. Every reason is listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::bounded_list::<WaitingNodes, MAX_WAITING>")]
    pub waiting: Vec<WaitingNodes>,
    /// Ready tells whether every target node has the image; PullProgress tells what is going on.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// `status.phase` of a CachedImage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing is being pulled and some node lacks the image, or there is no target.
    Pending,
    /// Some nodes have it or are pulling it; the rest will follow.
    Pulling,
    /// Every target node has it.
    Ready,
    /// A node failed to get it.
    Degraded,
}

/// One node that failed to get the image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct FailedNode {
    /// Name of the node.
    pub node: String,
    /// The reason in one word, for example ErrImagePull or LowDisk.
    pub reason: String,
    /// What happened and what to do about it.
    pub message: String,
    /// Failures in a row.
    pub attempts: i32,
    /// When the first failure of this row was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub since: Option<Time>,
}

/// One digest and how many nodes hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct DigestNodes {
    /// The manifest digest.
    pub digest: String,
    /// How many target nodes hold it.
    pub nodes: i32,
    /// Whether it is the one that was seen last for the first time.
    pub newest: bool,
}

/// What a registry said about a reference. Nodes that hold one of these digests are confirmed by it, without a pull of
/// their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct RegistryCheck {
    /// The reference that was asked for. Once the spec says another, this tells nothing.
    pub reference: String,
    /// The manifest digest that the reference stands for.
    pub digest: String,
    /// When the registry last said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub at: Option<Time>,
    /// Digests that it said earlier, latest first. At most 10 are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::bounded_list::<String, MAX_EARLIER_DIGESTS>")]
    pub earlier_digests: Vec<String>,
}

/// One reason to wait and how many nodes it concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct WaitingNodes {
    /// The reason in one word, for example AgentNotReady or BackingOff.
    pub reason: String,
    /// How many target nodes wait for it.
    pub nodes: i32,
}
