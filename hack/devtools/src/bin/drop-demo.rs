//! `hack/demo`: real images land on three real Kubernetes nodes of this machine.

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use drop_devtools::progress::{elapsed, say};
use drop_devtools::settings::{DEFAULT_NAME, Settings};
use drop_devtools::state::ClusterInfo;
use drop_devtools::{demo, product_images};
use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Brings up a cluster with three nodes, installs Drop from deploy/, caches real images on every node, and proves it.
///
/// The cluster stays up afterwards. Run it again whenever you like.
#[derive(Debug, Parser)]
#[command(name = "hack/demo", disable_help_subcommand = true)]
struct Cli {
    /// Name of the cluster.
    #[arg(long, global = true, default_value = DEFAULT_NAME, env = "DROP_CLUSTER_NAME")]
    name: String,
    /// Directory of the cluster's state [default: /var/tmp/drop-cluster, with the name appended unless it is `default`].
    #[arg(long, global = true, env = "DROP_CLUSTER_STATE")]
    state: Option<PathBuf>,
    /// Root of the repository.
    #[arg(long, global = true, default_value = ".")]
    repository: PathBuf,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Only bring up the cluster and install Drop from deploy/.
    Install {
        /// Number of nodes.
        #[arg(long, default_value_t = 3)]
        nodes: u8,
    },
    /// Only the demonstration itself, on a cluster with Drop on it.
    Show,
    /// Only build Drop's own images and push them to the registry of a cluster that is up.
    Images,
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let settings = Settings::new(&cli.name, cli.state)?;
    let repository = cli.repository.canonicalize().context("cannot find the repository")?;
    let started = Instant::now();
    match cli.part {
        Some(Part::Images) => {
            let info = ClusterInfo::load(&settings.state)?;
            for image in product_images::ensure(&info, &settings.cache, &repository)? {
                say(format!("{}:{}", image.repository, image.tag));
            }
        }
        Some(Part::Install { nodes }) => {
            demo::prepare(&settings, &repository, nodes)?;
            say(format!("Drop runs on {nodes} nodes after {}", elapsed(started.elapsed())));
        }
        Some(Part::Show) => demo::show(&ClusterInfo::load(&settings.state)?, &settings.cache)?,
        None => {
            let info = demo::prepare(&settings, &repository, 3)?;
            demo::show(&info, &settings.cache)?;
            let place = place();
            say(format!(
                "
Done in {}. The cluster stays up:
  hack/cluster {place}exec -- kubectl get cachedimages -o wide
  hack/cluster {place}exec -- kubectl describe cachedimage demo-redis
  hack/cluster {place}down      ends it and removes all of it",
                elapsed(started.elapsed())
            ));
        }
    }
    Ok(())
}

/// The options given to this program, for the next commands.
fn place() -> String {
    let mut options = String::new();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--name" || argument == "--state" {
            options += &format!("{argument} {} ", arguments.next().unwrap_or_default());
        } else if argument.starts_with("--name=") || argument.starts_with("--state=") {
            options += &format!("{argument} ");
        }
    }
    options
}
