//! The loop: whatever happens goes into the step function, whatever it decides is done, in order.
//!
//! Everything that is under way lives in the [`Driver`] as a future and nothing is spawned: dropping the driver ends
//! its pull, its requests and its watches.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use drop_agent_step::{Agent, Config, Effect, Input, Inventory, PullError, PullId, Pulled};
use drop_protocol::{GrantId, GrantedImage, Monotonic};
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::{FuturesUnordered, select};
use tracing::{debug, error, info, warn};

use crate::observe::Observed;
use crate::parts::Parts;
use crate::pull::pull;
use crate::told::Told;

/// How often the progress of a running pull is measured.
const PROGRESS_EVERY: Duration = Duration::from_secs(15);

/// Something that was asked for has come.
enum Answer {
    Input(Box<Input>),
    /// How far a pull has come, if the runtime can tell.
    Progress(PullId, Option<u64>),
}

/// The pull in flight.
struct Running {
    id: PullId,
    started: Monotonic,
    result: LocalBoxFuture<'static, Result<Pulled, PullError>>,
}

/// One agent and everything that it has under way.
struct Driver {
    agent: Agent,
    parts: Parts,
    observed: Arc<Observed>,
    answers: FuturesUnordered<LocalBoxFuture<'static, Answer>>,
    running: Option<Running>,
    /// The grant whose first pull has been started.
    begun: Option<GrantId>,
    /// What was said of a grant and of a report that can't be read.
    told: (Told, Told),
}

