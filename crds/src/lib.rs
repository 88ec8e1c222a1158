//! What users say to Drop: the four kinds of `drop.corewire.io/v1alpha1`, what is valid in them, and their YAML.
//!
//! | module | subject |
//! |---|---|
//! | [`cached_image`], [`cached_image_set`], [`discovery_policy`], [`pull_policy`] | one kind each: fields, defaults, columns |
//! | [`common`] | what several kinds share: references by name, conditions, tolerations, secrets |
//! | [`rules`] | what is valid, as data: one pattern and one message a rule |
//! | [`schema`] | turns rules into CEL and types into structural schemas |
//! | [`validation`] | the same rules for objects that were stored before the rules existed |
//! | [`duration`], [`pacing`] | Go's duration syntax; a PullPolicy's numbers as values |
//! | [`manifest`] | the CustomResourceDefinitions as they are installed |
//!
//! This crate must not know how anything is decided or done: neither the planner nor the protocol nor a client.
//!
//! Durations and patterns stay text in the API types and are read in [`validation`], so that one odd object never
//! makes a list undecodable. An object that does not decode at all (a CachedImage stored without a `spec`) is best
//! read through `kube::core::DeserializeGuard`.

#![allow(
    clippy::duplicated_attributes,
    reason = "false alarm: the lint compares the arguments of different printer columns with each other"
)]

pub mod cached_image;
pub mod cached_image_set;
pub mod common;
pub mod discovery_policy;
pub mod duration;
pub mod manifest;
pub mod pacing;
pub mod pull_policy;
pub mod rules;
pub mod schema;
pub mod validation;

pub use cached_image::{CachedImage, CachedImageSpec, CachedImageStatus};
pub use cached_image_set::{CachedImageSet, CachedImageSetSpec, CachedImageSetStatus, ImageEntry};
pub use common::{DiscoveryPolicyReference, ImagePullPolicy, PolicyReference};
pub use discovery_policy::{
    DiscoveredImage, DiscoveryPolicy, DiscoveryPolicySpec, DiscoveryPolicyStatus, DiscoverySource,
    PrometheusSource, RegistrySource, SourceType,
};
pub use pull_policy::{BackoffConfig, PullPolicy, PullPolicySpec};

/// API group of all four kinds.
pub const GROUP: &str = "drop.corewire.io";
/// The only version.
pub const VERSION: &str = "v1alpha1";
/// Label on a CachedImage that a CachedImageSet made: the name of the set.
pub const IMAGE_SET_LABEL: &str = "drop.corewire.io/imageset";
