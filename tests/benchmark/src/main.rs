//! Measures Drop on a running cluster: what a rollout costs the API server, how far its pace is from the ideal, how
//! quickly it notices and recovers.
//!
//! `cargo run --release -p drop-benchmark -- all` measures the cluster that `hack/cluster up` started and that Drop is
//! installed on (`DROP_CLUSTER_STATE` names the state directory of another one).
//! Every figure that depends on the machine is a ratio against a reference taken in the same run; writes are counted
//! by user from the API server's audit log. It must not know anything of Drop's insides but the protocol.

#![allow(clippy::print_stdout)] // the figures are this program's output

mod eviction;
mod failover;
mod faults;
mod idle;
mod memory;
mod overhead;
mod rollout;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use drop_harness::Cluster;

use drop_harness::figure::{self, Figure};

/// Measures Drop on the cluster that `hack/cluster up` started and `deploy/` is applied to.
#[derive(Debug, Parser)]
struct Arguments {
    /// Write all figures as JSON to this file.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Fail when any bound is missed. Otherwise only counts that exceed their bound by half fail: times depend on what
    /// else the machine does.
    #[arg(long, global = true)]
    strict: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// Every benchmark, one after the other.
    All {
        /// How long the idle cluster is watched.
        #[arg(long, default_value = "300")]
        idle_seconds: u64,
    },
    /// Writes a pair and time to cached: some images on every node against bare CRI pulls.
    Rollout {
        /// How many images.
        #[arg(long, default_value_t = 10)]
        images: usize,
    },
    /// API writes while nothing changes.
    Idle {
        /// How long to watch.
        #[arg(long, default_value = "300")]
        seconds: u64,
    },
    /// PullImage through the agent against a bare CRI client.
    Overhead {
        /// How many pairs of pulls.
        #[arg(long, default_value_t = 10)]
        rounds: usize,
    },
    /// An image removed by hand: until status shows it, until it is back.
    Eviction,
    /// The leader killed in mid-rollout: until the next grant.
    Failover,
    /// A dead node and a missing image among twenty images on five nodes: what they cost all others.
    Faults,
    /// Resident memory of agents and coordinators.
    Memory,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut figures = Vec::new();
    drop_harness::run("benchmark", async |cluster| {
        figures = measure(cluster, &arguments.what).await?;
        Ok(())
    })?;
    figure::write_json(arguments.json.as_deref(), &figures)?;
    figure::conclude(&figures, arguments.strict)
}

async fn measure(cluster: &Cluster, what: &What) -> Result<Vec<Figure>> {
    Ok(match what {
        What::All { idle_seconds } => {
            let mut figures = memory::measure()?;
            figures.extend(rollout::measure(cluster, 10).await?);
            figures.extend(rollout::measure(cluster, 1).await?);
            figures.extend(overhead::measure(cluster, 10).await?);
            figures.extend(eviction::measure(cluster).await?);
            figures.extend(failover::measure(cluster).await?);
            figures.extend(idle::measure(cluster, Duration::from_secs(*idle_seconds)).await?);
            figures.extend(faults::measure(cluster).await?);
            figures
        }
        What::Rollout { images } => rollout::measure(cluster, *images).await?,
        What::Idle { seconds } => idle::measure(cluster, Duration::from_secs(*seconds)).await?,
        What::Overhead { rounds } => overhead::measure(cluster, *rounds).await?,
        What::Eviction => eviction::measure(cluster).await?,
        What::Failover => failover::measure(cluster).await?,
        What::Faults => faults::measure(cluster).await?,
        What::Memory => memory::measure()?,
    })
}
