//! The loop beside that of the planner, for as long as one term lasts: watch, start what is due, write what it came to.

use std::sync::Arc;

use drop_discovery::http::Limits;
use drop_discovery::policy::word;
use drop_discovery::status;
use futures::StreamExt as _;
use futures::stream::{BoxStream, FuturesUnordered};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use kube::runtime::watcher::Config;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::policies::{Done, Policies};
use super::row::{Row, StoredPolicy, row};
use super::sync::{Means, Synced, sync};
use super::write::Writer;
use crate::api::Clients;
use crate::clock::Clock;
use crate::lead::Proof;
use crate::metrics::Metrics;
use crate::watch::{Event, Versioned, stream};

/// So many policies are asked for at a time: more wait, so that any number of them costs bounded memory.
const CONCURRENT: usize = 8;

/// What discovery needs, term after term.
pub struct Discoverer {
    clients: Clients,
    means: Means,
    clock: Clock,
    metrics: Arc<Metrics>,
    stopping: watch::Receiver<bool>,
}

impl Discoverer {
    /// Reads Secrets in `namespace`, and sends nothing more once `stopping` is true.
    #[must_use]
    pub fn new(
        clients: Clients,
        namespace: &str,
        clock: Clock,
        metrics: Arc<Metrics>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        let secrets: Api<Secret> = Api::namespaced(clients.writing.clone(), namespace);
        let means = Means { secrets, namespace: namespace.to_owned(), limits: Limits::default() };
        Self { clients, means, clock, metrics, stopping }
    }

    /// Discovers for one term. Returns when it has ended or the process is to end, after the last write.
    pub async fn discover(&self, mut proof: Proof) {
        let mut stopping = self.stopping.clone();
        let policies: Api<StoredPolicy> = Api::all(self.clients.watching.clone());
        let updates =
            stream::rows(policies, "DiscoveryPolicies", Config::default(), |object| Some(row(object)));
        let writer = Writer {
            policies: Api::all(self.clients.writing.clone()),
            proof: proof.clone(),
            stopping: stopping.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        let mut round = Round {
            discoverer: self,
            policies: Policies::default(),
            updates: updates.boxed(),
            writer,
            syncs: JoinSet::new(),
        };
        let mut writes = FuturesUnordered::new();
        loop {
            round.start();
            let due = round.policies.next_due().filter(|_| round.has_room());
            tokio::select! {
                biased;
                () = told_to_stop(&mut stopping) => break,
                () = proof.ended() => break,
                Some(wrote) = writes.next(), if !writes.is_empty() => round.wrote(wrote),
                Some(synced) = round.syncs.join_next(), if !round.syncs.is_empty() => match synced {
                    Ok(synced) => writes.extend(round.conclude(synced)),
                    Err(error) => warn!(%error, "a sync was broken off"),
                },
                Some(event) = round.updates.next() => round.fold(event),
                () = self.sleep_until(due) => {}
            }
        }
        // Questions are dropped; a write that is under way ends first, so that a successor sees its effect.
        drop(round);
        while writes.next().await.is_some() {}
        self.metrics.discovery().clear();
    }

    async fn sleep_until(&self, due: Option<drop_protocol::Monotonic>) {
        match due {
            Some(due) => self.clock.sleep_until(due).await,
            None => std::future::pending().await,
        }
    }
}

/// The state of one term.
struct Round<'a> {
    discoverer: &'a Discoverer,
    policies: Policies,
    updates: BoxStream<'static, Event<Row>>,
    writer: Writer,
    syncs: JoinSet<Synced>,
}

/// What became of a write.
struct Wrote {
    done: Done,
    /// The object as it was stored; `None` if nothing had to be written or the write failed.
    stored: Option<Versioned<Row>>,
}

impl Round<'_> {
    fn has_room(&self) -> bool {
        self.syncs.len() < CONCURRENT
    }

    fn start(&mut self) {
        let now = self.discoverer.clock.now();
        for job in self.policies.start(CONCURRENT.saturating_sub(self.syncs.len()), now) {
            self.syncs.spawn(sync(self.discoverer.means.clone(), job, now.wall));
        }
    }

    fn fold(&mut self, event: Event<Row>) {
        for gone in self.policies.apply(event, self.discoverer.clock.now()) {
            self.discoverer.metrics.discovery().forget(&gone);
        }
    }

    /// What a sync came to becomes a write, unless nothing has changed or the spec has.
    fn conclude(&mut self, synced: Synced) -> Option<impl Future<Output = Wrote> + use<>> {
        let Synced { job, status, seen } = synced;
        let row = job.row;
        let well = job.policy.is_err() || seen.iter().all(|source| source.healthy);
        let mut done = Done { name: row.name, uid: row.uid, generation: row.generation, well };
        let known = self.policies.row(&done.name, &done.uid);
        let Some(known) = known.filter(|known| known.generation == done.generation) else {
            self.finish(&done);
            return None;
        };
        let metrics = self.discoverer.metrics.discovery();
        metrics.synced(&done.name, &seen, self.discoverer.clock.now().wall);
        for source in seen.iter().filter(|source| !source.healthy) {
            let (kind, endpoint) = (word(source.kind), &source.endpoint);
            tracing::debug!(policy = %done.name, kind, %endpoint, "a source did not answer");
        }
        if !status::differs(&known.status, &status) {
            self.finish(&done);
            return None;
        }
        let images = status.image_count;
        info!(policy = %done.name, images, well, "discovered");
        let writer = self.writer.clone();
        Some(async move {
            let stored = writer.write(&done.name, &done.uid, &status).await;
            // What is not written is worked out again soon.
            done.well &= stored.is_some();
            Wrote { done, stored }
        })
    }

    fn wrote(&mut self, wrote: Wrote) {
        if let Some(stored) = wrote.stored {
            self.policies.see(stored, self.discoverer.clock.now());
        }
        self.finish(&wrote.done);
    }

    fn finish(&mut self, done: &Done) {
        self.policies.finished(done, self.discoverer.clock.now());
    }
}

async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the process is ending already.
    let _ = stopping.wait_for(|stop| *stop).await;
}
