//! The demonstration: real images land on three real nodes, and the proof that they did.
//!
//! | module | subject |
//! |---|---|
//! | [`install`] | `deploy/` on the development cluster |
//! | [`objects`] | the PullPolicy and the CachedImages that are applied |
//! | [`pairs`] | where each image and node stands, from status and node Leases |
//! | [`table`] | showing that as it changes |
//! | [`proof`] | digests in registry, status and containerd; pods that may not pull |
//! | [`discovery`] | metrics decide which images are on the nodes |
//! | [`diagnosis`] | what to look at when it did not work |
//!
//! It uses Drop as anyone does, by kubectl, and knows nothing of its insides but where grants stand.

pub mod diagnosis;
pub mod discovery;
pub mod install;
pub mod objects;
pub mod pairs;
pub mod proof;
pub mod table;

use crate::cluster::{self, Wanted};
use crate::control_plane::kubectl;
use crate::progress::{elapsed, say};
use crate::settings::Settings;
use crate::state::ClusterInfo;
use crate::{command, files, images, product_images, prometheus};
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long all images may take to arrive.
const PATIENCE: Duration = Duration::from_secs(300);

/// Why the demonstration did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster did not come up.
    #[error(transparent)]
    Cluster(#[from] cluster::Error),
    /// Drop's images could not be built.
    #[error(transparent)]
    Product(#[from] product_images::Error),
    /// The images to cache could not be made.
    #[error(transparent)]
    Images(#[from] images::Error),
    /// A command failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Prometheus did not start.
    #[error(transparent)]
    Prometheus(#[from] prometheus::Error),
    /// kubectl or ctr answered something unexpected.
    #[error("cannot read what `{line}` answered: {source}")]
    Answer {
        /// The command line.
        line: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Programs of Drop don't become ready.
    #[error("Drop is not ready ({what})\n{diagnosis}")]
    NotReady {
        /// Which.
        what: String,
        /// What to look at.
        diagnosis: String,
    },
    /// Images don't arrive.
    #[error("not cached after {} s: {what}\n{diagnosis}", PATIENCE.as_secs())]
    NotCached {
        /// Which images.
        what: String,
        /// What to look at.
        diagnosis: String,
    },
    /// Status, registry and nodes disagree, or a pod does not start.
    #[error("the proof failed: {0}")]
    Proof(String),
}

/// Brings up a cluster with Drop on it: nodes, images of Drop, `deploy/`.
pub fn prepare(settings: &Settings, repository: &Path, nodes: u8) -> Result<ClusterInfo, Error> {
    let info = cluster::up(settings, Wanted::whole(nodes))?;
    let built = product_images::ensure(&info, &settings.cache, repository)?;
    install::install(&info, repository, &built)?;
    Ok(info)
}

/// The demonstration itself, on a cluster with Drop on it.
pub fn show(info: &ClusterInfo, cache: &Path) -> Result<(), Error> {
    let wanted = objects::wanted(&images::fill(info, cache)?);
    say("removing what an earlier demonstration left on the nodes…");
    proof::clear(info)?;
    say(format!(
        "applying a PullPolicy (two nodes at once, one second apart) and {} CachedImages:",
        wanted.len()
    ));
    let started = Instant::now();
    apply(info, &objects::manifest(&wanted))?;
    table::watch(info, &wanted, PATIENCE)?;
    say(format!("all images are on all nodes after {}", elapsed(started.elapsed())));
    proof::digests(info, &wanted)?;
    proof::pods(info, &wanted)?;
    discovery::show(info, cache)
}

/// Applies objects and waits until the API server has them.
pub fn apply(info: &ClusterInfo, objects: &Value) -> Result<(), Error> {
    let path = info.state.join("demo.json");
    files::write(&path, format!("{objects:#}\n"))?;
    Ok(command::run(kubectl(info).arg("apply").arg("-f").arg(&path))?)
}

/// What `kubectl get … -o json` answers.
pub fn get(info: &ClusterInfo, arguments: &[&str]) -> Result<Value, Error> {
    let mut get = kubectl(info);
    get.arg("get").args(arguments).args(["-o", "json"]);
    let answer = command::output(&mut get)?;
    serde_json::from_str(&answer).map_err(|source| Error::Answer { line: command::line(&get), source })
}
