//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler: their files, flags and signs of life.
//!
//! The defaults of Kubernetes stay wherever they can, so that what holds here holds in production; each exception says why.

use crate::certs::{self, Authority, Pair};
use crate::daemon::{self, Daemons};
use crate::network::{self, GATEWAY, SERVICE_ADDRESS, SERVICE_RANGE, inside};
use crate::state::ClusterInfo;
use crate::{command, files};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Name of etcd among the parts.
pub const ETCD: &str = "etcd";
/// Name of the API server among the parts.
pub const API_SERVER: &str = "kube-apiserver";
/// Name of the controller manager among the parts.
pub const CONTROLLER_MANAGER: &str = "kube-controller-manager";
/// Name of the scheduler among the parts.
pub const SCHEDULER: &str = "kube-scheduler";

/// Everything at metadata level, each request once: enough to count requests by user, verb and object.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

const START_PATIENCE: Duration = Duration::from_secs(120);

/// The control plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate could not be made.
    #[error(transparent)]
    Certs(#[from] certs::Error),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A process could not be started.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
}

/// Starts what does not run and waits until the API server is ready.
pub fn ensure(info: &ClusterInfo, authority: &Authority) -> Result<(), Error> {
    let daemons = Daemons::new(&info.state);
    if daemons.running(ETCD).is_none() {
        daemons.start(ETCD, &etcd(info))?;
    }
    answers(info, ETCD, || network::http_ok(&info.netns, "127.0.0.1:2379", "/health"))?;
    if daemons.running(API_SERVER).is_none() {
        let command = api_server(info, authority)?;
        daemons.start(API_SERVER, &command)?;
    }
    answers(info, API_SERVER, || command::succeeds(kubectl(info).args(["get", "--raw=/readyz"])))?;
    if info.without.controllers {
        return Ok(());
    }
    if daemons.running(CONTROLLER_MANAGER).is_none() {
        let command = controller_manager(info, authority)?;
        daemons.start(CONTROLLER_MANAGER, &command)?;
    }
    if !info.control_plane_only && daemons.running(SCHEDULER).is_none() {
        let command = scheduler(info, authority)?;
        daemons.start(SCHEDULER, &command)?;
    }
    // Pods can be made once their namespace has its account.
    answers(info, CONTROLLER_MANAGER, || {
        command::succeeds(kubectl(info).args(["get", "serviceaccount", "default", "--namespace=default"]))
    })
}

/// kubectl as the administrator, inside the cluster's network.
#[must_use]
pub fn kubectl(info: &ClusterInfo) -> Command {
    let mut kubectl = inside(&info.netns, info.binary("kubectl"));
    kubectl.env("KUBECONFIG", &info.kubeconfig);
    kubectl
}

/// Writes a kubeconfig that authenticates by certificate.
pub fn write_kubeconfig(
    info: &ClusterInfo,
    authority: &Authority,
    path: &Path,
    user: &str,
    pair: &Pair,
) -> Result<(), Error> {
    let credentials =
        format!("client-certificate: {}\n    client-key: {}", pair.certificate.display(), pair.key.display());
    Ok(files::write_with_mode(path, kubeconfig(info, authority, user, &credentials), 0o600)?)
}

fn kubeconfig(info: &ClusterInfo, authority: &Authority, user: &str, credentials: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority: {ca}
users:
- name: {user}
  user:
    {credentials}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {user}
current-context: {name}
",
        name = info.netns.file_name().unwrap_or_default().to_string_lossy(),
        server = info.api_server,
        ca = authority.certificate().display(),
    )
}

fn etcd(info: &ClusterInfo) -> Command {
    let mut etcd = inside(&info.netns, info.binary(ETCD));
    etcd.arg("--data-dir").arg(info.state.join("etcd"));
    etcd.args([
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
        // The data is thrown away with the cluster: a power cut may have it.
        "--unsafe-no-fsync",
    ]);
    etcd.env("GOMEMLIMIT", "2GiB");
    etcd
}

