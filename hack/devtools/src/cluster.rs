//! Bringing the cluster up: the order of things. Every step looks first, so that a second run changes nothing that is
//! well, starts again what has ended, and adds nodes that are missing.

use crate::certs::{self, Authority};
use crate::control_plane::{self, kubectl};
use crate::progress::{elapsed, say};
use crate::settings::Settings;
use crate::state::{self, ClusterInfo, Without};
use crate::{command, files, images, mounts, network, node, packages, parts, registry, wait};
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const READY_PATIENCE: Duration = Duration::from_secs(180);

/// Why the cluster did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Debian packages are missing.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// Programs could not be built.
    #[error(transparent)]
    Parts(#[from] parts::Error),
    /// The network could not be made.
    #[error(transparent)]
    Network(#[from] network::Error),
    /// Mounts could not be made.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// Certificates could not be made.
    #[error(transparent)]
    Certs(#[from] certs::Error),
    /// The control plane did not start.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
    /// The registry did not start.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A node did not start.
    #[error(transparent)]
    Node(#[from] node::Error),
    /// The sandbox image could not be made.
    #[error(transparent)]
    Images(#[from] images::Error),
    /// The state could not be read or written.
    #[error(transparent)]
    State(#[from] state::Error),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The user may not make namespaces.
    #[error("the cluster makes namespaces and mounts: run it as root")]
    NotRoot,
    /// Another cluster uses the namespace.
    #[error("the network namespace {netns} is in use, but {state} holds no cluster: choose another --name")]
    Foreign {
        /// The namespace.
        netns: PathBuf,
        /// The state directory.
        state: PathBuf,
    },
    /// A cluster of the other kind runs there.
    #[error(
        "the cluster in {0} was started with --control-plane-only: run `hack/cluster down` with the same --name first"
    )]
    ControlPlaneOnly(PathBuf),
    /// Nodes run and do not become Ready.
    #[error("not Ready after {} s: {names}; see `hack/cluster status` for their logs", READY_PATIENCE.as_secs())]
    NotReady {
        /// The nodes.
        names: String,
    },
}

/// What `up` should bring up.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Number of nodes, at least.
    pub nodes: u8,
    /// Leave out registry, scheduler and nodes.
    pub control_plane_only: bool,
    /// What a control plane does without.
    pub without: Without,
}

impl Wanted {
    /// A whole cluster with so many nodes.
    #[must_use]
    pub fn whole(nodes: u8) -> Self {
        Self { nodes, control_plane_only: false, without: Without::default() }
    }
}

/// Brings the cluster up and returns when it can be used.
pub fn up(settings: &Settings, wanted: Wanted) -> Result<ClusterInfo, Error> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let started = Instant::now();
    packages::ensure(packages::CLUSTER)?;
    let binaries = parts::ensure(&settings.cache, wanted.control_plane_only)?;
    let _lock = lock(settings)?;
    let info = describe(settings, binaries, wanted)?;
    let nodes: Vec<String> = info.nodes.iter().map(|node| node.address.clone()).collect();
    network::ensure(settings, &nodes)?;
    let authority = Authority::open(&info.pki())?;
    say("control plane…");
    control_plane::ensure(&info, &authority)?;
    if !info.control_plane_only {
        registry::ensure(&info)?;
        mounts::ensure_place(&info)?;
        say(format!("{} nodes…", info.nodes.len()));
        for node in &info.nodes {
            node::start_containerd(&info, node)?;
        }
        images::pause::ensure(&info)?;
        for node in &info.nodes {
            node::start_kubelet(&info, &authority, node)?;
        }
        for node in &info.nodes {
            node::kubelet_answers(&info, node)?;
        }
        wait_ready(&info)?;
    }
    say(format!("cluster {} is up after {}", info.name, elapsed(started.elapsed())));
    Ok(info)
}

/// Holds off a second `up` or `down` of the same cluster until the returned file is closed.
pub fn lock(settings: &Settings) -> Result<File, Error> {
    let mut path = settings.state.clone().into_os_string();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = files::named(File::create(&path), "create", &path)?;
    if file.try_lock().is_err() {
        say("waiting for another command on this cluster…");
        files::named(file.lock(), "lock", &path)?;
    }
    Ok(file)
}

/// Reads or makes the description and writes it, before anything starts: `down` must know about half a cluster too.
fn describe(settings: &Settings, binaries: PathBuf, wanted: Wanted) -> Result<ClusterInfo, Error> {
    let mut info = match ClusterInfo::load(&settings.state) {
        Ok(info) => info,
        Err(state::Error::Absent(state)) => {
            if network::exists(&settings.netns()) {
                return Err(Error::Foreign { netns: settings.netns(), state });
            }
            files::create_dir(&state)?;
            ClusterInfo::new(settings, binaries.clone(), wanted.control_plane_only, wanted.without)
        }
        Err(error) => return Err(error.into()),
    };
    if info.control_plane_only && !wanted.control_plane_only {
        return Err(Error::ControlPlaneOnly(info.state));
    }
    info.binaries = binaries;
    if !info.control_plane_only && !wanted.control_plane_only {
        info.extend_nodes(wanted.nodes);
    }
    info.save()?;
    Ok(info)
}

fn wait_ready(info: &ClusterInfo) -> Result<(), Error> {
    let mut waiting = Vec::new();
    let ready = wait::until(READY_PATIENCE, || {
        let ready = ready_nodes(info).unwrap_or_default();
        waiting =
            info.nodes.iter().map(|node| node.name.clone()).filter(|name| !ready.contains(name)).collect();
        waiting.is_empty()
    });
    if ready { Ok(()) } else { Err(Error::NotReady { names: waiting.join(", ") }) }
}

/// Names of the nodes whose condition Ready is true.
pub fn ready_nodes(info: &ClusterInfo) -> Result<Vec<String>, command::Error> {
    let template = "-o=jsonpath={range .items[*]}{.metadata.name}{\" \"}\
                    {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
    let listed = command::output(kubectl(info).args(["get", "nodes", template]))?;
    Ok(listed.lines().filter_map(|line| line.strip_suffix(" True")).map(str::to_owned).collect())
}
