//! The agents of a swarm: the product's own code, thousands of them on one thread.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use drop_agent::clock::MachineClock;
use drop_agent::driver;
use drop_agent::kubernetes::KubeApi;
use drop_agent::observe::Observed;
use drop_agent::parts::{Api, Clock as _, ImageRuntime, Parts};
use drop_agent_step::Config;
use drop_protocol::Monotonic;
use kube::Client;
use kube::config::AuthInfo;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::place::{NAMESPACE, Place};
use crate::population::Member;
use crate::runtime::{Handle, NoTimer, Runtime, Tally};
use crate::scenario::RuntimeModel;

/// Grace period of an agent's Pod, and how long a busy machine may make of it.
const GRACE: Duration = Duration::from_secs(10);
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// Agents start this far apart, as kubelets start the Pods of a DaemonSet: not all in one moment.
const START_GAP: Duration = Duration::from_millis(3);

/// A running agent.
pub(crate) struct Agent {
    observed: Arc<Observed>,
    stop: watch::Sender<Option<Monotonic>>,
    task: JoinHandle<()>,
}

/// The client of an agent: connections of its own, and no retries.
pub(crate) fn client(place: &Place, token: &str) -> Result<Client> {
    let mut config = place.config.clone();
    config.default_retry = false;
    config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
    Ok(Client::try_from(config)?)
}

/// What an agent with this API and runtime is given.
pub(crate) fn parts(api: Rc<dyn Api>, runtime: Rc<dyn ImageRuntime>) -> Parts {
    Parts { api, runtime, clock: Rc::new(MachineClock), timer: Rc::new(NoTimer), providers: Rc::default() }
}

impl Agent {
    /// Starts the agent of `member`; it counts in `ended` when it ends. Needs a `LocalSet`.
    pub(crate) fn start(member: &Member, parts: Parts, ended: Rc<Cell<usize>>) -> Self {
        let observed = Arc::new(Observed::new());
        let agent = Config::new(&member.node, &member.pod_uid, &format!("{:016x}", fastrand::u64(..)));
        let stop = watch::Sender::new(None);
        let mut stopping = stop.subscribe();
        let told = async move {
            match stopping.wait_for(Option::is_some).await {
                Ok(deadline) => deadline.unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        let running = Arc::clone(&observed);
        let task = tokio::task::spawn_local(async move {
            driver::run(agent, parts, running, told).await;
            ended.set(ended.get() + 1);
        });
        Self { observed, stop, task }
    }

    /// Ends it as a SIGTERM would. It does not count as ended.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) async fn stop(self, ended: &Cell<usize>) -> Result<()> {
        self.stop.send_replace(Some(MachineClock.now().monotonic.after(GRACE)));
        tokio::time::timeout(ENDS_WITHIN, self.task).await.context("an agent does not end on SIGTERM")??;
        ended.set(ended.get() - 1);
        Ok(())
    }

    /// Ends it as a SIGKILL would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// All agents.
pub(crate) struct Agents {
    agents: Vec<Agent>,
    /// Their runtimes, in the same order.
    pub(crate) runtimes: Vec<Rc<Runtime>>,
    /// What the runtimes did.
    pub(crate) tally: Rc<Tally>,
    model: RuntimeModel,
    ended: Rc<Cell<usize>>,
}

impl Agents {
    /// None yet.
    pub(crate) fn new(model: RuntimeModel) -> Self {
        Self { agents: Vec::new(), runtimes: Vec::new(), tally: Rc::default(), model, ended: Rc::default() }
    }

    /// Starts the agents of `members`. Needs a `LocalSet`.
    pub(crate) async fn start(&mut self, place: &Place, members: &[Member]) -> Result<()> {
        for member in members {
            self.start_one(place, member)?;
            tokio::time::sleep(START_GAP).await;
        }
        Ok(())
    }

    fn start_one(&mut self, place: &Place, member: &Member) -> Result<()> {
        let seed = u64::try_from(self.agents.len())?;
        let client = client(place, &member.token)?;
        let runtime = Rc::new(Runtime::new(self.model.clone(), seed, Rc::clone(&self.tally)));
        let api = KubeApi::new(client, NAMESPACE, &member.node, fastrand::u64(..));
        let parts = parts(Rc::new(api), Rc::new(Handle(Rc::clone(&runtime))));
        self.agents.push(Agent::start(member, parts, Rc::clone(&self.ended)));
        self.runtimes.push(runtime);
        Ok(())
    }

    /// Waits until every agent hears of its Lease and of the catalog, as its readiness probe would.
    pub(crate) async fn wait_ready(&self, limit: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            let waiting = self.agents.iter().filter(|agent| !agent.observed.missing().is_empty()).count();
            if waiting == 0 {
                return Ok(());
            }
            ensure!(started.elapsed() < limit, "{waiting} agents are not ready after {} s", limit.as_secs());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Fails if an agent has ended by itself.
    pub(crate) fn all_run(&self) -> Result<()> {
        ensure!(self.ended.get() == 0, "{} agents have ended", self.ended.get());
        Ok(())
    }

    /// Ends all agents as a SIGTERM would.
    pub(crate) async fn stop(self) -> Result<()> {
        let ended = &self.ended;
        futures::future::try_join_all(self.agents.into_iter().map(|agent| agent.stop(ended))).await?;
        Ok(())
    }
}
