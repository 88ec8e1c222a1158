//! Churn for a long time. All along: invariants on the truth of the modelled runtimes, memory, files, watches. In the end:
//! everything as it was asked for, and silence.
//!
//! | module | subject |
//! |---|---|
//! | [`wanted`] | what the cluster is to look like; pure |
//! | [`churn`] | what happens next; pure |
//! | [`act`] | carries it out |
//! | [`fleet`], [`watched`], [`source`] | nodes and agents that come and go; what stands between them and their parts; what is discovered |
//! | [`truth`] | who pulls when, against what policies allow; pure |
//! | [`samples`] | what grows or does not |
//! | [`settled`] | whether everything is as it was asked for |
//! | [`report`] | what was seen, and its bounds |

mod act;
mod churn;
mod fleet;
mod report;
mod samples;
mod settled;
mod source;
mod truth;
mod wanted;
mod watched;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Args;
use drop_harness::audit::Mark;
use drop_harness::figure::{Figure, write_json};
use serde::Serialize;

use self::act::Soak;
use self::churn::{Churn, Event, Kind};
use self::report::{Outcome, Silence};
use self::samples::Sample;
use self::settled::Found;
use crate::place::{self, Place};
use crate::swarm::QUIET;

/// Processes are looked at so often.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// So often it is told how far things are.
const TELL_EVERY: Duration = Duration::from_secs(30);
/// After the churn all is as wanted within this time: images that failed or were evicted more than once back off.
const SETTLES_WITHIN: Duration = Duration::from_secs(600);
/// For so long nothing is written then.
const SILENT_FOR: Duration = Duration::from_secs(30);
/// Watches that are too many are looked at so many times more.
const LOOKS: usize = 6;

/// What is to be done for how long.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Options {
    /// How long the churn lasts. Its first third is warm-up: leaders end only then, so that memory can be compared.
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// About how many nodes.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// What decides about all that is random; printed, so that a run can be repeated.
    #[arg(long)]
    seed: Option<u64>,
    /// Name of its control plane: soaks of different names do not disturb each other.
    #[arg(long, default_value = "soak")]
    name: String,
}

/// Runs it.
pub(crate) fn run(options: &Options, json: Option<&Path>) -> Result<Vec<Figure>> {
    ensure!(options.minutes > 0 && options.nodes >= 20, "at least a minute and 20 nodes");
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    println!("{} minutes on {} nodes, seed {seed}", options.minutes, options.nodes);
    let kind = place::Kind { name: &options.name, audit: true, garbage_collector: true };
    let outcome =
        crate::on_place(kind, async |place, program| Box::pin(soak(place, program, options, seed)).await)?;
    write_json(json, &outcome)?;
    for violation in &outcome.violations {
        println!("violated: {violation}");
    }
    for difference in &outcome.differences {
        println!("not as wanted: {difference}");
    }
    Ok(report::figures(&outcome))
}

async fn soak(place: Place, program: PathBuf, options: &Options, seed: u64) -> Result<Outcome> {
    let length = Duration::from_secs(options.minutes * 60);
    let mut soak = Soak::start(place, program, options.nodes, seed).await?;
    println!("everything is rolled out…");
    let first = soak.settle(SETTLES_WITHIN).await?;
    ensure!(first.differences.is_empty(), "before any churn: {:?}", first.differences);
    tokio::time::sleep(QUIET).await;
    let before = soak.at_rest().await?;

    println!("churn…");
    let (samples, events) = churn(&mut soak, length, options.nodes, seed).await?;

    println!("no more churn; the leader is killed once more…");
    for cure in soak.wanted.cures() {
        soak.act(&cure).await?;
    }
    soak.act(&Event::EndLeader { killed: true }).await?;
    let settled = soak.settle(SETTLES_WITHIN).await?;
    println!("silence…");
    tokio::time::sleep(QUIET).await;
    let mark = Mark::of(&soak.place.info)?;
    tokio::time::sleep(SILENT_FOR).await;
    let silence = Silence { seconds: SILENT_FOR.as_secs_f64(), writes: mark.requests()?.writes };
    let mut after = soak.at_rest().await?;
    // A watch that is being renewed counts twice for a moment.
    for _ in 0..LOOKS {
        if after.surplus_watches(&before) == 0 {
            break;
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
        after = soak.at_rest().await?;
    }
    let found = Found::read(&soak.place).await?;
    let (series, stale) = soak.series(&found).await?;
    let outcome = report::Outcome::new(report::Seen {
        options: options.clone(),
        seed,
        events,
        samples,
        settled,
        silence,
        rest: (before, after),
        series,
        stale,
        soak: &soak,
    });
    soak.end().await?;
    Ok(outcome)
}

/// Lets things happen for so long.
async fn churn(
    soak: &mut Soak,
    length: Duration,
    nodes: usize,
    seed: u64,
) -> Result<(Vec<Sample>, BTreeMap<Kind, usize>)> {
    let warm_up = length / 3;
    let leaders = (warm_up / 8).max(Duration::from_secs(20));
    let mut churn = Churn::new(seed, churn::pace(nodes, leaders));
    let mut warm = false;
    let (mut samples, mut events) = (Vec::new(), BTreeMap::new());
    let (began, mut told) = (Instant::now(), Duration::ZERO);
    let mut next_sample = Duration::ZERO;
    loop {
        let (at, happens) = churn.next(&soak.wanted);
        while next_sample <= at.min(length) {
            tokio::time::sleep_until((began + next_sample).into()).await;
            samples.push(soak.sample(began.elapsed()).await?);
            next_sample = began.elapsed() + SAMPLE_EVERY;
            if began.elapsed() > told + TELL_EVERY {
                told = began.elapsed();
                soak.tell(told, &events, samples.last());
            }
        }
        if at >= length {
            return Ok((samples, events));
        }
        tokio::time::sleep_until((began + at).into()).await;
        if at > warm_up && !std::mem::replace(&mut warm, true) {
            churn.end(Kind::EndLeader);
        }
        let Some((kind, event)) = happens.filter(|(kind, _)| !warm || *kind != Kind::EndLeader) else {
            continue;
        };
        if let Err(error) = soak.act(&event).await {
            bail!("{event:?}: {error:#}");
        }
        *events.entry(kind).or_default() += 1;
        soak.check()?;
    }
}
