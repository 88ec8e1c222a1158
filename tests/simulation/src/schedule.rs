//! What a run is made of, said in full: who is there, how bad the network is, what strikes when, and what people do.
//!
//! A seed makes a schedule; anything may be taken out of it, and what is left runs as it did (see [`crate::streams`]).

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::breaks::Break;
use crate::clock::Time;
use crate::coverage::{self, Aim};
use crate::faults::Fault;
use crate::network::Weather;
use crate::streams::{Streams, Thing};

/// A run, said in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Where all chance comes from that is not said here: latencies, losses, choices, what things look like.
    pub seed: u64,
    /// Another value means other latencies, losses and pauses, and the same of everything else.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stir: u64,
    /// What is deliberately broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<Break>,
    /// How long faults strike and the network is bad, in milliseconds.
    pub faults_end: u64,
    /// Replicas of the coordinator, by number.
    pub coordinators: Vec<usize>,
    /// Machines, by number.
    pub machines: Vec<usize>,
    /// PullPolicies, by number.
    pub policies: Vec<usize>,
    /// CachedImages that are there from the beginning, by number.
    pub images: Vec<usize>,
    /// CachedImageSets, each with a DiscoveryPolicy of its number.
    pub sets: Vec<usize>,
    /// How bad the network is.
    pub weather: Weather,
    /// Chance that a process is paused between two effects of one step.
    pub pauses: f64,
    /// Chance that a pull goes wrong on the node itself.
    pub mishaps: f64,
    /// What strikes while faults last.
    pub faults: Vec<Planned>,
    /// What people do afterwards; times count from the end of the faults.
    pub edits: Vec<Planned>,
}

/// Something that is to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planned {
    /// Names it: what it draws follows from this.
    pub number: u64,
    /// When, in milliseconds; with an aim: not before.
    pub at: u64,
    /// What.
    pub fault: Fault,
    /// It waits for this, and strikes there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<Aim>,
}

impl Planned {
    /// When.
    #[must_use]
    pub fn time(&self) -> Time {
        Duration::from_millis(self.at)
    }
}

/// So many faults of a seed are aimed.
const AIMED: u64 = 3;

impl Schedule {
    /// The schedule of `seed`; faults last for `faults`.
    ///
    /// Each seed knows only some kinds of faults, so that rare combinations come up often enough. Beside those, the seeds
    /// take turns in aiming one kind of fault at one state, until every combination has had its turn.
    #[must_use]
    pub fn of(seed: u64, faults: Time, broken: Option<Break>) -> Self {
        let mut rng = Streams::new(seed, 0).once(Thing::Schedule, 0);
        let policies = rng.usize(0..4);
        let machines = rng.usize(2..7);
        let images = rng.usize(1..7);
        let coordinators = rng.usize(2..4);
        let aimed: Vec<_> =
            (0..AIMED).map(|turn| coverage::turn(seed.wrapping_mul(AIMED).wrapping_add(turn))).collect();
        let about_sets = aimed.iter().any(|(fault, _)| fault.is_about_sets());
        let sets = if about_sets || rng.u32(0..6) == 0 { rng.usize(1..3) } else { 0 };
        let mut schedule = Self {
            seed,
            stir: 0,
            broken,
            faults_end: u64::try_from(faults.as_millis()).unwrap_or(u64::MAX),
            coordinators: (0..coordinators).collect(),
            machines: (0..machines).collect(),
            policies: (0..policies).collect(),
            images: (0..images).collect(),
            sets: (0..sets).collect(),
            weather: Weather::default(),
            pauses: 0.0,
            mishaps: 0.0,
            faults: Vec::new(),
            edits: Vec::new(),
        };
        schedule.draw_faults(&mut rng);
        schedule.draw_weather(&mut rng);
        for _ in 0..rng.u32(0..5) {
            let edits = match schedule.sets[..] {
                [] => [Fault::EditImage, Fault::DeleteImage, Fault::CreateImage, Fault::EditImage],
                _ => [Fault::EditSet, Fault::EditChild, Fault::Discover, Fault::EditImage],
            };
            let (fault, at) = (edits[rng.usize(0..edits.len())], rng.u64(61_000..150_000));
            schedule.edits.push(Planned { number: 0, at, fault, aim: None });
        }
        for combination in aimed {
            schedule.aim(combination, &mut rng);
        }
        schedule.faults.sort_by_key(|planned| planned.at);
        schedule.edits.sort_by_key(|planned| planned.at);
        for (number, planned) in schedule.faults.iter_mut().chain(&mut schedule.edits).enumerate() {
            planned.number = number as u64;
        }
        schedule
    }

