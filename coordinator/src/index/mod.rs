//! The index: watch events and answers to our own writes become the cluster that is planned from.
//!
//! | module | subject |
//! |---|---|
//! | [`strings`] | one copy of each string that thousands of rows hold |
//! | [`table`] | the rows of one kind: lists, changes, and which of two states is the newer |
//!
//! All of it is synchronous, and all of it happens between two plans, so that a plan never sees half a change.

pub mod strings;
pub mod table;

use std::sync::Arc;

use drop_planner::{
    AgentPod, CachedImage, CachedImageSet, Cluster, Discovery, Node, PullPolicy, StoredCatalog,
    StoredPullSecrets,
};
use drop_protocol::{NodeLease, names};

use crate::watch::{AgentRow, Event, Update, Versioned};
use strings::Strings;
use table::{Rows, Table};

/// Bookkeeping beside a [`Cluster`].
#[derive(Debug, Default)]
pub struct Index {
    images: Table<CachedImage>,
    sets: Table<CachedImageSet>,
    discoveries: Table<Discovery>,
    policies: Table<PullPolicy>,
    nodes: Table<Node>,
    leases: Table<NodeLease>,
    catalogs: Table<StoredCatalog>,
    catalog_rows: Rows<StoredCatalog>,
    roles: Table<StoredPullSecrets>,
    role_rows: Rows<StoredPullSecrets>,
    agents: Table<AgentRow>,
    agent_rows: Rows<AgentRow>,
    agents_changed: bool,
    strings: Strings,
}

/// The object in the answer to a write of our own.
#[derive(Debug)]
pub enum Written {
    /// A CachedImage.
    Image(Versioned<CachedImage>),
    /// A CachedImageSet.
    Set(Versioned<CachedImageSet>),
    /// A node Lease.
    Lease(Versioned<NodeLease>),
    /// The catalog.
    Catalog(Versioned<StoredCatalog>),
    /// The Role by which agents read pull Secrets.
    PullSecrets(Versioned<StoredPullSecrets>),
}

impl Index {
    /// Whether every kind has been listed once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.images.is_complete()
            && self.sets.is_complete()
            && self.discoveries.is_complete()
            && self.policies.is_complete()
            && self.nodes.is_complete()
            && self.leases.is_complete()
            && self.catalogs.is_complete()
            && self.roles.is_complete()
            && self.agents.is_complete()
    }

    /// Takes in a watch event; returns whether there is something new to plan from.
    pub fn apply(&mut self, cluster: &mut Cluster, update: Update) -> bool {
        match update {
            Update::Image(mut event) => {
                row_of(&mut event).into_iter().for_each(|image| self.strings.share_status(image));
                self.images.apply(&mut cluster.images, event)
            }
            Update::Set(event) => self.sets.apply(&mut cluster.sets, event),
            Update::Discovery(event) => self.discoveries.apply(&mut cluster.discoveries, event),
            Update::Policy(event) => self.policies.apply(&mut cluster.policies, event),
            Update::Node(event) => self.nodes.apply(&mut cluster.nodes, event),
            Update::Lease(mut event) => {
                row_of(&mut event).into_iter().for_each(|lease| self.strings.share_report(lease));
                self.leases.apply(&mut cluster.leases, event)
            }
            Update::Catalog(event) => {
                let changed = self.catalogs.apply(&mut self.catalog_rows, event);
                self.show_catalog(cluster);
                changed
            }
            Update::PullSecrets(event) => {
                let changed = self.roles.apply(&mut self.role_rows, event);
                self.show_pull_secrets(cluster);
                changed
            }
            Update::Agent(event) => {
                let changed = self.agents.apply(&mut self.agent_rows, event);
                self.agents_changed |= changed;
                changed
            }
        }
    }

    /// Takes in the answer to a write of our own; returns whether there is something new to plan from.
    pub fn written(&mut self, cluster: &mut Cluster, written: Written) -> bool {
        match written {
            Written::Image(mut row) => {
                self.strings.share_status(&mut row.row);
                self.images.written(&mut cluster.images, row)
            }
            Written::Set(row) => self.sets.written(&mut cluster.sets, row),
            Written::Lease(mut row) => {
                self.strings.share_report(&mut row.row);
                self.leases.written(&mut cluster.leases, row)
            }
            Written::Catalog(row) => {
                let changed = self.catalogs.written(&mut self.catalog_rows, row);
                self.show_catalog(cluster);
                changed
            }
            Written::PullSecrets(row) => {
                let changed = self.roles.written(&mut self.role_rows, row);
                self.show_pull_secrets(cluster);
                changed
            }
        }
    }

    /// Brings up to date what is cheaper to do once before a plan than at every event.
    pub fn settle(&mut self, cluster: &mut Cluster) {
        if std::mem::take(&mut self.agents_changed) {
            // Sorted by age, so that the newest Pod of a node is the one that stays.
            let mut pods: Vec<_> = self.agent_rows.values().collect();
            pods.sort_by(|a, b| (a.created, &a.uid).cmp(&(b.created, &b.uid)));
            let before = std::mem::take(&mut cluster.agents);
            let agent = |pod: &AgentRow| {
                let agent = AgentPod { uid: pod.uid.clone(), ready: pod.ready };
                before
                    .get(&pod.node)
                    .filter(|known| ***known == agent)
                    .cloned()
                    .unwrap_or_else(|| Arc::new(agent))
            };
            cluster.agents = pods.into_iter().map(|pod| (pod.node.clone(), agent(pod))).collect();
        }
    }

    fn show_catalog(&self, cluster: &mut Cluster) {
        cluster.catalog = self.catalog_rows.get(names::CATALOG).cloned();
    }

    fn show_pull_secrets(&self, cluster: &mut Cluster) {
        cluster.pull_secrets = self.role_rows.get(names::PULL_SECRETS_ROLE).cloned();
    }
}

