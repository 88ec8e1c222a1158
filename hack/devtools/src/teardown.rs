//! Taking the cluster down: everything that was started ends, in an order in which nobody misses what is gone, and
//! nothing stays behind. Works on half a cluster too.

use crate::cluster;
use crate::daemon::{self, Daemons, Process};
use crate::node::{containerd_part, kubelet_part};
use crate::progress::say;
use crate::settings::Settings;
use crate::state::{self, ClusterInfo, NodeInfo};
use crate::{cgroups, command, control_plane, files, mounts, network, registry, wait};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// Why something stayed behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A process does not end.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    /// Processes of a node do not end.
    #[error("processes of {node} do not end: {pids:?}; look at them with ps")]
    Immortal {
        /// The node.
        node: String,
        /// Their ids.
        pids: Vec<i32>,
    },
    /// A Node object does not go.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A mount does not go.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// The network namespace does not go.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// A file does not go.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The state is unreadable.
    #[error(transparent)]
    State(#[from] state::Error),
    /// The cluster is in use by another command.
    #[error(transparent)]
    Cluster(#[from] Box<cluster::Error>),
}

/// Ends and removes the cluster.
pub fn down(settings: &Settings) -> Result<(), Error> {
    let _lock = cluster::lock(settings).map_err(Box::new)?;
    let info = match ClusterInfo::load(&settings.state) {
        Ok(info) => info,
        Err(state::Error::Absent(_)) => {
            say(format!("there is no cluster {} in {}", settings.name, settings.state.display()));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let daemons = Daemons::new(&info.state);
    for node in &info.nodes {
        daemons.stop(&kubelet_part(node), Duration::from_secs(10))?;
    }
    for node in &info.nodes {
        end_runtime(&daemons, node)?;
    }
    let order = [
        registry::REGISTRY,
        control_plane::SCHEDULER,
        control_plane::CONTROLLER_MANAGER,
        // The API server first: without etcd it would wait for its answer until it is killed.
        control_plane::API_SERVER,
        control_plane::ETCD,
    ];
    for part in order {
        daemons.stop(part, Duration::from_secs(20))?;
    }
    for part in daemons.parts() {
        daemons.stop(&part, Duration::from_secs(10))?;
    }
    mounts::unmount_below(&info.state)?;
    network::remove(settings)?;
    files::remove_dir(&info.state)?;
    say(format!(
        "cluster {} is down; built programs and images stay in {}",
        info.name,
        settings.cache.display()
    ));
    Ok(())
}

/// Takes nodes away from a running cluster, with their Node objects, until `count` are left: the last come first.
pub fn shrink(settings: &Settings, count: usize) -> Result<ClusterInfo, Error> {
    let _lock = cluster::lock(settings).map_err(Box::new)?;
    let mut info = ClusterInfo::load(&settings.state)?;
    let daemons = Daemons::new(&info.state);
    while info.nodes.len() > count
        && let Some(node) = info.nodes.pop()
    {
        daemons.stop(&kubelet_part(&node), Duration::from_secs(10))?;
        let mut delete = control_plane::kubectl(&info);
        command::run(delete.args(["delete", "node", &node.name, "--ignore-not-found"]))?;
        end_runtime(&daemons, &node)?;
        mounts::unmount_below(&node.directory)?;
        files::remove_dir(&node.directory)?;
        info.save()?;
    }
    Ok(info)
}

/// Ends a node's containerd and all that it runs, and lets go of the node's paths.
fn end_runtime(daemons: &Daemons, node: &NodeInfo) -> Result<(), Error> {
    say(format!("ending {}…", node.name));
    daemons.stop(&containerd_part(node), Duration::from_secs(10))?;
    let containers = cgroups::containers(node);
    end_containers(node)?;
    cgroups::remove(&containers);
    Ok(mounts::release_node(node)?)
}

/// Ends what containerd started: shims live on without it, and hold the containers.
fn end_containers(node: &NodeInfo) -> Result<(), Error> {
    // The containers have namespaces of their own; they are found as descendants of the shims, so look before killing.
    let mut left = BTreeSet::new();
    let ended = wait::until(Duration::from_secs(20), || {
        let members = mounts::members(node);
        let mut all: BTreeSet<i32> = descendants(&members);
        all.extend(&left);
        left = all.into_iter().filter(|pid| Process::find(*pid).is_some()).collect();
        for pid in &left {
            if let Some(process) = Process::find(*pid) {
                process.signal(Signal::SIGKILL);
            }
        }
        left.is_empty()
    });
    if ended {
        Ok(())
    } else {
        Err(Error::Immortal { node: node.name.clone(), pids: left.into_iter().collect() })
    }
}

/// The given processes and all their descendants.
fn descendants(roots: &[i32]) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if let Some(parent) = parent(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = BTreeSet::new();
    let mut look: Vec<i32> = roots.to_vec();
    while let Some(pid) = look.pop() {
        if found.insert(pid) {
            look.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn grandchildren_are_found() {
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut line)
            .unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(descendants(&[me]).contains(&grandchild));
        Process::find(grandchild).unwrap().signal(Signal::SIGKILL);
        shell.wait().unwrap();
    }
}
