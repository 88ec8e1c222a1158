//! A way to the API server that fails on demand: Drop's pods are led through it without knowing, by a rule of the
//! cluster's network and a certificate of the cluster's own authority.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use drop_devtools::network::GATEWAY;
use drop_devtools::state::ClusterInfo;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::oneshot;

use crate::faulty::answer::TlsListener;
use crate::faulty::trust::{self, Certificate};

/// No request of Drop's is larger.
const LARGEST: usize = 4 << 20;

/// How the door fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It does not.
    None,
    /// Every request is answered with this status.
    Status(u16),
    /// Every answer begins this much later.
    Slow(Duration),
}

/// The door. It is closed, and every connection through it, when this is dropped.
#[derive(Debug)]
pub struct ApiDoor {
    /// Port on the address of the API server.
    pub port: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    trouble: Mutex<Trouble>,
    troubled: AtomicUsize,
}

#[derive(Clone)]
struct Served {
    shared: Arc<Shared>,
    client: Client,
}

impl ApiDoor {
    /// Opens a door that lets everything through.
    ///
    /// # Errors
    /// If there is no port or no certificate.
    pub async fn open(info: &ClusterInfo) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(&info.kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        // Whoever asks brings a token of its own.
        config.auth_info = AuthInfo::default();
        let tls = trust::acceptor(&Certificate::like_the_api_servers(info)?)?;
        let listener = TcpListener::bind((GATEWAY, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { trouble: Mutex::new(Trouble::None), troubled: AtomicUsize::new(0) });
        let served = Arc::clone(&shared);
        let (stop, stopped) = oneshot::channel();
        // A thread of its own: a test may well block the one that it runs on.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let serving = async {
                    let client = Client::try_from(config)?;
                    let router = Router::new().fallback(answer).with_state(Served { shared: served, client });
                    let tcp = tokio::net::TcpListener::from_std(listener)?;
                    axum::serve(TlsListener { tcp, tls }, router).await?;
                    anyhow::Ok(())
                };
                tokio::select! {
                    // Ends only with an error, of which the test hears by what Drop says.
                    _ = serving => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { port, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Fails in this way from now on.
    pub fn fail(&self, trouble: Trouble) {
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// How many requests met with trouble so far.
    pub fn troubled(&self) -> usize {
        self.shared.troubled.load(Ordering::SeqCst)
    }
}

impl Drop for ApiDoor {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn answer(State(served): State<Served>, request: Request) -> Response {
    let trouble = *served.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner);
    if trouble != Trouble::None {
        served.shared.troubled.fetch_add(1, Ordering::SeqCst);
    }
    match trouble {
        Trouble::None => {}
        Trouble::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return (status, [(header::RETRY_AFTER, "1")], "as the test wants it").into_response();
        }
        // The slowness of the server, not a wait for anything.
        Trouble::Slow(time) => tokio::time::sleep(time).await,
    }
    match pass_on(&served.client, request).await {
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn pass_on(client: &Client, request: Request) -> Result<Response> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse()?;
    head.headers.remove(header::HOST);
    let body = to_bytes(body, LARGEST).await?.to_vec();
    let answer = client.send(axum::http::Request::from_parts(head, body.into())).await?;
    Ok(answer.map(Body::new))
}
