//! The process as a whole: what runs beside what, and in which order it ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::api::Api;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::api::{self, Clients};
use crate::check::ask::Means;
use crate::clock::Clock;
use crate::discover::Discoverer;
use crate::http::{self, Pages};
use crate::lead::Proof;
use crate::lead::run::{Elector, Outlook};
use crate::metrics::Metrics;
use crate::run::Leader;
use crate::settings::Settings;

/// On SIGTERM, writes that are under way get this long to end before leadership is given up.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// Why the process ends before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server can't be used.
    #[error(transparent)]
    Api(#[from] api::Error),
    /// The pages can't be served.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The certificate authorities of registries can't be used.
    #[error("--registry-ca-file {}: {error}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: String,
    },
    /// Signals can't be received.
    #[error("cannot receive signals: {0}")]
    Signal(#[from] std::io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the API server can't be used or the pages can't be served.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let clients = Clients::infer().await?;
    let version = tokio::select! {
        version = clients.check_version() => version?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    info!(kubernetes = %version, server = %clients.server, "connected");

    let clock = Clock::new();
    let metrics = Arc::new(Metrics::new());
    let leases = Api::namespaced(clients.writing.clone(), &settings.pod_namespace);
    let (mut elector, outlook) = Elector::new(leases, settings.identity(), clock);
    let (synced, synced_seen) = watch::channel(false);
    let (stop, stopping) = watch::channel(false);
    let pages = Pages { metrics: Arc::clone(&metrics), outlook: outlook.clone(), synced: synced_seen, clock };
    let listener = http::listen(settings.listen).await?;
    let discoverer = Discoverer::new(
        clients.clone(),
        &settings.pod_namespace,
        clock,
        Arc::clone(&metrics),
        stopping.clone(),
    );
    let means = settings.registry_checks.then(|| means(&settings)).transpose()?;
    let leader = Leader::new(
        clients,
        settings.pod_namespace,
        settings.pod_name,
        clock,
        metrics,
        synced,
        stopping.clone(),
    );
    let leader = match means {
        Some(means) => leader.asking(means),
        None => leader,
    };

    let deciding = follow_terms(&leader, &discoverer, outlook, stopping, clock);
    tokio::pin!(deciding);
    tokio::select! {
        served = http::serve(listener, pages) => return served.map_err(Error::from),
        () = elector.take_part() => {}
        () = &mut deciding => {}
        _ = terminate.recv() => info!("SIGTERM: giving up leadership"),
        _ = interrupt.recv() => info!("SIGINT: giving up leadership"),
    }
    stop.send_replace(true);
    // Nothing new is sent now. Leadership is released only after the last write, so that a successor sees its effect.
    let _ = tokio::time::timeout(LAST_WRITES, &mut deciding).await;
    elector.release().await;
    Ok(())
}

/// How registries are reached.
fn means(settings: &Settings) -> Result<Means, Error> {
    let plain_http = settings.plain_http_registries.iter().cloned().collect();
    let Some(path) = &settings.registry_ca_file else {
        return Ok(Means { plain_http, ..Means::default() });
    };
    let unusable =
        |error: &dyn std::fmt::Display| Error::Authorities { path: path.clone(), error: error.to_string() };
    let authorities = Some(std::fs::read(path).map_err(|error| unusable(&error))?);
    let means = Means { plain_http, authorities, ..Means::default() };
    means.verify().map_err(|failure| unusable(&failure))?;
    Ok(means)
}

/// Leads and discovers whenever a term is won, until that term ends. Returns when told to stop.
async fn follow_terms(
    leader: &Leader,
    discoverer: &Discoverer,
    mut outlook: Outlook,
    mut stopping: watch::Receiver<bool>,
    clock: Clock,
) {
    loop {
        let won = async { outlook.terms.wait_for(Option::is_some).await.ok().and_then(|term| term.clone()) };
        let term = tokio::select! {
            term = won => term,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        // Without a term to wait for, the election has ended.
        let Some(term) = term else { return };
        let proof = Proof::new(term.epoch.clone(), outlook.terms.clone(), clock);
        // Both end with the term, or when told to stop.
        let (led, ()) = tokio::join!(leader.lead(term, proof.clone()), Box::pin(discoverer.discover(proof)));
        if led.is_break() {
            return;
        }
    }
}
