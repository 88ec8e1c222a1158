//! The one loop of a leader: list everything, then snapshot → observe → plan → still leader? → execute once.
//!
//! A pass starts when what is planned from has changed, or at the moment that the last plan asked for, and never
//! sooner than [`PASS_GAP`] after the last one. While requests are under way, watch events and answers are folded into
//! the snapshot, but nothing is planned: a plan always knows the outcome of the one before.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use drop_planner::{Check, Leadership, Plan, World, WriteOutcome};
use drop_protocol::{Monotonic, NodeLease, Now};
use futures::StreamExt;
use futures::stream::BoxStream;
use kube::api::Api;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::api::Clients;
use crate::check::Checker;
use crate::check::ask::Means;
use crate::clock::Clock;
use crate::execute::send::Permit;
use crate::execute::{Note, Noted, Requests, Sender};
use crate::index::{Index, Written};
use crate::lead::{Proof, Term};
use crate::metrics::{Metrics, Snapshot};
use crate::watch::{self as edge, Event, Update};

/// Passes start at least this far apart, so that a burst of changes costs one plan.
pub const PASS_GAP: Duration = Duration::from_millis(100);

/// What a leader needs, term after term.
pub struct Leader {
    clients: Clients,
    namespace: String,
    instance: String,
    clock: Clock,
    metrics: Arc<Metrics>,
    synced: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
    means: Option<Arc<Means>>,
}

/// Why a pass or a wait was left.
enum Left {
    /// The term has ended.
    Term,
    /// The process ends.
    Stop,
}

impl Leader {
    /// A leader that shows in `synced` whether it has listed everything, and sends nothing more once `stopping` is true.
    #[must_use]
    pub fn new(
        clients: Clients,
        namespace: String,
        instance: String,
        clock: Clock,
        metrics: Arc<Metrics>,
        synced: watch::Sender<bool>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self { clients, namespace, instance, clock, metrics, synced, stopping, means: None }
    }

    /// Has it ask registries which digests tags stand for.
    #[must_use]
    pub fn asking(self, means: Means) -> Self {
        Self { means: Some(Arc::new(means)), ..self }
    }

    /// Leads for one term. Breaks when the process is to end.
    pub async fn lead(&self, term: Term, proof: Proof) -> ControlFlow<()> {
        self.metrics.leads(Some(term.epoch.transitions));
        let left = Reign::new(self, term, proof).run(self).await;
        self.synced.send_replace(false);
        self.metrics.leads(None);
        self.metrics.snapshot(Snapshot::default());
        match left {
            Left::Term => ControlFlow::Continue(()),
            Left::Stop => ControlFlow::Break(()),
        }
    }
}

/// The state of one term.
struct Reign {
    world: World,
    index: Index,
    updates: BoxStream<'static, Update>,
    sender: Sender,
    /// Asks registries, if anybody does.
    checker: Option<Checker>,
    notes: mpsc::UnboundedReceiver<Note>,
    proof: Proof,
    stopping: watch::Receiver<bool>,
    clock: Clock,
    metrics: Arc<Metrics>,
    changed: bool,
}

impl Reign {
    fn new(leader: &Leader, term: Term, proof: Proof) -> Self {
        let (notes, noted) = mpsc::unbounded_channel();
        let stopping = leader.stopping.clone();
        let permit = Permit { proof: proof.clone(), stopping: stopping.clone() };
        let checker = leader.means.as_ref().map(|means| {
            let secrets = Api::namespaced(leader.clients.writing.clone(), &leader.namespace);
            let metrics = Arc::clone(&leader.metrics);
            Checker::new(secrets, Arc::clone(means), leader.clock, metrics, notes.clone())
        });
        let sender = Sender::new(
            &leader.clients.writing,
            &leader.namespace,
            leader.instance.clone(),
            permit,
            leader.clock,
            Arc::clone(&leader.metrics),
            notes,
        );
        Self {
            world: World {
                leadership: Some(Leadership { epoch: term.epoch, since: term.since }),
                checks: checker.is_some(),
                ..World::default()
            },
            index: Index::default(),
            // New watches, so that everything is listed after the acquisition.
            updates: edge::everything(&leader.clients.watching, &leader.namespace),
            sender,
            checker,
            notes: noted,
            proof,
            stopping,
            clock: leader.clock,
            metrics: Arc::clone(&leader.metrics),
            changed: false,
        }
    }

    async fn run(mut self, leader: &Leader) -> Left {
        while !self.index.is_complete() {
            if let Err(left) = self.wait(None).await {
                return left;
            }
        }
        info!(
            nodes = self.world.cluster.nodes.len(),
            images = self.world.cluster.images.len(),
            sets = self.world.cluster.sets.len(),
            leases = self.world.cluster.leases.len(),
            "listed everything"
        );
        leader.synced.send_replace(true);
        loop {
            let started = self.clock.monotonic();
            let (requests, wake_at) = self.plan();
            if !requests.is_empty() {
                self.execute(requests).await;
            }
            let earliest = started.after(PASS_GAP);
            loop {
                let wake_at = if self.changed { Some(earliest) } else { wake_at.map(|at| at.max(earliest)) };
                match self.wait(wake_at).await {
                    Err(left) => return left,
                    Ok(true) => break,
                    Ok(false) => {}
                }
            }
        }
    }

