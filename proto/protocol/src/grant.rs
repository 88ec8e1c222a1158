//! Grants: permission for one node to pull a batch of images under one PullPolicy.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::{self, DecodeError};

/// Version of the grant format that this release writes.
pub const VERSION: u32 = 1;

/// The number of a coordinator's leadership.
///
/// It is taken from the leader Lease: its uid and how often it changed hands. Every acquisition counts up, also by
/// the same identity, so that two leaderships are never equal, and a deleted leader Lease comes back with another
/// uid. Equality is all that is ever asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    /// `metadata.uid` of the leader Lease.
    pub lease: String,
    /// `spec.leaseTransitions` of the leader Lease.
    pub transitions: i32,
}

/// Names one grant for all time: no two grants of any coordinators share an id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(String);

impl GrantId {
    /// The `sequence`th grant of the leadership `epoch`.
    #[must_use]
    pub fn new(epoch: &Epoch, sequence: u64) -> Self {
        let short: String = epoch.lease.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
        Self(format!("{short}.{}.{sequence}", epoch.transitions))
    }

    /// The id as written in Leases.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for GrantId {
    fn from(id: &str) -> Self {
        Self(id.to_owned())
    }
}

/// When a node asks the registry; the values of `spec.imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ImagePullPolicy {
    /// The node must have confirmed the image against the registry.
    #[default]
    Always,
    /// An image that is present is good enough.
    IfNotPresent,
    /// Never pulled; only ever looked for.
    Never,
}

/// Permission for one node to pull a batch of images, until it is finished, refused, withdrawn or expired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// Format version, [`VERSION`]. Unknown fields are ignored, so a higher one is refused only if it says so.
    pub version: u32,
    /// Names this grant in holder and report.
    #[serde(deserialize_with = "not_empty")]
    pub id: GrantId,
    /// The leadership that issued (or re-stamped) it.
    pub epoch: Epoch,
    /// Name of the PullPolicy whose slot it occupies; empty for the built-in policy.
    #[serde(default)]
    pub policy: String,
    /// When it was issued, for people.
    pub issued_at: Timestamp,
    /// Set when the agent should stop and give the rest back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Withdrawal>,
    /// What to pull, in this order.
    pub images: Vec<GrantedImage>,
}

/// The mark on a taken grant that asks its holder to finish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Withdrawal {
    /// Why, for people.
    pub reason: String,
    /// Uids of the granted images that nobody wants any more: a pull of one of these ends at once, any other is
    /// let to finish.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwanted: Vec<String>,
}

/// One image of a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantedImage {
    /// Name of the CachedImage.
    pub name: String,
    /// Uid of the CachedImage; keys its report entry.
    pub uid: String,
    /// Reference to pull, as the user wrote it.
    pub reference: String,
    /// The CachedImage's pull policy.
    pub pull_policy: ImagePullPolicy,
    /// Ask the registry even if the image is present under `IfNotPresent` (a due re-pull or catch-up).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refresh: bool,
    /// Names of the pull Secrets in Drop's namespace, in the order to try them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
}

impl GrantedImage {
    /// Whether a node that holds the image already has to ask the registry all the same.
    #[must_use]
    pub fn asks_registry_when_present(&self) -> bool {
        self.refresh || self.pull_policy == ImagePullPolicy::Always
    }
}

/// A grant without a name could never be seen to be taken.
fn not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GrantId, D::Error> {
    let id = GrantId::deserialize(deserializer)?;
    if id.0.is_empty() { Err(serde::de::Error::custom("is empty")) } else { Ok(id) }
}

impl Grant {
    /// Reads the grant annotation.
    ///
    /// # Errors
    /// If it is not JSON of this shape, too long, or of a version that this release does not know.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        codec::decode(text, VERSION)
    }

    /// The value of the grant annotation.
    #[must_use]
    pub fn encode(&self) -> String {
        codec::encode(self)
    }
}
