//! A DiscoveryPolicy as a row, also one that doesn't decode.

use drop_crds::{DiscoveryPolicySpec, DiscoveryPolicyStatus};
use kube::core::DeserializeGuard;

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
pub fn row(object: DeserializeGuard<drop_crds::DiscoveryPolicy>) -> Row {
    match object.0 {
        Ok(object) => Row {
            name: object.metadata.name.unwrap_or_default(),
            uid: object.metadata.uid.unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            spec: Ok(object.spec),
            status: object.status.unwrap_or_default(),
        },
        Err(invalid) => Row {
            name: invalid.metadata.name.unwrap_or_default(),
            uid: invalid.metadata.uid.unwrap_or_default(),
            generation: invalid.metadata.generation.unwrap_or_default(),
            spec: Err(format!(
                "the stored object cannot be read ({}): apply it again with a valid spec",
                invalid.error
            )),
            status: DiscoveryPolicyStatus::default(),
        },
    }
}
