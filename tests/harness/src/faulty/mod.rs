//! Registries that fail on demand: each [`Door`] leads to the cluster's own registry, under a host and port of its own,
//! and lets requests through, spoils them or turns them away as it is told, for one repository or for all.
//!
//! | module | subject |
//! |---|---|
//! | [`access`] | the log of what nodes asked for, and how long that took |
//! | [`answer`] | what a door answers under each fault |
//! | [`body`] | bodies that stop, crawl or hold something else |
//! | [`content`] | what the registry itself holds |
//! | [`trust`] | what nodes have to know of a registry: plain http, or whose certificates count |

pub mod access;
pub(crate) mod answer;
mod body;
pub mod content;
pub mod trust;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_devtools::network::GATEWAY;
use drop_devtools::state::ClusterInfo;
use tokio::sync::oneshot;

use crate::Wanted;
use access::{Access, Log};
pub use trust::{Certificate, Trust};

/// How a door fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Every request is answered with this status, and with `Retry-After` if so many seconds are given.
    Status(u16, Option<u32>),
    /// Only who brings a token from this URL is let in. Every door hands them out under `/token`.
    Token(String),
    /// Layers begin, and then nothing more comes.
    Stuck,
    /// Layers come at this pace, in bytes a second.
    Slow(u32),
    /// Layers hold something else than they should.
    Corrupt,
}

/// What a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A manifest, by tag or digest.
    Manifest,
    /// A layer or a configuration.
    Blob,
    /// A token.
    Token,
    /// Anything else, such as whether there is a registry at all.
    Other,
}

/// A way to the cluster's registry that fails on demand. It is closed when this is dropped.
#[derive(Debug)]
pub struct Door {
    /// Host and port under which nodes know it.
    pub host: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the door's thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    /// Host and port of the registry behind it.
    registry: String,
    /// By repository; the empty name stands for all others.
    faults: Mutex<BTreeMap<String, Fault>>,
    requests: Mutex<BTreeMap<(Kind, String), usize>>,
    /// Repositories in the order in which they were first asked for.
    order: Mutex<Vec<String>>,
    /// Layers that are being sent now.
    downloads: AtomicUsize,
    log: Arc<Log>,
}

impl Shared {
    fn fault(&self, repository: &str) -> Option<Fault> {
        let faults = lock(&self.faults);
        faults.get(repository).or_else(|| faults.get("")).cloned()
    }

    fn note(&self, kind: Kind, repository: &str) {
        let mut order = lock(&self.order);
        if kind == Kind::Manifest && order.iter().all(|known| known != repository) {
            order.push(repository.to_owned());
        }
        *lock(&self.requests).entry((kind, repository.to_owned())).or_default() += 1;
    }
}

impl Door {
    /// Opens a door of plain http on a free port.
    ///
    /// # Errors
    /// If no port can be had.
    pub fn open(info: &ClusterInfo) -> Result<Self> {
        Self::open_at(info, 0, None)
    }

    /// Opens a door on this port (0: any), with TLS if there is a certificate.
    ///
    /// # Errors
    /// If the port is taken, or the certificate is none.
    pub fn open_at(info: &ClusterInfo, port: u16, certificate: Option<&Certificate>) -> Result<Self> {
        let listener = TcpListener::bind((GATEWAY, port)).with_context(|| format!("opening port {port}"))?;
        listener.set_nonblocking(true)?;
        let host = listener.local_addr()?.to_string();
        let shared = Arc::new(Shared { registry: info.registry.clone(), ..Shared::default() });
        let acceptor = certificate.map(trust::acceptor).transpose()?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        // A thread of its own: a test may well block the one that it runs on.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = answer::serve(listener, acceptor, served) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { host, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Port of the door.
    pub fn port(&self) -> u16 {
        self.host.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default()
    }

    /// The same image, by way of this door.
    #[must_use]
    pub fn leads_to(&self, image: &Wanted) -> Wanted {
        through(&self.host, image)
    }

    /// Fails from now on, for all repositories that have no fault of their own.
    pub fn fail(&self, fault: Fault) {
        lock(&self.shared.faults).insert(String::new(), fault);
    }

    /// Fails from now on for the repository of `image`.
    pub fn fail_for(&self, image: &Wanted, fault: Fault) {
        lock(&self.shared.faults).insert(repository(image), fault);
    }

    /// Lets everything through from now on.
    pub fn mend(&self) {
        lock(&self.shared.faults).clear();
    }

    /// How many requests of this kind came so far.
    pub fn requests(&self, kind: Kind) -> usize {
        lock(&self.shared.requests).iter().filter(|((of, _), _)| *of == kind).map(|(_, count)| count).sum()
    }

    /// How many requests of this kind came so far for the repository of `image`.
    pub fn requests_for(&self, kind: Kind, image: &Wanted) -> usize {
        lock(&self.shared.requests).get(&(kind, repository(image))).copied().unwrap_or_default()
    }

    /// Repositories in the order in which they were first asked for.
    pub fn order(&self) -> Vec<String> {
        lock(&self.shared.order).clone()
    }

    /// Every request so far, in the order in which they came.
    pub fn log(&self) -> Vec<Access> {
        self.shared.log.entries()
    }

    /// Nodes that a layer is being sent to now, as far as they [tell their name](Trust::plain_by_name).
    pub fn pulling(&self) -> Vec<String> {
        let open = self.log().into_iter().filter(|access| access.layer && access.ended.is_none());
        let mut nodes: Vec<String> = open.filter_map(|access| access.node).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }

    /// The door's time now, as its log tells times.
    pub fn now(&self) -> Duration {
        self.shared.log.now()
    }

    /// How many layers are being sent now.
    pub fn downloads(&self) -> usize {
        self.shared.downloads.load(Ordering::SeqCst)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // The port is free, and every connection closed, when the thread has ended.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The same image, in the registry at `host`.
#[must_use]
pub fn through(host: &str, image: &Wanted) -> Wanted {
    Wanted { image: format!("{host}/{}", repository(image)), ..image.clone() }
}

/// A port that nobody listens on, as far as that can be known.
///
/// # Errors
/// If there is none.
pub fn silent_port() -> Result<u16> {
    Ok(TcpListener::bind((GATEWAY, 0))?.local_addr()?.port())
}

/// The repository without the registry's host.
pub fn repository(image: &Wanted) -> String {
    image.image.split_once('/').map_or(image.image.as_str(), |(_, repository)| repository).to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
