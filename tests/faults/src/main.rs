//! Faults of a real cluster, one after the other, each in the middle of a rollout: Drop as shipped has to keep its caps,
//! lose nothing, repeat no pull without need, and come to an end.
//!
//! `cargo run -p drop-faults -- short` runs against the cluster that `hack/cluster up` started and that Drop is installed
//! on (`DROP_CLUSTER_STATE` names the state directory of another one). What is judged is the registry's log and the
//! nodes' own lists of images, never what Drop says of itself.
//!
//! | module | subject |
//! |---|---|
//! | [`fault`], [`faults`] | what happens; how it is brought about and healed |
//! | [`stage`] | the rollout that it happens to |
//! | [`pulls`], [`seen`] | what the registry's log tells, and whether that is good; both pure |
//! | [`results`] | what is kept of it |
//! | [`packets`] | packets dropped and led astray |

#![allow(clippy::print_stdout, reason = "figures are this program's output")]

mod fault;
mod faults;
mod packets;
mod pulls;
mod results;
mod seen;
mod stage;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum as _};
use drop_harness::Cluster;

use crate::fault::Fault;
use crate::faults::api::Behind;
use crate::seen::Seen;
use crate::stage::Stage;

/// Lets faults happen to the cluster that `hack/cluster up` started and `deploy/` is applied to. Run it as root.
#[derive(Debug, Parser)]
#[command(name = "drop-faults")]
struct Arguments {
    /// Write what was seen as JSON to this file; rows of other faults in it stay.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Write that JSON file's rows, all of them, as the page of results.
    #[arg(long, global = true, requires = "json")]
    page: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The most telling ones, in about six minutes: part of `hack/test`.
    Short,
    /// Every fault, in about forty minutes.
    All,
    /// These faults, in this order.
    Only {
        /// Which.
        #[arg(required = true)]
        faults: Vec<Fault>,
    },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let faults = match &arguments.what {
        What::Short => Fault::value_variants().iter().copied().filter(|fault| fault.is_short()).collect(),
        What::All => Fault::value_variants().to_vec(),
        What::Only { faults } => faults.clone(),
    };
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    drop_harness::run("faults", async |cluster| {
        for fault in faults {
            match one(cluster, fault).await {
                Ok(seen) => {
                    failed.extend(seen.wrong().iter().map(|wrong| format!("{}: {wrong}", seen.fault)));
                    all.push(seen);
                }
                Err(error) => failed.push(format!("{}: {error:#}", fault.name())),
            }
            results::keep(arguments.json.as_deref(), arguments.page.as_deref(), &all)?;
        }
        cluster.clean().await
    })?;
    println!("\n{}", seen::table(&all));
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// One fault from its stage to what was seen of it.
async fn one(cluster: &Cluster, fault: Fault) -> Result<Seen> {
    println!("{}: {}…", fault.name(), fault.done());
    let behind = fault.prepare(cluster).await.context("preparing")?;
    let outcome = on_stage(cluster, fault, behind.as_ref()).await;
    fault.clear(cluster, behind).await.context("clearing")?;
    outcome
}

async fn on_stage(cluster: &Cluster, fault: Fault, behind: Option<&Behind>) -> Result<Seen> {
    let stage = Stage::set(cluster, fault.rollout()).await.context("setting the stage")?;
    let begun = Instant::now();
    fault.happen(&stage, behind).await.context("letting it happen")?;
    let lasted = begun.elapsed();
    let mut seen = stage.conclude(&fault.name(), fault.done(), lasted).await?;
    seen.may_repeat = fault.may_repeat();
    println!("{}", serde_json::to_string(&seen)?);
    // Nodes go on pulling from this registry only as long as it is open.
    cluster.clean().await?;
    Ok(seen)
}