    fn draw_faults(&mut self, rng: &mut fastrand::Rng) {
        let known: Vec<Fault> = Fault::ALL
            .into_iter()
            .filter(|fault| rng.u32(0..100) < 45 && (!fault.is_about_sets() || !self.sets.is_empty()))
            .collect();
        if known.is_empty() {
            return;
        }
        let faults_in_all = match rng.u32(0..10) {
            0..4 => rng.u32(0..10),
            4..8 => rng.u32(10..40),
            _ => rng.u32(40..120),
        };
        for _ in 0..faults_in_all {
            let fault = known[rng.usize(0..known.len())];
            self.add(fault, None, rng.u64(0..self.faults_end.max(1)));
        }
    }

    fn draw_weather(&mut self, rng: &mut fastrand::Rng) {
        let mut often = |p: f64| if rng.u32(0..3) == 0 { in_short(rng.f64() * p) } else { 0.0 };
        self.weather = Weather {
            lost: often(0.1),
            answer_lost: often(0.1),
            late: often(0.1),
            twice: often(0.1),
            refused: often(0.05),
            slow_watch: often(0.1),
            broken_watch: often(0.05),
        };
        self.pauses = often(0.02);
        self.mishaps = often(0.3);
    }

    /// Adds a fault that waits for a state, and what makes that state come about.
    fn aim(&mut self, (fault, aim): (Fault, Aim), rng: &mut fastrand::Rng) {
        let at = rng.u64(0..(self.faults_end / 2).max(1));
        self.add(fault, Some(aim), at);
        for help in aim.helped_by() {
            self.add(*help, None, at + rng.u64(0..(self.faults_end / 3).max(1)));
        }
        if aim.needs_losses() {
            self.weather.lost = self.weather.lost.max(0.06);
        }
    }

    fn add(&mut self, fault: Fault, aim: Option<Aim>, at: u64) {
        self.faults.push(Planned { number: 0, at, fault, aim });
    }

    /// How much there is in it: what shrinking makes less.
    #[must_use]
    pub fn size(&self) -> usize {
        self.faults.len()
            + self.edits.len()
            + self.coordinators.len()
            + self.machines.len()
            + self.policies.len()
            + self.images.len()
            + self.sets.len()
    }

    /// The schedule in a file's text.
    ///
    /// # Errors
    /// If it does not read as one: tells where.
    pub fn from_json(text: &str) -> anyhow::Result<Self> {
        let schedule: Self = serde_json::from_str(text).context("not a schedule as --shrink writes it")?;
        anyhow::ensure!(!schedule.machines.is_empty(), "machines: name at least one, such as 0");
        anyhow::ensure!(!schedule.coordinators.is_empty(), "coordinators: name at least one, such as 0");
        Ok(schedule)
    }

    /// The text that [`Self::from_json`] reads.
    ///
    /// # Errors
    /// If it has no JSON form.
    pub fn to_json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: replicas {:?}, machines {:?}, policies {:?}, images {:?}, sets {:?}; faults end at {:.3} s",
            self.seed,
            self.coordinators,
            self.machines,
            self.policies,
            self.images,
            self.sets,
            Duration::from_millis(self.faults_end).as_secs_f64()
        )?;
        let Weather { lost, answer_lost, late, twice, refused, slow_watch, broken_watch } = self.weather;
        let chances = [
            ("request lost", lost),
            ("answer lost", answer_lost),
            ("late", late),
            ("twice", twice),
            ("refused", refused),
            ("watch slow", slow_watch),
            ("watch broken", broken_watch),
            ("pause", self.pauses),
            ("mishap", self.mishaps),
        ];
        for (name, chance) in chances.iter().filter(|(_, chance)| *chance > 0.0) {
            writeln!(f, "  chance of {name}: {chance}")?;
        }
        let end = Duration::from_millis(self.faults_end);
        let all = self.faults.iter().map(|planned| (planned.time(), planned));
        for (at, planned) in all.chain(self.edits.iter().map(|planned| (end + planned.time(), planned))) {
            write!(f, "  {:9.3} s  {} {}", at.as_secs_f64(), planned.number, planned.fault.text())?;
            match planned.aim {
                Some(aim) => writeln!(f, ", as soon as {aim}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A chance that reads the same after it was written in decimals.
fn in_short(p: f64) -> f64 {
    (p * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_reads_as_it_was_written() {
        for seed in 0..200 {
            let schedule = Schedule::of(seed, Duration::from_secs(600), Some(Break::NoFencing));
            assert_eq!(Schedule::from_json(&schedule.to_json().unwrap()).unwrap(), schedule);
        }
    }
}