fn api_server(info: &ClusterInfo, authority: &Authority) -> Result<Command, Error> {
    let names = [
        format!("IP:{GATEWAY}"),
        format!("IP:{SERVICE_ADDRESS}"),
        "IP:127.0.0.1".to_owned(),
        "DNS:kubernetes".to_owned(),
        "DNS:kubernetes.default".to_owned(),
        "DNS:kubernetes.default.svc".to_owned(),
        "DNS:kubernetes.default.svc.cluster.local".to_owned(),
        "DNS:localhost".to_owned(),
    ];
    let serving = authority.server("kube-apiserver", "/CN=kube-apiserver", &names)?;
    let to_kubelets =
        authority.client("kube-apiserver-kubelet-client", "kube-apiserver", "system:masters")?;
    let accounts = authority.signing_key("service-accounts")?;
    let tokens = admin_token(info, authority)?;

    let mut server = inside(&info.netns, info.binary(API_SERVER));
    server.args([
        "--etcd-servers=http://127.0.0.1:2379",
        &format!("--advertise-address={GATEWAY}"),
        &format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--secure-port=6443",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
    ]);
    let files = [
        ("--tls-cert-file", &serving.certificate),
        ("--tls-private-key-file", &serving.key),
        ("--client-ca-file", &authority.certificate()),
        ("--token-auth-file", &tokens),
        ("--service-account-key-file", &accounts.certificate),
        ("--service-account-signing-key-file", &accounts.key),
        ("--kubelet-client-certificate", &to_kubelets.certificate),
        ("--kubelet-client-key", &to_kubelets.key),
        ("--kubelet-certificate-authority", &authority.certificate()),
    ];
    for (flag, path) in files {
        server.arg(format!("{flag}={}", path.display()));
    }
    if !info.without.audit {
        let audit_policy = info.state.join("audit/policy.yaml");
        files::write(&audit_policy, AUDIT_POLICY)?;
        server.arg(format!("--audit-policy-file={}", audit_policy.display()));
        server.arg(format!("--audit-log-path={}", info.audit_log.display()));
        // Never rotated: counts cover the life of the cluster. Blocking: a request is in the log when it is answered.
        server.args(["--audit-log-maxsize=1000000", "--audit-log-mode=blocking"]);
    }
    server.env("GOMEMLIMIT", "4GiB");
    Ok(server)
}

/// Writes the administrator's token and kubeconfig; the token is made once.
fn admin_token(info: &ClusterInfo, authority: &Authority) -> Result<PathBuf, Error> {
    let path = info.pki().join("tokens.csv");
    if !path.exists() || !info.kubeconfig.exists() {
        let token = certs::random_hex()?;
        let credentials = format!("token: {token}");
        files::write_with_mode(&info.kubeconfig, kubeconfig(info, authority, "admin", &credentials), 0o600)?;
        files::write_with_mode(&path, format!("{token},admin,admin,\"system:masters\"\n"), 0o600)?;
    }
    Ok(path)
}

fn controller_manager(info: &ClusterInfo, authority: &Authority) -> Result<Command, Error> {
    let kubeconfig = component_kubeconfig(info, authority, CONTROLLER_MANAGER)?;
    let accounts = authority.signing_key("service-accounts")?;
    let mut manager = inside(&info.netns, info.binary(CONTROLLER_MANAGER));
    manager
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--service-account-private-key-file={}", accounts.key.display()))
        .arg(format!("--root-ca-file={}", authority.certificate().display()))
        .args(["--use-service-account-credentials=true", "--bind-address=127.0.0.1"])
        // There is only one: an election would fill the audit log.
        .arg("--leader-elect=false");
    if info.without.most_controllers {
        // Pods can't be made without the account of their namespace.
        manager.arg("--controllers=garbage-collector-controller,serviceaccount-controller");
    }
    Ok(manager)
}

fn scheduler(info: &ClusterInfo, authority: &Authority) -> Result<Command, Error> {
    let kubeconfig = component_kubeconfig(info, authority, SCHEDULER)?;
    let mut scheduler = inside(&info.netns, info.binary(SCHEDULER));
    scheduler
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .args(["--bind-address=127.0.0.1", "--leader-elect=false"]);
    Ok(scheduler)
}

fn component_kubeconfig(info: &ClusterInfo, authority: &Authority, part: &str) -> Result<PathBuf, Error> {
    let user = format!("system:{part}");
    let pair = authority.client(part, &user, &user)?;
    let path = info.pki().join(format!("{part}.kubeconfig"));
    write_kubeconfig(info, authority, &path, &user, &pair)?;
    Ok(path)
}

fn answers(info: &ClusterInfo, part: &'static str, done: impl FnMut() -> bool) -> Result<(), Error> {
    Ok(Daemons::new(&info.state).wait_until_it_answers(part, START_PATIENCE, done)?)
}
