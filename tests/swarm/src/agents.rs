//! The agents of a swarm: the product's own code, thousands of them on one thread.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use drop_agent::clock::MachineClock;
use drop_agent::driver;
use drop_agent::kubernetes::KubeApi;
use drop_agent::observe::Observed;
use drop_agent::parts::{Clock as _, Parts};
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

/// Agents start this far apart, as kubelets start the Pods of a DaemonSet: not all in one moment.
const START_GAP: Duration = Duration::from_millis(3);

/// A running agent.
struct Agent {
    observed: Arc<Observed>,
    task: JoinHandle<()>,
}

/// All agents.
pub(crate) struct Agents {
    agents: Vec<Agent>,
    /// Their runtimes, in the same order.
    pub(crate) runtimes: Vec<Rc<Runtime>>,
    /// What the runtimes did.
    pub(crate) tally: Rc<Tally>,
    model: RuntimeModel,
    stop: watch::Sender<Option<Monotonic>>,
    ended: Rc<Cell<usize>>,
}

impl Agents {
    /// None yet.
    pub(crate) fn new(model: RuntimeModel) -> Self {
        Self {
            agents: Vec::new(),
            runtimes: Vec::new(),
            tally: Rc::default(),
            model,
            stop: watch::Sender::new(None),
            ended: Rc::default(),
        }
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
        let mut config = place.config.clone();
        config.default_retry = false;
        config.auth_info = AuthInfo { token: Some(member.token.clone().into()), ..AuthInfo::default() };
        let client = Client::try_from(config)?;
        let runtime = Rc::new(Runtime::new(self.model.clone(), seed, Rc::clone(&self.tally)));
        let parts = Parts {
            api: Rc::new(KubeApi::new(client, NAMESPACE, &member.node, fastrand::u64(..))),
            runtime: Rc::new(Handle(Rc::clone(&runtime))),
            clock: Rc::new(MachineClock),
            timer: Rc::new(NoTimer),
            providers: Rc::default(),
        };
        let observed = Arc::new(Observed::new());
        let agent = Config::new(&member.node, &member.pod_uid, &format!("{:016x}", fastrand::u64(..)));
        let mut stop = self.stop.subscribe();
        let told = async move {
            match stop.wait_for(Option::is_some).await {
                Ok(deadline) => deadline.unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        let (running, ended) = (Arc::clone(&observed), Rc::clone(&self.ended));
        let task = tokio::task::spawn_local(async move {
            driver::run(agent, parts, running, told).await;
            ended.set(ended.get() + 1);
        });
        self.agents.push(Agent { observed, task });
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
    pub(crate) async fn stop(self) {
        self.stop.send_replace(Some(MachineClock.now().monotonic.after(Duration::from_secs(10))));
        for agent in self.agents {
            let _ = agent.task.await;
        }
    }
}
