//! A cluster in memory whose plans are applied at once and whose agents do what a test says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drop_planner::CheckOutcome;
use drop_planner::cluster::{
    AgentPod, CachedImage, Leadership, Node, PullPolicy, StoredCatalog, StoredPullSecrets, World,
};
use drop_planner::memory::WriteOutcome;
use drop_planner::plan::{
    Check, ChildWrite, Issue, IssueKind, Plan, PlannedEvent, SetStatusWrite, StatusWrite, Withdraw,
    WithdrawKind, plan,
};
use drop_planner::status::ImageStatus;
use drop_protocol::failure::{Failure, FailureReason, FailureScope};
use drop_protocol::lease::DEFAULT_DURATION;
use drop_protocol::{
    Epoch, Evictions, Grant, GrantOutcome, GrantedImage, Holder, ImagePullPolicy, Monotonic, NodeLease, Now,
    Outcome, Report, ReportEntry,
};
use jiff::Timestamp;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Rig {
    pub(crate) world: World,
    pub(crate) now: Now,
    version: u64,
    pub(crate) events: Vec<PlannedEvent>,
    /// Every issue that was applied: when, under which policy, to which node.
    pub(crate) issued: Vec<(Monotonic, String, String)>,
    /// Every status that was written.
    pub(crate) statuses: Vec<StatusWrite>,
    /// Every write to a child of a set, and when.
    pub(crate) child_writes: Vec<(Monotonic, ChildWrite)>,
    /// Every status of a set that was written.
    pub(crate) set_statuses: Vec<SetStatusWrite>,
    /// What registries say when they are asked for a reference; asked for any other, they never answer.
    pub(crate) registry: BTreeMap<String, CheckOutcome>,
    /// Every check: when, of which reference.
    pub(crate) checked: Vec<(Monotonic, String)>,
}

impl Rig {
    /// A first leader, elected just now, and an empty cluster.
    pub(crate) fn new() -> Self {
        let monotonic = Monotonic::from_start(Duration::from_secs(1000));
        let mut rig = Self {
            world: World::default(),
            now: Now { monotonic, wall: Timestamp::from_second(1_800_000_000).unwrap() },
            version: 100,
            events: Vec::new(),
            issued: Vec::new(),
            statuses: Vec::new(),
            child_writes: Vec::new(),
            set_statuses: Vec::new(),
            registry: BTreeMap::new(),
            checked: Vec::new(),
        };
        rig.elect(1);
        rig
    }

    /// This process becomes leader for the `transitions`th time: it remembers nothing.
    pub(crate) fn elect(&mut self, transitions: i32) {
        let epoch = Epoch { lease: "lead".to_owned(), transitions };
        self.world.leadership = Some(Leadership { epoch, since: self.now.monotonic });
    }

    /// A rig with these nodes and their Leases, images settled, past the delay after the election.
    pub(crate) fn with_nodes(nodes: &[&str]) -> Self {
        let mut rig = Self::new();
        for node in nodes {
            rig.node(node, |_| {});
        }
        rig.run(30 * SECOND);
        rig
    }

