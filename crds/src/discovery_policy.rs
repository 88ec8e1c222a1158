//! `DiscoveryPolicy`: where to look for images that are worth caching. A CachedImageSet turns what it finds into images.

use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::schema;

/// Sources, and what to keep of what they say.
#[derive(Debug, Clone, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drop.corewire.io",
    version = "v1alpha1",
    kind = "DiscoveryPolicy",
    plural = "discoverypolicies",
    doc = "Finds images in registries or by Prometheus queries and ranks them.",
    status = "DiscoveryPolicyStatus",
    derive = "PartialEq",
    category = "drop",
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Sources", type_ = "integer", json_path = ".status.sourceCount"),
    printcolumn(name = "Images", type_ = "integer", json_path = ".status.imageCount"),
    printcolumn(name = "LastSync", type_ = "date", json_path = ".status.lastSyncTime"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::lists_sources)]
pub struct DiscoveryPolicySpec {
    /// Where to look; at least one. What all sources say is merged and ranked together before maxImages is applied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::sources")]
    pub sources: Vec<DiscoverySource>,
    /// A regular expression (RE2). Only image references in which it is found are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::regex")]
    pub image_filter: Option<String>,
    /// How often the sources are asked, for example 15m; at most every 10s. 0s means the default.
    #[serde(default = "thirty_minutes")]
    #[schemars(schema_with = "schema::duration")]
    pub sync_interval: String,
    /// How many images are kept, best score first.
    #[serde(default = "fifty")]
    #[schemars(schema_with = "schema::positive_int32")]
    pub max_images: i32,
    /// Not supported: part of another form of this kind. List sources instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::unsupported_list")]
    pub queries: Option<Value>,
    /// Not supported: part of another form of this kind. List sources instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::unsupported_list")]
    pub signals: Option<Value>,
    /// Not supported: part of another form of this kind. List sources instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::unsupported")]
    pub ranking: Option<Value>,
}

/// One place to look. `type` says which of the two blocks is filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::one_source)]
pub struct DiscoverySource {
    /// Which block below describes this source: prometheus or registry.
    #[serde(rename = "type")]
    #[schemars(schema_with = "schema::plain::<SourceType>")]
    pub type_: SourceType,
    /// The query, when type is prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<PrometheusSource>")]
    pub prometheus: Option<PrometheusSource>,
    /// The registry, when type is registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::plain::<RegistrySource>")]
    pub registry: Option<RegistrySource>,
    /// A Secret in the namespace that Drop runs in. Keys that are read: token, username and password, ca.crt, tls.crt
    /// and tls.key, and headers.NAME for further request headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::local_reference")]
    pub secret_ref: Option<LocalObjectReference>,
}

/// Kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceType {
    /// A PromQL query.
    Prometheus,
    /// Tag lists of a registry.
    Registry,
}

/// A query whose results carry image references.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusSource {
    /// URL of anything that speaks the Prometheus API, for example http://prometheus.monitoring.svc:9090.
    #[schemars(schema_with = "schema::endpoint")]
    pub endpoint: String,
    /// PromQL. Results need a label named image; their value is the score, and higher scores win.
    #[schemars(schema_with = "schema::query")]
    pub query: String,
    /// With it, the query runs over the time from this long ago until now and the values of each image are summed.
    /// Unset or 0s means the value at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::duration")]
    pub lookback: Option<String>,
    /// Distance of the values that are summed over lookback, in the syntax of Prometheus, for example 1m.
    #[serde(default = "five_minutes")]
    #[schemars(schema_with = "schema::step")]
    pub step: String,
}

/// Repositories whose tags are listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySource {
    /// Base URL of the registry, without repository, for example https://registry.example.com.
    #[schemars(schema_with = "schema::registry_url")]
    pub url: String,
    /// Repositories whose tags are listed, for example team/app.
    #[schemars(schema_with = "schema::repositories")]
    pub repositories: Vec<String>,
    /// A regular expression (RE2). Only tags in which it is found are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::regex")]
    pub tag_filter: Option<String>,
    /// How many tags of each repository are kept after tagFilter: the last ones in the order of the registry's answer,
    /// because registries do not tell when a tag was made. Unset keeps all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::positive_int32")]
    pub top_x: Option<i32>,
    /// How a reference is put together from {{.Registry}} (the host), {{.Repository}} and {{.Tag}}. Unset means
    /// {{.Registry}}/{{.Repository}}:{{.Tag}}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image_template")]
    pub image_template: Option<String>,
}

/// What the sources last said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::without_defaults)]
pub struct DiscoveryPolicyStatus {
    /// When what is shown was found. A sync that finds the same writes nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_sync_time: Option<Time>,
    /// The images that are kept, best score first.
    #[schemars(schema_with = "schema::atomic_list::<DiscoveredImage>")]
    pub discovered_images: Vec<DiscoveredImage>,
    /// How many images are kept.
    pub image_count: i32,
    /// How many sources the spec lists.
    pub source_count: i32,
    /// Ready tells whether the list can be used; SourceHealthy tells whether every source answered.
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One image that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DiscoveredImage {
    /// The full reference.
    pub image: String,
    /// Its score; higher is better.
    #[schemars(schema_with = "schema::int64")]
    pub score: i64,
    /// The sources that named it, best score first: type and endpoint or registry.
    pub source: String,
}

impl Default for DiscoveryPolicySpec {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            image_filter: None,
            sync_interval: thirty_minutes(),
            max_images: fifty(),
            queries: None,
            signals: None,
            ranking: None,
        }
    }
}

fn thirty_minutes() -> String {
    "30m".to_owned()
}

fn five_minutes() -> String {
    "5m".to_owned()
}

fn fifty() -> i32 {
    50
}
