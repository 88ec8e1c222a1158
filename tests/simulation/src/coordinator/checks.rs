//! Questions to registries, beside everything else: nothing waits for their answers.

use std::time::Duration;

use drop_planner::{Check, CheckOutcome};

use super::execute::Purpose;
use crate::breaks::Break;
use crate::invariants::quiet::{LONGEST_BACKOFF, Question};
use crate::network::{Client, transit};
use crate::simulation::{Event, Message, Simulation};

/// When a coordinator gives up on a registry.
const TIMEOUT: Duration = Duration::from_secs(10);

impl Simulation {
    pub(super) fn send_checks(&mut self, index: usize, client: Client, checks: Vec<Check>) {
        let now = self.coordinators[index].clock.now(self.now);
        for check in checks {
            let call = self.number();
            self.note_question(index, &check.reference);
            let lost = self.chance(self.checks_lost);
            let delay = match self.rng.u32(0..10) {
                0 => self.seconds(0.5, 9.0),
                _ => transit(&mut self.rng),
            };
            let Some(process) = self.process(index) else { return };
            process.world.memory.check_sent(&check.uid, &check.reference, now);
            let reference = check.reference.clone();
            process.calls.insert(call, Purpose::Check(Box::new(check)));
            if lost {
                let outcome = CheckOutcome::Unavailable { retry_after: None };
                self.after(TIMEOUT, Event::Message(client, Message::Checked(call, outcome)));
            } else {
                self.after(delay, Event::CheckArrives(client, call, reference));
            }
        }
    }

    /// A question reaches its registry.
    pub fn check_arrives(&mut self, client: Client, call: u64, reference: &str) {
        let outcome = self.registry.head(reference);
        if let CheckOutcome::Digest(digest) = &outcome {
            self.checker.answers.insert((reference.to_owned(), digest.clone()));
        }
        if self.trace.on() {
            self.tell(&format!("registry  says of {reference}: {outcome:?}"));
        }
        let delay = transit(&mut self.rng);
        self.after(delay, Event::Message(client, Message::Checked(call, outcome)));
    }

    /// A question has its answer, or none in time.
    pub(super) fn coordinator_checked(&mut self, index: usize, call: u64, outcome: CheckOutcome) {
        let now = self.coordinators[index].clock.now(self.now);
        let invents = self.broken == Some(Break::InventAnswers);
        if self.broken == Some(Break::AskForever) && !matches!(outcome, CheckOutcome::Digest(_)) {
            self.ask_forever(index, call);
        }
        let Some(process) = self.process(index) else { return };
        let Some(Purpose::Check(check)) = process.calls.remove(&call) else { return };
        let outcome = match outcome {
            CheckOutcome::Digest(digest) => CheckOutcome::Digest(digest),
            _ if invents => {
                let leases = process.world.cluster.leases.values();
                let mut reports = leases.filter_map(|lease| lease.report.as_ref());
                let held = reports.find_map(|report| report.images.get(check.uid.as_str())?.digest.clone());
                CheckOutcome::Digest(held.map_or_else(String::new, |digest| digest.to_string()))
            }
            failed => failed,
        };
        process.world.memory.check_settled(&check.uid, &check.reference, outcome, now);
        process.changed = true;
    }

    /// Asks once more what was asked, and learns after a while that there is no answer to that either.
    fn ask_forever(&mut self, index: usize, call: u64) {
        let again = self.number();
        let Some(client) = self.coordinator_client(index) else { return };
        let Some(process) = self.process(index) else { return };
        let Some(Purpose::Check(check)) = process.calls.get(&call) else { return };
        let check = check.clone();
        self.note_question(index, &check.reference);
        if let Some(process) = self.process(index) {
            process.calls.insert(again, Purpose::Check(check));
        }
        let outcome = CheckOutcome::Unavailable { retry_after: None };
        self.after(LONGEST_BACKOFF, Event::Message(client, Message::Checked(again, outcome)));
    }

    fn note_question(&mut self, index: usize, reference: &str) {
        self.questions.push(Question { at: self.now, coordinator: index, reference: reference.to_owned() });
    }
}