    /// The same with so many nodes: `n0`, `n1` and so on.
    pub(crate) fn with_many(nodes: usize) -> Self {
        let names: Vec<String> = (0..nodes).map(|n| format!("n{n}")).collect();
        Self::with_nodes(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    pub(crate) fn version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    pub(crate) fn node(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let mut node = self.world.cluster.nodes.get(name).map_or_else(
            || Node {
                name: name.to_owned(),
                uid: format!("node-{name}"),
                architecture: "amd64".to_owned(),
                os: "linux".to_owned(),
                ready: true,
                ..Node::default()
            },
            |node| Node::clone(node),
        );
        change(&mut node);
        self.world.cluster.nodes.insert(name.to_owned(), Arc::new(node));
        self.world
            .cluster
            .agents
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(AgentPod { uid: format!("pod-{name}"), ready: true }));
    }

    pub(crate) fn agent_ready(&mut self, node: &str, ready: bool) {
        Arc::make_mut(self.world.cluster.agents.get_mut(node).unwrap()).ready = ready;
    }

    /// Adds or changes a CachedImage; a change raises its generation.
    pub(crate) fn image(&mut self, name: &str, change: impl FnOnce(&mut CachedImage)) {
        let mut image = self.world.cluster.images.get(name).map_or_else(
            || CachedImage {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                reference: format!("reg.test/{name}:1"),
                pull_policy: ImagePullPolicy::Always,
                created: self.now.wall,
                ..CachedImage::default()
            },
            |image| CachedImage::clone(image),
        );
        image.generation += 1;
        change(&mut image);
        self.world.cluster.images.insert(name.to_owned(), Arc::new(image));
    }

    pub(crate) fn delete_image(&mut self, name: &str) {
        self.world.cluster.images.remove(name);
    }

    /// Adds or replaces a PullPolicy.
    pub(crate) fn policy(&mut self, name: &str, max: u32, delay: Duration) -> PullPolicy {
        let policy = PullPolicy {
            name: name.to_owned(),
            max_concurrent_nodes: max,
            min_delay: delay,
            backoff_initial: Duration::from_secs(30),
            backoff_max: Duration::from_secs(300),
            ..PullPolicy::default()
        };
        self.world.cluster.policies.insert(name.to_owned(), Arc::new(policy.clone()));
        policy
    }

    pub(crate) fn set_policy(&mut self, policy: PullPolicy) {
        self.world.cluster.policies.insert(policy.name.clone(), Arc::new(policy));
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now.monotonic = self.now.monotonic.after(by);
        self.now.wall += jiff::SignedDuration::try_from(by).unwrap();
    }

    pub(crate) fn elapsed(&self, since: Monotonic) -> Duration {
        self.now.monotonic.since(since)
    }

    pub(crate) fn plan(&mut self) -> Plan {
        self.world.memory.observe(&self.world.cluster, self.world.leadership.as_ref(), self.now);
        plan(&self.world, self.now)
    }

    /// Plans and applies, as an executor whose writes all succeed would.
    pub(crate) fn step(&mut self) -> Plan {
        let plan = self.plan();
        self.apply(&plan);
        plan
    }

    /// Lets time pass and applies every plan on the way; nobody but the coordinator acts.
    pub(crate) fn run(&mut self, time: Duration) {
        self.run_with(time, |_| {});
    }

    /// The same, with `agents` acting after each plan.
    pub(crate) fn run_with(&mut self, time: Duration, mut agents: impl FnMut(&mut Self)) {
        let end = self.now.monotonic.after(time);
        loop {
            let plan = self.step();
            agents(self);
            let next = match plan.wake_at {
                _ if !plan.is_empty() => self.now.monotonic.after(Duration::from_millis(100)),
                Some(at) => at,
                None => self.now.monotonic.after(SECOND),
            };
            let next = next.min(self.now.monotonic.after(SECOND)).min(end);
            self.advance(next.since(self.now.monotonic));
            if self.now.monotonic >= end {
                self.step();
                return;
            }
        }
    }

    pub(crate) fn apply(&mut self, plan: &Plan) {
        for lease in &plan.delete_leases {
            self.world.cluster.leases.remove(&lease.node);
        }
        for create in &plan.create_leases {
            self.create_lease(&create.node, &create.node_uid);
        }
        for withdraw in &plan.withdrawals {
            self.apply_withdraw(withdraw);
        }
        for issue in plan.issues.iter().flat_map(|policy| &policy.issues) {
            self.apply_issue(issue);
        }
        if let Some(catalog) = &plan.catalog {
            let version = self.version();
            self.world.cluster.catalog = Some(Arc::new(StoredCatalog {
                catalog: catalog.clone(),
                uid: "catalog".to_owned(),
                resource_version: version,
                ..StoredCatalog::default()
            }));
            self.world.memory.catalog_written(self.now);
        }
        if let Some(secrets) = &plan.pull_secrets {
            self.pull_secrets(secrets.iter().map(String::as_str));
            self.world.memory.pull_secrets_written(self.now);
        }
        self.apply_sets(plan);
        for write in &plan.statuses {
            counts_every_target_once(&write.status);
            self.store_status(&write.image, write.status.clone());
            self.world.memory.status_written(&write.image, self.now);
            self.statuses.push(write.clone());
        }
        for check in &plan.checks {
            self.check(check);
        }
        self.events.extend(plan.events.iter().cloned());
    }

    /// The Role by which agents read pull Secrets names these.
    pub(crate) fn pull_secrets<'s>(&mut self, secrets: impl IntoIterator<Item = &'s str>) {
        let secrets = secrets.into_iter().map(str::to_owned).collect();
        self.world.cluster.pull_secrets = Some(Arc::new(StoredPullSecrets {
            secrets: Some(secrets),
            uid: "role".to_owned(),
            resource_version: self.version(),
        }));
    }

    pub(crate) fn create_lease(&mut self, node: &str, node_uid: &str) {
        let version = self.version();
        let lease = NodeLease {
            node: node.to_owned(),
            uid: format!("lease-{node}-{version}"),
            resource_version: version,
            node_uid: Some(node_uid.to_owned()),
            duration: DEFAULT_DURATION,
            holder: None,
            renewed_at: None,
            transitions: 0,
            grant: None,
            grant_error: None,
            report: None,
            report_error: None,
        };
        self.world.cluster.leases.insert(node.to_owned(), Arc::new(lease));
    }

