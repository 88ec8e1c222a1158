//! `hack/cluster`: the development cluster from the command line.

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use drop_devtools::cluster::{self, Wanted};
use drop_devtools::progress::say;
use drop_devtools::settings::{DEFAULT_NAME, Settings};
use drop_devtools::state::{ClusterInfo, Without};
use drop_devtools::{daemon::Daemons, images, network, node, settings, status, teardown};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// A real Kubernetes cluster on this machine, in a network namespace of its own.
#[derive(Debug, Parser)]
#[command(name = "hack/cluster", disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Place {
    /// Name of the cluster; clusters with different names can run side by side.
    #[arg(long, global = true, default_value = DEFAULT_NAME, env = "DROP_CLUSTER_NAME")]
    name: String,
    /// Directory of the cluster's state [default: /var/tmp/drop-cluster, with the name appended unless it is `default`].
    #[arg(long, global = true, env = "DROP_CLUSTER_STATE")]
    state: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring the cluster up. On a cluster that is up: start again what has ended and add missing nodes.
    Up {
        /// Number of nodes, at least; existing nodes are never removed.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(network::MOST_NODES)))]
        nodes: u8,
        /// Only etcd, API server and controller manager: for tests that need no nodes.
        #[arg(long)]
        control_plane_only: bool,
        /// Of these not even the controller manager: Nodes that nobody stands behind stay as they are.
        #[arg(long, requires = "control_plane_only")]
        no_controllers: bool,
        /// Of the controllers only the garbage collector: Nodes stay as they are, and what belongs to a deleted object goes.
        #[arg(long, requires = "control_plane_only", conflicts_with = "no_controllers")]
        garbage_collector_only: bool,
        /// No audit log: it costs processor time.
        #[arg(long, requires = "control_plane_only")]
        no_audit: bool,
    },
    /// End everything and remove the cluster's state.
    Down,
    /// Show every part, its process, address and log, and the nodes. Fails when something is down.
    Status,
    /// Print shell settings for working with the cluster: eval "$(hack/cluster env)".
    Env,
    /// Run a command inside the cluster's network, with KUBECONFIG and PATH set.
    Exec {
        /// Run it on this node: with the node's own paths, such as /run/containerd.
        #[arg(long)]
        node: Option<String>,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// End one part (as named by `status`) with SIGTERM and start it again.
    Restart {
        /// The part, such as containerd-node-1 or kube-apiserver.
        part: String,
    },
    /// Make images and push them to the cluster's registry.
    #[command(subcommand)]
    Images(Images),
}

