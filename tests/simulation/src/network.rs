//! What becomes of messages between processes and the API server.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// A process on one end of a connection. A restarted one is another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client {
    /// Where it runs.
    pub place: Place,
    /// Number of the process; never used twice.
    pub process: u64,
}

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Coordinator replica.
    Coordinator(usize),
    /// The agent's container on a machine.
    Agent(usize),
}

/// How unreliable the network is while faults last. Chances of one message, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weather {
    /// A request never arrives.
    pub lost: f64,
    /// A request is served and its answer never arrives.
    pub answer_lost: f64,
    /// A request arrives late, up to [`LATEST`], often after its sender has given up.
    pub late: f64,
    /// A request arrives twice.
    pub twice: f64,
    /// A write is refused by something that stands before the server, such as a webhook.
    pub refused: f64,
    /// A watch event is held back for many seconds.
    pub slow_watch: f64,
    /// A watch breaks instead of telling of an event.
    pub broken_watch: f64,
}

/// The longest that a request is under way.
pub const LATEST: Duration = Duration::from_secs(45);
/// The longest that a watch event is held back.
pub const SLOWEST_WATCH: Duration = Duration::from_secs(40);

/// What becomes of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// How long each copy is under way; none arrives if empty.
    pub arrivals: Vec<Time>,
    /// How long the answer is under way; `None`: it is lost.
    pub answer: Option<Time>,
}

/// How long a healthy message is under way.
pub fn transit(rng: &mut fastrand::Rng) -> Time {
    // Mostly quick; the tail is what a busy server or a garbage collection makes.
    match rng.u32(0..100) {
        0..90 => Duration::from_micros(rng.u64(300..8_000)),
        90..99 => Duration::from_micros(rng.u64(8_000..80_000)),
        _ => Duration::from_micros(rng.u64(80_000..600_000)),
    }
}

fn chance(rng: &mut fastrand::Rng, p: f64) -> bool {
    p > 0.0 && rng.f64() < p
}

/// Draws the fate of a request; `cut` says that the sender can't reach the server at all.
pub fn fate(rng: &mut fastrand::Rng, weather: &Weather, cut: bool) -> Fate {
    if cut || chance(rng, weather.lost) {
        return Fate { arrivals: Vec::new(), answer: None };
    }
    let mut arrivals = vec![transit(rng)];
    if chance(rng, weather.late) {
        arrivals[0] += Duration::from_millis(rng.u64(500..LATEST.as_millis() as u64));
    }
    if chance(rng, weather.twice) {
        arrivals.push(arrivals[0] + Duration::from_millis(rng.u64(1..20_000)));
    }
    let answer = (!chance(rng, weather.answer_lost)).then(|| transit(rng));
    Fate { arrivals, answer }
}

/// How long a watch event is under way.
pub fn watch_delay(rng: &mut fastrand::Rng, weather: &Weather) -> Time {
    if chance(rng, weather.slow_watch) {
        Duration::from_millis(rng.u64(500..SLOWEST_WATCH.as_millis() as u64))
    } else {
        transit(rng)
    }
}

/// Whether a watch breaks now.
pub fn watch_breaks(rng: &mut fastrand::Rng, weather: &Weather) -> bool {
    chance(rng, weather.broken_watch)
}
