//! How a failure is written in a report.
//!
//! The first release refuses a report with a reason that it does not know. Newer reasons therefore stand in a field of
//! their own, `exactReason`, beside the one of the first release that comes closest; and this release reads any.
//!
//! People read the message in statuses and events of images that other nodes have too: whatever a node writes, it is short
//! and on one line once it is read.

use jiff::Timestamp;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

use super::{FailureReason, FailureScope, RETRY_AFTER_MOST, short};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    scope: FailureScope,
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exact_reason: Option<String>,
    message: String,
    attempts: u32,
    at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<u32>,
}

/// The reason of the first release that comes closest.
const fn ancestor(reason: FailureReason) -> FailureReason {
    match reason {
        FailureReason::SecretNotFound
        | FailureReason::InvalidSecret
        | FailureReason::SecretUnreadable
        | FailureReason::CredentialProviderFailed => FailureReason::Unauthorized,
        known => known,
    }
}

fn read(reason: &str) -> Option<FailureReason> {
    let reason: StrDeserializer<'_, Error> = reason.into_deserializer();
    FailureReason::deserialize(reason).ok()
}

impl From<super::Failure> for Failure {
    fn from(failure: super::Failure) -> Self {
        let ancestor = ancestor(failure.reason);
        Self {
            scope: failure.scope,
            reason: ancestor.as_str().to_owned(),
            exact_reason: (ancestor != failure.reason).then(|| failure.reason.as_str().to_owned()),
            message: failure.message,
            attempts: failure.attempts,
            at: failure.at,
            retry_after_seconds: failure.retry_after_seconds,
        }
    }
}

impl From<Failure> for super::Failure {
    fn from(failure: Failure) -> Self {
        let exact = failure.exact_reason.as_deref().and_then(read);
        Self {
            scope: failure.scope,
            // What a later release says is told by its message, whatever it calls it.
            reason: exact.or_else(|| read(&failure.reason)).unwrap_or(FailureReason::ErrImagePull),
            message: short(&failure.message),
            attempts: failure.attempts,
            at: failure.at,
            retry_after_seconds: failure.retry_after_seconds.map(|seconds| seconds.min(RETRY_AFTER_MOST)),
        }
    }
}
