//! What stands between an agent and its parts, so that every pull is known with the grant that allowed it, and fails when
//! the image or its registry is to fail. Changes nothing else.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use drop_agent::kubernetes::KubeApi;
use drop_agent::parts::{Api, ImageRuntime, SecretError};
use drop_agent_step::{Input, WriteResult};
use drop_credentials::docker_config::SecretData;
use drop_cri::{Credentials, Error};
use drop_protocol::reference::registry_host;
use drop_protocol::{Epoch, GrantState, NodeLease};
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::LocalBoxStream;
use serde_json::Value;

use super::truth::{Held, Truth};
use crate::runtime::Handle;

/// gRPC `NOT_FOUND` and `UNAVAILABLE`.
const NOT_FOUND: i32 = 5;
const UNAVAILABLE: i32 = 14;
/// A pull that fails takes so long.
const FAILS_AFTER: Duration = Duration::from_millis(100);

/// What ails registries.
#[derive(Debug, Default)]
pub(super) struct Ailments {
    /// References that they do not have.
    pub(super) images: BTreeSet<String>,
    /// Those that answer nothing.
    pub(super) hosts: BTreeSet<String>,
    /// Pulls that failed for it.
    pub(super) failed: usize,
}

/// The Lease that one agent process last saw.
#[derive(Debug, Default)]
pub(super) struct Seen(RefCell<Option<NodeLease>>);

impl Seen {
    fn see(&self, lease: &NodeLease) {
        let mut seen = self.0.borrow_mut();
        if seen.as_ref().is_none_or(|seen| seen.resource_version < lease.resource_version) {
            *seen = Some(lease.clone());
        }
    }

    /// The grant that this node holds, if the image belongs to it.
    fn held(&self, reference: &str) -> Option<Held> {
        let seen = self.0.borrow();
        let lease = seen.as_ref().filter(|lease| lease.state() == GrantState::Taken)?;
        let grant = lease.grant.as_ref()?;
        grant.images.iter().any(|image| image.reference == reference).then(|| Held {
            id: grant.id.clone(),
            policy: grant.policy.clone(),
            issued: grant.issued_at,
        })
    }
}

/// An agent's API server.
pub(super) struct WatchedApi {
    pub(super) api: KubeApi,
    pub(super) seen: Rc<Seen>,
}

impl Api for WatchedApi {
    fn watch(&self) -> LocalBoxStream<'static, Input> {
        let seen = Rc::clone(&self.seen);
        Box::pin(self.api.watch().inspect(move |input| {
            if let Input::Lease(lease) = input {
                seen.see(lease);
            }
        }))
    }

    fn read_lease(&self) -> LocalBoxFuture<'static, Result<Option<NodeLease>, String>> {
        let (read, seen) = (self.api.read_lease(), Rc::clone(&self.seen));
        Box::pin(async move {
            let lease = read.await;
            if let Ok(Some(lease)) = &lease {
                seen.see(lease);
            }
            lease
        })
    }

    fn read_leader(&self) -> LocalBoxFuture<'static, Result<Option<Epoch>, String>> {
        self.api.read_leader()
    }

    fn patch_lease(&self, patch: Value) -> LocalBoxFuture<'static, WriteResult> {
        let (sent, seen) = (self.api.patch_lease(patch), Rc::clone(&self.seen));
        Box::pin(async move {
            let result = sent.await;
            if let WriteResult::Applied(lease) = &result {
                seen.see(lease);
            }
            result
        })
    }

    fn secret(&self, name: &str) -> LocalBoxFuture<'static, Result<SecretData, SecretError>> {
        self.api.secret(name)
    }
}

/// A node's runtime.
pub(super) struct WatchedRuntime {
    pub(super) runtime: Handle,
    pub(super) node: String,
    pub(super) seen: Rc<Seen>,
    pub(super) truth: Rc<RefCell<Truth>>,
    pub(super) ailments: Rc<RefCell<Ailments>>,
}

/// A pull, for as long as it goes on.
struct Pull {
    truth: Rc<RefCell<Truth>>,
    node: String,
    policy: String,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.truth.borrow_mut().ended(&self.node, &self.policy);
    }
}

impl ImageRuntime for WatchedRuntime {
    fn pull(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
    ) -> LocalBoxFuture<'static, Result<(), Error>> {
        let pull = self.runtime.pull(reference, credentials);
        let (node, reference) = (self.node.clone(), reference.to_owned());
        let (seen, truth, ailments) =
            (Rc::clone(&self.seen), Rc::clone(&self.truth), Rc::clone(&self.ailments));
        Box::pin(async move {
            let held = seen.held(&reference);
            truth.borrow_mut().began(&node, held.as_ref());
            let policy = held.map(|held| held.policy).unwrap_or_default();
            let _pull = Pull { truth, node, policy };
            let failure = ailments.borrow().failure(&reference);
            if let Some(failure) = failure {
                tokio::time::sleep(FAILS_AFTER).await;
                ailments.borrow_mut().failed += 1;
                return Err(failure);
            }
            pull.await
        })
    }

    fn images(&self) -> LocalBoxFuture<'static, Result<BTreeMap<String, String>, Error>> {
        self.runtime.images()
    }

    fn digest_of(&self, reference: &str) -> LocalBoxFuture<'static, Result<Option<String>, Error>> {
        self.runtime.digest_of(reference)
    }

    fn size_of(&self, reference: &str) -> LocalBoxFuture<'static, Option<u64>> {
        self.runtime.size_of(reference)
    }

    fn settled(&self) -> LocalBoxFuture<'static, ()> {
        self.runtime.settled()
    }

    fn progress(&self) -> LocalBoxFuture<'static, Option<u64>> {
        self.runtime.progress()
    }

    fn image_events(&self) -> LocalBoxStream<'static, ()> {
        self.runtime.image_events()
    }

    fn free_percent(&self) -> Option<u8> {
        self.runtime.free_percent()
    }
}

impl Ailments {
    fn failure(&self, reference: &str) -> Option<Error> {
        let status = |code, message: String| Some(Error::Status { call: "PullImage", code, message });
        if self.hosts.contains(&registry_host(reference)) {
            let why = "unexpected status from HEAD request: 503 Service Unavailable";
            return status(UNAVAILABLE, why.to_owned());
        }
        if self.images.contains(reference) {
            return status(
                NOT_FOUND,
                format!("failed to resolve reference \"{reference}\": {reference}: not found"),
            );
        }
        None
    }
}
