//! What happened, for whoever replays a seed.

use std::io::Write;

use crate::clock::Time;
use crate::simulation::Simulation;

/// Where the trace goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace {
    lines: bool,
}

impl Trace {
    /// A trace that prints every line to standard output.
    #[must_use]
    pub fn printing() -> Self {
        Self { lines: true }
    }

    /// Whether anybody reads it: spares the making of lines.
    #[must_use]
    pub fn on(&self) -> bool {
        self.lines
    }

    fn line(&self, at: Time, text: &str) {
        if self.lines {
            let (seconds, millis) = (at.as_secs(), at.subsec_millis());
            // A reader who has closed the pipe has seen enough.
            let _ = writeln!(std::io::stdout(), "{:4}:{:02}.{millis:03} {text}", seconds / 60, seconds % 60);
        }
    }
}

impl Simulation {
    /// Adds how things stand: for a run that does not converge.
    pub fn tell_state(&self) {
        if !self.trace.on() {
            return;
        }
        let cluster = self.truth();
        for node in cluster.nodes.values() {
            let lease = cluster.leases.get(&node.name).map(|lease| (lease.state(), &lease.report));
            self.tell(&format!("node      {node:?}, agent {:?}, {lease:?}", cluster.agents.get(&node.name)));
        }
        for object in cluster.policies.values().map(|p| format!("{p:?}")) {
            self.tell(&format!("policy    {object}"));
        }
        for image in cluster.images.values() {
            self.tell(&format!("image     {image:?}"));
        }
    }

    /// Adds a line.
    pub fn tell(&self, text: &str) {
        self.trace.line(self.now, text);
    }
}
