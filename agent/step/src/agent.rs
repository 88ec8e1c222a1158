//! The agent's state and its one entry point: takes inputs in, then runs every decision once.

use std::time::Duration;

use drop_protocol::{Grant, GrantId, GrantState, Holder, Monotonic, NodeLease, Now};

use crate::admission::LeaderCheck;
use crate::api::{Config, Effect, Input, Inventory, WriteId, WriteKind, WriteResult};
use crate::disk::DiskGuard;
use crate::known::Known;
use crate::report::News;
use crate::work::{Cancelled, Held, InFlight, Work};
use crate::writer::Writer;

/// First delay after the runtime could not be asked; doubles up to [`Config::list_every`].
const LIST_RETRY: Duration = Duration::from_secs(1);

/// One node's agent: everything it knows and everything it waits for.
#[derive(Debug, Clone)]
pub struct Agent {
    pub(crate) config: Config,
    pub(crate) lease: Option<NodeLease>,
    /// The highest resourceVersion seen; what is older is late news.
    highest_version: u64,
    /// Uid of the Lease that history belongs to.
    history_of: Option<String>,
    pub(crate) writer: Writer,
    pub(crate) leader: LeaderCheck,
    pub(crate) known: Known,
    pub(crate) disk: DiskGuard,
    pub(crate) work: Option<Work>,
    pub(crate) pull: Option<InFlight>,
    pub(crate) last_pull: u64,
    pub(crate) timer: Option<Monotonic>,
    /// The grant that another process of this node took from this one: never taken back.
    yielded: Option<GrantId>,
    pub(crate) shutdown: Option<Monotonic>,
    exited: bool,
    listing: Listing,
    /// What a report would tell; `None`: to be found out.
    pub(crate) news: Option<News>,
    pub(crate) wake: Option<Monotonic>,
    pub(crate) effects: Vec<Effect>,
}

/// When the runtime's images are listed.
#[derive(Debug, Clone)]
struct Listing {
    at: Monotonic,
    in_flight: bool,
    /// The list being made may miss a pull that finished meanwhile: it is not believed.
    outdated: bool,
    /// Images changed while a list was being made: list again at this time.
    again_at: Option<Monotonic>,
    failures: u32,
}

impl Agent {
    /// An agent that knows nothing yet. Step it with [`Input::Tick`] first.
    #[must_use]
    pub fn new(config: Config, now: Now) -> Self {
        Self {
            disk: DiskGuard::new(config.min_free_percent),
            config,
            lease: None,
            highest_version: 0,
            history_of: None,
            writer: Writer::default(),
            leader: LeaderCheck::default(),
            known: Known::default(),
            work: None,
            pull: None,
            last_pull: 0,
            timer: None,
            yielded: None,
            shutdown: None,
            exited: false,
            listing: Listing {
                at: now.monotonic,
                in_flight: false,
                outdated: false,
                again_at: None,
                failures: 0,
            },
            news: None,
            wake: None,
            effects: Vec::new(),
        }
    }

