//! The write of a DiscoveryPolicy's status: once, only while leadership is proven, and only to the object it is about.

use std::sync::Arc;

use drop_crds::DiscoveryPolicyStatus;
use kube::api::{Api, Patch};
use serde_json::json;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::row::{Row, StoredPolicy, row};
use crate::api::{self, Answer, REQUEST_TIMEOUT, attempt};
use crate::lead::Proof;
use crate::metrics::{Metrics, WriteKind, WriteOutcome};
use crate::watch::Versioned;
use crate::watch::stream::versioned;

/// Writes for as long as one term lasts.
#[derive(Clone)]
pub struct Writer {
    /// Through which client.
    pub policies: Api<StoredPolicy>,
    /// Proves leadership before each write.
    pub proof: Proof,
    /// Turns true when nothing more is to be sent.
    pub stopping: watch::Receiver<bool>,
    /// Counts.
    pub metrics: Arc<Metrics>,
}

impl Writer {
    /// Writes `status` to the policy called `name`, if it is still the object with this `uid`. Returns its new state, or
    /// nothing if the write was not, or perhaps not, applied.
    pub async fn write(
        &self,
        name: &str,
        uid: &str,
        status: &DiscoveryPolicyStatus,
    ) -> Option<Versioned<Row>> {
        let kind = WriteKind::DiscoveryStatus;
        if !self.proof.holds() || *self.stopping.borrow() {
            self.metrics.write(kind, WriteOutcome::Dropped);
            return None;
        }
        let patch = json!({ "metadata": { "uid": uid }, "status": status });
        let (params, patch) = (api::patching(), Patch::Merge(&patch));
        let request = self.policies.patch_status(name, &params, &patch);
        match attempt(REQUEST_TIMEOUT, request).await {
            Answer::Applied(object) => {
                self.metrics.write(kind, WriteOutcome::Applied);
                versioned(object, |object| Some(row(object)))
            }
            Answer::Refused { code, message } => {
                self.metrics.write(kind, WriteOutcome::Refused);
                if matches!(code, 404 | 409) {
                    debug!(policy = name, error = %message, "the DiscoveryPolicy is another one by now");
                } else {
                    warn!(policy = name, code, error = %message, "the API server refuses the status of a DiscoveryPolicy");
                }
                None
            }
            Answer::Unknown { message } => {
                self.metrics.write(kind, WriteOutcome::Unknown);
                warn!(policy = name, error = %message, "no answer to the status write of a DiscoveryPolicy");
                None
            }
        }
    }
}
