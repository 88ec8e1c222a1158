//! The log of a door: which node asked for what, from when until when. It is what the registry's operator sees, and knows
//! nothing of grants.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Kind, lock};

/// Nodes tell their name in this header if [`Trust::plain_by_name`](super::Trust::plain_by_name) asks them to.
pub const NODE_HEADER: &str = "x-drop-node";

/// One request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Who asked, if it told.
    pub node: Option<String>,
    /// What kind of thing it asked for.
    pub kind: Kind,
    /// The repository, without host.
    pub repository: String,
    /// Tag or digest.
    pub name: String,
    /// The answer was a layer, and no configuration or error.
    pub layer: bool,
    /// When the request came, on the door's clock.
    pub began: Duration,
    /// When the last byte of the answer was sent or nobody wanted it any more; `None` while it is being sent.
    pub ended: Option<Duration>,
}

/// All requests of a door.
#[derive(Debug)]
pub(super) struct Log {
    start: Instant,
    entries: Mutex<Vec<Access>>,
}

impl Default for Log {
    fn default() -> Self {
        Self { start: Instant::now(), entries: Mutex::default() }
    }
}

impl Log {
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn entries(&self) -> Vec<Access> {
        lock(&self.entries).clone()
    }

    /// Notes a request; its answer ends when what this returns is dropped.
    pub(super) fn begin(self: &Arc<Self>, node: Option<String>, kind: Kind, path: &str) -> Entry {
        let (repository, name) = subject(path);
        let mut entries = lock(&self.entries);
        entries.push(Access { node, kind, repository, name, layer: false, began: self.now(), ended: None });
        Entry { log: Arc::clone(self), index: entries.len() - 1 }
    }
}

/// Repository and tag or digest in a path of the registry's.
fn subject(path: &str) -> (String, String) {
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    let parts = ["/manifests/", "/blobs/"].into_iter().find_map(|part| path.rsplit_once(part));
    let (repository, name) = parts.unwrap_or_default();
    (repository.to_owned(), name.to_owned())
}

/// A request that is being answered.
pub(super) struct Entry {
    log: Arc<Log>,
    index: usize,
}

impl Entry {
    /// The answer is a layer.
    pub(super) fn is_layer(&self) {
        lock(&self.log.entries)[self.index].layer = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let now = self.log.now();
        lock(&self.log.entries)[self.index].ended = Some(now);
    }
}
