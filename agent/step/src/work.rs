//! A grant that this process works on, and the pull in flight.

use std::collections::BTreeSet;
use std::time::Duration;

use drop_protocol::{Grant, GrantId, GrantedImage, Monotonic};

use crate::api::{Config, PullId};

/// The grant that is being worked on.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) grant: GrantId,
    pub(crate) images: Vec<GrantedImage>,
    /// Index in `images` of what is being pulled, or is next.
    pub(crate) next: usize,
    /// Whether this very process has ever been the holder; not yet after a restart, until it has taken again.
    pub(crate) mine: bool,
    /// Until when pulling is allowed; `None`: the grant has to be taken (again) first.
    pub(crate) held: Option<Held>,
    /// Hosts whose images are over for this grant.
    pub(crate) failed_hosts: BTreeSet<String>,
    /// Set when no further pull starts; the text goes into the report and is empty after an ordinary end.
    pub(crate) ended: Option<String>,
}

/// How long a taken grant surely lives, counted from the moment its last successful take or renewal was *sent*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// When to renew.
    pub(crate) renew_at: Monotonic,
    /// When the agent ends its pull itself.
    pub(crate) cancel_at: Monotonic,
    /// When the kernel ends the process, in case it was paused.
    pub(crate) kill_at: Monotonic,
}

/// The pull in flight.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) id: PullId,
    pub(crate) grant: GrantId,
    pub(crate) image: GrantedImage,
    pub(crate) cancelled: Option<Cancelled>,
    /// The latest progress mark and when it changed; `None` while nobody could measure any.
    pub(crate) moved: Option<(u64, Monotonic)>,
}

/// Why a pull was cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// The grant could not be renewed in time.
    Lapsed,
    /// The Lease no longer shows this process as the holder of the grant.
    Lost,
    /// Nobody wants the image any more.
    Unwanted,
    /// It made no progress.
    Stuck,
    /// The process has to end.
    Shutdown,
}

impl Work {
    pub(crate) fn new(grant: &Grant) -> Self {
        Self {
            grant: grant.id.clone(),
            images: grant.images.clone(),
            next: 0,
            mine: false,
            held: None,
            failed_hosts: BTreeSet::new(),
            ended: None,
        }
    }

    /// Whether the last of its images is being pulled, or is next.
    pub(crate) fn is_at_last(&self) -> bool {
        self.next + 1 == self.images.len()
    }

    /// No further pull starts. The first reason given is the one that is told.
    pub(crate) fn end(&mut self, reason: impl Into<String>) {
        self.ended.get_or_insert_with(|| reason.into());
    }
}

impl Held {
    /// What a take or renewal grants that was sent at `sent` for a Lease that lives for `duration`.
    pub(crate) fn from(sent: Monotonic, duration: Duration, config: &Config) -> Self {
        let margin = config.safety_margin.min(duration / 8);
        Self {
            renew_at: sent.after(config.renew_every.min(duration / 4)),
            cancel_at: sent.after(duration.saturating_sub(margin * 2)),
            kill_at: sent.after(duration.saturating_sub(margin)),
        }
    }
}
