//! Reports: what an agent knows of the wanted images on its node.
//!
//! The report in the node Lease is also the agent's only durable memory: attempts, pull times and evictions are read
//! back from it when the agent starts again.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::codec::{self, DecodeError};
use crate::failure::Failure;
use crate::grant::GrantId;
use crate::reference;

/// Version of the report format that this release writes.
pub const VERSION: u32 = 1;

/// What one node holds of the wanted images.
///
/// Uids, references and digests are the same on thousands of nodes: whoever keeps many reports can have them share one
/// copy of each.
///
/// An image without an entry was absent and had no history when the report was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Format version, [`VERSION`].
    pub version: u32,
    /// Uid of the agent Pod that wrote it.
    pub agent: String,
    /// Generation of the catalog that it answers.
    pub catalog: u64,
    /// How the latest grant ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantOutcome>,
    /// Set while the image file system is too full to start a pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_disk: Option<LowDisk>,
    /// Set when not all wanted images fit: how many entries were left out (last by reference order).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u32,
    /// One entry per CachedImage, by its uid.
    #[serde(default)]
    pub images: BTreeMap<Arc<str>, ReportEntry>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands references to `skip_serializing_if`
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The end of a grant, as its node tells it. Frees the slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GrantOutcome {
    /// Which grant.
    pub id: GrantId,
    /// Finished or refused.
    pub outcome: Outcome,
    /// Why it was refused or given back early; empty after an ordinary finish.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How a grant ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was taken, and the node pulls nothing under it any more.
    Finished,
    /// It was never taken: its epoch is not the leader's, or its format is not understood.
    Refused,
}

/// State of an image file system that is too full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LowDisk {
    /// Free space when the guard closed, in percent.
    pub free_percent: u8,
    /// What the agent wants free, in percent.
    pub wanted_percent: u8,
}

/// One CachedImage on one node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportEntry {
    /// The reference that this entry is about, as the catalog gave it; an edit of the CachedImage makes it void.
    pub reference: Arc<str>,
    /// Manifest digest of the image on the node; `None`: it is not there.
    #[serde(default, deserialize_with = "digest", skip_serializing_if = "Option::is_none")]
    pub digest: Option<Arc<str>>,
    /// When this node last confirmed the reference against the registry; `None`: never since it was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pulled_at: Option<Timestamp>,
    /// The latest attempt, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
    /// How often the image went away without Drop's doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evictions: Option<Box<Evictions>>,
}

/// Statuses show what nodes hold: what is no digest makes the report unreadable.
fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Arc<str>>, D::Error> {
    let digest = Option::<Arc<str>>::deserialize(deserializer)?;
    match &digest {
        Some(text) if !reference::is_digest(text) => {
            Err(D::Error::custom("is not a digest such as sha256:…"))
        }
        _ => Ok(digest),
    }
}

/// Images that went away: evicted by the kubelet, or removed by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evictions {
    /// How many since the spec last changed or the image last stayed for 24 h.
    pub count: u32,
    /// The latest.
    pub at: Timestamp,
}

impl Report {
    /// A report that knows nothing yet.
    #[must_use]
    pub fn empty(agent: &str) -> Self {
        Self {
            version: VERSION,
            agent: agent.to_owned(),
            catalog: 0,
            grant: None,
            low_disk: None,
            left_out: 0,
            images: BTreeMap::new(),
        }
    }

    /// Reads the report annotation.
    ///
    /// # Errors
    /// If it is not JSON of this shape, too long, or of a version that this release does not know.
    pub fn decode(text: &str) -> Result<Self, DecodeError> {
        codec::decode(text, VERSION)
    }

    /// The value of the report annotation.
    #[must_use]
    pub fn encode(&self) -> String {
        codec::encode(self)
    }
}
