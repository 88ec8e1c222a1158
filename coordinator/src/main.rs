//! `drop-coordinator`: reads the settings, starts the parts, and ends them in order.

use anyhow::Context as _;
use clap::Parser as _;
use drop_coordinator::process;
use drop_coordinator::settings::{LogFormat, Settings};
use tracing::info;
use tracing_subscriber::EnvFilter;

/// One thread is enough: the work is waiting, and decisions take milliseconds. It also keeps memory small.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    log(&settings)?;
    info!(version = env!("CARGO_PKG_VERSION"), namespace = %settings.pod_namespace, "starting");
    Box::pin(process::run(settings)).await?;
    info!("ended");
    Ok(())
}

fn log(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_level)
        .with_context(|| format!("--log-level {:?} is not understood; try info", settings.log_level))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(())
}
