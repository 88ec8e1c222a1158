//! Wall clocks that jump ahead or fall behind by an hour while everything runs.
//!
//! The kernel has one wall clock for all, so the programs of the installed Pods are told another: a library is preloaded
//! that adds what a file says to the wall clock and touches no other clock. (libfaketime would bend kernel timers too.)

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use drop_devtools::demo::install;
use drop_devtools::{command, files};
use drop_harness::Cluster;
use drop_protocol::names::{DEFAULT_NAMESPACE, LEADER_LEASE};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::stage::Stage;

const SOURCE: &str = include_str!("../wrong_clock.c");
const LIBRARY: &str = "wrong_clock.so";
const INSIDE: &str = "/clocks";
/// Tells the library whose clock it is.
const WHOSE: &str = "CLOCK_OF";

/// Which way a wall clock is wrong, by an hour.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wrong {
    /// It tells a time that is yet to come.
    Ahead,
    /// It tells a time long gone.
    Behind,
}

impl Wrong {
    /// Seconds that the library adds.
    fn by(self) -> &'static str {
        match self {
            Self::Ahead => "3600",
            Self::Behind => "-3600",
        }
    }

    /// Whether a clock as wrong as this told `time` at about `now`.
    fn told(self, time: Timestamp, now: Timestamp) -> bool {
        let half = SignedDuration::from_mins(30);
        match self {
            Self::Ahead => time.duration_since(now) > half,
            Self::Behind => now.duration_since(time) > half,
        }
    }
}

/// The library, and how wrong whose clock is.
fn place(cluster: &Cluster) -> PathBuf {
    cluster.info.state.join("clocks")
}

/// All Pods of Drop get clocks that can be made wrong, and are right for now.
pub(crate) async fn install(cluster: &Cluster) -> Result<()> {
    let place = place(cluster);
    files::remove_dir(&place)?;
    files::create_dir(&place)?;
    let source = place.join("wrong_clock.c");
    files::write(&source, SOURCE)?;
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-O2", "-o"]).arg(place.join(LIBRARY)).arg(&source);
    command::run(&mut gcc)?;
    let preloaded = |container: &str, name: &str| {
        json!({
            "containers": [{
                "name": container,
                "env": [
                    { "name": "LD_PRELOAD", "value": format!("{INSIDE}/{LIBRARY}") },
                    { "name": WHOSE, "valueFrom": { "fieldRef": { "fieldPath": name } } },
                ],
                "volumeMounts": [{ "name": "clocks", "mountPath": INSIDE, "readOnly": true }],
            }],
            "volumes": [{ "name": "clocks", "hostPath": { "path": place, "type": "Directory" } }],
        })
    };
    patch(cluster, preloaded("agent", "spec.nodeName"), preloaded("coordinator", "metadata.name")).await
}

/// Drop as shipped again.
pub(crate) async fn uninstall(cluster: &Cluster) -> Result<()> {
    let shipped = |container: &str| {
        json!({
            "containers": [{
                "name": container,
                "env": [
                    { "name": "LD_PRELOAD", "$patch": "delete" },
                    { "name": WHOSE, "$patch": "delete" },
                ],
                "volumeMounts": [{ "mountPath": INSIDE, "$patch": "delete" }],
            }],
            "volumes": [{ "name": "clocks", "$patch": "delete" }],
        })
    };
    patch(cluster, shipped("agent"), shipped("coordinator")).await
}

/// Patches the Pods of both workloads and waits until all are of that kind.
async fn patch(cluster: &Cluster, agent: Value, coordinator: Value) -> Result<()> {
    let patch = |pod: Value| Patch::Strategic(json!({ "spec": { "template": { "spec": pod } } }));
    let agents: Api<DaemonSet> = Api::namespaced(cluster.client.clone(), DEFAULT_NAMESPACE);
    agents.patch("drop-agent", &PatchParams::default(), &patch(agent)).await?;
    let coordinators: Api<Deployment> = Api::namespaced(cluster.client.clone(), DEFAULT_NAMESPACE);
    coordinators.patch("drop-coordinator", &PatchParams::default(), &patch(coordinator)).await?;
    let info = cluster.info.clone();
    Ok(tokio::task::spawn_blocking(move || install::wait_ready(&info)).await??)
}

/// The clocks of the leader and of the other replica become wrong; then the leader is lost, and the other takes over.
pub(crate) async fn leader_wrong(stage: &Stage<'_>, wrong: Wrong) -> Result<()> {
    let pods = stage.cluster.pods().list(&ListParams::default()).await?;
    let names = pods.items.into_iter().filter_map(|pod| pod.metadata.name);
    for name in names.filter(|name| name.starts_with("drop-coordinator")) {
        files::write(&place(stage.cluster).join(name), wrong.by())?;
    }
    seen(stage, LEADER_LEASE, wrong).await?;
    super::leader::killed(stage).await
}

/// The clock of an agent that pulls becomes wrong.
pub(crate) async fn agent_wrong(stage: &Stage<'_>, wrong: Wrong) -> Result<()> {
    let node = stage.puller()?;
    files::write(&place(stage.cluster).join(&node), wrong.by())?;
    seen(stage, &node, wrong).await
}

/// Waits until what its owner writes into this Lease shows that its clock is wrong.
async fn seen(stage: &Stage<'_>, lease: &str, wrong: Wrong) -> Result<()> {
    stage
        .wait("a time that a wrong clock told", async || {
            let spec = stage.cluster.leases().get(lease).await?.spec.unwrap_or_default();
            Ok(spec.renew_time.is_some_and(|renewed| wrong.told(renewed.0, Timestamp::now())))
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::{Timestamp, Wrong};

    #[test]
    fn a_right_clock_is_neither_ahead_nor_behind() {
        let now = Timestamp::UNIX_EPOCH;
        let told = |seconds| Timestamp::from_second(seconds).unwrap();
        assert!(Wrong::Ahead.told(told(3590), now) && Wrong::Behind.told(told(-3610), now));
        for right in [-20, 0, 1] {
            assert!(!Wrong::Ahead.told(told(right), now) && !Wrong::Behind.told(told(right), now));
        }
    }
}
