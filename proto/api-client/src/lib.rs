//! The client with which both programs reach the API server: kube's own, but for connections that die without a word.
//!
//! A network may forget a connection and tell neither end: an entry of a connection table expires, a load balancer
//! fails over. Nothing is ever sent on a quiet watch, so that nothing would fail, and whoever watches would hear of
//! nothing until the watch is due to end, minutes later. The kernel probes quiet connections instead, and gives up
//! those on which what was sent is not acknowledged. A probe is an empty TCP segment, answered by the other kernel:
//! no request reaches the API server.
//!
//! This crate knows neither what is asked nor how long an answer may take.

use std::time::Duration;

use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use tower::retry::RetryLayer;
use tower::{BoxError, ServiceBuilder};

/// A connection that was quiet for this long is probed.
const QUIET: Duration = Duration::from_secs(15);
/// From one probe without an answer to the next.
const BETWEEN_PROBES: Duration = Duration::from_secs(5);
/// After so many probes without an answer the connection is dead.
const PROBES: u32 = 3;
/// So is one on which nothing was acknowledged for this long, be it data or probes: as long as the probes take.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A client as `Client::try_from(config)` makes it, with its timeouts, retries and headers, whose connections are found
/// dead within about half a minute. It logs nothing by itself. Behind a proxy it is kube's own.
///
/// # Errors
/// If the configuration can't be used.
pub fn connect(config: Config) -> Result<Client, kube::Error> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp())?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let retries = config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry()));
    // In kube's order.
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(retries)
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(connector));
    Ok(Client::new(service, config.default_namespace))
}

/// Makes the connections, TLS aside.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // TLS comes on top.
    tcp.enforce_http(false);
    tcp.set_keepalive(Some(QUIET));
    tcp.set_keepalive_interval(Some(BETWEEN_PROBES));
    tcp.set_keepalive_retries(Some(PROBES));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use tokio::net::TcpListener;
    use tower::ServiceExt as _;

    use super::{BETWEEN_PROBES, PROBES, QUIET, UNACKNOWLEDGED, tcp};

    #[tokio::test]
    async fn the_kernel_probes_a_quiet_connection_and_gives_up_a_dead_one() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", server.local_addr().unwrap());
        let connection = tcp().oneshot(address.parse().unwrap()).await.unwrap();
        let socket = SockRef::from(connection.inner());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), QUIET);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), BETWEEN_PROBES);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), PROBES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    }

    #[test]
    fn the_last_probe_and_the_kernels_patience_end_together() {
        // Where both are set, the kernel goes by the latter alone.
        assert_eq!(QUIET + BETWEEN_PROBES * PROBES, UNACKNOWLEDGED);
    }
}