#[derive(Debug, Subcommand)]
enum Images {
    /// Push the demonstration set: real images made from Debian packages.
    Fill,
    /// Push images of incompressible data, for benchmarks.
    Synth {
        /// Name of the repositories; the images are REPOSITORY-1:1 … REPOSITORY-COUNT:1.
        #[arg(long)]
        repository: String,
        /// How many images.
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Size of each image in MB (10^6 bytes).
        #[arg(long, default_value_t = 20)]
        size_mb: u32,
        /// Number of layers that the size is divided into.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
        layers: u32,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let settings = Settings::new(&cli.place.name, cli.place.state)?;
    match cli.command {
        Command::Up { nodes, control_plane_only, no_controllers, garbage_collector_only, no_audit } => {
            let without = Without {
                controllers: no_controllers,
                most_controllers: garbage_collector_only,
                audit: no_audit,
            };
            let info = cluster::up(&settings, Wanted { nodes, control_plane_only, without })?;
            print(&what_next(&info))?;
        }
        Command::Down => teardown::down(&settings)?,
        Command::Status => {
            let info = ClusterInfo::load(&settings.state)?;
            print(&status::table(&info))?;
            if !status::healthy(&info) {
                say("something is down: `hack/cluster up` starts it again");
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Env => print(&environment(&ClusterInfo::load(&settings.state)?))?,
        Command::Exec { node, command } => {
            return Err(exec(&ClusterInfo::load(&settings.state)?, node.as_deref(), &command));
        }
        Command::Restart { part } => restart(&settings, &part)?,
        Command::Images(command) => {
            let info = ClusterInfo::load(&settings.state)?;
            let pushed = match command {
                Images::Fill => images::fill(&info, &settings.cache)?,
                Images::Synth { repository, count, size_mb, layers } => {
                    images::synthetic::push_all(&info, &settings.cache, &repository, count, size_mb, layers)?
                }
            };
            for image in pushed {
                print(&format!("{image}\n"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

fn what_next(info: &ClusterInfo) -> String {
    let mut place = if info.name == DEFAULT_NAME { String::new() } else { format!("--name {} ", info.name) };
    if info.state != settings::default_state(&info.name) {
        place.push_str(&format!("--state {} ", info.state.display()));
    }
    format!(
        "
  hack/cluster {place}exec -- kubectl get nodes   run a command inside the cluster's network
  hack/cluster {place}exec -- bash                or a shell
  hack/cluster {place}status                      what is up, where the logs are
  hack/cluster {place}down                        end it and remove its state
"
    )
}

fn environment(info: &ClusterInfo) -> String {
    let mut text = String::new();
    let mut export = |name: &str, value: String| {
        text.push_str(&format!("export {name}='{value}'\n"));
    };
    export("KUBECONFIG", info.kubeconfig.display().to_string());
    export("DROP_CLUSTER_NAME", info.name.clone());
    export("DROP_CLUSTER_STATE", info.state.display().to_string());
    export("DROP_CLUSTER_NETNS", info.netns.display().to_string());
    export("DROP_CLUSTER_REGISTRY", info.registry.clone());
    export("DROP_CLUSTER_AUDIT_LOG", info.audit_log.display().to_string());
    let sockets: Vec<String> =
        info.nodes.iter().map(|node| format!("{}={}", node.name, node.containerd_socket.display())).collect();
    export("DROP_CLUSTER_SOCKETS", sockets.join(" "));
    text.push_str(&format!("export PATH='{}':\"$PATH\"\n", info.binaries.display()));
    text
}

/// Replaces this process; returns only when that failed.
fn exec(info: &ClusterInfo, node_name: Option<&str>, words: &[String]) -> anyhow::Error {
    if !network::exists(&info.netns) {
        return anyhow::anyhow!("the cluster's network is gone: run `hack/cluster up`");
    }
    let (program, arguments) = match words.split_first() {
        Some(found) => found,
        None => return anyhow::anyhow!("no command given"),
    };
    let mut command = match node_name.map(|name| info.node(name).ok_or(name)) {
        None => network::inside(&info.netns, program),
        Some(Ok(node)) => drop_devtools::mounts::on_node(info, node, program),
        Some(Err(name)) => {
            return anyhow::anyhow!("there is no node {name}: `hack/cluster status` lists them");
        }
    };
    command.args(arguments).env("KUBECONFIG", &info.kubeconfig).env("PATH", node::search_path(info));
    command.env("DROP_CLUSTER_NAME", &info.name).env("DROP_CLUSTER_STATE", &info.state);
    let error = command.exec();
    anyhow::Error::new(error).context(format!("cannot run {program}"))
}

fn restart(settings: &Settings, part: &str) -> Result<()> {
    let info = ClusterInfo::load(&settings.state)?;
    let known = status::parts(&info);
    if !known.iter().any(|known| known.part == part) {
        let names: Vec<&str> = known.iter().map(|known| known.part.as_str()).collect();
        bail!("there is no part {part}; there are {}", names.join(", "));
    }
    Daemons::new(&info.state).stop(part, Duration::from_secs(20))?;
    let (control_plane_only, without) = (info.control_plane_only, info.without);
    cluster::up(settings, Wanted { nodes: 1, control_plane_only, without })?;
    Ok(())
}
