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
        let interval = interval(&row).unwrap_or(policy::DEFAULT_INTERVAL);
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
        if entry.row.generation != done.generation {
            return;
        }
        if done.well && interval(&entry.row).is_none() {
            entry.schedule.rest();
        } else {
            entry.schedule.finished(done.well, now);
        }
    }

    fn waiting(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter().filter(|(_, entry)| self.complete && !entry.running)
    }
}

/// How often a policy is due. One that can't be acted on only once, to say so, until it is edited.
fn interval(row: &Row) -> Option<Duration> {
    Some(Policy::read(row.spec.as_ref().ok()?).ok()?.interval)
}

#[cfg(test)]
mod tests {
    use drop_protocol::Monotonic;
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::discover::row::row;

    fn at(seconds: u64) -> Now {
        Now { monotonic: Monotonic::from_start(Duration::from_secs(seconds)), wall: Timestamp::UNIX_EPOCH }
    }

    fn object(version: u64, generation: i64, spec: &Value) -> Versioned<Row> {
        let object =
            json!({ "metadata": { "name": "p", "uid": "u", "generation": generation }, "spec": spec });
        Versioned { name: "p".to_owned(), version, row: row(serde_json::from_value(object).unwrap()) }
    }

    fn sound() -> Value {
        json!({ "sources": [{ "type": "prometheus", "prometheus": { "endpoint": "http://p", "query": "up" } }] })
    }

    fn listed(all: Vec<Versioned<Row>>) -> Policies {
        let mut policies = Policies::default();
        policies.apply(Event::Restarted, at(0));
        for row in all {
            policies.apply(Event::Listed(row), at(0));
        }
        assert!(policies.start(9, at(0)).is_empty(), "not before the list is complete");
        policies.apply(Event::Complete, at(0));
        policies
    }

    fn done(generation: i64, well: bool) -> Done {
        Done { name: "p".to_owned(), uid: "u".to_owned(), generation, well }
    }

    #[test]
    fn a_new_policy_is_due_once() {
        let mut policies = listed(vec![object(1, 1, &sound())]);
        assert_eq!(policies.start(9, at(0)).len(), 1);
        assert_eq!(policies.start(9, at(0)).len(), 0, "it runs");
        assert_eq!(policies.next_due(), None);
        policies.finished(&done(1, true), at(1));
        assert_eq!(policies.start(9, at(2)).len(), 0);
        assert!(policies.next_due().unwrap() >= at(1 + 15 * 60).monotonic);
        assert_eq!(policies.start(9, at(3600)).len(), 1);
    }

    #[test]
    fn an_edit_during_a_sync_makes_it_due_again_at_once() {
        let mut policies = listed(vec![object(1, 1, &sound())]);
        policies.start(9, at(0));
        policies.apply(Event::Applied(object(2, 2, &sound())), at(1));
        policies.finished(&done(1, true), at(2));
        let jobs = policies.start(9, at(2));
        assert_eq!(jobs[0].row.generation, 2);
    }

    #[test]
    fn an_older_state_from_the_watch_does_not_undo_an_answer() {
        let mut policies = listed(vec![object(1, 1, &sound())]);
        policies.see(object(7, 2, &sound()), at(1));
        policies.apply(Event::Applied(object(5, 1, &sound())), at(2));
        assert_eq!(policies.row("p", "u").unwrap().generation, 2);
    }

    #[test]
    fn a_policy_that_is_gone_or_another_one_is_forgotten() {
        let mut policies = listed(vec![object(1, 1, &sound())]);
        assert_eq!(policies.apply(Event::Deleted(object(2, 1, &sound())), at(1)), ["p"]);
        assert_eq!(policies.row("p", "u"), None);
        let mut policies = listed(vec![object(1, 1, &sound())]);
        assert_eq!(policies.row("p", "other"), None);
        policies.apply(Event::Restarted, at(1));
        assert_eq!(policies.apply(Event::Complete, at(1)), ["p"]);
    }

    #[test]
    fn a_stored_object_that_breaks_a_rule_or_cannot_be_read_becomes_a_job_that_says_so() {
        for (spec, words) in [
            (json!({}), "spec: sources is empty"),
            (json!({ "queries": [], "sources": [] }), "queries, signals and ranking"),
            (json!({ "sources": 7 }), "the stored object cannot be read"),
        ] {
            let job = listed(vec![object(1, 1, &spec)]).start(9, at(0)).remove(0);
            assert!(job.policy.as_ref().unwrap_err().contains(words), "{job:?}");
        }
    }

    #[test]
    fn a_spec_that_cannot_be_read_hides_no_status() {
        let image = json!({ "image": "a:1", "score": 7, "source": "prometheus http://p" });
        let object = json!({
            "metadata": { "name": "p" }, "spec": { "sources": 7 }, "status": { "discoveredImages": [image] }
        });
        let row = row(serde_json::from_value(object).unwrap());
        assert_eq!(row.status.discovered_images[0].image, "a:1");
    }

    #[test]
    fn a_policy_that_cannot_be_acted_on_rests_until_it_is_edited() {
        let mut policies = listed(vec![object(1, 1, &json!({}))]);
        assert_eq!(policies.start(9, at(0)).len(), 1);
        policies.finished(&done(1, true), at(1));
        assert_eq!(policies.start(9, at(1_000_000_000)).len(), 0);
        policies.apply(Event::Applied(object(2, 2, &sound())), at(1_000_000_001));
        assert_eq!(policies.start(9, at(1_000_000_001)).len(), 1);
    }
}