/// Runs one agent until `stop` tells it to end, with a deadline; returns when everything is given back or the
/// deadline has come.
pub async fn run(
    config: Config,
    parts: Parts,
    observed: Arc<Observed>,
    stop: impl Future<Output = Monotonic>,
) {
    let mut happenings =
        select(parts.api.watch(), parts.runtime.image_events().map(|()| Input::ImagesChanged));
    let agent = Agent::new(config, parts.clock.now());
    let mut driver = Driver {
        agent,
        parts,
        observed,
        answers: FuturesUnordered::new(),
        running: None,
        begun: None,
        told: Default::default(),
    };
    let mut stop = pin!(stop);
    let mut stopping = false;
    let mut next = Input::Tick;
    while driver.handle(next).is_some() {
        let wake = driver.agent.wake_at();
        let clock = &driver.parts.clock;
        let alarm = async {
            match wake {
                Some(at) => clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        next = tokio::select! {
            Some(input) = happenings.next() => input,
            Some(answer) = driver.answers.next(), if !driver.answers.is_empty() => match answer {
                Answer::Input(input) => *input,
                Answer::Progress(pull, mark) => driver.progress(pull, mark),
            },
            (pull, result) = finished(&mut driver.running) => Input::PullFinished { pull, result },
            deadline = &mut stop, if !stopping => {
                stopping = true;
                Input::Shutdown { deadline }
            }
            () = alarm => Input::Tick,
        };
    }
}

/// The end of the running pull; never if there is none.
async fn finished(running: &mut Option<Running>) -> (PullId, Result<Pulled, PullError>) {
    match running {
        None => std::future::pending().await,
        Some(pull) => {
            let result = (&mut pull.result).await;
            let id = pull.id;
            *running = None;
            (id, result)
        }
    }
}

impl Driver {
    /// Steps the agent; `None`: it has ended.
    fn handle(&mut self, input: Input) -> Option<()> {
        self.note(&input);
        // Wherever a pull may start next, what is free now counts and not what was free at the last list.
        if matches!(input, Input::PullFinished { .. } | Input::WriteDone { .. })
            && let Some(percent) = self.parts.runtime.free_percent()
        {
            self.step(Input::DiskFree(percent))?;
        }
        self.step(input)
    }

    fn step(&mut self, input: Input) -> Option<()> {
        for effect in self.agent.step(input, self.parts.clock.now()) {
            self.perform(effect)?;
        }
        self.observed.grant_held(self.agent.grant().is_some());
        Some(())
    }

    fn note(&mut self, input: &Input) {
        match input {
            Input::Lease(lease) => {
                self.observed.lease_heard();
                if let Some(error) = self.told.0.news(lease.grant_error.as_deref()) {
                    warn!(error, "the grant in this node's Lease cannot be read: nothing is pulled for it");
                }
                if let Some(error) = self.told.1.news(lease.report_error.as_deref()) {
                    warn!(error, "the report in this node's Lease cannot be read: it is written anew");
                }
            }
            Input::LeaseGone => self.observed.lease_heard(),
            Input::Catalog(_) | Input::CatalogGone => self.observed.catalog_heard(),
            Input::Inventory(inventory) => {
                self.observed.runtime_answered(Some(inventory.images.len()));
                if let Some(percent) = inventory.free_percent {
                    self.observed.disk_free(percent);
                }
            }
            Input::InventoryFailed(why) => {
                info!(why, "the container runtime does not list its images");
                self.observed.runtime_answered(None);
            }
            _ => {}
        }
    }

    fn perform(&mut self, effect: Effect) -> Option<()> {
        match effect {
            Effect::ReadLeader => {
                let read = self.parts.api.read_leader();
                self.await_input(
                    async move { read.await.map_or_else(Input::LeaderUnknown, Input::LeaderEpoch) },
                );
            }
            Effect::ReadLease => {
                let read = self.parts.api.read_lease();
                self.await_input(async move {
                    match read.await {
                        Ok(Some(lease)) => Input::Lease(lease),
                        Ok(None) => Input::LeaseGone,
                        Err(why) => Input::LeaseUnknown(why),
                    }
                });
            }
            Effect::ListImages => {
                let runtime = self.parts.runtime.clone();
                self.await_input(async move {
                    match runtime.images().await {
                        Ok(images) => {
                            Input::Inventory(Inventory { images, free_percent: runtime.free_percent() })
                        }
                        Err(error) => Input::InventoryFailed(error.to_string()),
                    }
                });
            }
            Effect::WriteLease { write, patch, kind } => {
                debug!(?kind, "writing this node's Lease");
                let (sent, observed) = (self.parts.api.patch_lease(patch), Arc::clone(&self.observed));
                self.await_input(async move {
                    let result = sent.await;
                    observed.wrote(kind, &result);
                    Input::WriteDone { write, result }
                });
            }
            Effect::ArmTimer { deadline } => {
                if let Err(why) = self.parts.timer.arm(deadline) {
                    error!(why, "the kernel timer cannot be armed, so nothing may be pulled; ending");
                    return None;
                }
            }
            Effect::DisarmTimer => self.parts.timer.disarm(),
            Effect::StartPull { pull, image } => self.start(pull, image),
            Effect::CancelPull { pull } => self.cancel(pull),
            Effect::Exit => return None,
        }
        Some(())
    }

    fn await_input(&self, answer: impl Future<Output = Input> + 'static) {
        self.answers.push(Box::pin(async move { Answer::Input(Box::new(answer.await)) }));
    }

    fn start(&mut self, id: PullId, image: GrantedImage) {
        info!(image = image.reference, "pulling");
        let grant = self.agent.grant();
        let first = grant.is_some_and(|grant| self.begun.as_ref() != Some(&grant.id));
        let issued_at = grant.filter(|_| first).map(|grant| grant.issued_at);
        self.begun = grant.map(|grant| grant.id.clone());
        let held = self.agent.digest_of(&image.reference).map(str::to_owned);
        let result = pull(self.parts.clone(), Arc::clone(&self.observed), image, held, issued_at);
        let started = self.parts.clock.now().monotonic;
        self.running = Some(Running { id, started, result: Box::pin(result) });
        self.measure(id);
    }

    /// Ends the running pull, and says so once the runtime knows.
    fn cancel(&mut self, id: PullId) {
        let Some(running) = self.running.take_if(|running| running.id == id) else { return };
        info!("ending the pull");
        let took = self.parts.clock.now().monotonic.since(running.started);
        drop(running);
        let result = Err(PullError::Cancelled);
        self.observed.pull_took(&result, took);
        self.observed.pull_ended(&result);
        let settled = self.parts.runtime.settled();
        self.await_input(async move {
            settled.await;
            Input::PullFinished { pull: id, result }
        });
    }

    /// Measures the progress of the pull `id` after a while.
    fn measure(&self, id: PullId) {
        let runtime = self.parts.runtime.clone();
        let at = self.parts.clock.now().monotonic.after(PROGRESS_EVERY);
        let later = self.parts.clock.sleep_until(at);
        self.answers.push(Box::pin(async move {
            later.await;
            Answer::Progress(id, runtime.progress().await)
        }));
    }

    fn progress(&self, id: PullId, mark: Option<u64>) -> Input {
        if self.running.as_ref().is_some_and(|running| running.id == id) {
            self.measure(id);
        }
        mark.map_or(Input::Tick, |mark| Input::PullProgress { pull: id, mark })
    }
}
