//! Pulls on a machine: how the agent's requests reach its containerd, and how they end.

use std::time::Duration;

use drop_agent_step::{Input, PullError, Pulled};
use drop_protocol::failure::classify;

use crate::breaks::Break;
use crate::network::{Client, Place};
use crate::runtime::{Course, ENDS_WITHIN, PullKey};
use crate::simulation::{Event, Message, Simulation};

impl Simulation {
    /// A PullImage reaches containerd.
    pub fn pull_arrives(&mut self, machine: usize, key: PullKey) {
        let client = Client { place: Place::Agent(machine), process: key.process };
        if !self.alive(client) {
            return;
        }
        let Some(reference) = self.checker.reference_of(machine, key) else { return };
        let mishap = if self.chance(self.mishaps) {
            Some(match self.rng.u32(0..4) {
                0 => Course::Stuck,
                1 => Course::Fail(2, "failed to copy: httpReadSeeker: unexpected EOF".to_owned()),
                2 => Course::Fail(2, "failed to extract layer: no space left on device".to_owned()),
                _ => Course::Fail(14, "error reading from server: EOF".to_owned()),
            })
        } else {
            None
        };
        if self.machines[machine].runtime.down {
            let error = classify(14, "transport error: connection refused by containerd.sock", &reference);
            let input = Input::PullFinished { pull: key.pull, result: Err(PullError::Failed(error)) };
            return self
                .after(Duration::from_millis(1), Event::Message(client, Message::Local(Box::new(input))));
        }
        let now = self.now;
        self.pull_changes += 1;
        let ends = self.machines[machine].runtime.start(key, &reference, &self.registry, mishap, now);
        self.checker_sees_pull(machine, key);
        self.node_moment(machine);
        match ends {
            Some(at) => self.queue.push(at, Event::PullEnds(machine, key)),
            // containerd itself gives up on a pull without bytes, sometimes.
            None if self.rng.bool() => self.after(Duration::from_secs(300), Event::PullEnds(machine, key)),
            None => {}
        }
        self.after(Duration::from_secs(2), Event::PullProgress(machine, key));
    }

    /// A pull ends by itself.
    pub fn pull_ends(&mut self, machine: usize, key: PullKey) {
        let Some(result) = self.machines[machine].runtime.end(key, &self.registry) else { return };
        self.pull_changes += 1;
        self.node_moment(machine);
        let reference = self.checker.reference_of(machine, key).unwrap_or_default();
        let lists = !self.chance(0.01);
        let result = match result {
            Ok(digest) => Ok(Pulled { digest: Some(digest).filter(|_| lists) }),
            Err((code, text)) => Err(PullError::Failed(classify(code, &text, &reference))),
        };
        if result.is_ok() {
            self.images_changed(machine);
        }
        self.pull_answers(machine, key, result);
    }

    /// A pull that was cancelled, or whose client is gone, ends.
    pub fn pull_stops(&mut self, machine: usize, key: PullKey) {
        let runtime = &mut self.machines[machine].runtime;
        let Some(pull) = runtime.pulls.get_mut(&key) else { return };
        if !pull.ending {
            // A moment passes until nothing goes on any more.
            pull.ending = true;
            self.pull_changes += 1;
            let delay = self.seconds(0.001, ENDS_WITHIN.as_secs_f64());
            return self.after(delay, Event::PullStops(machine, key));
        }
        runtime.pulls.remove(&key);
        self.pull_answers(machine, key, Err(PullError::Cancelled));
    }

    fn pull_answers(&mut self, machine: usize, key: PullKey, result: Result<Pulled, PullError>) {
        let client = Client { place: Place::Agent(machine), process: key.process };
        let delay = self.seconds(0.000_2, 0.004);
        let input = Input::PullFinished { pull: key.pull, result };
        self.after(delay, Event::Message(client, Message::Local(Box::new(input))));
    }

    /// Ends the pulls that `which` picks, as containerd does when their client is gone.
    pub fn stop_pulls(&mut self, machine: usize, which: impl Fn(&PullKey) -> bool) {
        let keys: Vec<PullKey> =
            self.machines[machine].runtime.pulls.keys().filter(|k| which(k)).copied().collect();
        for key in keys {
            self.pull_stops(machine, key);
        }
    }

    /// The agent looks how far a pull has come.
    pub fn pull_progress(&mut self, machine: usize, key: PullKey) {
        let Some(pull) = self.machines[machine].runtime.pulls.get(&key) else { return };
        let moved = if pull.course == Course::Stuck { Duration::ZERO } else { self.now - pull.started };
        let mark = u64::try_from(moved.as_millis()).unwrap_or(0);
        let client = Client { place: Place::Agent(machine), process: key.process };
        self.deliver_local(client, Input::PullProgress { pull: key.pull, mark });
        self.after(Duration::from_secs(20), Event::PullProgress(machine, key));
    }

    /// containerd says that images came or went.
    pub fn images_changed(&mut self, machine: usize) {
        if self.broken == Some(Break::NoPresence) {
            return;
        }
        if let Some(client) = self.agent_client(machine) {
            let delay = self.seconds(0.001, 0.05);
            self.after(delay, Event::Message(client, Message::Local(Box::new(Input::ImagesChanged))));
        }
    }
}