    /// One pass up to its requests.
    fn plan(&mut self) -> (Requests, Option<Monotonic>) {
        let began = self.clock.monotonic();
        self.changed = false;
        self.index.settle(&mut self.world.cluster);
        let now = self.clock.now();
        let World { cluster, leadership, memory, .. } = &mut self.world;
        memory.observe(cluster, leadership.as_ref(), now);
        let mut plan: Plan = drop_planner::plan(&self.world, now);
        let took = self.clock.monotonic().since(began);
        self.metrics.planned(took);
        self.metrics.snapshot(Snapshot::of(&self.world.cluster, &plan.waiting));
        debug!(?took, waiting = plan.waiting.len(), empty = plan.is_empty(), "planned");
        self.check(std::mem::take(&mut plan.checks), now);
        let wake_at = plan.wake_at;
        let (requests, failed) = Requests::build(plan, &self.world.cluster, self.sender.namespace());
        for key in &failed {
            self.world.memory.write_failed(key, now);
        }
        (requests, wake_at)
    }

    /// Asks registries. The answers come as notes, whenever they do.
    fn check(&mut self, checks: Vec<Check>, now: Now) {
        let Some(checker) = &mut self.checker else { return };
        for check in checks {
            self.world.memory.check_sent(&check.uid, &check.reference, now);
            checker.ask(check);
        }
    }

    /// Sends the requests, folding in whatever arrives meanwhile.
    async fn execute(&mut self, requests: Requests) {
        let sender = self.sender.clone();
        let sending = sender.send(requests);
        tokio::pin!(sending);
        let all_applied = loop {
            tokio::select! {
                all_applied = &mut sending => break all_applied,
                Some(note) = self.notes.recv() => self.take(note),
                Some(update) = self.updates.next() => self.fold(update),
            }
        };
        while let Ok(note) = self.notes.try_recv() {
            self.take(note);
        }
        // What was written is known now, and may let something else go on.
        self.changed = true;
        self.metrics.executed(all_applied);
    }

    /// Waits until `until`, folding in updates; `Ok(true)` when that moment has come, `Ok(false)` after an update.
    async fn wait(&mut self, until: Option<Monotonic>) -> Result<bool, Left> {
        let clock = self.clock;
        let moment = async {
            match until {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = told_to_stop(&mut self.stopping) => return Err(Left::Stop),
            () = self.proof.ended() => return Err(Left::Term),
            () = moment => return Ok(true),
            Some(note) = self.notes.recv() => {
                self.take(note);
                self.changed = true;
            }
            Some(update) = self.updates.next() => self.fold(update),
        }
        Ok(false)
    }

    fn fold(&mut self, update: Update) {
        match &update {
            Update::Lease(Event::Applied(row)) => self.note_lease(&row.row),
            Update::Lease(Event::Deleted(row)) => self.metrics.lease_gone(&row.name),
            _ => {}
        }
        self.changed |= self.index.apply(&mut self.world.cluster, update);
    }

    /// Counts what is new in a Lease.
    fn note_lease(&self, lease: &NodeLease) {
        let known = self.world.cluster.leases.get(&lease.node).map(Arc::as_ref);
        self.metrics.lease_seen(known, lease, self.clock.monotonic());
    }

    fn take(&mut self, note: Note) {
        let Note { at, what } = note;
        let memory = &mut self.world.memory;
        match what {
            Noted::Object(written) => self.fold_answer(*written),
            Noted::IssueSent(issue) => {
                self.metrics.issue_sent(&issue);
                memory.issue_sent(&issue);
            }
            Noted::IssueSettled { node, grant, outcome } => memory.issue_settled(&node, &grant, outcome, at),
            Noted::IssueRejected { node, grant } => memory.issue_rejected(&node, &grant, at),
            Noted::WithdrawSettled { withdraw, outcome } => {
                if outcome == WriteOutcome::Applied {
                    self.metrics.withdrawn(withdraw.reason);
                }
                memory.withdraw_settled(&withdraw, outcome, at);
            }
            Noted::StatusWritten(image) => memory.status_written(&image, at),
            Noted::SetStatusWritten(set) => memory.set_status_written(&set, at),
            Noted::ChildSettled { write, outcome } => memory.child_settled(&write, outcome, at),
            Noted::CatalogWritten => memory.catalog_written(at),
            Noted::PullSecretsWritten => memory.pull_secrets_written(at),
            Noted::CheckSettled { uid, reference, outcome } => {
                memory.check_settled(&uid, &reference, outcome, at);
            }
            Noted::Failed(key) => memory.write_failed(&key, at),
        }
    }

    fn fold_answer(&mut self, written: Written) {
        if let Written::Lease(row) = &written {
            self.note_lease(&row.row);
        }
        self.changed |= self.index.written(&mut self.world.cluster, written);
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the process is ending already.
    let _ = stopping.wait_for(|stop| *stop).await;
}
