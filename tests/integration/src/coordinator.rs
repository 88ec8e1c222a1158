//! The coordinator's own code, running beside a test: as a service account with the rights of `deploy/`, and alone.
//!
//! It acts on everything in the cluster, so only one may run at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use drop_coordinator::api::Clients;
use drop_coordinator::clock::Clock;
use drop_coordinator::lead::Proof;
use drop_coordinator::lead::run::Elector;
use drop_coordinator::metrics::Metrics;
use drop_coordinator::run::Leader;
use drop_harness::audit::Mark;
use drop_protocol::names;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::identities::{COORDINATOR, Identities};
use crate::wait;

static ALONE: Mutex<()> = Mutex::new(());

/// Waits until no other test of this program runs a coordinator.
pub fn alone() -> MutexGuard<'static, ()> {
    // What a failed test leaves behind is nothing but the lock.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `body` while a coordinator leads.
///
/// # Errors
/// What `body` returns, or why there is no coordinator.
pub async fn beside(
    identities: &Identities<'_>,
    body: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let clients = Clients::new(identities.config(COORDINATOR).await?)?;
    let clock = Clock::new();
    let leases = Api::namespaced(clients.writing.clone(), &identities.namespace);
    let (mut elector, mut outlook) = Elector::new(leases, "test".to_owned(), clock);
    let (synced, _synced) = watch::channel(false);
    let (_stop, stopping) = watch::channel(false);
    let (namespace, metrics) = (identities.namespace.clone(), Arc::new(Metrics::new()));
    let leader = Leader::new(clients, namespace, "test".to_owned(), clock, metrics, synced, stopping);
    let leading = async {
        loop {
            let terms = outlook.terms.clone();
            let term = outlook.terms.wait_for(Option::is_some).await?.clone().context("no term")?;
            let proof = Proof::new(term.epoch.clone(), terms, clock);
            if leader.lead(term, proof).await.is_break() {
                return anyhow::Ok(());
            }
        }
    };
    tokio::select! {
        outcome = body => outcome,
        () = elector.take_part() => bail!("the election has ended"),
        outcome = leading => bail!("the coordinator has ended: {outcome:?}"),
    }
}

/// The audit log from here on, as far as this coordinator wrote it.
///
/// # Errors
/// If the cluster keeps none.
pub fn audit(cluster: &Cluster, identities: &Identities<'_>) -> anyhow::Result<Mark> {
    let info = cluster.info.as_ref().context("counting writes needs the audit log of hack/cluster")?;
    Mark::of_namespace(info, &identities.namespace)
}

/// Waits until the coordinator has written nothing but its leadership for as long as two renewals of that take.
///
/// # Errors
/// If it goes on writing.
pub async fn quiet(cluster: &Cluster, identities: &Identities<'_>) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &identities.namespace);
    let renewal = async || -> anyhow::Result<_> {
        Ok(leases.get(names::LEADER_LEASE).await?.metadata.resource_version)
    };
    wait::until("the coordinator is quiet", async || {
        let mark = audit(cluster, identities)?;
        for _ in 0..2 {
            let before = renewal().await?;
            while renewal().await? == before {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Ok((mark.requests()?.total_writes() == 0).then_some(()))
    })
    .await
}
