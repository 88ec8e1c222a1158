//! The program `drop-agent`: reads its flags and runs [`drop_agent::process`] on one thread.

use anyhow::Context as _;
use clap::Parser as _;
use drop_agent::settings::{LogFormat, Settings};
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let filter = EnvFilter::try_new(&settings.log_level).context("--log-level")?;
    let log = tracing_subscriber::fmt().with_env_filter(filter);
    match settings.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(drop_agent::process::run(settings))?;
    Ok(())
}