    fn check(&mut self, check: &Check) {
        self.checked.push((self.now.monotonic, check.reference.clone()));
        self.world.memory.check_sent(&check.uid, &check.reference, self.now);
        if let Some(outcome) = self.registry.get(&check.reference).cloned() {
            self.world.memory.check_settled(&check.uid, &check.reference, outcome, self.now);
        }
    }

    /// From now on the registry says this when it is asked for the image's reference.
    pub(crate) fn registry_says(&mut self, image: &str, outcome: CheckOutcome) {
        let reference = self.world.cluster.images[image].reference.clone();
        self.registry.insert(reference, outcome);
    }

    fn apply_withdraw(&mut self, withdraw: &Withdraw) {
        self.change_lease(&withdraw.node, |lease| match &withdraw.kind {
            WithdrawKind::Remove => {
                lease.grant = None;
                lease.grant_error = None;
                lease.holder = None;
            }
            WithdrawKind::Mark(mark) => {
                lease.grant.as_mut().unwrap().withdrawn = Some(mark.clone());
            }
        });
        self.world.memory.withdraw_settled(withdraw, WriteOutcome::Applied, self.now);
    }

    pub(crate) fn apply_issue(&mut self, issue: &Issue) {
        self.world.memory.issue_sent(issue);
        self.commit_issue(issue);
        self.world.memory.issue_settled(&issue.node, &issue.grant.id, WriteOutcome::Applied, self.now);
    }

    /// What the server does with an issue.
    pub(crate) fn commit_issue(&mut self, issue: &Issue) {
        let lease = &self.world.cluster.leases[&issue.node];
        assert_eq!((&lease.uid, lease.resource_version), (&issue.lease_uid, issue.resource_version));
        self.change_lease(&issue.node, |lease| {
            lease.grant = Some(issue.grant.clone());
            lease.duration = issue.duration;
        });
        if issue.kind == IssueKind::New {
            self.issued.push((self.now.monotonic, issue.grant.policy.clone(), issue.node.clone()));
        }
    }

    pub(crate) fn change_lease(&mut self, node: &str, change: impl FnOnce(&mut NodeLease)) {
        let version = self.version();
        let mut lease = NodeLease::clone(&self.world.cluster.leases[node]);
        change(&mut lease);
        lease.resource_version = version;
        self.world.cluster.leases.insert(node.to_owned(), Arc::new(lease));
    }

    fn store_status(&mut self, image: &str, status: ImageStatus) {
        if let Some(found) = self.world.cluster.images.get(image) {
            let found = CachedImage { status, ..CachedImage::clone(found) };
            self.world.cluster.images.insert(image.to_owned(), Arc::new(found));
        }
    }

    /// Every status reads as if an earlier generation had been the last to be written, so that it is due again.
    pub(crate) fn forget_statuses(&mut self) {
        let names: Vec<String> = self.world.cluster.images.keys().cloned().collect();
        for name in names {
            let status = ImageStatus { observed_generation: Some(0), ..self.status(&name).clone() };
            self.store_status(&name, status);
        }
    }

    /// Whether the node says that it holds the image as it is wanted now.
    pub(crate) fn holds(&self, node: &str, image: &str) -> bool {
        let image = &self.world.cluster.images[image];
        let report = self.world.cluster.leases.get(node).and_then(|lease| lease.report.as_ref());
        report
            .and_then(|report| report.images.get(image.uid.as_str()))
            .is_some_and(|entry| *entry.reference == *image.reference && entry.digest.is_some())
    }

    pub(crate) fn status(&self, image: &str) -> &ImageStatus {
        &self.world.cluster.images[image].status
    }

    /// The live grant of a node.
    pub(crate) fn grant(&self, node: &str) -> Option<&Grant> {
        self.world.cluster.leases.get(node)?.live_grant()
    }

    /// Names of the images of a node's live grant.
    pub(crate) fn granted(&self, node: &str) -> Vec<&str> {
        self.grant(node).map(|g| g.images.iter().map(|i| i.name.as_str()).collect()).unwrap_or_default()
    }

    /// Nodes with a live grant.
    pub(crate) fn live(&self) -> Vec<&str> {
        let leases = self.world.cluster.leases.values();
        leases.filter(|lease| lease.live_grant().is_some()).map(|lease| lease.node.as_str()).collect()
    }

    pub(crate) fn take(&mut self, node: &str) {
        self.change_lease(node, |lease| {
            let grant = lease.grant.as_ref().unwrap().id.clone();
            lease.holder = Some(Holder { process: "p".to_owned(), grant });
        });
    }

    pub(crate) fn renew(&mut self, node: &str) {
        self.change_lease(node, |_| {});
    }

    pub(crate) fn report(&mut self, node: &str, change: impl FnOnce(&mut Report)) {
        let generation = self.world.cluster.catalog.as_ref().map_or(0, |c| c.catalog.generation);
        self.change_lease(node, |lease| {
            let report = lease.report.get_or_insert_with(|| Report::empty("pod"));
            report.catalog = generation;
            change(report);
        });
    }

