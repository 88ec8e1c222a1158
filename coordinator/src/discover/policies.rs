//! All DiscoveryPolicies: which is due, and which answer still counts when it comes. No clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_crds::validation;
use drop_discovery::schedule::{Schedule, seed};
use drop_discovery::status::standing;
use drop_discovery::{Policy, policy};
use drop_protocol::{Monotonic, Now};

use super::row::Row;
use crate::watch::{Event, Versioned};

/// All of them.
#[derive(Debug, Default)]
pub struct Policies {
    entries: BTreeMap<String, Entry>,
    /// While a list is coming in: what it named so far.
    listing: Option<BTreeSet<String>>,
    complete: bool,
}

#[derive(Debug)]
struct Entry {
    version: u64,
    row: Row,
    schedule: Schedule,
    running: bool,
}

/// A sync that is to be made.
#[derive(Debug, Clone)]
pub struct Job {
    /// The policy as it was.
    pub row: Row,
    /// What it says, or what is wrong with it.
    pub policy: Result<Policy, String>,
}

/// What became of a sync.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// Name of the policy.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Which generation of the spec was acted on.
    pub generation: i64,
    /// Whether every source answered and the status is as it should be.
    pub well: bool,
}

impl Policies {
    /// Takes in what the watch says. Returns the names of policies that are gone.
    pub fn apply(&mut self, event: Event<Row>, now: Now) -> Vec<String> {
        match event {
            Event::Restarted => {
                self.listing = Some(BTreeSet::new());
                Vec::new()
            }
            Event::Listed(row) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(row.name.clone());
                }
                self.see(row, now);
                Vec::new()
            }
            Event::Complete => {
                self.complete = true;
                let Some(listed) = self.listing.take() else { return Vec::new() };
                let gone: Vec<String> =
                    self.entries.keys().filter(|name| !listed.contains(*name)).cloned().collect();
                self.entries.retain(|name, _| listed.contains(name));
                gone
            }
            Event::Applied(row) => {
                self.see(row, now);
                Vec::new()
            }
            Event::Deleted(row) => self.entries.remove(&row.name).map(|_| row.name).into_iter().collect(),
        }
    }

    /// Takes in a newer state of a policy: from the watch, or from the answer to a write.
    pub fn see(&mut self, Versioned { name, version, row }: Versioned<Row>, now: Now) {
        let interval = interval(&row);
        match self.entries.get_mut(&name) {
            Some(entry) if entry.row.uid == row.uid => {
                // An answer to a write may be ahead of the watch.
                if version < entry.version {
                    return;
                }
                if entry.row.generation != row.generation {
                    entry.schedule.edited(interval, now);
                }
                (entry.version, entry.row) = (version, row);
            }
            _ => {
                let schedule =
                    Schedule::new(seed(&row.uid), interval, standing(&row.status, row.generation), now);
                self.entries.insert(name, Entry { version, row, schedule, running: false });
            }
        }
    }

    /// The status of a policy as it is known now, if the object is still that one.
    #[must_use]
    pub fn row(&self, name: &str, uid: &str) -> Option<&Row> {
        self.entries.get(name).map(|entry| &entry.row).filter(|row| row.uid == uid)
    }

    /// When the next policy is due, if none is free to start before.
    #[must_use]
    pub fn next_due(&self) -> Option<Monotonic> {
        self.waiting().map(|(_, entry)| entry.schedule.due()).min()
    }

    /// Starts up to `most` policies that are due, those that wait longest first.
    pub fn start(&mut self, most: usize, now: Now) -> Vec<Job> {
        let mut due: Vec<(Monotonic, String)> = self
            .waiting()
            .map(|(name, entry)| (entry.schedule.due(), name.clone()))
            .filter(|(due, _)| *due <= now.monotonic)
            .collect();
        due.sort();
        let mut jobs = Vec::new();
        for (_, name) in due.into_iter().take(most) {
            let Some(entry) = self.entries.get_mut(&name) else { continue };
            entry.running = true;
            let row = entry.row.clone();
            let policy = match &row.spec {
                Ok(spec) => Policy::read(spec).map_err(|problems| validation::summary(&problems)),
                Err(problem) => Err(problem.clone()),
            };
            jobs.push(Job { row, policy });
        }
        jobs
    }

    /// A sync has ended. Whoever was edited or replaced meanwhile is due again at once.
    pub fn finished(&mut self, done: &Done, now: Now) {
        let Some(entry) = self.entries.get_mut(&done.name).filter(|entry| entry.row.uid == done.uid) else {
            return;
        };
        entry.running = false;
        if entry.row.generation == done.generation {
            entry.schedule.finished(done.well, now);
        }
    }

    /// Names of all policies.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    fn waiting(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter().filter(|(_, entry)| self.complete && !entry.running)
    }
}

/// How often a policy is due. One that can't be acted on is looked at again when it is edited; until then its condition
/// is only kept up.
fn interval(row: &Row) -> Duration {
    let policy = row.spec.as_ref().ok().and_then(|spec| Policy::read(spec).ok());
    policy.map_or(policy::DEFAULT_INTERVAL, |policy| policy.interval)
}
