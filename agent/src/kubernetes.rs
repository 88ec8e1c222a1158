//! The API server: two watches by name, and single-attempt requests with a deadline.

use std::time::Duration;

use drop_agent_step::{Input, WriteResult};
use drop_credentials::docker_config::SecretData;
use drop_protocol::{Catalog, Epoch, NodeLease, names};
use futures::future::LocalBoxFuture;
use futures::stream::{LocalBoxStream, select};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Config};
use serde::de::DeserializeOwned;
use tracing::{debug, info, warn};

use crate::parts::{Api, SecretError};
use crate::told::Told;

/// Owner of the agent's fields.
const FIELD_MANAGER: &str = "drop-agent";
/// Any single request is given up after this long: several fit into the life of a grant.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Watches end after a time of their own between these, so that nodes don't come back together.
const WATCH_SECONDS: std::ops::Range<u64> = 200..290;

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account.
    #[error(
        "no way to reach a Kubernetes API server: run in a Pod with a service account, or set KUBECONFIG ({0})"
    )]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration can't be used.
    #[error("the Kubernetes client cannot be set up: {0}")]
    Client(kube::Error),
}

/// The API server as one node's agent uses it.
#[derive(Clone)]
pub struct KubeApi {
    leases: kube::Api<Lease>,
    maps: kube::Api<ConfigMap>,
    secrets: kube::Api<Secret>,
    node: String,
    watch_seconds: u32,
}

/// A client from the Pod's service account, or from `KUBECONFIG`, that attempts everything once.
///
/// # Errors
/// If there is neither, or it can't be used.
pub async fn client() -> Result<Client, Error> {
    let mut config = Config::infer().await?;
    // A retried write is a second write; and whoever planned it knows better by then.
    config.default_retry = false;
    drop_api_client::connect(config).map_err(Error::Client)
}

impl KubeApi {
    /// The agent of `node` with its Lease in `namespace`. `random` spreads the ends of watches.
    #[must_use]
    pub fn new(client: Client, namespace: &str, node: &str, random: u64) -> Self {
        let span = WATCH_SECONDS.end - WATCH_SECONDS.start;
        Self {
            leases: kube::Api::namespaced(client.clone(), namespace),
            maps: kube::Api::namespaced(client.clone(), namespace),
            secrets: kube::Api::namespaced(client, namespace),
            node: node.to_owned(),
            watch_seconds: u32::try_from(WATCH_SECONDS.start + random % span).unwrap_or(u32::MAX),
        }
    }

    /// Every state of the object `name`; `None`: there is none.
    fn watch_object<K>(&self, api: kube::Api<K>, name: &str) -> impl Stream<Item = Option<K>> + use<K>
    where
        K: kube::Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let config =
            watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(self.watch_seconds);
        let mut listed = false;
        watcher(api, config).default_backoff().filter_map(move |event| {
            let state = match event {
                Ok(Event::Init) => {
                    listed = false;
                    None
                }
                Ok(Event::InitApply(object)) => {
                    listed = true;
                    Some(Some(object))
                }
                Ok(Event::Apply(object)) => Some(Some(object)),
                Ok(Event::InitDone) => (!listed).then_some(None),
                Ok(Event::Delete(_)) => Some(None),
                Err(error) => {
                    info!(%error, "a watch was interrupted");
                    None
                }
            };
            futures::future::ready(state)
        })
    }
}

impl Api for KubeApi {
    fn watch(&self) -> LocalBoxStream<'static, Input> {
        let lease = self.watch_object(self.leases.clone(), &self.node).filter_map(|lease| async move {
            match lease.as_ref().map(NodeLease::decode) {
                None => Some(Input::LeaseGone),
                Some(Ok(lease)) => Some(Input::Lease(lease)),
                Some(Err(error)) => {
                    warn!(%error, "this node's Lease cannot be read");
                    None
                }
            }
        });
        let mut told = Told::default();
        let catalog = self.watch_object(self.maps.clone(), names::CATALOG).filter_map(move |map| {
            let read = map.map(|map| Catalog::decode(&map.data.unwrap_or_default())).transpose();
            let error = read.as_ref().err().map(ToString::to_string);
            if let Some(error) = told.news(error.as_deref()) {
                warn!(error, "the catalog cannot be read; what was wanted before stays wanted");
            }
            let input = read.ok().map(|catalog| catalog.map_or(Input::CatalogGone, Input::Catalog));
            futures::future::ready(input)
        });
        select(lease, catalog).boxed_local()
    }

    fn read_lease(&self) -> LocalBoxFuture<'static, Result<Option<NodeLease>, String>> {
        let (leases, node) = (self.leases.clone(), self.node.clone());
        Box::pin(async move {
            match within(leases.get_opt(&node)).await? {
                None => Ok(None),
                Some(lease) => NodeLease::decode(&lease).map(Some).map_err(|error| error.to_string()),
            }
        })
    }

    fn read_leader(&self) -> LocalBoxFuture<'static, Result<Option<Epoch>, String>> {
        let leases = self.leases.clone();
        Box::pin(async move {
            let Some(lease) = within(leases.get_opt(names::LEADER_LEASE)).await? else { return Ok(None) };
            let transitions = lease.spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
            Ok(lease.metadata.uid.map(|lease| Epoch { lease, transitions }))
        })
    }

    fn patch_lease(&self, patch: serde_json::Value) -> LocalBoxFuture<'static, WriteResult> {
        let (leases, node) = (self.leases.clone(), self.node.clone());
        Box::pin(async move {
            let params =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(patch);
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, leases.patch(&node, &params, &patch)).await;
            let result = match answer {
                Err(_) => WriteResult::Unknown("the API server did not answer in time".to_owned()),
                Ok(Ok(lease)) => match NodeLease::decode(&lease) {
                    Ok(lease) => WriteResult::Applied(lease),
                    Err(error) => WriteResult::Unknown(error.to_string()),
                },
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => WriteResult::Conflict,
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => WriteResult::Gone,
                Ok(Err(error)) => WriteResult::Unknown(chain(&error)),
            };
            match &result {
                WriteResult::Unknown(why) => warn!(why, "a write to this node's Lease failed"),
                WriteResult::Conflict => debug!("a write to this node's Lease came second"),
                WriteResult::Applied(_) | WriteResult::Gone => {}
            }
            result
        })
    }

    fn secret(&self, name: &str) -> LocalBoxFuture<'static, Result<SecretData, SecretError>> {
        let (secrets, name) = (self.secrets.clone(), name.to_owned());
        Box::pin(async move {
            let answer = tokio::time::timeout(REQUEST_TIMEOUT, secrets.get(&name)).await;
            match answer {
                Err(_) => Err(SecretError::Unknown("the API server did not answer in time".to_owned())),
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(SecretError::Denied),
                Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(SecretError::Missing),
                Ok(Err(error)) => Err(SecretError::Unknown(chain(&error))),
                Ok(Ok(secret)) => Ok(secret.into()),
            }
        })
    }
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Err(_) => Err("the API server did not answer in time".to_owned()),
        Ok(Err(error)) => Err(chain(&error)),
        Ok(Ok(answer)) => Ok(answer),
    }
}

/// The error with its causes: a refused connection hides behind "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
