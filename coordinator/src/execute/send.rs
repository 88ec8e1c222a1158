//! The order in which requests go out, and what is noted of their outcome.

use std::sync::Arc;

use drop_planner::{DeleteLease, Issue, Withdraw, WriteKey, WriteOutcome};
use drop_protocol::names;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::iter;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, DeleteParams, Patch, Preconditions};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use super::event::News;
use super::requests::{CatalogRequest, IssueLane, Requests, StatusRequest};
use super::{Note, Noted, event};
use crate::api::{self, Answer, REQUEST_TIMEOUT, attempt};
use crate::clock::Clock;
use crate::index::Written;
use crate::lead::Proof;
use crate::metrics::{Metrics, WriteKind, WriteOutcome as Counted};
use crate::watch::Stored;
use crate::watch::stream::versioned;
use crate::watch::{self as edge, catalog, images, pull_secrets};

mod sets;

/// This many requests are under way at a time.
const CONCURRENT: usize = 32;

/// Sends requests for as long as one term lasts.
#[derive(Clone)]
pub struct Sender {
    leases: Api<Lease>,
    maps: Api<ConfigMap>,
    roles: Api<Role>,
    images: Api<Stored<drop_crds::CachedImage>>,
    children: Api<drop_crds::CachedImage>,
    sets: Api<Stored<drop_crds::CachedImageSet>>,
    events: Api<Event>,
    namespace: String,
    instance: String,
    proof: Proof,
    stopping: watch::Receiver<bool>,
    clock: Clock,
    metrics: Arc<Metrics>,
    notes: mpsc::UnboundedSender<Note>,
}

/// What a term brings with it.
pub struct Permit {
    /// Proves leadership before each write.
    pub proof: Proof,
    /// Turns true when nothing more is to be sent.
    pub stopping: watch::Receiver<bool>,
}

impl Sender {
    /// Sends through `client` while `permit` holds, and notes outcomes in `notes`.
    #[must_use]
    pub fn new(
        client: &kube::Client,
        namespace: &str,
        instance: String,
        permit: Permit,
        clock: Clock,
        metrics: Arc<Metrics>,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Self {
        Self {
            leases: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client.clone(), namespace),
            roles: Api::namespaced(client.clone(), namespace),
            images: Api::all(client.clone()),
            children: Api::all(client.clone()),
            sets: Api::all(client.clone()),
            events: Api::namespaced(client.clone(), event::NAMESPACE),
            namespace: namespace.to_owned(),
            instance,
            proof: permit.proof,
            stopping: permit.stopping,
            clock,
            metrics,
            notes,
        }
    }

    /// The namespace of Drop's own objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Sends everything once; returns whether all of it was applied.
    pub async fn send(&self, requests: Requests) -> bool {
        let Requests {
            issues,
            withdrawals,
            create_leases,
            delete_leases,
            catalog,
            pull_secrets,
            children,
            set_statuses,
            statuses,
        } = requests;
        let mut work: Vec<BoxFuture<'_, bool>> = Vec::new();
        // Grants first: everything else can wait for them.
        for lane in issues {
            work.push(Box::pin(self.issue(lane)));
        }
        for (withdraw, patch) in withdrawals {
            work.push(Box::pin(self.withdraw(withdraw, patch)));
        }
        if let Some(catalog) = catalog {
            work.push(Box::pin(self.catalog(catalog)));
        }
        if let Some(patch) = pull_secrets {
            work.push(Box::pin(self.pull_secrets(patch)));
        }
        for (node, lease) in create_leases {
            work.push(Box::pin(self.create_lease(node, lease)));
        }
        for delete in delete_leases {
            work.push(Box::pin(self.delete_lease(delete)));
        }
        for (write, request) in children {
            work.push(Box::pin(self.child(write, request)));
        }
        for status in statuses {
            work.push(Box::pin(self.status(status)));
        }
        for status in set_statuses {
            work.push(Box::pin(self.set_status(status)));
        }
        iter(work).buffer_unordered(CONCURRENT).fold(true, |all, one| async move { all && one }).await
    }

