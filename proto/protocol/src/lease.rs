//! The node Lease: how both sides read it, and every write that either may make to it.
//!
//! Reading never fails as a whole: an annotation that can't be read is kept as an error beside what can, so that one
//! damaged Lease holds up one node at most.
//!
//! Every write is a JSON merge patch that names `metadata.uid` and `metadata.resourceVersion`. For *issue*, *take* and
//! *withdraw* that is the protocol's compare-and-swap. The agent's other writes carry it too, because a request that
//! timed out may still be applied late: a late *finish* of an old grant must not clear the holder of a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::grant::{Grant, GrantId, Withdrawal};
use crate::names;
use crate::report::{Outcome, Report};

/// How long a grant lives without a renewal unless the Lease says otherwise.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(60);
/// What a Lease says beyond these is read as the nearest of them, on both sides: somebody edited it by hand, and a grant must
/// neither be renewed without a pause nor keep its slot for years.
const DURATIONS: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// One node's Lease, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLease {
    /// Name of the node and of the Lease.
    pub node: String,
    /// `metadata.uid` of the Lease.
    pub uid: String,
    /// `metadata.resourceVersion`; grows with every write.
    pub resource_version: u64,
    /// Uid in the owner reference to the Node.
    pub node_uid: Option<String>,
    /// How long a grant lives without a renewal.
    pub duration: Duration,
    /// Who has taken which grant.
    pub holder: Option<Holder>,
    /// When the holder last wrote, on the node's clock; for people.
    pub renewed_at: Option<Timestamp>,
    /// How often a grant was taken.
    pub transitions: i32,
    /// The grant, if there is one that can be read.
    pub grant: Option<Grant>,
    /// Why the grant annotation can't be read.
    pub grant_error: Option<String>,
    /// The report, if there is one that can be read.
    pub report: Option<Report>,
    /// Why the report annotation can't be read.
    pub report_error: Option<String>,
}

/// `spec.holderIdentity`: a process that has taken a grant, written `<process>/<grant id>`.
///
/// The grant's id stands in it so that a holder left behind by an older grant never passes for the holder of a newer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Random id of the agent process.
    pub process: String,
    /// The grant that it took.
    pub grant: GrantId,
}

/// Where a Lease's grant stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GrantState {
    /// There is none.
    None,
    /// Issued, not taken: can be withdrawn by removing it.
    Untaken,
    /// Taken: its node may be pulling.
    Taken,
    /// The report says that it has ended.
    Ended(Outcome),
}

/// What of a Lease can't be read as a node Lease at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The object has no name, uid or resourceVersion: no server sends that.
    #[error("Lease without metadata.{0}")]
    Incomplete(&'static str),
    /// `metadata.resourceVersion` is not a decimal number.
    #[error("Lease {name}: resourceVersion {value:?} is not a number")]
    ResourceVersion {
        /// Name of the Lease.
        name: String,
        /// What it says.
        value: String,
    },
}

impl Holder {
    /// Reads `spec.holderIdentity`; `None` if it is empty or not of the form `<process>/<grant id>`.
    #[must_use]
    pub fn decode(identity: &str) -> Option<Self> {
        let (process, grant) = identity.split_once('/')?;
        (!process.is_empty() && !grant.is_empty())
            .then(|| Self { process: process.to_owned(), grant: GrantId::from(grant) })
    }

    /// The value for `spec.holderIdentity`.
    #[must_use]
    pub fn encode(&self) -> String {
        format!("{}/{}", self.process, self.grant)
    }
}

impl NodeLease {
    /// Decodes a Lease as a node Lease.
    ///
    /// # Errors
    /// Only what makes the object useless as a whole; an unreadable grant or report is kept in
    /// [`grant_error`](Self::grant_error) and [`report_error`](Self::report_error).
    pub fn decode(lease: &Lease) -> Result<Self, DecodeError> {
        let meta = &lease.metadata;
        let node = meta.name.clone().ok_or(DecodeError::Incomplete("name"))?;
        let uid = meta.uid.clone().ok_or(DecodeError::Incomplete("uid"))?;
        let version = meta.resource_version.as_deref().ok_or(DecodeError::Incomplete("resourceVersion"))?;
        let resource_version = version
            .parse()
            .map_err(|_| DecodeError::ResourceVersion { name: node.clone(), value: version.to_owned() })?;
        let spec = lease.spec.as_ref();
        let (grant, grant_error) = split(annotation(lease, names::GRANT_ANNOTATION).map(Grant::decode));
        let (report, report_error) = split(annotation(lease, names::REPORT_ANNOTATION).map(Report::decode));
        Ok(Self {
            node,
            uid,
            resource_version,
            node_uid: meta
                .owner_references
                .iter()
                .flatten()
                .find(|owner| owner.kind == "Node")
                .map(|owner| owner.uid.clone()),
            duration: spec
                .and_then(|s| s.lease_duration_seconds)
                .and_then(|s| u64::try_from(s).ok())
                .map_or(DEFAULT_DURATION, Duration::from_secs)
                .clamp(DURATIONS.0, DURATIONS.1),
            holder: spec.and_then(|s| s.holder_identity.as_deref()).and_then(Holder::decode),
            renewed_at: spec.and_then(|s| s.renew_time.as_ref()).map(|time| time.0),
            transitions: spec.and_then(|s| s.lease_transitions).unwrap_or(0),
            grant,
            grant_error,
            report,
            report_error,
        })
    }

