//! Thousands of nodes on one machine: a real etcd and API server, real coordinators, the real agent code; only the
//! container runtimes are modelled.
//!
//! | module | subject |
//! |---|---|
//! | [`scenario`] | what is rolled out to how many nodes, and the ideal schedule |
//! | [`place`], [`population`], [`heartbeats`] | the control plane; Nodes and Pods in it; what kubelets write |
//! | [`agents`], [`runtime`] | the agents, and the model of what stands behind them |
//! | [`coordinators`] | the coordinators' processes and metrics |
//! | [`swarm`] | all of it together |
//! | [`rollout`], [`aftermath`] | what is measured |
//! | [`api_server`] | what the API server tells of itself |
//! | [`cases`], [`plot`] | what has to be reached; cost against nodes as a picture |
//! | [`short`] | the form that is part of every test run |
//! | [`soak`] | churn for a long time: nothing grows, the invariants hold, and in the end all is as wanted |

#![allow(
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures are printed, and none has 2^53 of anything"
)]

mod aftermath;
mod agents;
mod api_server;
mod cases;
mod coordinators;
mod heartbeats;
mod place;
mod plot;
mod population;
mod rollout;
mod runtime;
mod scenario;
mod short;
mod soak;
mod swarm;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use drop_harness::figure::{self, Figure, write_json};
use tokio::signal::unix::{SignalKind, signal};

use crate::place::Place;
use crate::scenario::Scenario;
use crate::swarm::Swarm;

/// Thousands of nodes on one machine: measures what Drop costs and how fast it is. Run it as root, in release mode.
#[derive(Debug, Parser)]
#[command(name = "drop-swarm")]
struct Arguments {
    /// Write everything that was measured as JSON to this file.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Fail when any bound is missed. Otherwise only counts that exceed their bound by half fail: times depend on what
    /// else the machine does.
    #[arg(long, global = true)]
    strict: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One rollout of your own, with or without an audit log.
    Rollout {
        #[command(flatten)]
        scenario: Scenario,
        /// No audit log: nothing is counted, but processor times are those of the work alone.
        #[arg(long)]
        no_audit: bool,
    },
    /// 200 nodes × 10 images.
    Small,
    /// 1,000 nodes × 20 images.
    Middle,
    /// 5,000 nodes × 50 images, and what comes after the rollout. About half an hour.
    Large {
        /// How long the idle swarm is watched, in seconds.
        #[arg(long, default_value_t = 300)]
        idle_seconds: u64,
    },
    /// Cost against nodes, from 100 to 5,000, as a picture. About half an hour.
    Curve {
        /// Where the picture goes.
        #[arg(long, default_value = "tests/swarm/cost.svg")]
        svg: PathBuf,
        /// Numbers of nodes, one run with and one without an audit log each.
        #[arg(long, value_delimiter = ',', default_values_t = [100, 500, 1000, 2500, 5000])]
        nodes: Vec<usize>,
    },
    /// A hundred nodes: fails when writes a pair or planning time grow by half over what they are known to be.
    Short,
    /// Churn of every kind, and what must not grow.
    Soak(soak::Options),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let json = arguments.json.as_deref();
    let figures = match &arguments.what {
        What::Rollout { scenario, no_audit } => {
            let audit = !no_audit;
            let rollout =
                run(scenario, audit, async |swarm: &mut Swarm| rollout::measure(swarm, audit).await)?;
            println!("{}", serde_json::to_string_pretty(&rollout)?);
            write_json(json, &rollout)?;
            Vec::new()
        }
        What::Small => case(&cases::small(), None, json)?,
        What::Middle => case(&cases::middle(), None, json)?,
        What::Large { idle_seconds } => {
            case(&cases::large(), Some(Duration::from_secs(*idle_seconds)), json)?
        }
        What::Curve { svg, nodes } => curve(nodes, svg, json)?,
        What::Short => short::measure(json)?,
        What::Soak(options) => soak::run(options, json)?,
    };
    figure::conclude(&figures, arguments.strict)
}

fn case(scenario: &Scenario, idle: Option<Duration>, json: Option<&Path>) -> Result<Vec<Figure>> {
    let measured = cases::measure(scenario, idle)?;
    write_json(json, &measured)?;
    Ok(cases::figures(&measured))
}

fn curve(nodes: &[usize], svg: &Path, json: Option<&Path>) -> Result<Vec<Figure>> {
    let mut all = Vec::new();
    for nodes in nodes {
        all.push(cases::measure(&cases::on_the_curve(*nodes), None)?);
    }
    all.sort_by_key(|measured| measured.counted.scenario.nodes);
    write_json(json, &all)?;
    plot::write(svg, &all)?;
    println!("the picture is in {}", svg.display());
    Ok(plot::figures(&all))
}

/// Runs `body` on a swarm of its own. Everything ends with it, also when it is interrupted.
fn run<T>(scenario: &Scenario, audit: bool, body: impl AsyncFnOnce(&mut Swarm) -> Result<T>) -> Result<T> {
    let kind = place::Kind { name: "swarm", audit, garbage_collector: false };
    on_place(kind, async |place, program| {
        let mut swarm = Swarm::start(place, scenario, program).await?;
        let measured = body(&mut swarm).await?;
        println!("ending…");
        swarm.end().await?;
        Ok(measured)
    })
}

/// Runs `body` on a control plane of its own, which goes down with it, also when it is interrupted; it gets the
/// coordinator's program too.
fn on_place<T>(kind: place::Kind<'_>, body: impl AsyncFnOnce(Place, PathBuf) -> Result<T>) -> Result<T> {
    let program = coordinators::build()?;
    let (settings, info) = place::up(kind)?;
    // Agents live on one thread, as each of them does on its node.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let agents = tokio::task::LocalSet::new();
    runtime.block_on(agents.run_until(async {
        let place = Place::install(settings, info).await?;
        tokio::select! {
            measured = body(place, program) => measured,
            () = interrupted() => bail!("interrupted"),
        }
    }))
}

async fn interrupted() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