/// The row that an event brings.
fn row_of<T>(event: &mut Event<T>) -> Option<&mut T> {
    match event {
        Event::Listed(row) | Event::Applied(row) => Some(&mut row.row),
        Event::Restarted | Event::Complete | Event::Deleted(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use drop_planner::Cluster;
    use jiff::Timestamp;

    use super::Index;
    use crate::watch::{AgentRow, Event, Update, Versioned};

    fn pod(name: &str, created: i64, ready: bool) -> Update {
        let created = Timestamp::from_second(created).unwrap();
        let row = AgentRow { node: "node-1".to_owned(), uid: name.to_owned(), created, ready };
        Update::Agent(Event::Applied(Versioned { name: name.to_owned(), version: 1, row }))
    }

    #[test]
    fn of_two_agent_pods_on_a_node_the_newer_counts() {
        let (mut index, mut cluster) = (Index::default(), Cluster::default());
        index.apply(&mut cluster, pod("new", 20, false));
        index.apply(&mut cluster, pod("old", 10, true));
        index.settle(&mut cluster);
        assert_eq!(cluster.agents["node-1"].uid, "new");
        assert!(!cluster.agents["node-1"].ready);
    }

    #[test]
    fn an_agent_that_has_not_changed_is_known_by_its_pointer() {
        let (mut index, mut cluster) = (Index::default(), Cluster::default());
        index.apply(&mut cluster, pod("pod", 10, true));
        index.settle(&mut cluster);
        let before = Arc::clone(&cluster.agents["node-1"]);
        index.apply(&mut cluster, pod("older", 5, false));
        index.settle(&mut cluster);
        assert!(Arc::ptr_eq(&cluster.agents["node-1"], &before));
        index.apply(&mut cluster, pod("pod", 10, false));
        index.settle(&mut cluster);
        assert!(!cluster.agents["node-1"].ready);
    }

    #[test]
    fn nothing_is_complete_before_every_kind_was_listed() {
        let (mut index, mut cluster) = (Index::default(), Cluster::default());
        let lists = [
            Update::Image(Event::Complete),
            Update::Set(Event::Complete),
            Update::Discovery(Event::Complete),
            Update::Policy(Event::Complete),
            Update::Node(Event::Complete),
            Update::Agent(Event::Complete),
            Update::Lease(Event::Complete),
            Update::Catalog(Event::Complete),
            Update::PullSecrets(Event::Complete),
        ];
        for list in lists {
            assert!(!index.is_complete());
            index.apply(&mut cluster, list);
        }
        assert!(index.is_complete());
    }
}
