//! Where everything of a cluster lies, for this crate, for tests and for scripts. Kept as `cluster.json` in the state
//! directory, written before the first process starts, removed last.

use crate::files;
use crate::settings::Settings;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const FILE: &str = "cluster.json";

/// State that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster was started there.
    #[error("there is no cluster in {0}: start one with `hack/cluster up`")]
    Absent(PathBuf),
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The file holds something else.
    #[error("{path} is damaged ({source}): run `hack/cluster down` and `hack/cluster up`")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
}

/// One cluster: its addresses and files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterInfo {
    /// Name of the cluster.
    pub name: String,
    /// State directory.
    pub state: PathBuf,
    /// File of the network namespace that all of it lives in (`nsenter --net=<this>`).
    pub netns: PathBuf,
    /// Administrator's kubeconfig; its user is `admin` in the audit log.
    pub kubeconfig: PathBuf,
    /// URL of the API server, reachable inside the network namespace.
    pub api_server: String,
    /// `host:port` of the registry (plain http), reachable inside the network namespace; prefix of image references.
    pub registry: String,
    /// Audit log, one JSON event a line, at metadata level, for the life of the cluster.
    pub audit_log: PathBuf,
    /// Directory of the built programs: kubectl, ctr, etcd …
    pub binaries: PathBuf,
    /// Whether registry, scheduler and nodes were left out.
    pub control_plane_only: bool,
    /// What the control plane does without.
    #[serde(default)]
    pub without: Without,
    /// The nodes, in order.
    pub nodes: Vec<NodeInfo>,
}

/// What a control plane does without, so that nothing else is measured or interferes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Without {
    /// No controller manager: Nodes that nobody stands behind stay as they are.
    pub controllers: bool,
    /// No controllers but the garbage collector: Nodes stay as they are, and what belongs to a deleted object goes.
    #[serde(default)]
    pub most_controllers: bool,
    /// No audit log: it costs the API server about as much as a small request.
    pub audit: bool,
}

/// One node: a containerd and a kubelet in a mount namespace of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Name of the Node object.
    pub name: String,
    /// Number of the node, from 1.
    pub number: u8,
    /// Address of the kubelet.
    pub address: String,
    /// Directory of the node's files.
    pub directory: PathBuf,
    /// containerd's socket, as the machine sees it (on the node itself it is `/run/containerd/containerd.sock`).
    pub containerd_socket: PathBuf,
    /// File of the node's mount namespace (`nsenter --mount=<this>`).
    pub mount_namespace: PathBuf,
}

impl ClusterInfo {
    /// The description of a cluster that is about to start.
    #[must_use]
    pub fn new(settings: &Settings, binaries: PathBuf, control_plane_only: bool, without: Without) -> Self {
        let state = settings.state.clone();
        Self {
            name: settings.name.clone(),
            netns: settings.netns(),
            kubeconfig: state.join("admin.kubeconfig"),
            api_server: format!("https://{}:6443", crate::network::GATEWAY),
            registry: format!("{}:5000", crate::network::GATEWAY),
            audit_log: state.join("audit/audit.log"),
            binaries,
            control_plane_only,
            without,
            nodes: Vec::new(),
            state,
        }
    }

    /// Reads the description of the cluster whose state lies in `state`.
    pub fn load(state: &Path) -> Result<Self, Error> {
        let path = state.join(FILE);
        if !path.exists() {
            return Err(Error::Absent(state.to_owned()));
        }
        let text = files::read(&path)?;
        serde_json::from_str(&text).map_err(|source| Error::Damaged { path, source })
    }

    /// Writes the description.
    pub fn save(&self) -> Result<(), Error> {
        let path = self.state.join(FILE);
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| Error::Damaged { path: path.clone(), source })?;
        Ok(files::write(&path, text)?)
    }

    /// Adds nodes until there are `count`; never takes any away.
    pub fn extend_nodes(&mut self, count: u8) {
        for number in 1..=count {
            if self.nodes.iter().any(|node| node.number == number) {
                continue;
            }
            let name = format!("node-{number}");
            let directory = self.state.join("nodes").join(&name);
            self.nodes.push(NodeInfo {
                address: crate::network::node_address(number),
                containerd_socket: directory.join("run/containerd.sock"),
                mount_namespace: self.namespaces().join(&name),
                directory,
                number,
                name,
            });
        }
    }

    /// The node called `name`.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Path of a built program.
    #[must_use]
    pub fn binary(&self, program: &str) -> PathBuf {
        self.binaries.join(program)
    }

    /// Directory of keys and certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// Log of one part.
    #[must_use]
    pub fn log(&self, part: &str) -> PathBuf {
        self.state.join("log").join(format!("{part}.log"))
    }

    /// Directory that pins the nodes' mount namespaces.
    #[must_use]
    pub fn namespaces(&self) -> PathBuf {
        self.state.join("namespaces")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(state: &Path) -> ClusterInfo {
        let settings = Settings { name: "t".into(), state: state.to_owned(), cache: state.join("cache") };
        ClusterInfo::new(&settings, state.join("bin"), false, Without::default())
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let state = tempfile::tempdir().unwrap();
        let mut saved = info(state.path());
        saved.extend_nodes(2);
        saved.save().unwrap();
        assert_eq!(ClusterInfo::load(state.path()).unwrap(), saved);
    }

    #[test]
    fn nodes_are_added_and_never_taken_away() {
        let state = tempfile::tempdir().unwrap();
        let mut cluster = info(state.path());
        cluster.extend_nodes(3);
        let three = cluster.nodes.clone();
        cluster.extend_nodes(1);
        assert_eq!(cluster.nodes, three);
        cluster.extend_nodes(5);
        assert_eq!(cluster.nodes[..3], three[..]);
        assert_eq!(cluster.nodes.len(), 5);
        assert!(cluster.node("node-5").is_some());
    }

    #[test]
    fn an_absent_cluster_tells_how_to_start_one() {
        let state = tempfile::tempdir().unwrap();
        let error = ClusterInfo::load(state.path()).unwrap_err().to_string();
        assert!(error.contains("hack/cluster up"), "{error}");
    }
}
