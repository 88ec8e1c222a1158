//! `/healthz`, `/readyz` and `/metrics` on one port.
//!
//! *Healthy* means that this process answers: its one thread runs the agent too. *Ready* means that it can act on a
//! grant: it hears of its Lease and of the catalog, and the container runtime answers.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::observe::Observed;

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
pub async fn serve(listener: TcpListener, observed: Arc<Observed>) -> Result<(), Error> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(observed);
    axum::serve(listener, router).await.map_err(Error::Serve)
}

async fn ready(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    let missing = observed.missing();
    if missing.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", missing.join("\n")))
    }
}

async fn metrics(State(observed): State<Arc<Observed>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPENMETRICS)], observed.encode())
}
