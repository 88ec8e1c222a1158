//! Prometheus and VictoriaMetrics with series in them.

use super::{Error, Server, directory, post, reserve};
use crate::{command, files, packages, wait};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One value of one series.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The series as PromQL writes it, for example `runs{image="a:1"}`.
    pub series: String,
    /// Unix time in seconds.
    pub time: i64,
    /// The value as Prometheus writes it.
    pub value: String,
}

/// Debian's Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// The process.
    pub server: Server,
}

impl Prometheus {
    /// Starts it with `samples`, further `flags`, and a web configuration (TLS, users) if `web` holds one.
    pub fn start(state: &Path, samples: &[Sample], flags: &[&str], web: Option<&str>) -> Result<Self, Error> {
        packages::ensure(&["prometheus"])?;
        let data = directory(state, "data")?;
        load(state, &data, samples)?;
        let config = state.join("prometheus.yml");
        files::write(&config, "global: {}\n")?;
        let address = reserve("prometheus")?;
        let mut prometheus = Command::new("prometheus");
        prometheus
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address={address}"))
            .args(flags);
        if let Some(web) = web {
            let file = state.join("web.yml");
            files::write(&file, web)?;
            prometheus.arg(format!("--web.config.file={}", file.display()));
        }
        Ok(Self { server: Server::start(prometheus, address, state)? })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }
}

/// Blocks of the database, made before the start: series with the very times and values that a test wants.
fn load(state: &Path, data: &Path, samples: &[Sample]) -> Result<(), Error> {
    if samples.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for Sample { series, time, value } in samples {
        let _ = writeln!(text, "{series} {value} {time}");
    }
    text.push_str("# EOF\n");
    let file: PathBuf = state.join("samples");
    files::write(&file, text)?;
    let mut promtool = Command::new("promtool");
    command::run(promtool.args(["tsdb", "create-blocks-from", "openmetrics"]).arg(&file).arg(data))?;
    Ok(())
}

/// Debian's VictoriaMetrics.
#[derive(Debug)]
pub struct VictoriaMetrics {
    /// The process.
    pub server: Server,
}

impl VictoriaMetrics {
    /// Starts it and imports `samples`.
    pub fn start(state: &Path, samples: &[Sample]) -> Result<Self, Error> {
        packages::ensure(&["victoria-metrics"])?;
        let data = directory(state, "data")?;
        let address = reserve("victoria-metrics")?;
        let mut program = Command::new("victoria-metrics");
        program
            .arg(format!("-storageDataPath={}", data.display()))
            .arg(format!("-httpListenAddr={address}"))
            // Data younger than half a minute is hidden otherwise.
            .arg("-search.latencyOffset=0s");
        let server = Server::start(program, address, state)?;
        let mut text = String::new();
        for Sample { series, time, value } in samples {
            let _ = writeln!(text, "{series} {value} {}", time * 1000);
        }
        let imported = || post(address, "/api/v1/import/prometheus", &text);
        // What was imported can be found once it is flushed.
        let flush = || post(address, "/internal/force_flush", "");
        if wait::until(Duration::from_secs(30), imported) && wait::until(Duration::from_secs(30), flush) {
            return Ok(Self { server });
        }
        let said = "it does not take the samples".to_owned();
        Err(Error::Silent { program: "victoria-metrics".to_owned(), address, said })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }
}