    async fn issue(&self, lane: IssueLane) -> bool {
        let mut all = true;
        let mut first = true;
        for (issue, patch) in lane.issues {
            if !first {
                self.clock.sleep_until(self.clock.monotonic().after(lane.delay)).await;
            }
            first = false;
            match self.issue_one(issue, patch).await {
                Some(WriteOutcome::Applied) => {}
                Some(WriteOutcome::Refused) => all = false,
                // What may have been applied has to be seen before more is issued under this policy.
                Some(WriteOutcome::Unknown) | None => return false,
            }
        }
        all
    }

    /// `None`: not sent.
    async fn issue_one(&self, issue: Issue, patch: Value) -> Option<WriteOutcome> {
        if !self.may_write(WriteKind::Issue) {
            return None;
        }
        let (node, grant, policy) = (issue.node.clone(), issue.grant.id.clone(), issue.grant.policy.clone());
        let images = issue.grant.images.len();
        self.note(Noted::IssueSent(Box::new(issue)));
        let (outcome, code) = self.patch_lease(WriteKind::Issue, &node, &patch).await;
        if matches!(code, Some(403 | 413 | 422)) {
            // Turned down for what it says: no copy of this request is ever applied.
            self.note(Noted::IssueRejected { node, grant });
            return Some(outcome);
        }
        if outcome == WriteOutcome::Applied {
            info!(%node, %grant, %policy, images, "grant issued");
        }
        self.note(Noted::IssueSettled { node, grant, outcome });
        Some(outcome)
    }

    async fn withdraw(&self, withdraw: Withdraw, patch: Value) -> bool {
        if !self.may_write(WriteKind::Withdraw) {
            return false;
        }
        let (outcome, _) = self.patch_lease(WriteKind::Withdraw, &withdraw.node, &patch).await;
        if outcome == WriteOutcome::Applied {
            info!(node = %withdraw.node, reason = %withdraw.reason, "grant withdrawn");
        }
        self.note(Noted::WithdrawSettled { withdraw, outcome });
        outcome == WriteOutcome::Applied
    }

    /// The outcome, and the status code if the API server refused.
    async fn patch_lease(&self, kind: WriteKind, node: &str, patch: &Value) -> (WriteOutcome, Option<u16>) {
        let answer =
            attempt(REQUEST_TIMEOUT, self.leases.patch(node, &api::patching(), &Patch::Merge(patch))).await;
        let code = match &answer {
            Answer::Refused { code, .. } => Some(*code),
            Answer::Applied(_) | Answer::Unknown { .. } => None,
        };
        let (outcome, lease) = self.outcome(kind, node, answer);
        if let Some(row) = lease.and_then(|lease| versioned(lease, edge::lease)) {
            self.note(Noted::Object(Box::new(Written::Lease(row))));
        }
        (outcome, code)
    }

    async fn create_lease(&self, node: String, lease: Lease) -> bool {
        if !self.may_write(WriteKind::CreateLease) {
            return false;
        }
        let answer = attempt(REQUEST_TIMEOUT, self.leases.create(&api::creating(), &lease)).await;
        let (outcome, lease) = self.outcome(WriteKind::CreateLease, &node, answer);
        if let Some(row) = lease.and_then(|lease| versioned(lease, edge::lease)) {
            self.note(Noted::Object(Box::new(Written::Lease(row))));
        }
        self.settle(outcome, WriteKey::CreateLease(node))
    }

