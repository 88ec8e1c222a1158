//! Writes to Leases: preconditions, limits, and what the admission policy lets an agent change.

use std::sync::Arc;

use drop_protocol::{NodeLease, names};
use k8s_openapi::api::coordination::v1::Lease;
use serde::Deserialize;
use serde_json::{Value, json};

use super::merge::merge;
use super::{ApiServer, Kind, Object, Refusal, Writer};
use crate::clock::Time;

/// A Lease as JSON, and as both sides read it.
#[derive(Debug)]
pub struct StoredLease {
    /// The object.
    pub json: Value,
    /// Decoded with the real codec.
    pub lease: NodeLease,
}

impl StoredLease {
    fn new(json: Value) -> Result<Self, Refusal> {
        let typed = Lease::deserialize(&json).map_err(|error| Refusal::Forbidden(error.to_string()))?;
        let lease = NodeLease::decode(&typed).map_err(|error| Refusal::Forbidden(error.to_string()))?;
        Ok(Self { json, lease })
    }

    /// `spec.holderIdentity` as it stands there; empty if absent. The leader's is no node Lease holder.
    #[must_use]
    pub fn holder_identity(&self) -> &str {
        self.json["spec"]["holderIdentity"].as_str().unwrap_or_default()
    }
}

impl ApiServer {
    /// Creates a Lease.
    ///
    /// # Errors
    /// If there is one of that name, or an agent asks.
    pub fn create_lease(
        &mut self,
        at: Time,
        writer: &Writer,
        object: &Lease,
    ) -> Result<Arc<StoredLease>, Refusal> {
        if matches!(writer, Writer::Agent(_)) {
            return Err(Refusal::Forbidden("agents create no Leases".into()));
        }
        let mut json = serde_json::to_value(object).map_err(|error| Refusal::Forbidden(error.to_string()))?;
        let name = json["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if self.lease(&name).is_some() {
            return Err(Refusal::Conflict);
        }
        json["metadata"]["uid"] = json!(self.new_uid(&format!("lease-{name}")));
        self.store_lease(at, &name, json)
    }

