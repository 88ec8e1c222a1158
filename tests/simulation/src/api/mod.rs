//! The API server: every object in one store, every change in one log.
//!
//! It keeps the promises that a real one keeps (conflicts, preconditions, one order of all writes, admission) and no
//! others. How requests reach it, and when watches hear of a change, is the business of [`crate::network`] and
//! [`watch`].

pub mod children;
pub mod lease;
mod merge;
pub mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use drop_planner::cluster::{AgentPod, CachedImage, Node, PullPolicy, StoredCatalog};
use drop_planner::{CachedImageSet, Discovery};
use drop_protocol::Catalog;

use crate::clock::Time;
use crate::request::Request;
use crate::streams;
pub use lease::StoredLease;

/// Kinds of objects; each is watched by itself, so that their order among each other is lost on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Leases, the leader's among them.
    Lease,
    /// Nodes.
    Node,
    /// Agent Pods, by the name of their node.
    Pod,
    /// CachedImages.
    Image,
    /// PullPolicies.
    Policy,
    /// The catalog ConfigMap.
    Catalog,
    /// CachedImageSets.
    Set,
    /// DiscoveryPolicies.
    Discovery,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Lease,
        Self::Node,
        Self::Pod,
        Self::Image,
        Self::Policy,
        Self::Catalog,
        Self::Set,
        Self::Discovery,
    ];
}

/// A stored object.
#[derive(Debug, Clone)]
pub enum Object {
    /// A Lease.
    Lease(Arc<StoredLease>),
    /// A Node.
    Node(Arc<Node>),
    /// The newest agent Pod of a node.
    Pod(AgentPod),
    /// A CachedImage with its status.
    Image(Arc<CachedImage>),
    /// A PullPolicy.
    Policy(Arc<PullPolicy>),
    /// The catalog.
    Catalog(Arc<StoredCatalog>),
    /// A CachedImageSet with its status.
    Set(Arc<CachedImageSet>),
    /// A DiscoveryPolicy: what it has found.
    Discovery(Arc<Discovery>),
}

/// One entry of the log.
#[derive(Debug, Clone)]
pub struct Change {
    /// When it was committed.
    pub at: Time,
    /// Its place in the one order of all changes.
    pub version: u64,
    /// What changed.
    pub kind: Kind,
    /// Name of the object.
    pub name: String,
    /// The object afterwards; `None`: deleted.
    pub object: Option<Object>,
}

/// Who writes; decides what admission allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writer {
    /// A coordinator.
    Coordinator(usize),
    /// The agent whose token names this node.
    Agent(String),
    /// A person, or a controller of Kubernetes.
    Other,
}

/// Why a request was not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// 409: a precondition does not hold, or the object exists already.
    Conflict,
    /// 404.
    NotFound,
    /// 403 or 422: admission or validation says no.
    Forbidden(String),
}

/// A write that somebody asked for, whatever came of it.
#[derive(Debug, Clone)]
pub struct Audited {
    /// When it reached the server.
    pub at: Time,
    /// By whom.
    pub writer: Writer,
    /// What.
    pub request: Arc<Request>,
}

impl fmt::Display for Audited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.writer, self.request.written().unwrap_or_default())
    }
}

/// An object and the version at which it was last written.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The version.
    pub version: u64,
    /// The object.
    pub object: Object,
}

/// The objects of one kind at one version.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The version.
    pub version: u64,
    /// By name.
    pub objects: BTreeMap<String, Stored>,
}

/// The server.
#[derive(Debug, Default)]
pub struct ApiServer {
    objects: [BTreeMap<String, Stored>; Kind::ALL.len()],
    log: Vec<Change>,
    uids: BTreeMap<String, u64>,
    audit: Vec<Audited>,
    /// Requests are refused and watches are cut while it restarts.
    pub down: bool,
}

impl ApiServer {
    /// A uid that no other object has or had: the next one for a thing of this name, whatever else was made.
    pub fn new_uid(&mut self, of: &str) -> String {
        let number = self.uids.entry(of.to_owned()).or_default();
        *number += 1;
        // The tail is what people read in traces, the head is what grant ids are made of: both tell objects apart.
        let tail = format!("{of}.{number}");
        format!("{:08x}-{tail}", streams::mix(streams::of_name(&tail)) >> 32)
    }

