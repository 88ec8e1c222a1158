//! Since when a node and its agent are ready, and whether the node takes its grants.

use std::sync::Arc;

use drop_protocol::{Monotonic, NodeLease};

use crate::cluster::{AgentPod, Node};
use crate::targets;

/// What was seen of one node. A node that comes back under the same name starts from nothing.
#[derive(Debug, Clone)]
pub(crate) struct NodeMemory {
    /// As it was last seen.
    pub(crate) node: Arc<Node>,
    agent: Option<Arc<AgentPod>>,
    /// Whether any image can be wanted on it.
    pub(crate) holds_images: bool,
    /// Whether it has taints.
    pub(crate) tainted: bool,
    /// Its Lease as it was last seen: not one that belongs to an earlier Node of its name.
    pub(crate) lease: Option<Arc<NodeLease>>,
    /// Since when its present agent is ready; `None` while it is not.
    pub(crate) agent_ready_since: Option<Monotonic>,
    /// Since when it has no ready agent; `None` while it has.
    pub(crate) agent_unready_since: Option<Monotonic>,
    /// Since when the Node is not ready; `None` while it is.
    pub(crate) node_unready_since: Option<Monotonic>,
    /// When it last held a live grant.
    pub(crate) served_at: Option<Monotonic>,
    /// Grants in a row that it let pass without taking them, and when the latest was withdrawn.
    pub(crate) unanswered: Option<(u32, Monotonic)>,
    /// Grants in a row that it gave back although it had done nothing about some image and nothing stood in the way, and when the
    /// latest ended.
    pub(crate) undone: Option<(u32, Monotonic)>,
    /// When a pull on it was last seen to succeed.
    pub(crate) success: Option<Monotonic>,
    /// When its report last changed.
    pub(crate) reported_at: Option<Monotonic>,
}

impl NodeMemory {
    pub(crate) fn new(node: &Arc<Node>, agent: Option<&Arc<AgentPod>>, now: Monotonic) -> Self {
        let mut memory = Self {
            node: Arc::clone(node),
            agent: None,
            holds_images: targets::can_hold_images(node),
            tainted: !node.taints.is_empty(),
            lease: None,
            agent_ready_since: None,
            agent_unready_since: None,
            node_unready_since: None,
            served_at: None,
            unanswered: None,
            undone: None,
            success: None,
            reported_at: None,
        };
        memory.changed(agent, now);
        memory
    }

    /// Grants in a row that it let pass, or gave back undone once more than may happen at any time, and since when.
    pub(crate) fn unanswered(&self) -> Option<(u32, Monotonic)> {
        self.unanswered.max(self.undone.map(|(count, at)| (count.saturating_sub(1), at)))
    }

    /// Whether this is the agent that was seen last, as it was then.
    pub(crate) fn knows(&self, agent: &Arc<AgentPod>) -> bool {
        self.agent.as_ref().is_some_and(|known| Arc::ptr_eq(known, agent))
    }

    pub(crate) fn observe(&mut self, node: &Arc<Node>, agent: Option<&Arc<AgentPod>>, now: Monotonic) {
        let same_node = Arc::ptr_eq(&self.node, node);
        if same_node && agent.map_or(self.agent.is_none(), |agent| self.knows(agent)) {
            return;
        }
        if !same_node {
            self.node = Arc::clone(node);
            self.holds_images = targets::can_hold_images(node);
            self.tainted = !node.taints.is_empty();
        }
        self.changed(agent, now);
    }

    fn changed(&mut self, agent: Option<&Arc<AgentPod>>, now: Monotonic) {
        if self.agent.as_ref() != agent {
            // Another agent, or one that has come back, is worth asking at once.
            self.unanswered = None;
            self.undone = None;
            self.agent_ready_since = None;
        }
        self.agent = agent.cloned();
        if agent.is_some_and(|agent| agent.ready) {
            self.agent_ready_since.get_or_insert(now);
            self.agent_unready_since = None;
        } else {
            self.agent_unready_since.get_or_insert(now);
        }
        if self.node.ready {
            self.node_unready_since = None;
        } else {
            self.node_unready_since.get_or_insert(now);
        }
    }
}
