//! What is up: every part with its process, log and address, every node with its condition.

use crate::cluster::ready_nodes;
use crate::daemon::Daemons;
use crate::network;
use crate::node::{containerd_part, kubelet_part};
use crate::state::ClusterInfo;
use crate::{control_plane, registry};

/// One part and its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartStatus {
    /// Name of the part, as in its log file.
    pub part: String,
    /// Process id, while it runs.
    pub pid: Option<i32>,
    /// Where it listens.
    pub address: String,
}

/// Every part that should run, and whether it does.
#[must_use]
pub fn parts(info: &ClusterInfo) -> Vec<PartStatus> {
    let daemons = Daemons::new(&info.state);
    let one = |part: &str, address: String| PartStatus {
        part: part.to_owned(),
        pid: daemons.running(part).map(|process| process.pid),
        address,
    };
    let mut all = vec![
        one(control_plane::ETCD, "http://127.0.0.1:2379".to_owned()),
        one(control_plane::API_SERVER, info.api_server.clone()),
    ];
    if !info.without.controllers {
        all.push(one(control_plane::CONTROLLER_MANAGER, "-".to_owned()));
    }
    if info.control_plane_only {
        return all;
    }
    all.push(one(control_plane::SCHEDULER, "-".to_owned()));
    all.push(one(registry::REGISTRY, format!("http://{}", info.registry)));
    for node in &info.nodes {
        all.push(one(&containerd_part(node), node.containerd_socket.display().to_string()));
        all.push(one(&kubelet_part(node), format!("https://{}:10250", node.address)));
    }
    all
}

/// Whether all is well: every part runs, every node is Ready.
#[must_use]
pub fn healthy(info: &ClusterInfo) -> bool {
    let ready = ready_nodes(info).unwrap_or_default();
    parts(info).iter().all(|part| part.pid.is_some())
        && info.nodes.iter().all(|node| ready.contains(&node.name))
}

/// The status as a table for people.
#[must_use]
pub fn table(info: &ClusterInfo) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("cluster {} in {}", info.name, info.state.display()));
    let netns = if network::exists(&info.netns) { "up" } else { "DOWN" };
    line(format!("network namespace {} is {netns}", info.netns.display()));
    line(format!("{:<26}{:<6}{:<9}{:<58}{}", "PART", "STATE", "PID", "ADDRESS", "LOG"));
    for part in parts(info) {
        let (state, pid) = part.pid.map_or(("DOWN", "-".to_owned()), |pid| ("up", pid.to_string()));
        let log = info.log(&part.part);
        line(format!("{:<26}{state:<6}{pid:<9}{:<58}{}", part.part, part.address, log.display()));
    }
    match ready_nodes(info) {
        Err(_) => line("nodes: the API server does not answer".to_owned()),
        Ok(ready) => {
            for node in &info.nodes {
                let state = if ready.contains(&node.name) { "Ready" } else { "NOT READY" };
                line(format!("{:<26}{state:<15}{}", node.name, node.address));
            }
        }
    }
    line(format!("kubeconfig {}", info.kubeconfig.display()));
    line(format!("audit log  {}", info.audit_log.display()));
    text
}