    /// Takes in what happened and decides what to do, in this order.
    pub fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        if self.exited {
            return Vec::new();
        }
        self.take_in(input, now);
        self.wake = None;
        self.end_pulls_in_time(now.monotonic);
        self.read_lease(now.monotonic);
        self.list_images(now.monotonic);
        self.admit(now.monotonic);
        self.work_on(now);
        self.write(now);
        self.settle_timer();
        self.leave(now.monotonic);
        std::mem::take(&mut self.effects)
    }

    /// When to step with [`Input::Tick`] at the latest; `None`: only when something happens.
    #[must_use]
    pub const fn wake_at(&self) -> Option<Monotonic> {
        self.wake
    }

    /// The grant that this process works on.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        let grant = self.lease.as_ref().and_then(NodeLease::live_grant)?;
        self.work.as_ref().filter(|work| work.grant == grant.id).map(|_| grant)
    }

    /// The manifest digest that the node was last seen to hold for `reference`.
    #[must_use]
    pub fn digest_of(&self, reference: &str) -> Option<&str> {
        self.known.digest_of(reference)
    }

    fn take_in(&mut self, input: Input, now: Now) {
        match input {
            Input::Lease(lease) => self.see_lease(lease, now),
            Input::LeaseGone => self.see_no_lease(now.monotonic),
            Input::LeaseUnknown(_) => {
                self.writer.unknown(self.work.is_some(), &self.config.node, now.monotonic);
            }
            Input::Catalog(catalog) => {
                let keep = self.work.as_ref().map_or(&[][..], |work| &work.images);
                self.known.set_catalog(&catalog, keep, &self.config.node, now);
                self.news = None;
            }
            Input::CatalogGone | Input::Tick => {}
            Input::Inventory(inventory) => self.see_inventory(inventory, now),
            Input::InventoryFailed(_) => {
                self.listing.in_flight = false;
                self.listing.outdated = false;
                let delay = LIST_RETRY.saturating_mul(1 << self.listing.failures.min(6));
                self.listing.failures = self.listing.failures.saturating_add(1);
                self.listing.at = now.monotonic.after(delay.min(self.config.list_every));
            }
            Input::DiskFree(percent) => self.see_disk(percent),
            Input::LeaderEpoch(epoch) => self.leader.answered(epoch.as_ref()),
            Input::LeaderUnknown(_) => self.leader.unanswered(now.monotonic),
            Input::WriteDone { write, result } => self.write_done(write, result, now),
            Input::PullFinished { pull, result } => self.pull_finished(pull, result, now),
            Input::PullProgress { pull, mark } => {
                if let Some(in_flight) = self.pull.as_mut().filter(|p| p.id == pull)
                    && in_flight.moved.is_none_or(|(last, _)| last != mark)
                {
                    in_flight.moved = Some((mark, now.monotonic));
                }
            }
            Input::ImagesChanged => {
                let at = now.monotonic.after(self.config.list_debounce);
                if self.listing.in_flight {
                    self.listing.again_at.get_or_insert(at);
                } else {
                    self.listing.at = self.listing.at.min(at);
                }
            }
            Input::Shutdown { deadline } => self.shutdown = Some(deadline),
        }
    }

    fn see_lease(&mut self, lease: NodeLease, now: Now) {
        let version = lease.resource_version;
        let late = if self.lease.is_some() {
            version <= self.highest_version
        } else {
            version < self.highest_version
        };
        self.writer.seen(!late);
        if late {
            return;
        }
        self.highest_version = version;
        self.news = None;
        let replaced = self.history_of.as_deref() != Some(lease.uid.as_str());
        // A second process of this node (a surging rollout) that reports knows better than this one.
        let foreign = lease.report.as_ref().is_some_and(|report| {
            report.agent != self.config.pod_uid
                && self.lease.as_ref().is_some_and(|before| before.report.as_ref() != Some(report))
        });
        if replaced || foreign {
            self.known.begin(lease.report.as_ref(), now);
            self.history_of = Some(lease.uid.clone());
        }
        self.reconcile(&lease);
        self.lease = Some(lease);
    }

    fn see_no_lease(&mut self, now: Monotonic) {
        self.lease = None;
        self.writer.gone(&self.config.node, now);
        self.drop_work();
    }

    /// Gives up work that the Lease no longer shows.
    fn reconcile(&mut self, lease: &NodeLease) {
        let Some(work) = &self.work else { return };
        let same = lease.live_grant().is_some_and(|grant| grant.id == work.grant);
        let taken = lease.state() == GrantState::Taken;
        let by_me = lease.holder.as_ref().is_some_and(|holder| holder.process == self.config.process);
        if same && taken && (by_me || !work.mine) {
            return;
        }
        if same && taken {
            self.yielded = Some(work.grant.clone());
        }
        self.drop_work();
    }

    fn drop_work(&mut self) {
        self.work = None;
        self.cancel_pull(Cancelled::Lost);
    }

    fn see_inventory(&mut self, inventory: Inventory, now: Now) {
        self.listing.in_flight = false;
        self.listing.failures = 0;
        if let Some(percent) = inventory.free_percent {
            self.see_disk(percent);
        }
        if std::mem::take(&mut self.listing.outdated) {
            self.listing.at = now.monotonic;
            return;
        }
        let next = now.monotonic.after(self.config.list_every);
        self.listing.at = self.listing.again_at.take().unwrap_or(next);
        self.known.set_inventory(inventory.images, now);
        self.news = None;
    }

    fn see_disk(&mut self, percent: u8) {
        let before = self.disk.low();
        self.disk.observe(percent);
        if self.disk.low() != before {
            self.news = None;
        }
    }

    /// Lists the images again as soon as possible; a list that is being made now is not believed.
    pub(crate) fn distrust_list(&mut self, list_now: bool, now: Monotonic) {
        self.listing.outdated |= self.listing.in_flight;
        if list_now {
            self.listing.at = now;
        }
    }

    fn list_images(&mut self, now: Monotonic) {
        if self.listing.in_flight {
            return;
        }
        if self.listing.at > now {
            return self.wake_no_later_than(self.listing.at);
        }
        self.listing.in_flight = true;
        self.effects.push(Effect::ListImages);
    }

    fn read_lease(&mut self, now: Monotonic) {
        if self.writer.begin_read(now) {
            self.effects.push(Effect::ReadLease);
        }
        if let Some(at) = self.writer.wake_at(now) {
            self.wake_no_later_than(at);
        }
    }

    fn write_done(&mut self, write: WriteId, result: WriteResult, now: Now) {
        let Some(sent) = self.writer.answered(write) else { return };
        self.news = None;
        match result {
            WriteResult::Applied(lease) => {
                self.writer.applied();
                if sent.report {
                    self.known.answered();
                }
                let duration = lease.duration;
                self.see_lease(lease, now);
                // What the answer shows may already be superseded by a newer event.
                let shown = self.lease.as_ref().is_some_and(|lease| self.shows_me(lease));
                if matches!(sent.kind, WriteKind::Take | WriteKind::Renew) && shown {
                    self.hold(Held::from(sent.at, duration, &self.config));
                }
            }
            WriteResult::Conflict => {
                let stale = self.lease.as_ref().is_none_or(|lease| lease.resource_version <= sent.base);
                self.writer.conflict(stale, &self.config.node, now.monotonic);
            }
            WriteResult::Gone => self.see_no_lease(now.monotonic),
            WriteResult::Unknown(_) => {
                self.writer.unknown(self.work.is_some(), &self.config.node, now.monotonic);
            }
        }
    }

    fn shows_me(&self, lease: &NodeLease) -> bool {
        lease.state() == GrantState::Taken
            && lease.holder.as_ref().is_some_and(|holder| holder.process == self.config.process)
    }

    /// The grant in the Lease is this process's until then.
    fn hold(&mut self, held: Held) {
        let Some(grant) = self.lease.as_ref().and_then(NodeLease::live_grant) else { return };
        let work = self.work.get_or_insert_with(|| Work::new(grant));
        work.mine = true;
        work.held = Some(held);
    }

    /// Whether the grant that `holder` has taken is to be taken again by this process.
    pub(crate) fn may_resume(&self, holder: &Holder) -> bool {
        self.yielded.as_ref() != Some(&holder.grant)
    }

    /// Ends the process once everything is given back, or the time is up.
    fn leave(&mut self, now: Monotonic) {
        let Some(deadline) = self.shutdown else { return };
        let idle = self.work.is_none() && self.pull.is_none() && self.writer.in_flight().is_none();
        if idle || now >= deadline {
            self.exited = true;
            self.wake = None;
            self.effects.push(Effect::Exit);
        } else {
            self.wake_no_later_than(deadline);
        }
    }

    pub(crate) fn wake_no_later_than(&mut self, at: Monotonic) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }
}