    async fn delete_lease(&self, delete: DeleteLease) -> bool {
        if !self.may_write(WriteKind::DeleteLease) {
            return false;
        }
        let DeleteLease { node, uid, resource_version } = delete;
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid),
                resource_version: Some(resource_version.to_string()),
            }),
            ..DeleteParams::default()
        };
        let answer = attempt(REQUEST_TIMEOUT, self.leases.delete(&node, &params)).await;
        let (outcome, _) = self.outcome(WriteKind::DeleteLease, &node, answer);
        self.settle(outcome, WriteKey::DeleteLease(node))
    }

    async fn catalog(&self, request: CatalogRequest) -> bool {
        if !self.may_write(WriteKind::Catalog) {
            return false;
        }
        let answer = match &request {
            CatalogRequest::Create(map) => {
                attempt(REQUEST_TIMEOUT, self.maps.create(&api::creating(), map)).await
            }
            CatalogRequest::Replace(patch) => {
                let (params, patch) = (api::patching(), Patch::Merge(patch));
                attempt(REQUEST_TIMEOUT, self.maps.patch(names::CATALOG, &params, &patch)).await
            }
        };
        let (outcome, map) = self.outcome(WriteKind::Catalog, names::CATALOG, answer);
        if let Some(row) = map.and_then(|map| versioned(map, |map| Some(catalog::row(map)))) {
            self.note(Noted::Object(Box::new(Written::Catalog(row))));
            self.note(Noted::CatalogWritten);
        }
        self.settle(outcome, WriteKey::Catalog)
    }

    async fn pull_secrets(&self, patch: Value) -> bool {
        if !self.may_write(WriteKind::PullSecrets) {
            return false;
        }
        let (params, patch) = (api::patching(), Patch::Merge(&patch));
        let answer =
            attempt(REQUEST_TIMEOUT, self.roles.patch(names::PULL_SECRETS_ROLE, &params, &patch)).await;
        let (outcome, role) = self.outcome(WriteKind::PullSecrets, names::PULL_SECRETS_ROLE, answer);
        if let Some(row) = role.and_then(|role| versioned(role, |role| Some(pull_secrets::row(role)))) {
            self.note(Noted::Object(Box::new(Written::PullSecrets(row))));
            self.note(Noted::PullSecretsWritten);
        }
        self.settle(outcome, WriteKey::PullSecrets)
    }

    async fn status(&self, request: StatusRequest) -> bool {
        if !self.may_write(WriteKind::Status) {
            return false;
        }
        let StatusRequest { image, patch, events } = request;
        let (params, patch) = (api::patching(), Patch::Merge(&patch));
        let answer = attempt(REQUEST_TIMEOUT, self.images.patch_status(&image, &params, &patch)).await;
        let (outcome, stored) = self.outcome(WriteKind::Status, &image, answer);
        if let Some(row) = stored.and_then(|object| versioned(object, |object| Some(images::image(object)))) {
            self.note(Noted::Object(Box::new(Written::Image(row))));
            self.note(Noted::StatusWritten(image.clone()));
        }
        let mut all = self.settle(outcome, WriteKey::Status(image));
        if outcome == WriteOutcome::Applied {
            for event in &events {
                all &= self.event(News::of_image(event)).await;
            }
        }
        all
    }

    async fn event(&self, news: News<'_>) -> bool {
        if !self.may_write(WriteKind::Event) {
            return false;
        }
        let object = event::object(news, &self.instance, self.clock.now().wall);
        let answer = attempt(REQUEST_TIMEOUT, self.events.create(&api::creating(), &object)).await;
        self.outcome(WriteKind::Event, news.name, answer).0 == WriteOutcome::Applied
    }

    fn may_write(&self, kind: WriteKind) -> bool {
        let may = self.proof.holds() && !*self.stopping.borrow();
        if !may {
            self.metrics.write(kind, Counted::Dropped);
        }
        may
    }

    /// Counts and logs an answer.
    fn outcome<T>(&self, kind: WriteKind, name: &str, answer: Answer<T>) -> (WriteOutcome, Option<T>) {
        match answer {
            Answer::Applied(object) => {
                self.metrics.write(kind, Counted::Applied);
                (WriteOutcome::Applied, Some(object))
            }
            Answer::Refused { code, message } => {
                self.metrics.write(kind, Counted::Refused);
                // Losing a race is part of the protocol; anything else needs somebody's attention.
                if matches!(code, 404 | 409) {
                    debug!(?kind, name, error = %message, "somebody else was first");
                } else {
                    warn!(?kind, name, code, error = %message, "the API server refuses a write");
                }
                (WriteOutcome::Refused, None)
            }
            Answer::Unknown { message } => {
                self.metrics.write(kind, Counted::Unknown);
                warn!(?kind, name, error = %message, "no answer to a write: it may or may not have been applied");
                (WriteOutcome::Unknown, None)
            }
        }
    }

    fn settle(&self, outcome: WriteOutcome, key: WriteKey) -> bool {
        let applied = outcome == WriteOutcome::Applied;
        if !applied {
            self.note(Noted::Failed(key));
        }
        applied
    }

    fn note(&self, what: Noted) {
        // The loop outlives the sending; if it does not, nobody needs the note.
        let _ = self.notes.send(Note { at: self.clock.now(), what });
    }
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
