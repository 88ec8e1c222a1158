//! The model of a node's container runtime: the one part of an agent that a swarm does not have for real.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use drop_agent::parts::{ImageRuntime, KillTimer};
use drop_cri::{Credentials, Error};
use drop_protocol::Monotonic;
use drop_protocol::reference::normalise;
use futures::future::LocalBoxFuture;
use futures::stream::{self, LocalBoxStream};
use tokio::sync::watch;

use crate::scenario::RuntimeModel;

/// What every tag resolves to.
pub(crate) const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
/// gRPC `UNAVAILABLE`.
const UNAVAILABLE: i32 = 14;

/// What all runtimes of a swarm did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Pulls that succeeded.
    pub(crate) pulled: Cell<usize>,
    /// Pulls that failed.
    pub(crate) failed: Cell<usize>,
    /// Nodes that are pulling now.
    running: Cell<usize>,
    /// The most nodes that ever pulled at the same time.
    pub(crate) most_running: Cell<usize>,
    /// When a pull last began.
    pub(crate) last_begun: Cell<Option<Instant>>,
    /// When a pull last succeeded.
    pub(crate) last_pulled: Cell<Option<Instant>>,
}

/// One node's runtime.
pub(crate) struct Runtime {
    images: RefCell<BTreeMap<String, String>>,
    changes: watch::Sender<u64>,
    model: RuntimeModel,
    random: RefCell<fastrand::Rng>,
    tally: Rc<Tally>,
}

impl Runtime {
    /// An empty one.
    pub(crate) fn new(model: RuntimeModel, seed: u64, tally: Rc<Tally>) -> Self {
        Self {
            images: RefCell::default(),
            changes: watch::Sender::new(0),
            model,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            tally,
        }
    }

    /// Somebody else than Drop pulls or imports an image.
    pub(crate) fn bring(&self, reference: &str) {
        if let Ok(name) = normalise(reference) {
            self.images.borrow_mut().insert(name, DIGEST.to_owned());
            self.changes.send_modify(|n| *n += 1);
        }
    }

    /// An image is removed, by hand or by the kubelet; returns whether it was there.
    pub(crate) fn evict(&self, reference: &str) -> bool {
        let there = normalise(reference).is_ok_and(|name| self.images.borrow_mut().remove(&name).is_some());
        self.changes.send_modify(|n| *n += 1);
        there
    }

    /// The kubelet removes what is not in use: everything that is none of these.
    pub(crate) fn collect_garbage(&self, in_use: impl IntoIterator<Item = String>) {
        let in_use: BTreeSet<String> = in_use.into_iter().filter_map(|name| normalise(&name).ok()).collect();
        let mut images = self.images.borrow_mut();
        let before = images.len();
        images.retain(|name, _| in_use.contains(name));
        if images.len() < before {
            drop(images);
            self.changes.send_modify(|n| *n += 1);
        }
    }

    /// Whether the image is there.
    pub(crate) fn has(&self, reference: &str) -> bool {
        normalise(reference).is_ok_and(|name| self.images.borrow().contains_key(&name))
    }
}

/// Counts a pull for as long as it goes on, however it ends.
struct Pulling(Rc<Tally>);

impl Pulling {
    fn begin(tally: Rc<Tally>) -> Self {
        let running = tally.running.get() + 1;
        tally.running.set(running);
        tally.most_running.set(tally.most_running.get().max(running));
        tally.last_begun.set(Some(Instant::now()));
        Self(tally)
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

/// A runtime that an agent holds.
#[derive(Clone)]
pub(crate) struct Handle(pub(crate) Rc<Runtime>);

impl ImageRuntime for Handle {
    fn images(&self) -> LocalBoxFuture<'static, Result<BTreeMap<String, String>, Error>> {
        let images = self.0.images.borrow().clone();
        Box::pin(async move { Ok(images) })
    }

    fn digest_of(&self, reference: &str) -> LocalBoxFuture<'static, Result<Option<String>, Error>> {
        let digest = normalise(reference).ok().and_then(|name| self.0.images.borrow().get(&name).cloned());
        Box::pin(async move { Ok(digest) })
    }

    fn size_of(&self, _reference: &str) -> LocalBoxFuture<'static, Option<u64>> {
        Box::pin(async { None })
    }

    fn pull(
        &self,
        reference: &str,
        _credentials: Option<Credentials>,
    ) -> LocalBoxFuture<'static, Result<(), Error>> {
        let (runtime, reference) = (Rc::clone(&self.0), reference.to_owned());
        Box::pin(async move {
            let pulling = Pulling::begin(Rc::clone(&runtime.tally));
            let (time, fails) = {
                let random = &mut runtime.random.borrow_mut();
                (runtime.model.draw_pull(random), random.u32(0..1000) < runtime.model.failures_per_mille)
            };
            tokio::time::sleep(time).await;
            drop(pulling);
            let tally = &runtime.tally;
            if fails {
                tally.failed.set(tally.failed.get() + 1);
                let message = "unexpected status from HEAD request: 503 Service Unavailable".to_owned();
                return Err(Error::Status { call: "PullImage", code: UNAVAILABLE, message });
            }
            tally.pulled.set(tally.pulled.get() + 1);
            tally.last_pulled.set(Some(Instant::now()));
            runtime.bring(&reference);
            Ok(())
        })
    }

    fn settled(&self) -> LocalBoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn progress(&self) -> LocalBoxFuture<'static, Option<u64>> {
        Box::pin(async { None })
    }

    fn image_events(&self) -> LocalBoxStream<'static, ()> {
        let changes = self.0.changes.subscribe();
        Box::pin(stream::unfold(changes, async |mut changes| {
            changes.changed().await.ok().map(|()| ((), changes))
        }))
    }

    fn free_percent(&self) -> Option<u8> {
        Some(80)
    }
}

/// No process of a swarm is paused: the timer is nobody's.
pub(crate) struct NoTimer;

impl KillTimer for NoTimer {
    fn arm(&self, _deadline: Monotonic) -> Result<(), String> {
        Ok(())
    }

    fn disarm(&self) {}
}

/// Evicts images of random nodes at the model's rate, for as long as it is polled.
pub(crate) async fn evict_at_random(runtimes: Vec<Rc<Runtime>>, references: Vec<String>, a_minute: u32) {
    if a_minute == 0 || runtimes.is_empty() || references.is_empty() {
        return std::future::pending().await;
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut clock = tokio::time::interval(Duration::from_secs(60) / a_minute);
    loop {
        clock.tick().await;
        runtimes[random.usize(0..runtimes.len())].evict(&references[random.usize(0..references.len())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Spread;

    #[test]
    fn garbage_goes_and_what_is_in_use_stays() {
        let model = RuntimeModel {
            pull_ms: Spread::Fixed(0.0),
            image_mb: Spread::Fixed(0.0),
            node_mbps: 100,
            failures_per_mille: 0,
            evictions_per_minute: 0,
        };
        let runtime = Runtime::new(model, 0, Rc::default());
        let changes = runtime.changes.subscribe();
        runtime.bring("example.com/used:1");
        runtime.bring("example.com/unused:1");
        runtime.collect_garbage(["example.com/used:1".to_owned()]);
        assert!(runtime.has("example.com/used:1"));
        assert!(!runtime.has("example.com/unused:1"));
        assert_eq!(*changes.borrow(), 3);
        runtime.collect_garbage(["example.com/used:1".to_owned()]);
        assert_eq!(*changes.borrow(), 3, "nothing went");
    }
}
