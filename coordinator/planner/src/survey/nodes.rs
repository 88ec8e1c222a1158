//! What is known of each node: whether its report counts, and what keeps it from taking a grant.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drop_protocol::{Grant, Monotonic, Report, ReportEntry};

use crate::cluster::{Node, World};
use crate::memory::leases::LeaseMemory;
use crate::memory::nodes::NodeMemory;
use crate::memory::pairs::PairMemory;
use crate::memory::reported::Reported;
use crate::memory::writes::UnderWay;
use crate::waiting::WaitReason;
use crate::wake::Wake;
use crate::walk::Walk;

/// What a node last reported counts for so long after it, or its agent, ceased to be ready.
const REPORT_COUNTS: Duration = Duration::from_secs(300);

/// One node that can hold images.
pub(crate) struct NodeFacts<'w> {
    pub(crate) node: &'w Arc<Node>,
    /// Its name.
    pub(crate) name: &'w str,
    /// Whether it has taints.
    pub(crate) tainted: bool,
    /// What its agent last reported.
    pub(crate) report: Option<&'w Report>,
    /// What its Lease says of each CachedImage, in a few bytes and in the order of names.
    pub(crate) row: &'w [Reported],
    /// What was seen of its pairs, by uid of the CachedImage.
    pub(crate) pairs: Option<&'w BTreeMap<Arc<str>, PairMemory>>,
    /// Why it can't take any grant.
    pub(crate) obstacle: Option<WaitReason>,
    /// It was not ready for so long that what it reported no longer tells what it holds.
    pub(crate) forgotten: bool,
    /// Its live grant and when that was first seen, or `None` for an issue under way.
    pub(crate) grant: Option<(&'w Grant, Option<Monotonic>)>,
    /// It holds a live grant, or may; or the server rejects grants to it.
    pub(crate) busy: bool,
    /// Since when its agent is ready.
    pub(crate) ready_since: Option<Monotonic>,
    /// When it last held a live grant.
    pub(crate) served_at: Option<Monotonic>,
    /// Grants in a row that it let pass, or gave back undone, and since when.
    pub(crate) unanswered: Option<(u32, Monotonic)>,
    /// When a pull on it was last seen to succeed.
    pub(crate) success: Option<Monotonic>,
}

impl<'w> NodeFacts<'w> {
    /// What it reported about the present reference of the CachedImage with this uid.
    pub(crate) fn entry(&self, uid: &str, reported: Reported) -> Option<&'w ReportEntry> {
        self.report.filter(|_| reported.known)?.images.get(uid)
    }
}

/// Facts of all nodes that can hold images, by name.
pub(crate) fn facts<'w>(world: &'w World, wake: &Wake) -> Vec<NodeFacts<'w>> {
    let mut sources = Sources::of(world);
    let nodes = world.memory.nodes.iter().filter(|(_, known)| known.holds_images);
    nodes.map(|(name, known)| sources.facts(name, known, wake)).collect()
}

/// A Lease with a live grant, or with one that can't be read.
pub(crate) struct Granted<'w> {
    /// Number of its node, if that can hold images.
    pub(crate) node: Option<usize>,
    pub(crate) seen: &'w LeaseMemory,
}

/// All such Leases, by name.
pub(crate) fn granted<'w>(world: &'w World, nodes: &[NodeFacts<'w>]) -> Vec<Granted<'w>> {
    let with_lease = nodes.iter().enumerate().filter_map(|(number, node)| Some((number, node.pairs?)));
    let mut with_lease = with_lease.peekable();
    let leases = world.memory.leases.seen.values().filter_map(|seen| {
        let node = with_lease.next_if(|(_, pairs)| std::ptr::eq(*pairs, &raw const seen.pairs));
        let node = node.map(|(number, _)| number);
        (seen.live.is_some() || seen.lease.grant_error.is_some()).then_some(Granted { node, seen })
    });
    leases.collect()
}

/// Where facts come from; all is sorted by the names of nodes, and so are the nodes that are asked for.
struct Sources<'w> {
    seen: Walk<'w, LeaseMemory>,
    unsettled: Walk<'w, UnderWay>,
    rejected: Walk<'w, (u32, Monotonic)>,
    haunted: BTreeMap<&'w str, Monotonic>,
}

impl<'w> Sources<'w> {
    fn of(world: &'w World) -> Self {
        let memory = &world.memory;
        Self {
            seen: Walk::new(&memory.leases.seen),
            unsettled: Walk::new(&memory.writes.unsettled),
            rejected: Walk::new(&memory.writes.rejected),
            haunted: memory.leases.haunted(),
        }
    }

    fn facts(&mut self, name: &'w str, known: &'w NodeMemory, wake: &Wake) -> NodeFacts<'w> {
        let lease = known.lease.as_ref();
        let seen = self.seen.at_or(name, |seen| lease.is_some_and(|lease| Arc::ptr_eq(lease, &seen.lease)));
        let under_way = self.unsettled.at(name);
        let live = seen.and_then(|seen| seen.live.as_ref());
        let shown = lease.and_then(|lease| Some((lease.grant.as_ref()?, Some(live?.first_seen))));
        let haunted = self.haunted.get(name).is_some_and(|until| wake.ahead(*until));
        // It is removed first, so that one plan writes to a Lease once.
        let unreadable = lease.is_some_and(|lease| lease.grant_error.is_some());
        let rejected = self.rejected.at(name).is_some_and(|(_, until)| wake.ahead(*until));
        let report = lease.and_then(|lease| lease.report.as_ref());
        let row = seen.filter(|_| lease.is_some()).map(|seen| &*seen.row);
        let obstacle = if lease.is_none() {
            Some(WaitReason::LeasePending)
        } else if known.agent_ready_since.is_none() {
            Some(WaitReason::AgentNotReady)
        } else if lease.is_some_and(|lease| lease.report_error.is_some()) {
            Some(WaitReason::ReportUnreadable)
        } else {
            None
        };
        NodeFacts {
            node: &known.node,
            name,
            tainted: known.tainted,
            report,
            row: row.unwrap_or_default(),
            pairs: seen.map(|seen| &seen.pairs),
            obstacle,
            forgotten: report.is_some() && is_forgotten(known, wake),
            grant: shown.or_else(|| under_way.map(|under_way| (&under_way.issue.grant, None))),
            busy: live.is_some() || under_way.is_some() || haunted || rejected || unreadable,
            ready_since: known.agent_ready_since,
            served_at: known.served_at,
            unanswered: known.unanswered(),
            success: known.success,
        }
    }
}

/// Whether a node was not ready for so long, and silent, that nobody knows what it holds.
fn is_forgotten(known: &NodeMemory, wake: &Wake) -> bool {
    let since = match (known.agent_unready_since, known.node_unready_since) {
        (Some(agent), Some(node)) => agent.min(node),
        (Some(since), None) | (None, Some(since)) => since,
        (None, None) => return false,
    };
    let silent_since = known.reported_at.map_or(since, |reported| since.max(reported));
    !wake.ahead(silent_since.after(REPORT_COUNTS))
}
