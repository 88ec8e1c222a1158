//! The watch edge: API objects come in, small domain rows go out, and the objects are dropped.
//!
//! | module | subject |
//! |---|---|
//! | [`stream`] | one kind's watch, which never ends |
//! | [`stored`] | custom resources whose parts are read one by one |
//! | [`objects`] | Nodes and Pods with only the fields that are used |
//! | [`nodes`] | Nodes and agent Pods → rows |
//! | [`images`] | CachedImages and PullPolicies → rows, also those that don't decode |
//! | [`sets`] | CachedImageSets, DiscoveryPolicies and what is compared of children → rows |
//! | [`catalog`] | the catalog ConfigMap → row |
//! | [`pull_secrets`] | the Role by which agents read pull Secrets → row |
//!
//! One odd object never stops a watch: it becomes a row that says what is wrong with it, or is dropped with a warning.
//! Nothing here knows what the rows are for.

pub mod catalog;
pub mod images;
pub mod nodes;
pub mod objects;
pub mod pull_secrets;
pub mod sets;
pub mod stored;
pub mod stream;

use drop_planner::{
    CachedImage, CachedImageSet, Discovery, Node, PullPolicy, StoredCatalog, StoredPullSecrets,
};
use drop_protocol::{NodeLease, names};
use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::Role;
use kube::Client;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Config;
use tracing::warn;

pub use nodes::AgentRow;
pub use stored::Stored;
pub use stream::{Event, Versioned};

/// A change to what is planned from.
#[derive(Debug)]
pub enum Update {
    /// CachedImages.
    Image(Event<CachedImage>),
    /// CachedImageSets.
    Set(Event<CachedImageSet>),
    /// DiscoveryPolicies.
    Discovery(Event<Discovery>),
    /// PullPolicies.
    Policy(Event<PullPolicy>),
    /// Nodes.
    Node(Event<Node>),
    /// Agent Pods.
    Agent(Event<AgentRow>),
    /// Node Leases.
    Lease(Event<NodeLease>),
    /// The catalog.
    Catalog(Event<StoredCatalog>),
    /// The Role by which agents read pull Secrets.
    PullSecrets(Event<StoredPullSecrets>),
}

/// Lists and watches everything that is planned from. The stream never ends.
#[must_use]
pub fn everything(client: &Client, namespace: &str) -> BoxStream<'static, Update> {
    let whole = Config::default;
    let images: Api<Stored<drop_crds::CachedImage>> = Api::all(client.clone());
    let sets: Api<Stored<drop_crds::CachedImageSet>> = Api::all(client.clone());
    let discoveries: Api<DeserializeGuard<drop_crds::DiscoveryPolicy>> = Api::all(client.clone());
    let policies: Api<DeserializeGuard<drop_crds::PullPolicy>> = Api::all(client.clone());
    let nodes: Api<objects::SlimNode> = Api::all(client.clone());
    let pods: Api<objects::SlimPod> = Api::namespaced(client.clone(), namespace);
    let leases: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let roles: Api<Role> = Api::namespaced(client.clone(), namespace);

    let agents = format!("app.kubernetes.io/name={}", names::AGENT_APP);
    let catalog = format!("metadata.name={}", names::CATALOG);
    let pull_secrets = format!("metadata.name={}", names::PULL_SECRETS_ROLE);
    select_all([
        stream::rows(images, "CachedImages", whole(), |o| Some(images::image(o))).map(Update::Image).boxed(),
        stream::rows(sets, "CachedImageSets", whole(), |o| Some(sets::set(o))).map(Update::Set).boxed(),
        stream::rows(discoveries, "DiscoveryPolicies", whole(), |o| Some(sets::discovery(o)))
            .map(Update::Discovery)
            .boxed(),
        stream::rows(policies, "PullPolicies", whole(), |o| Some(images::policy(o)))
            .map(Update::Policy)
            .boxed(),
        stream::rows(nodes, "Nodes", whole(), |o| Some(nodes::node(o))).map(Update::Node).boxed(),
        stream::rows(pods, "agent Pods", whole().labels(&agents), nodes::agent).map(Update::Agent).boxed(),
        stream::rows(leases, "node Leases", whole().labels(names::NODE_LEASE_LABEL), lease)
            .map(Update::Lease)
            .boxed(),
        stream::rows(maps, "catalog", whole().fields(&catalog), |o| Some(catalog::row(o)))
            .map(Update::Catalog)
            .boxed(),
        stream::rows(roles, "Role of pull Secrets", whole().fields(&pull_secrets), |o| {
            Some(pull_secrets::row(o))
        })
        .map(Update::PullSecrets)
        .boxed(),
    ])
    .boxed()
}

/// A node Lease as a row; one that can't be read at all is dropped.
#[must_use]
#[allow(clippy::needless_pass_by_value)] // the shape that `stream::rows` asks for
pub fn lease(lease: Lease) -> Option<NodeLease> {
    NodeLease::decode(&lease).inspect_err(|error| warn!(%error, "a node Lease is left out")).ok()
}
