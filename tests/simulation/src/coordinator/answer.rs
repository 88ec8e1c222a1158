//! What became of a coordinator's requests, and what it remembers of that.

use std::sync::Arc;

use drop_planner::{WriteKey, WriteOutcome};

use super::execute::Purpose;
use crate::api::{Kind, Object, Refusal};
use crate::breaks::Break;
use crate::request::{Answer, Request};
use crate::simulation::Simulation;

impl Simulation {
    /// The answer to a call, or that none came.
    pub(super) fn coordinator_answered(&mut self, index: usize, call: u64, answer: Answer) {
        let now = self.coordinators[index].clock.now(self.now);
        let forgets = self.broken == Some(Break::ForgetIssued);
        let Some(purpose) = self.process(index).and_then(|process| process.calls.remove(&call)) else {
            return;
        };
        if let (Answer::Lease(stored), false) = (&answer, matches!(purpose, Purpose::Lead(_)) || forgets) {
            self.fold_lease(index, stored);
        }
        let outcome = match &answer {
            Answer::Refused(_) => WriteOutcome::Refused,
            Answer::Unavailable => WriteOutcome::Unknown,
            _ => WriteOutcome::Applied,
        };
        let failed = outcome != WriteOutcome::Applied;
        match purpose {
            Purpose::Lead(asked) => return self.elected(index, &asked, &answer),
            Purpose::List(kind) => {
                return match (answer, self.coordinator_client(index)) {
                    (Answer::Snapshot(snapshot), _) => self.coordinator_lists(index, kind, &snapshot),
                    (_, Some(client)) => self.list(index, client, kind),
                    _ => {}
                };
            }
            Purpose::Issue(issue) => {
                let Some(process) = self.process(index) else { return };
                if !forgets {
                    let (memory, id) = (&mut process.world.memory, &issue.grant.id);
                    match answer {
                        Answer::Refused(Refusal::Forbidden(_)) => memory.issue_rejected(&issue.node, id, now),
                        _ => memory.issue_settled(&issue.node, id, outcome, now),
                    }
                }
                if outcome == WriteOutcome::Unknown {
                    process.unknown_issues.insert(issue.node.clone(), issue.resource_version);
                }
                if let Some(queued) = process.queues.get_mut(&issue.grant.policy) {
                    queued.sent = false;
                    queued.not_before = now.monotonic.after(queued.delay);
                    if outcome == WriteOutcome::Unknown {
                        queued.issues.clear();
                    }
                }
                if outcome == WriteOutcome::Unknown {
                    self.moment_of(&issue.node);
                }
            }
            Purpose::Withdraw(withdraw) => {
                let Some(process) = self.process(index) else { return };
                process.world.memory.withdraw_settled(&withdraw, outcome, now);
            }
            Purpose::Write(key) => {
                if let Answer::Catalog(stored) = &answer {
                    let (name, version) = (drop_protocol::names::CATALOG, stored.resource_version);
                    self.fold_object(
                        index,
                        Kind::Catalog,
                        name,
                        version,
                        Object::Catalog(Arc::clone(stored)),
                    );
                    let Some(process) = self.process(index) else { return };
                    process.world.memory.catalog_written(now);
                } else if failed && let Some(process) = self.process(index) {
                    process.world.memory.write_failed(&key, now);
                }
            }
            Purpose::Status(write, events) => match answer {
                Answer::Image(image, version) => {
                    self.fold_object(index, Kind::Image, &write.image, version, Object::Image(image));
                    let Some(process) = self.process(index) else { return };
                    process.world.memory.status_written(&write.image, now);
                    for event in events {
                        self.send_event(index, &event.image, &event.reason, &event.note);
                    }
                }
                Answer::Refused(Refusal::NotFound) => {}
                _ => {
                    let Some(process) = self.process(index) else { return };
                    process.world.memory.write_failed(&WriteKey::Status(write.image), now);
                }
            },
            Purpose::Child(write) => {
                if let Answer::Image(image, version) = answer {
                    self.fold_object(index, Kind::Image, &write.child, version, Object::Image(image));
                }
                let Some(process) = self.process(index) else { return };
                process.world.memory.child_settled(&write, outcome, now);
            }
            Purpose::SetStatus(write) => match answer {
                Answer::Set(set, version) => {
                    self.fold_object(index, Kind::Set, &write.set, version, Object::Set(set));
                    let Some(process) = self.process(index) else { return };
                    process.world.memory.set_status_written(&write.set, now);
                    if let Some(event) = &write.event {
                        self.send_event(index, &write.set, &event.reason, &event.note);
                    }
                }
                _ => {
                    let Some(process) = self.process(index) else { return };
                    process.world.memory.write_failed(&WriteKey::SetStatus(write.set), now);
                }
            },
            Purpose::Event | Purpose::Check(_) => return,
        }
        if let Some(process) = self.process(index) {
            // The plan was made before this answer: look again.
            process.changed = true;
        }
    }

    fn send_event(&mut self, index: usize, about: &str, reason: &str, note: &str) {
        if let Some(client) = self.coordinator_client(index) {
            let request = Request::CreateEvent(format!("{about} {reason}: {note}"));
            self.send(index, client, request, Purpose::Event);
        }
    }
}