    /// Version of the newest change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.log.len() as u64
    }

    /// All changes in order; the one of version `v` stands at `v - 1`.
    #[must_use]
    pub fn log(&self) -> &[Change] {
        &self.log
    }

    /// Writes in the order in which they arrived.
    #[must_use]
    pub fn audit(&self) -> &[Audited] {
        &self.audit
    }

    /// Notes that a write arrived.
    pub fn note_write(&mut self, at: Time, writer: Writer, request: Arc<Request>) {
        self.audit.push(Audited { at, writer, request });
    }

    /// The object as it is now.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects[kind as usize].get(name).map(|stored| &stored.object)
    }

    /// Everything of a kind, or one object of it, as it is now.
    #[must_use]
    pub fn snapshot(&self, kind: Kind, name: Option<&str>) -> Snapshot {
        let all = &self.objects[kind as usize];
        let objects = match name {
            None => all.clone(),
            Some(name) => all.get_key_value(name).map(|(n, s)| (n.clone(), s.clone())).into_iter().collect(),
        };
        Snapshot { version: self.version(), objects }
    }

    /// Objects of one kind with their names.
    pub fn list(&self, kind: Kind) -> impl Iterator<Item = (&str, &Object)> {
        self.objects[kind as usize].iter().map(|(name, stored)| (name.as_str(), &stored.object))
    }

    /// The object as it was at `version`.
    #[must_use]
    pub fn get_at(&self, version: u64, kind: Kind, name: &str) -> Option<&Object> {
        let end = usize::try_from(version).unwrap_or(usize::MAX).min(self.log.len());
        self.log[..end].iter().rev().find(|c| c.kind == kind && c.name == name)?.object.as_ref()
    }

    /// The version that was the newest at `time`.
    #[must_use]
    pub fn version_at(&self, time: Time) -> u64 {
        self.log.partition_point(|change| change.at <= time) as u64
    }

    /// Commits a change; a Lease and the catalog already carry the version that [`Self::next_version`] gave.
    pub fn commit(&mut self, at: Time, kind: Kind, name: &str, mut object: Option<Object>) -> u64 {
        let version = self.next_version();
        if let Some(Object::Image(image)) = &mut object
            && image.child.is_some()
            && let Some(child) = &mut Arc::make_mut(image).child
        {
            child.resource_version = version;
        }
        let objects = &mut self.objects[kind as usize];
        match &object {
            Some(object) => {
                let stored = Stored { version, object: object.clone() };
                match objects.get_mut(name) {
                    Some(before) => *before = stored,
                    None => drop(objects.insert(name.to_owned(), stored)),
                }
            }
            None => drop(objects.remove(name)),
        }
        self.log.push(Change { at, version, kind, name: name.to_owned(), object });
        version
    }

    /// The version that the next change gets.
    #[must_use]
    pub fn next_version(&self) -> u64 {
        self.version() + 1
    }

    /// The version at which the object was last written.
    #[must_use]
    pub fn version_of(&self, kind: Kind, name: &str) -> Option<u64> {
        self.objects[kind as usize].get(name).map(|stored| stored.version)
    }

    /// The CachedImageSet of that name.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<&Arc<CachedImageSet>> {
        match self.get(Kind::Set, name)? {
            Object::Set(set) => Some(set),
            _ => None,
        }
    }

    /// The DiscoveryPolicy of that name.
    #[must_use]
    pub fn discovery(&self, name: &str) -> Option<&Arc<Discovery>> {
        match self.get(Kind::Discovery, name)? {
            Object::Discovery(discovery) => Some(discovery),
            _ => None,
        }
    }

    /// The Node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        match self.get(Kind::Node, name)? {
            Object::Node(node) => Some(node),
            _ => None,
        }
    }

    /// The Lease of that name.
    #[must_use]
    pub fn lease(&self, name: &str) -> Option<&Arc<StoredLease>> {
        match self.get(Kind::Lease, name)? {
            Object::Lease(lease) => Some(lease),
            _ => None,
        }
    }

    /// The agent Pod of that node.
    #[must_use]
    pub fn pod(&self, node: &str) -> Option<&AgentPod> {
        match self.get(Kind::Pod, node)? {
            Object::Pod(pod) => Some(pod),
            _ => None,
        }
    }

    /// The CachedImage of that name.
    #[must_use]
    pub fn image(&self, name: &str) -> Option<&Arc<CachedImage>> {
        match self.get(Kind::Image, name)? {
            Object::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The PullPolicy of that name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Arc<PullPolicy>> {
        match self.get(Kind::Policy, name)? {
            Object::Policy(policy) => Some(policy),
            _ => None,
        }
    }

    /// Writes the catalog: creates it, or replaces the version that the writer has seen.
    ///
    /// # Errors
    /// If that version is not the stored one.
    pub fn put_catalog(
        &mut self,
        at: Time,
        name: &str,
        catalog: &Catalog,
        seen: Option<(&str, u64)>,
    ) -> Result<Arc<StoredCatalog>, Refusal> {
        let stored = match self.get(Kind::Catalog, name) {
            Some(Object::Catalog(stored)) => Some(Arc::clone(stored)),
            _ => None,
        };
        let uid = match (&stored, seen) {
            (Some(stored), Some((uid, version)))
                if stored.uid == uid && stored.resource_version == version =>
            {
                uid.to_owned()
            }
            (None, None) => self.new_uid("catalog"),
            (None, Some(_)) => return Err(Refusal::NotFound),
            _ => return Err(Refusal::Conflict),
        };
        // Through the wire format and back, as between two real programs.
        let catalog =
            Catalog::decode(&catalog.encode()).map_err(|error| Refusal::Forbidden(error.to_string()))?;
        let resource_version = self.next_version();
        let object = Arc::new(StoredCatalog { catalog, uid, resource_version, ..StoredCatalog::default() });
        self.commit(at, Kind::Catalog, name, Some(Object::Catalog(Arc::clone(&object))));
        Ok(object)
    }
}