    /// Where the grant stands. An unreadable grant counts as [`GrantState::None`]: no agent takes it.
    #[must_use]
    pub fn state(&self) -> GrantState {
        let Some(grant) = &self.grant else { return GrantState::None };
        if let Some(ended) = self.report.as_ref().and_then(|r| r.grant.as_ref()).filter(|o| o.id == grant.id)
        {
            return GrantState::Ended(ended.outcome);
        }
        match &self.holder {
            Some(holder) if holder.grant == grant.id => GrantState::Taken,
            _ => GrantState::Untaken,
        }
    }

    /// How long the Lease must be watched unchanged before its holder has certainly stopped, even if it has not heard of this
    /// version yet: whoever shortens the duration by hand does not shorten what the holder was granted.
    #[must_use]
    pub fn lapses_after(&self) -> Duration {
        self.duration.max(DEFAULT_DURATION)
    }

    /// The grant, if it occupies a slot: untaken or taken.
    #[must_use]
    pub fn live_grant(&self) -> Option<&Grant> {
        match self.state() {
            GrantState::Untaken | GrantState::Taken => self.grant.as_ref(),
            GrantState::None | GrantState::Ended(_) => None,
        }
    }

    /// The Lease object to create for a node that has none.
    #[must_use]
    pub fn create(namespace: &str, node: &str, node_uid: &str, duration: Duration) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some(node.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([
                    ("app.kubernetes.io/managed-by".to_owned(), names::MANAGED_BY.to_owned()),
                    (names::NODE_LEASE_LABEL.to_owned(), "true".to_owned()),
                ])),
                owner_references: Some(vec![OwnerReference {
                    api_version: "v1".to_owned(),
                    kind: "Node".to_owned(),
                    name: node.to_owned(),
                    uid: node_uid.to_owned(),
                    ..OwnerReference::default()
                }]),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
                ..LeaseSpec::default()
            }),
        }
    }

    /// *Issue* (coordinator): puts `grant` into the Lease, or replaces an untaken one (re-stamp).
    #[must_use]
    pub fn issue_patch(&self, grant: &Grant, duration: Duration) -> Value {
        self.guarded(json!({
            "metadata": { "annotations": { names::GRANT_ANNOTATION: grant.encode() } },
            "spec": { "leaseDurationSeconds": duration.as_secs() },
        }))
    }

    /// *Withdraw* of an untaken or expired grant (coordinator): removes it, and whoever still seems to hold it.
    #[must_use]
    pub fn remove_grant_patch(&self) -> Value {
        self.guarded(json!({
            "metadata": { "annotations": { names::GRANT_ANNOTATION: null } },
            "spec": { "holderIdentity": null, "acquireTime": null, "renewTime": null },
        }))
    }

    /// *Withdraw* of a taken grant (coordinator): asks its holder to finish. `None` if there is no grant.
    #[must_use]
    pub fn mark_withdrawn_patch(&self, withdrawal: Withdrawal) -> Option<Value> {
        let grant = Grant { withdrawn: Some(withdrawal), ..self.grant.clone()? };
        Some(self.guarded(json!({
            "metadata": { "annotations": { names::GRANT_ANNOTATION: grant.encode() } },
        })))
    }

    /// *Take* (agent): becomes the holder of the Lease's grant. A restarted agent takes its grant again with it.
    #[must_use]
    pub fn take_patch(&self, holder: &Holder, wall: Timestamp) -> Value {
        self.guarded(json!({
            "spec": {
                "holderIdentity": holder.encode(),
                "acquireTime": MicroTime(wall),
                "renewTime": MicroTime(wall),
                "leaseTransitions": self.transitions.saturating_add(1),
            },
        }))
    }

    /// *Renew* (agent): keeps a taken grant alive, with the newest report if there is one to send.
    #[must_use]
    pub fn renew_patch(&self, report: Option<&Report>, wall: Timestamp) -> Value {
        let mut patch = json!({ "spec": { "renewTime": MicroTime(wall) } });
        if let Some(report) = report {
            patch["metadata"] = json!({ "annotations": { names::REPORT_ANNOTATION: report.encode() } });
        }
        self.guarded(patch)
    }

    /// *Report* (agent) outside a taken grant: also how a grant is refused.
    #[must_use]
    pub fn report_patch(&self, report: &Report) -> Value {
        self.guarded(json!({
            "metadata": { "annotations": { names::REPORT_ANNOTATION: report.encode() } },
        }))
    }

    /// *Finish* (agent): gives the grant back with a report that names it as ended.
    #[must_use]
    pub fn finish_patch(&self, report: &Report) -> Value {
        self.guarded(json!({
            "metadata": { "annotations": { names::REPORT_ANNOTATION: report.encode() } },
            "spec": { "holderIdentity": null, "acquireTime": null, "renewTime": null },
        }))
    }

    /// Makes `patch` apply to this very version of this very Lease only.
    fn guarded(&self, mut patch: Value) -> Value {
        patch["metadata"]["uid"] = json!(self.uid);
        patch["metadata"]["resourceVersion"] = json!(self.resource_version.to_string());
        patch
    }
}

fn annotation<'a>(lease: &'a Lease, key: &str) -> Option<&'a str> {
    lease.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

fn split<T, E: ToString>(decoded: Option<Result<T, E>>) -> (Option<T>, Option<String>) {
    match decoded {
        None => (None, None),
        Some(Ok(value)) => (Some(value), None),
        Some(Err(error)) => (None, Some(error.to_string())),
    }
}
