//! As little of a schedule as still breaks the same invariant: delta debugging.
//!
//! Whole kinds of faults go first, then faults in halves, quarters and one by one, then machines, images, policies,
//! replicas, bad network and time, over and over until nothing more can go. What is left out shifts no latency and no
//! choice elsewhere (see [`crate::streams`]), so that most of what has nothing to do with the violation can go. What
//! breaks only by luck gets more than one chance: the same with other latencies.

use std::time::Duration;

use crate::invariants::Violation;
use crate::network::Weather;
use crate::run::run_schedule;
use crate::schedule::Schedule;
use crate::trace::Trace;

/// So often a smaller schedule is tried, each time with other latencies.
const CHANCES: u64 = 4;

/// How far shrinking has come.
#[derive(Debug)]
pub struct Shrunk {
    /// The smallest schedule so far.
    pub schedule: Schedule,
    /// What it breaks.
    pub violation: Violation,
    /// How many runs that took.
    pub runs: u64,
}

/// Shrinks a schedule that breaks an invariant, until nothing more can go or `go_on` says no.
pub fn shrink(schedule: Schedule, violation: Violation, go_on: impl FnMut(&Shrunk) -> bool) -> Shrunk {
    let mut search =
        Search { best: Shrunk { schedule, violation, runs: 0 }, go_on, stopped: false, smaller: true };
    while search.smaller && !search.stopped {
        search.smaller = false;
        search.round();
    }
    search.best
}

struct Search<F> {
    best: Shrunk,
    go_on: F,
    stopped: bool,
    /// Something went in this round.
    smaller: bool,
}

impl<F: FnMut(&Shrunk) -> bool> Search<F> {
    /// Takes `less` for the best if it breaks the same invariant, now or with other latencies.
    fn try_with(&mut self, less: &Schedule) {
        if *less == self.best.schedule {
            return;
        }
        for more in 0..CHANCES {
            if self.breaks(Schedule { stir: less.stir + more, ..less.clone() }) {
                return;
            }
        }
    }

    fn breaks(&mut self, less: Schedule) -> bool {
        if self.stopped {
            return false;
        }
        self.best.runs += 1;
        let outcome = run_schedule(&less, Trace::default());
        let same = match outcome {
            Err(violation) if violation.invariant == self.best.violation.invariant => {
                self.best.violation = violation;
                self.best.schedule = less;
                self.smaller = true;
                true
            }
            _ => false,
        };
        self.stopped = !(self.go_on)(&self.best);
        same
    }

    /// Tries without whatever `change` takes away.
    fn without(&mut self, change: impl FnOnce(&mut Schedule)) {
        let mut less = self.best.schedule.clone();
        change(&mut less);
        self.try_with(&less);
    }

    fn round(&mut self) {
        self.cut_short();
        for kind in self.kinds() {
            self.without(|schedule| schedule.faults.retain(|planned| planned.fault != kind));
        }
        self.thin(0, |schedule| &mut schedule.faults);
        self.thin(0, |schedule| &mut schedule.edits);
        self.thin(1, |schedule| &mut schedule.machines);
        self.thin(0, |schedule| &mut schedule.images);
        self.thin(0, |schedule| &mut schedule.policies);
        self.thin(0, |schedule| &mut schedule.sets);
        self.thin(1, |schedule| &mut schedule.coordinators);
        self.calm();
    }

    fn kinds(&self) -> Vec<crate::faults::Fault> {
        let mut kinds: Vec<_> = self.best.schedule.faults.iter().map(|planned| planned.fault).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    /// Takes parts out of a list, of which `least` have to stay: halves first, single ones last.
    fn thin<T>(&mut self, least: usize, list: impl Fn(&mut Schedule) -> &mut Vec<T>) {
        let mut size = list(&mut self.best.schedule).len() / 2;
        if size == 0 && least == 0 {
            size = 1;
        }
        while size > 0 {
            let mut end = list(&mut self.best.schedule).len();
            // From the end: what came later has less to do with what came before.
            while end > 0 {
                let start = end.saturating_sub(size);
                if list(&mut self.best.schedule).len() - (end - start) < least {
                    break;
                }
                self.without(|schedule| drop(list(schedule).drain(start..end)));
                end = start;
            }
            size /= 2;
        }
    }

    /// A quieter network and processes that nothing disturbs.
    fn calm(&mut self) {
        self.without(|schedule| schedule.weather = Weather::default());
        let knobs: [fn(&mut Schedule) -> &mut f64; 9] = [
            |schedule| &mut schedule.weather.lost,
            |schedule| &mut schedule.weather.answer_lost,
            |schedule| &mut schedule.weather.late,
            |schedule| &mut schedule.weather.twice,
            |schedule| &mut schedule.weather.refused,
            |schedule| &mut schedule.weather.slow_watch,
            |schedule| &mut schedule.weather.broken_watch,
            |schedule| &mut schedule.pauses,
            |schedule| &mut schedule.mishaps,
        ];
        for knob in knobs {
            self.without(|schedule| *knob(schedule) = 0.0);
        }
    }

    /// Ends faults soon after the last of them, or sooner.
    fn cut_short(&mut self) {
        let last = self.best.schedule.faults.iter().map(|planned| planned.at).max().unwrap_or(0);
        let soon = self.best.violation.at + Duration::from_secs(1);
        let soon = u64::try_from(soon.as_millis()).unwrap_or(u64::MAX);
        for end in [last + 1_000, soon, self.best.schedule.faults_end / 2] {
            if end < self.best.schedule.faults_end {
                self.without(|schedule| {
                    schedule.faults_end = end;
                    schedule.faults.retain(|planned| planned.at <= end);
                });
            }
        }
    }
}
