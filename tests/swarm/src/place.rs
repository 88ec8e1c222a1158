//! Where a swarm lives: etcd and an API server of its own, with Drop's definitions, rights and flow control from
//! `deploy/`, and nothing else.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use drop_devtools::cluster::{self, Wanted};
use drop_devtools::control_plane::{API_SERVER, kubectl};
use drop_devtools::daemon::Daemons;
use drop_devtools::settings::Settings;
use drop_devtools::state::{ClusterInfo, Without};
use drop_devtools::{network, teardown};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

/// The namespace of `deploy/`.
pub(crate) const NAMESPACE: &str = drop_protocol::names::DEFAULT_NAMESPACE;

/// Which control plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind<'n> {
    /// Name of its cluster.
    pub(crate) name: &'n str,
    /// With an audit log.
    pub(crate) audit: bool,
    /// With the garbage collector of a controller manager.
    pub(crate) garbage_collector: bool,
}

/// A running control plane. Goes down when dropped.
pub(crate) struct Place {
    settings: Settings,
    /// Its files and addresses.
    pub(crate) info: ClusterInfo,
    /// How to reach it as nobody in particular.
    pub(crate) config: Config,
    /// The administrator.
    pub(crate) client: Client,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = teardown::down(&self.settings) {
            eprintln!("{error}; `hack/cluster --name {} down` tries again", self.settings.name);
        }
    }
}

/// Starts a new control plane and moves this thread into its network.
pub(crate) fn up(kind: Kind<'_>) -> Result<(Settings, ClusterInfo)> {
    // Two watches and some requests an agent, each with a connection of its own, at both ends.
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard), hard).context("raising the number of open files")?;
    let settings = Settings::new(kind.name, None)?;
    teardown::down(&settings)?;
    let without =
        Without { controllers: !kind.garbage_collector, most_controllers: true, audit: !kind.audit };
    let info = cluster::up(&settings, Wanted { nodes: 1, control_plane_only: true, without })?;
    network::enter(&info.netns)?;
    Ok((settings, info))
}

impl Place {
    /// Installs what Drop needs.
    pub(crate) async fn install(settings: Settings, info: ClusterInfo) -> Result<Self> {
        let file = Kubeconfig::read_from(&info.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config.clone())?;
        let place = Self { settings, info, config, client };
        let rendered = place.kubectl(&["kustomize", "deploy/"], "")?;
        let mut objects = Vec::new();
        for document in rendered.split("\n---\n") {
            let kind = document.lines().find_map(|line| line.strip_prefix("kind: ")).unwrap_or_default();
            if !matches!(kind, "Deployment" | "DaemonSet" | "PodDisruptionBudget") {
                objects.push(document);
            }
        }
        place.kubectl(&["apply", "--server-side", "-f", "-"], &objects.join("\n---\n"))?;
        place.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"], "")?;
        Ok(place)
    }

    /// Process id of the API server.
    pub(crate) fn api_server(&self) -> Result<i32> {
        let running = Daemons::new(&self.info.state).running(API_SERVER);
        Ok(running.context("the API server has ended")?.pid)
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = kubectl(&self.info);
        command.args(arguments).current_dir(repository());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (mut stdin, bytes) = (child.stdin.take().context("no input")?, input.as_bytes().to_vec());
        let writing = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output()?;
        ensure!(writing.join().is_ok(), "kubectl reads nothing");
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A token of the service account `account`, as the kubelet gets it for the Pod of this name and uid.
    pub(crate) async fn token(&self, account: &str, pod: Option<(&str, &str)>) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        let bound_object_ref = pod.map(|(name, uid)| BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
        });
        let spec = TokenRequestSpec {
            bound_object_ref,
            expiration_seconds: Some(6 * 3600),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        Ok(answer.status.context("no token")?.token)
    }

    /// Writes a kubeconfig that authenticates with `token`.
    pub(crate) fn write_kubeconfig(&self, name: &str, token: &str) -> Result<PathBuf> {
        let text = std::fs::read_to_string(&self.info.kubeconfig)?;
        let mut config: Kubeconfig = Kubeconfig::from_yaml(&text)?;
        for user in &mut config.auth_infos {
            user.auth_info = Some(kube::config::AuthInfo {
                token: Some(token.to_owned().into()),
                ..kube::config::AuthInfo::default()
            });
        }
        let path = self.info.state.join(format!("{name}.kubeconfig"));
        let mut shown = serde_json::to_value(&config)?;
        // The client shows no token to anybody, a file included.
        for user in shown["users"].as_array_mut().into_iter().flatten() {
            user["user"]["token"] = Value::from(token);
        }
        std::fs::write(&path, shown.to_string())?;
        Ok(path)
    }
}

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
