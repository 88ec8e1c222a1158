//! The coordinators of a swarm: the product's program, as processes of their own.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use drop_harness::{processes, scrape};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::place::{NAMESPACE, Place, repository};

/// Address of the first one's pages; the others follow.
const FIRST_PORT: u16 = 18080;
/// How many there are, as in `deploy/`.
const REPLICAS: u16 = 2;
/// A coordinator ends so soon after SIGTERM, as its Pod's grace period asks for.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Histogram of the time to decide.
const PLAN_SECONDS: &str = "drop_plan_duration_seconds";

/// One coordinator.
struct Replica {
    child: Child,
    port: u16,
}

impl Replica {
    fn pid(&self) -> Result<u32> {
        self.child.id().context("a coordinator has ended by itself: see its log")
    }

    async fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.pid()?.cast_signed()), Signal::SIGTERM)?;
        let ended = tokio::time::timeout(ENDS_WITHIN, self.child.wait());
        let status = ended.await.context("a coordinator does not end on SIGTERM: see its log")??;
        ensure!(status.success(), "a coordinator ended with {status}: see its log");
        Ok(())
    }
}

/// All coordinators. They end when dropped.
pub(crate) struct Coordinators {
    program: PathBuf,
    kubeconfig: PathBuf,
    logs: PathBuf,
    replicas: Vec<Replica>,
}

/// What one coordinator has used and done since it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Processor time.
    pub(crate) cpu: Duration,
    /// Resident memory at its highest, in bytes.
    pub(crate) peak: u64,
    /// Resident memory now, in bytes.
    pub(crate) resident: u64,
}

/// Builds the program in the profile of this one and returns where it lies.
pub(crate) fn build() -> Result<PathBuf> {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    println!("building drop-coordinator ({profile})…");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["build", "--quiet", "--profile", profile, "--package", "drop-coordinator"])
        .current_dir(repository())
        .status()?;
    ensure!(status.success(), "drop-coordinator does not build");
    let here = std::env::current_exe()?;
    let program = here.parent().context("a program without directory")?.join("drop-coordinator");
    ensure!(program.exists(), "{} is missing", program.display());
    Ok(program)
}

impl Coordinators {
    /// Starts all replicas.
    pub(crate) async fn start(place: &Place, program: PathBuf) -> Result<Self> {
        let token = place.token("drop-coordinator", None).await?;
        let kubeconfig = place.write_kubeconfig("coordinator", &token)?;
        let mut all = Self { program, kubeconfig, logs: place.info.state.join("log"), replicas: Vec::new() };
        all.start_missing()?;
        Ok(all)
    }

    /// Starts replicas until there are as many as there should be.
    pub(crate) fn start_missing(&mut self) -> Result<()> {
        for port in FIRST_PORT..FIRST_PORT + REPLICAS {
            if self.replicas.iter().any(|replica| replica.port == port) {
                continue;
            }
            let name = format!("drop-coordinator-{port}");
            let log =
                File::options().create(true).append(true).open(self.logs.join(format!("{name}.log")))?;
            let child = Command::new(&self.program)
                .args(["--pod-namespace", NAMESPACE, "--pod-name", &name])
                .args(["--listen", &format!("127.0.0.1:{port}")])
                .env("KUBECONFIG", &self.kubeconfig)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .kill_on_drop(true)
                .spawn()?;
            self.replicas.push(Replica { child, port });
        }
        Ok(())
    }

    /// Kills the replica that leads, and collects it.
    pub(crate) async fn kill_leader(&mut self) -> Result<()> {
        self.take_leader().await?.child.kill().await?;
        Ok(())
    }

    /// Ends the replica that leads with SIGTERM, and collects it.
    pub(crate) async fn end_leader(&mut self) -> Result<()> {
        self.take_leader().await?.end().await
    }

    async fn take_leader(&mut self) -> Result<Replica> {
        let port = self.leader().await?.context("nobody leads")?;
        let at = self.replicas.iter().position(|replica| replica.port == port).context("no such replica")?;
        Ok(self.replicas.remove(at))
    }

    /// Ends all replicas as a rollout of their Deployment does: with SIGTERM, the leader last.
    pub(crate) async fn end_all(&mut self) -> Result<()> {
        let leader = self.leader().await?;
        self.replicas.sort_by_key(|replica| Some(replica.port) == leader);
        for replica in self.replicas.drain(..) {
            replica.end().await?;
        }
        Ok(())
    }

    /// The metrics of the replica at this port; nothing while it serves none.
    pub(crate) async fn page_of(&self, port: u16) -> String {
        page(port).await.unwrap_or_default()
    }

    /// Port and process id of each replica.
    pub(crate) fn processes(&self) -> Result<Vec<(u16, u32)>> {
        self.replicas.iter().map(|replica| Ok((replica.port, replica.pid()?))).collect()
    }

    /// Waits until one leads and has planned; returns how long that took.
    pub(crate) async fn wait_planned(&self, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        loop {
            if let Some(port) = self.leader().await?
                && scrape::histogram(&page(port).await.unwrap_or_default(), PLAN_SECONDS).count > 0.0
            {
                return Ok(started.elapsed());
            }
            if started.elapsed() > limit {
                bail!("no coordinator plans after {} s: see {}", limit.as_secs(), self.logs.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Port of the replica that leads.
    pub(crate) async fn leader(&self) -> Result<Option<u16>> {
        for replica in &self.replicas {
            // One that has just started serves nothing yet.
            let page = page(replica.port).await.unwrap_or_default();
            if page.lines().any(|line| line == "drop_leader 1") {
                return Ok(Some(replica.port));
            }
        }
        Ok(None)
    }

    /// The metrics of the replica that leads.
    pub(crate) async fn metrics(&self) -> Result<String> {
        page(self.leader().await?.context("nobody leads")?).await
    }

    /// What all replicas use together, the memory of the largest.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for replica in &self.replicas {
            let pid = replica.pid()?;
            usage.cpu += processes::processor_time(pid)?;
            usage.peak = usage.peak.max(processes::peak_resident_bytes(pid)?);
            usage.resident = usage.resident.max(processes::resident_bytes(pid)?);
        }
        Ok(usage)
    }
}

/// Median of the time to decide, in milliseconds, in passes since `before`.
pub(crate) fn plan_median_ms(before: &str, after: &str) -> f64 {
    scrape::median_between(before, after, PLAN_SECONDS).unwrap_or_default() * 1000.0
}

/// Mean of the same.
pub(crate) fn plan_mean_ms(before: &str, after: &str) -> f64 {
    let (before, after) = (scrape::histogram(before, PLAN_SECONDS), scrape::histogram(after, PLAN_SECONDS));
    let count = after.count - before.count;
    if count > 0.0 { (after.sum - before.sum) / count * 1000.0 } else { 0.0 }
}

async fn page(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
