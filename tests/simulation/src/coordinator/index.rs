//! Watch events and write responses, folded into the planner's cluster; of two versions the newer one wins.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use drop_protocol::names;

use super::Process;
use crate::api::{Change, Kind, Object, Snapshot, StoredLease};
use crate::network::Client;
use crate::request::Request;
use crate::simulation::Simulation;

use super::execute::Purpose;

impl Process {
    /// Folds in one object as it was at `version`, or its deletion.
    fn fold(&mut self, kind: Kind, name: &str, version: u64, object: Option<Object>) {
        let versions = &mut self.versions[kind as usize];
        match versions.get_mut(name) {
            Some(known) if *known >= version => return,
            Some(known) => *known = version,
            None => drop(versions.insert(name.to_owned(), version)),
        }
        if kind == Kind::Lease && self.unknown_issues.get(name).is_some_and(|basis| version > *basis) {
            self.unknown_issues.remove(name);
        }
        if name == names::LEADER_LEASE {
            return;
        }
        let cluster = &mut self.world.cluster;
        let key = name.to_owned();
        self.changed |= match object {
            Some(Object::Lease(stored)) => put(&mut cluster.leases, key, Arc::new(stored.lease.clone())),
            Some(Object::Node(node)) => put(&mut cluster.nodes, key, node),
            Some(Object::Pod(pod)) => put(&mut cluster.agents, key, Arc::new(pod)),
            Some(Object::Image(image)) => put(&mut cluster.images, key, image),
            Some(Object::Policy(policy)) => put(&mut cluster.policies, key, policy),
            Some(Object::Set(set)) => put(&mut cluster.sets, key, set),
            Some(Object::Discovery(discovery)) => put(&mut cluster.discoveries, key, discovery),
            Some(Object::Catalog(catalog)) => cluster.catalog.replace(catalog).is_none(),
            None => match kind {
                Kind::Lease => cluster.leases.remove(name).is_some(),
                Kind::Node => cluster.nodes.remove(name).is_some(),
                Kind::Pod => cluster.agents.remove(name).is_some(),
                Kind::Image => cluster.images.remove(name).is_some(),
                Kind::Policy => cluster.policies.remove(name).is_some(),
                Kind::Catalog => cluster.catalog.take().is_some(),
                Kind::Set => cluster.sets.remove(name).is_some(),
                Kind::Discovery => cluster.discoveries.remove(name).is_some(),
            },
        };
    }
}

/// Whether something is different now.
fn put<T: PartialEq>(map: &mut BTreeMap<String, T>, name: String, value: T) -> bool {
    match map.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value);
            true
        }
        Entry::Occupied(mut entry) => {
            let changed = *entry.get() != value;
            entry.insert(value);
            changed
        }
    }
}

impl Simulation {
    /// A watch tells of a change.
    pub(super) fn coordinator_learns(&mut self, index: usize, change: Change) {
        let kind = change.kind;
        if let Some(process) = self.process(index) {
            process.fold(kind, &change.name, change.version, change.object);
        }
        if kind == Kind::Image {
            self.checker_sees_view(index);
        }
    }

    /// A watch was opened anew, with a list of its kind.
    pub(super) fn coordinator_relists(&mut self, index: usize, kind: Kind, snapshot: &Snapshot) {
        let Some(process) = self.process(index) else { return };
        for (name, stored) in &snapshot.objects {
            process.fold(kind, name, stored.version, Some(stored.object.clone()));
        }
        let known: Vec<String> = match kind {
            Kind::Lease => process.world.cluster.leases.keys().cloned().collect(),
            Kind::Node => process.world.cluster.nodes.keys().cloned().collect(),
            Kind::Pod => process.world.cluster.agents.keys().cloned().collect(),
            Kind::Image => process.world.cluster.images.keys().cloned().collect(),
            Kind::Policy => process.world.cluster.policies.keys().cloned().collect(),
            Kind::Set => process.world.cluster.sets.keys().cloned().collect(),
            Kind::Discovery => process.world.cluster.discoveries.keys().cloned().collect(),
            Kind::Catalog => {
                process.world.cluster.catalog.iter().map(|_| names::CATALOG.to_owned()).collect()
            }
        };
        for name in known {
            if !snapshot.objects.contains_key(&name) {
                process.fold(kind, &name, snapshot.version, None);
            }
        }
        self.checker_sees_view(index);
    }

    /// Asks for everything, consistently, kind by kind.
    pub(super) fn list_all(&mut self, index: usize, client: Client) {
        if let Some(process) = self.process(index) {
            process.unlisted = Kind::ALL.into();
        }
        for kind in Kind::ALL {
            self.list(index, client, kind);
        }
    }

    pub(super) fn list(&mut self, index: usize, client: Client, kind: Kind) {
        let call = self.call(client, Request::List(kind));
        if let Some(process) = self.process(index) {
            process.calls.insert(call, Purpose::List(kind));
        }
    }

    /// One kind, consistently: once all have come the leader may plan.
    pub(super) fn coordinator_lists(&mut self, index: usize, kind: Kind, snapshot: &Snapshot) {
        if let Some(process) = self.process(index) {
            process.unlisted.remove(&kind);
            process.changed = true;
        }
        self.coordinator_relists(index, kind, snapshot);
    }

    /// The answer to a write shows a Lease.
    pub(super) fn fold_lease(&mut self, index: usize, stored: &Arc<StoredLease>) {
        let name = stored.lease.node.clone();
        let version = stored.lease.resource_version;
        if let Some(process) = self.process(index) {
            process.fold(Kind::Lease, &name, version, Some(Object::Lease(Arc::clone(stored))));
        }
    }

    /// The answer to a write shows another object.
    pub(super) fn fold_object(&mut self, index: usize, kind: Kind, name: &str, version: u64, object: Object) {
        if let Some(process) = self.process(index) {
            process.fold(kind, name, version, Some(object));
        }
    }
}
