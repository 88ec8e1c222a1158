//! What can be scraped: names, labels, and the places where they are written.
//!
//! | module | subject |
//! |---|---|
//! | [`discovery`] | DiscoveryPolicies and their sources |
//! | [`images`] | gauges and counters per CachedImage, for a bounded number of them |
//! | `grants` | what becomes of grants, and how long pairs wait |
//! | `news` | what is new in a node's report |
//! | `snapshot` | what is shown of the cluster, gathered once a pass |
//!
//! Labels never carry node names: there may be thousands of nodes times dozens of images. The agents' own metrics
//! tell about their nodes.

pub mod discovery;
mod grants;
pub mod images;
mod news;
mod snapshot;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use drop_planner::{Issue, WithdrawReason};
use drop_protocol::{Monotonic, NodeLease};

pub use discovery::Discovery;
use grants::Grants;
pub use images::{ImageState, Images};
use news::{news, repository};

/// What a write is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum WriteKind {
    /// A grant put into a node Lease.
    Issue,
    /// A grant removed from a node Lease or marked as withdrawn.
    Withdraw,
    /// A node Lease created.
    CreateLease,
    /// A node Lease of a Node that is no more deleted.
    DeleteLease,
    /// The catalog.
    Catalog,
    /// The Role by which agents read pull Secrets.
    PullSecrets,
    /// A CachedImage of a set created.
    CreateChild,
    /// A CachedImage of a set put right.
    PatchChild,
    /// A CachedImage of a set deleted.
    DeleteChild,
    /// The status of a CachedImage.
    Status,
    /// The status of a CachedImageSet.
    SetStatus,
    /// The status of a DiscoveryPolicy.
    DiscoveryStatus,
    /// An event.
    Event,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum WriteOutcome {
    /// Applied.
    Applied,
    /// Refused by the server: a conflict, or not allowed.
    Refused,
    /// No answer, or one that leaves it open.
    Unknown,
    /// Not sent: no longer the leader.
    Dropped,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: WriteKind,
    outcome: WriteOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    controller: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

/// Sizes of what the planner reads, and what it shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Objects by kind.
    pub objects: Vec<(&'static str, usize)>,
    /// Pairs that could be pulled now and wait for their turn.
    pub due: usize,
    /// Pairs that wait, by reason.
    pub waiting: Vec<(String, usize)>,
    /// Nodes that hold a taken grant.
    pub active_pulls: usize,
    /// Grants that occupy a slot, taken or not.
    pub live_grants: usize,
    /// Every CachedImage.
    pub images: Vec<ImageState>,
}

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    passes: Family<Pass, Counter>,
    plan_seconds: Histogram,
    writes: Family<Write, Counter>,
    checks: Family<Check, Counter>,
    leader: Gauge,
    transitions: Gauge,
    active_pulls: Gauge,
    live_grants: Gauge,
    objects: Family<Kind, Gauge>,
    due: Gauge,
    waiting: Family<Reason, Gauge>,
    grants: Grants,
    images: Arc<Images>,
    discovery: Discovery,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("drop");
        let passes = Family::default();
        registry.register(
            "reconcile",
            "Passes of the planning loop that had something to write",
            Clone::clone(&passes),
        );
        // 0.1 ms to 1 s, fine enough to tell a median.
        let plan_seconds = Histogram::new(exponential_buckets(0.0001, 1.25, 42));
        registry.register("plan_duration_seconds", "Time to decide, per pass", plan_seconds.clone());
        let writes = Family::default();
        registry.register("writes", "Writes to the API server", Clone::clone(&writes));
        let checks = Family::default();
        registry.register(
            "registry_checks",
            "Questions to registries which digest a tag stands for",
            Clone::clone(&checks),
        );
        let leader = Gauge::default();
        registry.register("leader", "1 while this process leads", leader.clone());
        let transitions = Gauge::default();
        registry.register("leader_transitions", "Number of the latest own leadership", transitions.clone());
        let active_pulls = Gauge::default();
        registry.register("active_pulls", "Nodes that have taken a grant", active_pulls.clone());
        let live_grants = Gauge::default();
        registry.register("live_grants", "Grants that occupy a slot", live_grants.clone());
        let objects = Family::default();
        registry.register("snapshot_objects", "Objects that are planned from", Clone::clone(&objects));
        let due = Gauge::default();
        registry.register("due_pairs", "Pairs of image and node that wait for their turn", due.clone());
        let waiting = Family::default();
        registry.register("waiting_pairs", "Pairs of image and node that wait", Clone::clone(&waiting));
        let grants = Grants::register(&mut registry);
        let images = Arc::new(Images::default());
        registry.register_collector(Box::new(Arc::clone(&images)));
        let discovery = Discovery::register(&mut registry);
        Self {
            registry,
            passes,
            plan_seconds,
            writes,
            checks,
            leader,
            transitions,
            active_pulls,
            live_grants,
            objects,
            due,
            waiting,
            grants,
            images,
            discovery,
        }
    }

    /// A plan was made, in this time.
    pub fn planned(&self, took: Duration) {
        self.plan_seconds.observe(took.as_secs_f64());
    }

    /// The requests of a plan have been sent; `all_applied` tells whether every one was applied.
    pub fn executed(&self, all_applied: bool) {
        let result = if all_applied { "success" } else { "error" };
        self.passes.get_or_create(&Pass { controller: "coordinator", result }).inc();
    }

    /// A write has come to its end.
    pub fn write(&self, kind: WriteKind, outcome: WriteOutcome) {
        self.writes.get_or_create(&Write { kind, outcome }).inc();
    }

    /// A registry was asked for a digest, and this came of it: `Digest`, or why there is none.
    pub fn check(&self, outcome: &'static str) {
        self.checks.get_or_create(&Check { outcome }).inc();
    }

    /// Leadership was won (with its number) or lost.
    pub fn leads(&self, transitions: Option<i32>) {
        self.leader.set(i64::from(transitions.is_some()));
        self.grants.clear();
        if let Some(transitions) = transitions {
            self.transitions.set(i64::from(transitions));
        }
    }

    /// What the latest pass was about. An empty snapshot, when leadership ends, clears what only a leader knows.
    pub fn snapshot(&self, snapshot: Snapshot) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.active_pulls.set(count(snapshot.active_pulls));
        self.live_grants.set(count(snapshot.live_grants));
        self.due.set(count(snapshot.due));
        self.objects.clear();
        for (kind, n) in snapshot.objects {
            self.objects.get_or_create(&Kind { kind }).set(count(n));
        }
        self.waiting.clear();
        for (reason, n) in snapshot.waiting {
            self.waiting.get_or_create(&Reason { reason }).set(count(n));
        }
        self.images.show(snapshot.images);
    }

    /// A grant is about to be issued.
    pub fn issue_sent(&self, issue: &Issue) {
        self.grants.sent(issue);
    }

    /// A grant was taken back.
    pub fn withdrawn(&self, reason: WithdrawReason) {
        self.grants.withdrawn(reason);
    }

    /// A node's Lease, known as `before`, is seen as `after`. What is not newer is not counted.
    pub fn lease_seen(&self, before: Option<&NodeLease>, after: &NodeLease, now: Monotonic) {
        let is_newer =
            |known: &&NodeLease| known.uid == after.uid && known.resource_version < after.resource_version;
        let Some(before) = before.filter(is_newer) else { return };
        for news in news(before, after) {
            if news.pulled {
                self.images.cached(news.image);
                self.grants.cached(&after.node, news.uid, now);
            }
            if news.failed {
                self.images.failed(news.image);
            }
            if news.evicted {
                self.images.evicted(news.image);
            }
        }
        self.grants.moved(before, after);
    }

    /// The Lease of this node is gone.
    pub fn lease_gone(&self, node: &str) {
        self.grants.forget(node);
    }

    /// What DiscoveryPolicies find.
    #[must_use]
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// The text that a scrape gets.
    ///
    /// # Errors
    /// If a metric can't be encoded.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut buffer = String::new();
        text::encode(&mut buffer, &self.registry)?;
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests;
