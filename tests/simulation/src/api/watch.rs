//! Watches: what a client has not heard of yet.

use std::collections::VecDeque;

use super::{Change, Kind};
use crate::network::Client;

/// One open (or broken) watch.
#[derive(Debug)]
pub struct Watch {
    /// Who watches.
    pub client: Client,
    /// What.
    pub kind: Kind,
    /// Only the object of this name.
    pub name: Option<String>,
    /// Cut: nothing is heard until it is opened again.
    pub connected: bool,
    /// Versions of changes on their way, in order.
    pub pending: VecDeque<u64>,
    /// A delivery is in the event queue.
    pub scheduled: bool,
    /// Version up to which the client has heard everything.
    pub heard: u64,
}

impl Watch {
    /// A watch that starts behind `version`.
    #[must_use]
    pub fn new(client: Client, kind: Kind, name: Option<String>, version: u64) -> Self {
        Self {
            client,
            kind,
            name,
            connected: true,
            pending: VecDeque::new(),
            scheduled: false,
            heard: version,
        }
    }

    /// Whether it tells of `change`.
    #[must_use]
    pub fn covers(&self, change: &Change) -> bool {
        self.kind == change.kind && self.name.as_ref().is_none_or(|name| *name == change.name)
    }

    /// The connection breaks; what was on its way is lost.
    pub fn cut(&mut self) {
        self.connected = false;
        self.pending.clear();
    }
}
