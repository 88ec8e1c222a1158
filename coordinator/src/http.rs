//! `/healthz`, `/readyz` and `/metrics` on one port.
//!
//! *Healthy* means that this process answers at all. *Ready* means that it takes part: the API server has answered
//! lately, and a leader has listed everything that it plans from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::lead::run::Outlook;
use crate::metrics::Metrics;

/// Silence of the API server for longer than this makes a replica unready.
const CONTACT_WITHIN: Duration = Duration::from_secs(30);

/// Media type of the metrics.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}; choose another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The server broke.
    #[error("the HTTP server ended: {0}")]
    Serve(#[source] std::io::Error),
}

/// What the pages are made of.
#[derive(Debug, Clone)]
pub struct Pages {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Whether and with what success this process takes part in the election.
    pub outlook: Outlook,
    /// Whether a leader has listed everything.
    pub synced: watch::Receiver<bool>,
    /// To tell how long ago.
    pub clock: Clock,
}

/// Listens on `address`.
///
/// # Errors
/// If that is not possible.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })
}

/// Serves until the future is dropped.
///
/// # Errors
/// If the server breaks.
pub async fn serve(listener: TcpListener, pages: Pages) -> Result<(), Error> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages);
    axum::serve(listener, router).await.map_err(Error::Serve)
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let contact = *pages.outlook.contact.borrow();
    let silent = contact.is_none_or(|at| pages.clock.monotonic().since(at) > CONTACT_WITHIN);
    let leads = pages.outlook.terms.borrow().is_some();
    if silent {
        (StatusCode::SERVICE_UNAVAILABLE, "the API server does not answer about the leader Lease\n")
    } else if leads && !*pages.synced.borrow() {
        (StatusCode::SERVICE_UNAVAILABLE, "leading, still listing\n")
    } else if leads {
        (StatusCode::OK, "ok, leading\n")
    } else {
        (StatusCode::OK, "ok, standing by\n")
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    match pages.metrics.encode() {
        Ok(text) => (StatusCode::OK, [(CONTENT_TYPE, OPENMETRICS)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain")],
            format!("metrics cannot be encoded: {error}\n"),
        ),
    }
}
