//! `CachedImageSet`: many images with the same settings, listed or discovered; each becomes a CachedImage.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{DiscoveryPolicyReference, ImagePullPolicy, PolicyReference, compose_reference};
use crate::schema;

/// Which images, and the settings that all of them share.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drop.corewire.io",
    version = "v1alpha1",
    kind = "CachedImageSet",
    plural = "cachedimagesets",
    doc = "Keeps a group of images on nodes: those listed here, those that a DiscoveryPolicy finds, or both.",
    status = "CachedImageSetStatus",
    derive = "PartialEq",
    category = "drop",
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.imagesReady"),
    printcolumn(name = "Managed", type_ = "integer", json_path = ".status.imagesManaged"),
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.discoveryPolicyRef.name"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct CachedImageSetSpec {
    /// The PullPolicy that paces every image of the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<PolicyReference>")]
    pub policy_ref: Option<PolicyReference>,
    /// A DiscoveryPolicy whose discovered images belong to the set, beside those listed in images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<DiscoveryPolicyReference>")]
    pub discovery_policy_ref: Option<DiscoveryPolicyReference>,
    /// When nodes ask the registry, for every image of the set; see the field of the same name in CachedImage.
    #[serde(default)]
    #[schemars(schema_with = "schema::image_pull_policy")]
    pub image_pull_policy: ImagePullPolicy,
    /// Secrets with registry credentials for every image of the set, in the namespace that Drop runs in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::pull_secrets")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Only nodes that carry all of these labels get the images. Empty means every node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that do not keep the images of the set from a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tolerations")]
    pub tolerations: Vec<Toleration>,
    /// Images to keep, each as a CachedImage of its own. One that is listed twice counts once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::image_entries")]
    pub images: Vec<ImageEntry>,
}

/// One listed image of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tag_or_digest)]
pub struct ImageEntry {
    /// The image's name with its registry, but without tag or digest.
    #[schemars(schema_with = "schema::image")]
    pub image: String,
    /// The tag. Either this or digest; with neither, the tag is latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::tag")]
    pub tag: Option<String>,
    /// The manifest digest that pins exact content. Either this or tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::digest")]
    pub digest: Option<String>,
}

impl ImageEntry {
    /// What nodes are asked for; as [`crate::CachedImageSpec::reference`].
    #[must_use]
    pub fn reference(&self) -> String {
        compose_reference(&self.image, self.tag.as_deref(), self.digest.as_deref())
    }
}

/// How the children of the set stand.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct CachedImageSetStatus {
    /// The generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int64")]
    pub observed_generation: Option<i64>,
    /// Where things stand: Pending, Ready or Degraded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<SetPhase>")]
    pub phase: Option<SetPhase>,
    /// How many CachedImages belong to the set.
    pub images_managed: i32,
    /// How many of them are Ready.
    pub images_ready: i32,
    /// Ready tells whether all images of the set are on all their nodes.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// `status.phase` of a CachedImageSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SetPhase {
    /// Some image is not everywhere yet.
    Pending,
    /// Every image is on all its nodes.
    Ready,
    /// An image or the discovery behind the set has failed.
    Degraded,
}
