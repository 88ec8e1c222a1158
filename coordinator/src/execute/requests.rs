//! The bodies of all requests of one plan, built from the plan and the snapshot that it was made from.
//!
//! Building needs neither a client nor a clock, and afterwards the snapshot may change under the requests: each names
//! the version of the object that it is about.

use std::collections::BTreeSet;
use std::time::Duration;

use drop_planner::{
    ChildWrite, Cluster, DeleteLease, Issue, Plan, PlannedEvent, SetEvent, SetStatusWrite, StatusWrite,
    Withdraw, WithdrawKind, WriteKey,
};
use drop_protocol::{Catalog, NodeLease, names};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use tracing::warn;

use super::children::{self, ChildRequest};
use crate::watch::pull_secrets;
use crate::{set_status, status};

/// Everything to send, ready to be sent.
#[derive(Debug, Default)]
pub struct Requests {
    /// Grants to hand out, one list a policy.
    pub issues: Vec<IssueLane>,
    /// Grants to take back.
    pub withdrawals: Vec<(Withdraw, Value)>,
    /// Node Leases to create.
    pub create_leases: Vec<(String, Lease)>,
    /// Node Leases to delete.
    pub delete_leases: Vec<DeleteLease>,
    /// The catalog.
    pub catalog: Option<CatalogRequest>,
    /// A patch of the Role by which agents read pull Secrets.
    pub pull_secrets: Option<Value>,
    /// CachedImages of sets.
    pub children: Vec<(ChildWrite, ChildRequest)>,
    /// Status patches of sets.
    pub set_statuses: Vec<SetStatusRequest>,
    /// Status patches, each with the events that follow it.
    pub statuses: Vec<StatusRequest>,
}

/// The issues of one policy, to be sent one after another.
#[derive(Debug)]
pub struct IssueLane {
    /// From the answer to one until the next is sent.
    pub delay: Duration,
    /// Issue and patch.
    pub issues: Vec<(Issue, Value)>,
}

/// The catalog, to be created or replaced.
#[derive(Debug)]
pub enum CatalogRequest {
    /// There is none.
    Create(Box<ConfigMap>),
    /// A patch of the version that was seen.
    Replace(Value),
}

/// A status, and what may be told once it is stored.
#[derive(Debug)]
pub struct StatusRequest {
    /// Name of the CachedImage.
    pub image: String,
    /// The patch.
    pub patch: Value,
    /// What follows.
    pub events: Vec<PlannedEvent>,
}

/// The status of a set, and what may be told once it is stored.
#[derive(Debug)]
pub struct SetStatusRequest {
    /// Name of the CachedImageSet.
    pub set: String,
    /// Its uid.
    pub uid: String,
    /// The patch.
    pub patch: Value,
    /// What follows.
    pub event: Option<SetEvent>,
}

