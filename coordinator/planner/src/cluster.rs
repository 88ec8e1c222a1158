//! What the API server says, as small domain types. Knows nothing of how it is read or of what follows from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use drop_protocol::{Catalog, Epoch, ImagePullPolicy, Monotonic, NodeLease};
use jiff::Timestamp;

use crate::memory::Memory;
use crate::set::{CachedImageSet, Child, Discovery};
use crate::status::ImageStatus;

/// Everything that a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// What the API server says.
    pub cluster: Cluster,
    /// This process's leadership; without one, a plan contains nothing.
    pub leadership: Option<Leadership>,
    /// What this leader has itself seen. Bring it up to date with [`Memory::observe`] before each plan.
    pub memory: Memory,
    /// Whether registries may be asked on behalf of all nodes.
    pub checks: bool,
}

/// One leadership of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leadership {
    /// Its number. The first holder of a newly created leader Lease has `transitions` 1.
    pub epoch: Epoch,
    /// When this process learned that it leads: not before its acquisition was applied.
    pub since: Monotonic,
}

/// The objects that matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    /// CachedImages by name.
    pub images: BTreeMap<String, Arc<CachedImage>>,
    /// CachedImageSets by name.
    pub sets: BTreeMap<String, Arc<CachedImageSet>>,
    /// DiscoveryPolicies by name.
    pub discoveries: BTreeMap<String, Arc<Discovery>>,
    /// PullPolicies by name.
    pub policies: BTreeMap<String, Arc<PullPolicy>>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// The newest agent Pod of each node, by the node's name.
    pub agents: BTreeMap<String, Arc<AgentPod>>,
    /// Node Leases (those with the node-lease label), by name.
    pub leases: BTreeMap<String, Arc<NodeLease>>,
    /// The catalog, if it exists and can be read.
    pub catalog: Option<Arc<StoredCatalog>>,
    /// The Role by which agents read pull Secrets, if it exists.
    pub pull_secrets: Option<Arc<StoredPullSecrets>>,
}

/// A CachedImage: what is wanted, and its status as stored now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CachedImage {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`
    pub generation: i64,
    /// `metadata.creationTimestamp`
    pub created: Timestamp,
    /// `image@digest`, `image:tag` or `image:latest`, as the user wrote it.
    pub reference: String,
    /// `spec.imagePullPolicy`
    pub pull_policy: ImagePullPolicy,
    /// `spec.nodeSelector`
    pub node_selector: BTreeMap<String, String>,
    /// `spec.tolerations`
    pub tolerations: Vec<Toleration>,
    /// `spec.priority`, 0 if unset; lower is pulled first.
    pub priority: i32,
    /// `spec.policyRef.name`; `None` is the built-in policy.
    pub policy: Option<String>,
    /// Names in `spec.imagePullSecrets`.
    pub secrets: Vec<String>,
    /// Why the spec can't be acted on: names the field and the cure.
    pub problem: Option<String>,
    /// What its CachedImageSet looks at, if one made it.
    pub child: Option<Box<Child>>,
    /// `status` as stored now.
    pub status: ImageStatus,
}

/// A PullPolicy with its durations read and its defaults filled in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PullPolicy {
    /// `metadata.name`
    pub name: String,
    /// `spec.maxConcurrentNodes`
    pub max_concurrent_nodes: u32,
    /// `spec.minDelayBetweenPulls`
    pub min_delay: Duration,
    /// `spec.failureBackoff.initial`
    pub backoff_initial: Duration,
    /// `spec.failureBackoff.max`
    pub backoff_max: Duration,
    /// `spec.repullInterval`; `None` if unset or zero.
    pub repull_interval: Option<Duration>,
    /// `spec.nodeSelector`
    pub node_selector: BTreeMap<String, String>,
    /// `spec.tolerations`
    pub tolerations: Vec<Toleration>,
    /// Why the spec can't be acted on: names the field and the cure.
    pub problem: Option<String>,
}

/// A Node, pruned to what matters here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// `spec.taints`
    pub taints: Vec<Taint>,
    /// `status.nodeInfo.architecture`
    pub architecture: String,
    /// `status.nodeInfo.operatingSystem`
    pub os: String,
    /// Whether condition `Ready` is `True`.
    pub ready: bool,
    /// Whether a virtual kubelet stands behind it: no container runtime, never a target.
    pub virtual_kubelet: bool,
}

/// The newest agent Pod of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentPod {
    /// `metadata.uid`
    pub uid: String,
    /// Whether condition `Ready` is `True` and it is not being deleted.
    pub ready: bool,
}

/// The catalog as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredCatalog {
    /// What it says.
    pub catalog: Catalog,
    /// It can't be read, or is not laid out as a catalog is: it is written anew, whatever it lists.
    pub damaged: bool,
    /// Keys of its `data` that no catalog has.
    pub strays: BTreeSet<String>,
    /// `metadata.uid` of the ConfigMap.
    pub uid: String,
    /// `metadata.resourceVersion` of the ConfigMap.
    pub resource_version: u64,
}

/// The Role by which agents read pull Secrets, as stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredPullSecrets {
    /// Names of the Secrets that it lets agents read; `None` if its rules say anything else than that.
    pub secrets: Option<BTreeSet<String>>,
    /// `metadata.uid` of the Role.
    pub uid: String,
    /// `metadata.resourceVersion` of the Role.
    pub resource_version: u64,
}

/// A taint of a Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taint {
    /// `key`
    pub key: String,
    /// `value`, empty if unset.
    pub value: String,
    /// `effect`
    pub effect: TaintEffect,
}

/// What a taint does, or what a toleration is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaintEffect {
    /// `NoSchedule`
    NoSchedule,
    /// `PreferNoSchedule`: never keeps an image from a node.
    PreferNoSchedule,
    /// `NoExecute`
    NoExecute,
    /// One that this release does not know: keeps nothing from a node.
    Other,
}

/// A toleration of a CachedImage or PullPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toleration {
    /// `key`; empty, with `Exists`, tolerates every key.
    pub key: String,
    /// `operator`; `Equal` if unset.
    pub operator: TolerationOperator,
    /// `value`, empty if unset.
    pub value: String,
    /// `effect`; `None` tolerates every effect.
    pub effect: Option<TaintEffect>,
}

/// How a toleration compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TolerationOperator {
    /// Key and value are equal.
    #[default]
    Equal,
    /// The key is equal, or empty.
    Exists,
    /// One that this release does not know: tolerates nothing.
    Other,
}
