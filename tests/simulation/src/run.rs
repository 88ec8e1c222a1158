//! A whole run of one schedule: faults, calm, convergence, quiet.

use std::time::Duration;

use crate::breaks::Break;
use crate::clock::Time;
use crate::coverage::Coverage;
use crate::faults::Heal;
use crate::invariants::Violation;
use crate::invariants::quiet::{BACKED_OFF, QUIET};
use crate::schedule::Schedule;
use crate::simulation::{Event, Simulation};
use crate::trace::Trace;

/// How a seed is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How long faults strike.
    pub faults: Time,
    /// What is deliberately broken.
    pub broken: Option<Break>,
    /// Print what happens.
    pub trace: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { faults: Duration::from_secs(600), broken: None, trace: false }
    }
}

/// What a run without violation looked like.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// How long the cluster needed after the last fault.
    pub converged: Time,
    /// Writes that reached the API server, leader renewals aside.
    pub writes: usize,
    /// Simulated time in all.
    pub simulated: Time,
    /// Events that were handled, and what faults struck.
    pub coverage: Coverage,
}

/// How often it is looked whether all is well.
const LOOK: Duration = Duration::from_secs(5);
/// How long it may take until all is well, beside the time that pulling takes one pair at a time.
const PATIENCE: Duration = Duration::from_secs(1_500);

/// Runs one seed.
///
/// # Errors
/// With the first violation of an invariant. A panic of any part counts as one, of number 0.
pub fn run(seed: u64, options: Options) -> Result<Outcome, Violation> {
    let trace = if options.trace { Trace::printing() } else { Trace::default() };
    run_schedule(&Schedule::of(seed, options.faults, options.broken), trace)
}

/// Runs what a schedule says.
///
/// # Errors
/// As [`run`].
pub fn run_schedule(schedule: &Schedule, trace: Trace) -> Result<Outcome, Violation> {
    std::panic::catch_unwind(|| whole(schedule, trace)).unwrap_or_else(|_| {
        let what = "something panicked; its message stands above".to_owned();
        Err(Violation { invariant: 0, at: Time::ZERO, what })
    })
}

fn whole(schedule: &Schedule, trace: Trace) -> Result<Outcome, Violation> {
    let mut simulation = Simulation::new(schedule, trace);
    simulation.run_until(Duration::from_millis(schedule.faults_end))?;
    simulation.tell("          faults are over");
    simulation.queue.push(simulation.now, Event::Heal(Heal::Everything));
    // People go on working.
    for planned in &schedule.edits {
        simulation.after(planned.time(), Event::Fault(planned.into()));
    }
    let calm = simulation.now;
    simulation.run_until(calm + Duration::from_secs(151))?;
    converge(&mut simulation)?;
    let converged = simulation.now - calm;
    simulation.tell("          converged; registries heal");
    simulation.queue.push(simulation.now, Event::Heal(Heal::Registries));
    converge(&mut simulation)?;
    settle(&mut simulation)?;
    simulation.tell("          quiet");
    let quiet = simulation.now;
    simulation.run_until(quiet + QUIET)?;
    if let Some((at, what)) = simulation.disturbance(quiet) {
        return Err(Violation { invariant: 6, at, what: format!("{what} while nothing changed") });
    }
    if let Some((invariant, what)) = simulation.shortcoming() {
        return Err(Violation { invariant, at: simulation.now, what });
    }
    let writes = simulation.api.audit().iter().filter(|write| !write.request.elects());
    let writes = writes.count();
    let coverage = Coverage { seeds: 1, steps: simulation.steps, ..simulation.coverage };
    Ok(Outcome { converged, writes, simulated: simulation.now, coverage })
}

/// Runs on until all is as it should be.
fn converge(simulation: &mut Simulation) -> Result<(), Violation> {
    let limit = simulation.now + PATIENCE + simulation.serial_work();
    while let Some((invariant, what)) = simulation.shortcoming() {
        if simulation.now >= limit {
            simulation.tell_state();
            return Err(Violation { invariant, at: simulation.now, what });
        }
        simulation.run_until(simulation.now + LOOK)?;
    }
    Ok(())
}

/// Runs on until nothing has been written, and no registry asked, for longer than any backoff.
fn settle(simulation: &mut Simulation) -> Result<(), Violation> {
    let limit = simulation.now + PATIENCE + simulation.serial_work();
    let mut quiet_since = simulation.now;
    while simulation.now < quiet_since + BACKED_OFF {
        let before = simulation.now;
        simulation.run_until(before + LOOK)?;
        if let Some((at, what)) = simulation.disturbance(before) {
            quiet_since = simulation.now;
            if simulation.now > limit {
                return Err(Violation { invariant: 6, at, what: format!("never quiet: still {what}") });
            }
        }
    }
    Ok(())
}

impl Simulation {
    /// How long it takes to pull every image on every node, one after another, with some room.
    fn serial_work(&self) -> Time {
        let cluster = self.truth();
        let images = cluster.images.values().map(|image| {
            let fetch = self.registry.images.get(&image.reference).map_or(Duration::ZERO, |p| p.fetch * 2);
            fetch + Duration::from_secs(20)
        });
        images.sum::<Duration>() * u32::try_from(self.machines.len()).unwrap_or(8)
    }
}
