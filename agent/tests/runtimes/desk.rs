//! The coordinator's side of one agent, and the API server between them: the node's Lease, kept in memory.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use drop_agent::clock::MachineClock;
use drop_agent::driver;
use drop_agent::node::NodeRuntime;
use drop_agent::observe::Observed;
use drop_agent::parts::{Api, KillTimer, Parts, SecretError};
use drop_agent_step::{Config, Input, WriteResult};
use drop_credentials::docker_config::SecretData;
use drop_protocol::{Catalog, Epoch, Grant, GrantId, Monotonic, NodeLease, Report};
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::LocalBoxStream;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::real::{eventually, image};

const NODE: &str = "node-1";
const DURATION: Duration = Duration::from_secs(60);

/// Clones are the same desk.
#[derive(Clone)]
pub struct Desk {
    lease: Rc<watch::Sender<Value>>,
    catalog: Rc<watch::Sender<Catalog>>,
    grants: Rc<RefCell<u64>>,
}

/// A test must not be killed: what the kernel does is tested on a process of its own.
struct Harmless;

impl KillTimer for Harmless {
    fn arm(&self, _: Monotonic) -> Result<(), String> {
        Ok(())
    }

    fn disarm(&self) {}
}

fn leader() -> Epoch {
    Epoch { lease: "leader".to_owned(), transitions: 1 }
}

impl Desk {
    /// A desk with an agent that pulls through `runtime` until the test ends.
    pub fn with_agent(runtime: NodeRuntime) -> Self {
        let mut lease =
            serde_json::to_value(NodeLease::create("drop-system", NODE, "node", DURATION)).unwrap();
        lease["metadata"]["uid"] = json!("lease");
        lease["metadata"]["resourceVersion"] = json!("1");
        let nothing = Catalog { generation: 0, answer_within: Duration::ZERO, wanted: Default::default() };
        let desk = Self {
            lease: Rc::new(watch::Sender::new(lease)),
            catalog: Rc::new(watch::Sender::new(nothing)),
            grants: Rc::default(),
        };
        let config = Config {
            min_free_percent: 0,
            // Only events tell this agent that images came or went.
            list_every: Duration::from_secs(3600),
            ..Config::new(NODE, "pod", "process")
        };
        let parts = Parts {
            api: Rc::new(desk.clone()),
            runtime: Rc::new(runtime),
            clock: Rc::new(MachineClock),
            timer: Rc::new(Harmless),
            providers: Rc::default(),
        };
        let never = std::future::pending();
        tokio::task::spawn_local(driver::run(config, parts, Arc::new(Observed::new()), never));
        desk
    }

    fn lease(&self) -> NodeLease {
        NodeLease::decode(&serde_json::from_value(self.lease.borrow().clone()).unwrap()).unwrap()
    }

    /// The agent's latest report.
    pub fn report(&self) -> Option<Report> {
        self.lease().report
    }

    /// Wants what `catalog` lists.
    pub fn publish(&self, catalog: Catalog) {
        self.catalog.send_replace(catalog);
    }

    /// Grants `references`.
    pub fn grant(&self, references: &[&str]) -> Grant {
        let number = self.grants.replace_with(|number| *number + 1) + 1;
        let grant = Grant {
            version: 1,
            id: GrantId::new(&leader(), number),
            epoch: leader(),
            policy: String::new(),
            issued_at: Timestamp::now(),
            withdrawn: None,
            images: references.iter().map(|reference| image(reference)).collect(),
        };
        self.write(&self.lease().issue_patch(&grant, DURATION)).unwrap();
        grant
    }

    /// Waits until the agent has finished or refused `grant`.
    pub async fn ended(&self, grant: &Grant, limit: Duration) -> Report {
        eventually("the grant has ended", limit, async || {
            self.report().filter(|report| report.grant.as_ref().is_some_and(|ended| ended.id == grant.id))
        })
        .await
    }

    /// Takes the grant away from whoever holds it.
    pub fn take_away(&self) {
        self.write(&self.lease().remove_grant_patch()).unwrap();
    }

    /// Applies a merge patch if it is about the Lease as it is now.
    fn write(&self, patch: &Value) -> Option<NodeLease> {
        let applied = self.lease.send_if_modified(|lease| {
            if patch["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"] {
                return false;
            }
            let version: u64 = lease["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            json_patch::merge(lease, patch);
            lease["metadata"]["resourceVersion"] = json!((version + 1).to_string());
            true
        });
        applied.then(|| self.lease())
    }
}

impl Api for Desk {
    fn watch(&self) -> LocalBoxStream<'static, Input> {
        let desk = self.clone();
        let leases = changes(self.lease.subscribe()).map(move |()| Input::Lease(desk.lease()));
        let catalog = Rc::clone(&self.catalog);
        let catalogs =
            changes(self.catalog.subscribe()).map(move |()| Input::Catalog(catalog.borrow().clone()));
        futures::stream::select(leases, catalogs).boxed_local()
    }

    fn read_lease(&self) -> LocalBoxFuture<'static, Result<Option<NodeLease>, String>> {
        let lease = self.lease();
        Box::pin(async move { Ok(Some(lease)) })
    }

    fn read_leader(&self) -> LocalBoxFuture<'static, Result<Option<Epoch>, String>> {
        Box::pin(async { Ok(Some(leader())) })
    }

    fn patch_lease(&self, patch: Value) -> LocalBoxFuture<'static, WriteResult> {
        let desk = self.clone();
        Box::pin(async move { desk.write(&patch).map_or(WriteResult::Conflict, WriteResult::Applied) })
    }

    fn secret(&self, _: &str) -> LocalBoxFuture<'static, Result<SecretData, SecretError>> {
        Box::pin(async { Err(SecretError::Missing) })
    }
}

/// An item for what is there now, and one whenever it changed.
fn changes<T: 'static>(mut receiver: watch::Receiver<T>) -> impl futures::Stream<Item = ()> {
    receiver.mark_changed();
    futures::stream::unfold(receiver, |mut receiver| async {
        receiver.changed().await.ok()?;
        Some(((), receiver))
    })
}