impl Requests {
    /// Builds the requests of `plan`, which was made from `cluster`. Also returns writes that can't be built, which
    /// count as failed.
    #[must_use]
    pub fn build(plan: Plan, cluster: &Cluster, namespace: &str) -> (Self, Vec<WriteKey>) {
        let mut failed = Vec::new();
        let mut events = plan.events;
        let issues = plan
            .issues
            .into_iter()
            .map(|lane| IssueLane {
                delay: lane.delay,
                issues: lane.issues.into_iter().filter_map(|issue| issue_patch(issue, cluster)).collect(),
            })
            .collect();
        let withdrawals =
            plan.withdrawals.into_iter().filter_map(|withdraw| withdraw_patch(withdraw, cluster)).collect();
        let create_leases = plan
            .create_leases
            .into_iter()
            .map(|create| {
                let lease = NodeLease::create(
                    namespace,
                    &create.node,
                    &create.node_uid,
                    drop_protocol::lease::DEFAULT_DURATION,
                );
                (create.node, lease)
            })
            .collect();
        let mut statuses = Vec::new();
        for status in plan.statuses {
            match status_patch(&status) {
                Ok(patch) => {
                    let (of_this, others) = events.into_iter().partition(|event| event.uid == status.uid);
                    events = others;
                    statuses.push(StatusRequest { image: status.image, patch, events: of_this });
                }
                Err(error) => {
                    warn!(image = %status.image, %error, "the status cannot be encoded");
                    failed.push(WriteKey::Status(status.image));
                }
            }
        }
        let children = plan.children.into_iter().filter_map(|write| match children::request(&write) {
            Ok(request) => Some((write, request)),
            Err(error) => {
                warn!(image = %write.child, %error, "the CachedImage cannot be encoded");
                None
            }
        });
        let children = children.collect();
        let mut set_statuses = Vec::new();
        for SetStatusWrite { set, uid, status, event } in plan.set_statuses {
            match set_status::patch(&status) {
                Ok(status) => {
                    let patch = json!({ "metadata": { "uid": uid }, "status": status });
                    set_statuses.push(SetStatusRequest { set, uid, patch, event });
                }
                Err(error) => {
                    warn!(%set, %error, "the status cannot be encoded");
                    failed.push(WriteKey::SetStatus(set));
                }
            }
        }
        let catalog = plan.catalog.as_ref().map(|catalog| catalog_request(catalog, cluster));
        let pull_secrets =
            plan.pull_secrets.as_ref().and_then(|secrets| pull_secrets_patch(secrets, cluster));
        let requests = Self {
            issues,
            withdrawals,
            create_leases,
            delete_leases: plan.delete_leases,
            catalog,
            pull_secrets,
            children,
            set_statuses,
            statuses,
        };
        (requests, failed)
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.issues.iter().all(|lane| lane.issues.is_empty())
            && self.withdrawals.is_empty()
            && self.create_leases.is_empty()
            && self.delete_leases.is_empty()
            && self.catalog.is_none()
            && self.pull_secrets.is_none()
            && self.children.is_empty()
            && self.set_statuses.is_empty()
            && self.statuses.is_empty()
    }
}

/// The patch takes uid and resourceVersion from the issue: a repeated issue names the version of its first attempt.
fn issue_patch(issue: Issue, cluster: &Cluster) -> Option<(Issue, Value)> {
    let lease = cluster.leases.get(&issue.node)?;
    let as_planned = NodeLease {
        uid: issue.lease_uid.clone(),
        resource_version: issue.resource_version,
        ..NodeLease::clone(lease)
    };
    let patch = as_planned.issue_patch(&issue.grant, issue.duration);
    Some((issue, patch))
}

fn withdraw_patch(withdraw: Withdraw, cluster: &Cluster) -> Option<(Withdraw, Value)> {
    let lease = cluster.leases.get(&withdraw.node)?;
    let patch = match &withdraw.kind {
        WithdrawKind::Remove => lease.remove_grant_patch(),
        WithdrawKind::Mark(mark) => lease.mark_withdrawn_patch(mark.clone())?,
    };
    Some((withdraw, patch))
}

fn status_patch(status: &StatusWrite) -> Result<Value, serde_json::Error> {
    Ok(json!({ "metadata": { "uid": status.uid }, "status": status::patch(&status.status)? }))
}