    /// Patches a Lease; the patch may carry `metadata.uid` and `metadata.resourceVersion` as preconditions.
    ///
    /// # Errors
    /// If a precondition fails, it does not exist, or the writer may not change what it changes.
    pub fn patch_lease(
        &mut self,
        at: Time,
        writer: &Writer,
        name: &str,
        patch: &Value,
    ) -> Result<Arc<StoredLease>, Refusal> {
        let current = Arc::clone(self.lease(name).ok_or(Refusal::NotFound)?);
        for precondition in ["uid", "resourceVersion"] {
            let wanted = &patch["metadata"][precondition];
            if !wanted.is_null() && *wanted != current.json["metadata"][precondition] {
                return Err(Refusal::Conflict);
            }
        }
        let mut json = current.json.clone();
        merge(&mut json, patch);
        if let Writer::Agent(node) = writer {
            admit(node, name, &current.json, &json)?;
        }
        let annotations: usize = json["metadata"]["annotations"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
            .sum();
        if annotations > names::ANNOTATION_LIMIT {
            return Err(Refusal::Forbidden(format!("annotations hold {annotations} bytes")));
        }
        if json == current.json {
            // A write that changes nothing is answered and not stored.
            return Ok(current);
        }
        self.store_lease(at, name, json)
    }

    /// Deletes a Lease, if it is the one that the writer means.
    ///
    /// # Errors
    /// If a precondition fails, it does not exist, or an agent asks.
    pub fn delete_lease(
        &mut self,
        at: Time,
        writer: &Writer,
        name: &str,
        uid: Option<&str>,
        version: Option<u64>,
    ) -> Result<(), Refusal> {
        if matches!(writer, Writer::Agent(_)) {
            return Err(Refusal::Forbidden("agents delete no Leases".into()));
        }
        let current = &self.lease(name).ok_or(Refusal::NotFound)?.lease;
        if uid.is_some_and(|uid| uid != current.uid) || version.is_some_and(|v| v != current.resource_version)
        {
            return Err(Refusal::Conflict);
        }
        self.commit(at, Kind::Lease, name, None);
        Ok(())
    }

    fn store_lease(&mut self, at: Time, name: &str, mut json: Value) -> Result<Arc<StoredLease>, Refusal> {
        json["metadata"]["resourceVersion"] = json!(self.next_version().to_string());
        let stored = Arc::new(StoredLease::new(json)?);
        self.commit(at, Kind::Lease, name, Some(Object::Lease(Arc::clone(&stored))));
        Ok(stored)
    }
}

/// What the ValidatingAdmissionPolicy in `deploy/` lets an agent do: change its report and the holder fields of the
/// Lease named like its own node, and nothing else.
fn admit(node: &str, name: &str, old: &Value, new: &Value) -> Result<(), Refusal> {
    if name != node || name == names::LEADER_LEASE {
        return Err(Refusal::Forbidden(format!("the agent of {node} wrote the Lease {name}")));
    }
    let fixed = |lease: &Value| {
        let mut lease = lease.clone();
        if let Some(spec) = lease["spec"].as_object_mut() {
            for field in ["holderIdentity", "acquireTime", "renewTime", "leaseTransitions"] {
                spec.remove(field);
            }
        }
        if let Some(metadata) = lease["metadata"].as_object_mut() {
            let empty =
                metadata.get_mut("annotations").and_then(Value::as_object_mut).is_none_or(|annotations| {
                    annotations.remove(names::REPORT_ANNOTATION);
                    annotations.is_empty()
                });
            if empty {
                metadata.remove("annotations");
            }
        }
        lease
    };
    if fixed(old) == fixed(new) {
        Ok(())
    } else {
        Err(Refusal::Forbidden(format!("the agent of {node} changed a field that is not its own")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drop_protocol::Report;

    const AT: Time = Time::ZERO;

    fn server() -> (ApiServer, NodeLease) {
        let mut api = ApiServer::default();
        let lease = NodeLease::create("drop-system", "n", "node-uid", Time::from_secs(60));
        let stored = api.create_lease(AT, &Writer::Coordinator(0), &lease).unwrap();
        (api, stored.lease.clone())
    }

    #[test]
    fn a_patch_of_an_older_version_conflicts() {
        let (mut api, lease) = server();
        let agent = Writer::Agent("n".into());
        let patch = lease.report_patch(&Report::empty("pod"));
        api.patch_lease(AT, &agent, "n", &patch).unwrap();
        assert_eq!(api.patch_lease(AT, &agent, "n", &patch).unwrap_err(), Refusal::Conflict);
    }

    #[test]
    fn an_agent_changes_its_own_report_and_nothing_else() {
        let (mut api, lease) = server();
        let own = Writer::Agent("n".into());
        let patch = json!({"metadata": {"annotations": {names::GRANT_ANNOTATION: "{}"}}});
        assert!(matches!(api.patch_lease(AT, &own, "n", &patch), Err(Refusal::Forbidden(_))));
        let patch = json!({"spec": {"leaseDurationSeconds": 9_999}});
        assert!(matches!(api.patch_lease(AT, &own, "n", &patch), Err(Refusal::Forbidden(_))));
        let patch = lease.report_patch(&Report::empty("pod"));
        let foreign = Writer::Agent("other".into());
        assert!(matches!(api.patch_lease(AT, &foreign, "n", &patch), Err(Refusal::Forbidden(_))));
        api.patch_lease(AT, &own, "n", &patch).unwrap();
        assert!(matches!(api.delete_lease(AT, &own, "n", None, None), Err(Refusal::Forbidden(_))));
    }

    #[test]
    fn a_write_that_changes_nothing_makes_no_new_version() {
        let (mut api, lease) = server();
        let before = api.version();
        let after =
            api.patch_lease(AT, &Writer::Other, "n", &json!({"spec": {"holderIdentity": null}})).unwrap();
        assert_eq!((api.version(), after.lease.resource_version), (before, lease.resource_version));
    }
}