    /// Puts an entry for `image`, as its reference is now, into the node's report.
    pub(crate) fn entry(&mut self, node: &str, image: &str, change: impl FnOnce(&mut ReportEntry)) {
        let image = Arc::clone(&self.world.cluster.images[image]);
        self.report(node, |report| {
            let entry = report.images.entry(image.uid.as_str().into()).or_default();
            if *entry.reference != *image.reference {
                *entry = ReportEntry { reference: image.reference.as_str().into(), ..ReportEntry::default() };
            }
            change(entry);
        });
    }

    pub(crate) fn present(&mut self, node: &str, image: &str, digest: &str) {
        self.entry(node, image, |entry| entry.digest = Some(digest.into()));
    }

    pub(crate) fn pulled(&mut self, node: &str, image: &str, digest: &str) {
        let at = self.now.wall;
        self.entry(node, image, |entry| {
            entry.digest = Some(digest.into());
            entry.pulled_at = Some(at);
            entry.failure = None;
        });
    }

    pub(crate) fn failed(&mut self, node: &str, image: &str, scope: FailureScope, reason: FailureReason) {
        let at = self.now.wall;
        self.entry(node, image, |entry| {
            let attempts = entry.failure.as_ref().map_or(0, |failure| failure.attempts) + 1;
            let message = format!("{reason} happened");
            let failure = Failure { scope, reason, message, attempts, at, retry_after_seconds: None };
            entry.failure = Some(Box::new(failure));
        });
    }

    pub(crate) fn evicted(&mut self, node: &str, image: &str) {
        let at = self.now.wall;
        self.entry(node, image, |entry| {
            entry.digest = None;
            entry.pulled_at = None;
            let count = entry.evictions.as_ref().map_or(0, |evictions| evictions.count) + 1;
            entry.evictions = Some(Box::new(Evictions { count, at }));
        });
    }

    /// Gives the node's grant back.
    pub(crate) fn finish(&mut self, node: &str) {
        self.end(node, Outcome::Finished);
    }

    pub(crate) fn end(&mut self, node: &str, outcome: Outcome) {
        let id = self.world.cluster.leases[node].grant.as_ref().unwrap().id.clone();
        self.report(node, |report| {
            report.grant = Some(GrantOutcome { id, outcome, reason: String::new() });
        });
        self.change_lease(node, |lease| lease.holder = None);
    }

    /// The node works off its grant: `pull` says the digest or the failure of each image.
    pub(crate) fn work(
        &mut self,
        node: &str,
        pull: impl Fn(&GrantedImage) -> Result<&'static str, (FailureScope, FailureReason)>,
    ) {
        let images = self.grant(node).unwrap().images.clone();
        self.take(node);
        for image in images {
            if !self.world.cluster.images.contains_key(&image.name) {
                continue;
            }
            match pull(&image) {
                Ok(digest) => self.pulled(node, &image.name, digest),
                Err((scope, reason)) => {
                    self.failed(node, &image.name, scope, reason);
                    if scope == FailureScope::Node {
                        break;
                    }
                }
            }
        }
        self.finish(node);
    }

    /// Agents that take every grant and pull everything at once.
    pub(crate) fn eager(&mut self) {
        self.work_where_granted(|_| Ok("sha256:one"));
    }

    /// All nodes work off their grants, as [`Self::work`].
    pub(crate) fn work_where_granted(
        &mut self,
        pull: impl Fn(&GrantedImage) -> Result<&'static str, (FailureScope, FailureReason)>,
    ) {
        let nodes: Vec<String> = self.live().iter().map(|node| (*node).to_owned()).collect();
        for node in nodes {
            self.work(&node, &pull);
        }
    }

    /// Why pairs wait, `image/node` → reason.
    pub(crate) fn waiting(&mut self) -> BTreeMap<String, &'static str> {
        let plan = self.plan();
        plan.waiting.iter().map(|(i, n, reason)| (format!("{i}/{n}"), reason.as_str())).collect()
    }
}

/// Whoever reads a status can add it up.
fn counts_every_target_once(status: &ImageStatus) {
    let lacking = status.nodes_pulling + status.nodes_failing + status.nodes_waiting;
    assert_eq!(status.nodes_ready + lacking, status.nodes_targeted, "{status:?}");
    let explained: u32 = status.waiting.iter().map(|waiting| waiting.nodes).sum();
    assert_eq!(explained, status.nodes_failing + status.nodes_waiting, "{status:?}");
    assert!(status.nodes_failing <= status.failed_nodes_total, "{status:?}");
    assert_eq!(status.ready, format!("{}/{}", status.nodes_ready, status.nodes_targeted));
}