fn catalog_request(catalog: &Catalog, cluster: &Cluster) -> CatalogRequest {
    let data = catalog.encode();
    match &cluster.catalog {
        Some(stored) => {
            let strays = stored.strays.iter().map(|key| (key.clone(), Value::Null));
            let data: serde_json::Map<String, Value> =
                strays.chain(data.into_iter().map(|(key, text)| (key, Value::from(text)))).collect();
            CatalogRequest::Replace(json!({
                "metadata": { "uid": stored.uid, "resourceVersion": stored.resource_version.to_string() },
                "data": data,
                // The API server refuses a key that stands in both.
                "binaryData": null,
            }))
        }
        None => CatalogRequest::Create(Box::new(ConfigMap {
            metadata: ObjectMeta {
                name: Some(names::CATALOG.to_owned()),
                labels: Some(
                    [("app.kubernetes.io/managed-by".to_owned(), names::MANAGED_BY.to_owned())].into(),
                ),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        })),
    }
}

fn pull_secrets_patch(secrets: &BTreeSet<String>, cluster: &Cluster) -> Option<Value> {
    let stored = cluster.pull_secrets.as_ref()?;
    Some(json!({
        "metadata": { "uid": stored.uid, "resourceVersion": stored.resource_version.to_string() },
        "rules": pull_secrets::rules(secrets),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use drop_planner::{
        Cluster, EventType, ImageStatus, Issue, IssueKind, Plan, PlannedEvent, PolicyIssues, StatusWrite,
        StoredCatalog,
    };
    use drop_protocol::{Catalog, Epoch, Grant, GrantId, NodeLease, grant, names};
    use jiff::Timestamp;

    use super::{CatalogRequest, Requests};

    fn lease() -> NodeLease {
        let mut lease = NodeLease::create("drop-system", "node-1", "node-uid", Duration::from_secs(60));
        lease.metadata.uid = Some("lease-uid".to_owned());
        lease.metadata.resource_version = Some("9".to_owned());
        NodeLease::decode(&lease).unwrap()
    }

    #[test]
    fn an_issue_is_conditional_on_the_version_that_it_was_planned_for() {
        let epoch = Epoch { lease: "leader".to_owned(), transitions: 1 };
        let issue = Issue {
            node: "node-1".to_owned(),
            lease_uid: "lease-uid".to_owned(),
            resource_version: 7,
            grant: Grant {
                version: grant::VERSION,
                id: GrantId::new(&epoch, 1),
                epoch,
                policy: String::new(),
                issued_at: Timestamp::UNIX_EPOCH,
                withdrawn: None,
                images: vec![],
            },
            duration: Duration::from_secs(60),
            due_since: Vec::new(),
            kind: IssueKind::Repeat,
        };
        let lane = PolicyIssues { policy: String::new(), delay: Duration::ZERO, issues: vec![issue] };
        let cluster =
            Cluster { leases: [("node-1".to_owned(), Arc::new(lease()))].into(), ..Cluster::default() };
        let (requests, _) =
            Requests::build(Plan { issues: vec![lane], ..Plan::default() }, &cluster, "drop-system");
        let (_, patch) = &requests.issues[0].issues[0];
        assert_eq!(patch["metadata"]["uid"], "lease-uid");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert!(patch["metadata"]["annotations"][names::GRANT_ANNOTATION].is_string());
    }

    #[test]
    fn an_event_goes_with_the_status_of_its_own_image() {
        let status = |name: &str| StatusWrite {
            image: name.to_owned(),
            uid: format!("{name}-uid"),
            status: ImageStatus::default(),
        };
        let event = PlannedEvent {
            image: "b".to_owned(),
            uid: "b-uid".to_owned(),
            kind: EventType::Normal,
            reason: "Cached".to_owned(),
            note: "on all nodes".to_owned(),
        };
        let plan = Plan { statuses: vec![status("a"), status("b")], events: vec![event], ..Plan::default() };
        let (requests, _) = Requests::build(plan, &Cluster::default(), "drop-system");
        let events: Vec<_> = requests.statuses.iter().map(|s| (s.image.as_str(), s.events.len())).collect();
        assert_eq!(events, [("a", 0), ("b", 1)]);
        assert_eq!(requests.statuses[0].patch["metadata"]["uid"], "a-uid");
    }

    #[test]
    fn the_catalog_is_created_if_absent_and_else_replaced_conditionally() {
        let plan = || Plan { catalog: Some(Catalog::default()), ..Plan::default() };
        let (requests, _) = Requests::build(plan(), &Cluster::default(), "drop-system");
        assert!(matches!(requests.catalog, Some(CatalogRequest::Create(_))));
        let stored = StoredCatalog { uid: "u".to_owned(), resource_version: 4, ..StoredCatalog::default() };
        let cluster = Cluster { catalog: Some(Arc::new(stored)), ..Cluster::default() };
        let (requests, _) = Requests::build(plan(), &cluster, "drop-system");
        let Some(CatalogRequest::Replace(patch)) = requests.catalog else { panic!("not replaced") };
        assert_eq!(patch["metadata"]["resourceVersion"], "4");
    }
}
