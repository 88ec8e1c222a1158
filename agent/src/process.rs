//! The process as a whole: what runs beside what, and how it ends.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use drop_agent_step::Config;
use drop_cri::Runtime;
use drop_protocol::Monotonic;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::clock::MachineClock;
use crate::credentials::provider::Providers;
use crate::credentials::provider::config::ConfigError;
use crate::driver;
use crate::http;
use crate::kill_timer::{self, KernelTimer};
use crate::kubernetes::{self, KubeApi};
use crate::node::NodeRuntime;
use crate::observe::Observed;
use crate::parts::{Clock as _, Parts};
use crate::settings::Settings;

/// Why the process ends before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server can't be used.
    #[error(transparent)]
    Api(#[from] kubernetes::Error),
    /// The pages can't be served.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The credential providers can't be used.
    #[error(transparent)]
    Providers(#[from] ConfigError),
    /// Signals can't be received.
    #[error("cannot receive signals: {0}")]
    Signal(#[from] std::io::Error),
    /// There is no timer to end a paused process.
    #[error(transparent)]
    Timer(#[from] kill_timer::Error),
}

/// Runs until SIGTERM or SIGINT, and gives back what it holds.
///
/// # Errors
/// If the API server or the credential providers can't be used, the pages can't be served or the kernel has no timer.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let terminate = signal(SignalKind::terminate())?;
    let interrupt = signal(SignalKind::interrupt())?;
    let timer = KernelTimer::new()?;
    let providers =
        match (&settings.image_credential_provider_config, &settings.image_credential_provider_bin_dir) {
            (Some(config), Some(bin_dir)) => Providers::load(config, bin_dir)?,
            _ => Providers::default(),
        };
    for name in providers.names() {
        info!(name, "uses a credential provider");
    }
    let client = kubernetes::client().await?;
    // 64 bits from the kernel's random source, by which the standard library seeds its hash maps.
    let random = RandomState::new().build_hasher().finish();
    let runtime = Runtime::new(&settings.cri_socket);
    match runtime.version().await {
        Ok(version) => info!(runtime = version.name, version = version.version, "connected"),
        Err(error) => {
            warn!(socket = %settings.cri_socket.display(), %error, "no container runtime yet; check --cri-socket");
        }
    }
    let config = Config {
        min_free_percent: settings.min_free_percent,
        ..Config::new(&settings.node_name, &settings.pod_uid, &format!("{random:016x}"))
    };
    let parts = Parts {
        api: Rc::new(KubeApi::new(client, &settings.pod_namespace, &settings.node_name, random)),
        runtime: Rc::new(NodeRuntime::new(runtime, settings.image_fs_path.clone())),
        clock: Rc::new(MachineClock),
        timer: Rc::new(timer),
        providers: Rc::new(providers),
    };
    let observed = Arc::new(Observed::new());
    let listener = http::listen(settings.listen).await?;
    info!(node = settings.node_name, listen = %settings.listen, "agent started");
    let grace = Duration::from_secs(settings.shutdown_grace_seconds);
    tokio::select! {
        served = http::serve(listener, Arc::clone(&observed)) => served.map_err(Error::from),
        () = driver::run(config, parts, observed, told_to_end(terminate, interrupt, grace)) => Ok(()),
    }
}

/// Waits for a signal; returns by when the process has to be gone.
async fn told_to_end(mut terminate: Signal, mut interrupt: Signal, grace: Duration) -> Monotonic {
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: finishing the image in flight"),
        _ = interrupt.recv() => info!("SIGINT: finishing the image in flight"),
    }
    MachineClock.now().monotonic.after(grace)
}
