//! The leader Lease as it is read and written.

use std::collections::BTreeMap;

use drop_protocol::names;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, Patch};
use serde_json::{Value, json};

use super::state::{Record, Timing, Write};
use crate::api;

/// What of the leader Lease the election needs. `None` if the object lacks uid or resourceVersion.
#[must_use]
pub fn record(lease: &Lease) -> Option<Record> {
    let spec = lease.spec.as_ref();
    Some(Record {
        uid: lease.metadata.uid.clone()?,
        resource_version: lease.metadata.resource_version.clone()?,
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        transitions: spec.and_then(|spec| spec.lease_transitions).unwrap_or(0),
    })
}

/// Sends `write` once.
///
/// # Errors
/// Those of the request.
pub async fn send(
    leases: &Api<Lease>,
    write: &Write,
    timing: &Timing,
    wall: Timestamp,
) -> Result<Lease, kube::Error> {
    let seconds = i32::try_from(timing.lease.as_secs()).unwrap_or(i32::MAX);
    let body = match write {
        Write::Create { holder } => {
            return leases.create(&api::creating(), &created(holder, seconds, wall)).await;
        }
        Write::Acquire { over, holder, transitions } => guarded(
            over,
            &json!({
                "holderIdentity": holder,
                "leaseDurationSeconds": seconds,
                "acquireTime": MicroTime(wall),
                "renewTime": MicroTime(wall),
                "leaseTransitions": transitions,
            }),
        ),
        Write::Renew { over } => guarded(over, &json!({ "renewTime": MicroTime(wall) })),
        Write::Release { over } => {
            guarded(over, &json!({ "holderIdentity": null, "acquireTime": null, "renewTime": null }))
        }
    };
    leases.patch(names::LEADER_LEASE, &api::patching(), &Patch::Merge(body)).await
}

fn created(holder: &str, seconds: i32, wall: Timestamp) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(names::LEADER_LEASE.to_owned()),
            labels: Some(BTreeMap::from([(
                "app.kubernetes.io/managed-by".to_owned(),
                names::MANAGED_BY.to_owned(),
            )])),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(seconds),
            acquire_time: Some(MicroTime(wall)),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(1),
            ..LeaseSpec::default()
        }),
    }
}

/// Makes `spec` apply to the version that was seen only.
fn guarded(over: &Record, spec: &Value) -> Value {
    json!({
        "metadata": { "uid": over.uid, "resourceVersion": over.resource_version },
        "spec": spec,
    })
}
