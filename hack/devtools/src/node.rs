//! A node: containerd and a kubelet with the node's own paths, address and credentials.

use crate::certs::{self, Authority};
use crate::control_plane::{self, write_kubeconfig};
use crate::daemon::{self, Daemons};
use crate::mounts::{self, on_node};
use crate::network::{http_ok, pod_range};
use crate::state::{ClusterInfo, NodeInfo};
use crate::{command, files};
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Reference of the pod sandbox image below the cluster's registry.
pub const PAUSE_IMAGE: &str = "drop-cluster/pause:1";

const PATIENCE: Duration = Duration::from_secs(60);

/// A node did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its certificates could not be made.
    #[error(transparent)]
    Certs(#[from] certs::Error),
    /// Its files could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Its mount namespace could not be made.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// A process could not be started.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
    /// Its kubeconfig could not be written.
    #[error(transparent)]
    ControlPlane(#[from] control_plane::Error),
}

/// Name of a node's containerd among the parts.
#[must_use]
pub fn containerd_part(node: &NodeInfo) -> String {
    format!("containerd-{}", node.name)
}

/// Name of a node's kubelet among the parts.
#[must_use]
pub fn kubelet_part(node: &NodeInfo) -> String {
    format!("kubelet-{}", node.name)
}

/// Directory of further pieces of the kubelet's configuration (`*.conf`), which it reads at start.
#[must_use]
pub fn kubelet_drop_ins(node: &NodeInfo) -> PathBuf {
    node.directory.join("disk/kubelet/config.d")
}

/// Starts the node's containerd unless it runs, without waiting for it.
pub fn start_containerd(info: &ClusterInfo, node: &NodeInfo) -> Result<(), Error> {
    let daemons = Daemons::new(&info.state);
    let part = containerd_part(node);
    mounts::ensure_node(node)?;
    if daemons.running(&part).is_none() {
        write_containerd_files(info, node)?;
        let mut command = on_node(info, node, info.binary("containerd"));
        command.env("PATH", search_path(info));
        daemons.start(&part, &command)?;
    }
    Ok(())
}

/// Waits until containerd answers and starts the node's kubelet unless it runs: a kubelet gives up without containerd.
pub fn start_kubelet(info: &ClusterInfo, authority: &Authority, node: &NodeInfo) -> Result<(), Error> {
    answers(info, &containerd_part(node), || command::succeeds(ctr(info, node).arg("version")))?;
    let daemons = Daemons::new(&info.state);
    let part = kubelet_part(node);
    if daemons.running(&part).is_none() {
        write_kubelet_files(info, authority, node)?;
        daemons.start(&part, &kubelet_command(info, node))?;
    }
    Ok(())
}

/// Waits until the node's kubelet answers.
pub fn kubelet_answers(info: &ClusterInfo, node: &NodeInfo) -> Result<(), Error> {
    let health = format!("{}:10248", node.address);
    answers(info, &kubelet_part(node), || http_ok(&info.netns, &health, "/healthz"))
}

fn answers(info: &ClusterInfo, part: &str, done: impl FnMut() -> bool) -> Result<(), Error> {
    Ok(Daemons::new(&info.state).wait_until_it_answers(part, PATIENCE, done)?)
}

/// ctr against the node's containerd.
#[must_use]
pub fn ctr(info: &ClusterInfo, node: &NodeInfo) -> Command {
    let mut ctr = Command::new(info.binary("ctr"));
    ctr.arg("--address").arg(&node.containerd_socket).args(["--namespace", "k8s.io"]);
    ctr
}

/// The search path with the cluster's programs first: containerd finds shim and runc there.
#[must_use]
pub fn search_path(info: &ClusterInfo) -> String {
    format!(
        "{}:{}",
        info.binaries.display(),
        env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".into())
    )
}

fn write_containerd_files(info: &ClusterInfo, node: &NodeInfo) -> Result<(), Error> {
    let etc = node.directory.join("etc");
    let registry = &info.registry;
    let pause = format!("{registry}/{PAUSE_IMAGE}");
    // The out-of-memory score cannot be lowered and AppArmor is absent in many development machines. NRI has one socket
    // a machine and nobody here uses it. Every second node pulls as containerd 1 does, which gives up a pull for which
    // nothing comes any more: after a third of a minute instead of five, so that it can be seen.
    let local_pull = node.number.is_multiple_of(2);
    let config = format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.cri.v1.images"]
use_local_image_pull = {local_pull}
image_pull_progress_timeout = "20s"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{pause}"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "/etc/containerd/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    );
    files::write(&etc.join("containerd/config.toml"), config)?;
    let hosts = format!(
        "server = \"http://{registry}\"\n\n[host.\"http://{registry}\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
    );
    files::write(&etc.join("containerd/certs.d").join(registry).join("hosts.toml"), hosts)?;
    let network = format!(
        r#"{{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "pods{number}",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {{
        "type": "host-local",
        "ranges": [[{{ "subnet": "{range}" }}]],
        "routes": [{{ "dst": "0.0.0.0/0" }}]
      }}
    }},
    {{ "type": "portmap", "capabilities": {{ "portMappings": true }} }}
  ]
}}
"#,
        number = node.number,
        range = pod_range(node.number),
    );
    Ok(files::write(&etc.join("cni/net.d/10-pods.conflist"), network)?)
}

fn write_kubelet_files(info: &ClusterInfo, authority: &Authority, node: &NodeInfo) -> Result<(), Error> {
    let serving = authority.server(
        &format!("{}-serving", node.name),
        &format!("/O=system:nodes/CN=system:node:{}", node.name),
        &[format!("IP:{}", node.address), format!("DNS:{}", node.name)],
    )?;
    let user = format!("system:node:{}", node.name);
    let client = authority.client(&node.name, &user, "system:nodes")?;
    let kubelet = node.directory.join("disk/kubelet");
    write_kubeconfig(info, authority, &kubelet.join("kubeconfig"), &user, &client)?;
    // The machine's name server is out of reach from inside.
    files::write(&kubelet.join("resolv.conf"), "")?;
    // Cgroups are v1 or shared on development machines: the kubelet must not claim the tree for itself.
    let config = format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
port: 10250
healthzBindAddress: {address}
healthzPort: 10248
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
tlsCertFile: {certificate}
tlsPrivateKeyFile: {key}
authentication:
  anonymous:
    enabled: false
  webhook:
    enabled: true
  x509:
    clientCAFile: {ca}
authorization:
  mode: Webhook
cgroupDriver: cgroupfs
cgroupsPerQOS: false
enforceNodeAllocatable: [none]
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
resolvConf: /var/lib/kubelet/resolv.conf
",
        address = node.address,
        certificate = serving.certificate.display(),
        key = serving.key.display(),
        ca = authority.certificate().display(),
    );
    files::create_dir(&kubelet_drop_ins(node))?;
    Ok(files::write(&kubelet.join("config.yaml"), config)?)
}

fn kubelet_command(info: &ClusterInfo, node: &NodeInfo) -> Command {
    let mut kubelet = on_node(info, node, info.binary("kubelet"));
    kubelet
        .args(["--config=/var/lib/kubelet/config.yaml", "--kubeconfig=/var/lib/kubelet/kubeconfig"])
        .arg("--config-dir=/var/lib/kubelet/config.d")
        .arg(format!("--hostname-override={}", node.name))
        .arg(format!("--node-ip={}", node.address));
    kubelet
}
