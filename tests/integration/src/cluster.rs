//! The cluster that tests run against: the one that `hack/cluster up` started.
//!
//! `DROP_CLUSTER_STATE` names the state directory of another one. With `DROP_TEST_KUBECONFIG`, tests use that
//! kubeconfig from where they are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use drop_devtools::state::ClusterInfo;
use drop_devtools::{network, settings};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// How to get what is missing.
const HINT: &str = "these tests need the development cluster: run `hack/cluster up`, then the test again";

/// A way to talk to the API server as its administrator.
pub struct Cluster {
    /// Configuration of the administrator; change the credentials in a copy to be someone else.
    pub config: Config,
    /// The administrator.
    pub client: Client,
    /// The cluster as its program describes it; `None` if it is somebody else's.
    pub info: Option<ClusterInfo>,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

/// Runs a test inside the cluster's network, on this thread.
///
/// # Errors
/// What the test returns, or why there is no cluster to run it in.
pub fn test<F>(body: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&Cluster) -> anyhow::Result<()>,
{
    let (kubeconfig, kubectl, info) = locate().context(HINT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let cluster = Cluster::connect(kubeconfig, kubectl, info).await.context(HINT)?;
        body(&cluster).await
    })
}

/// Finds the cluster and moves this thread into its network.
fn locate() -> anyhow::Result<(PathBuf, PathBuf, Option<ClusterInfo>)> {
    if let Some(kubeconfig) = env::var_os("DROP_TEST_KUBECONFIG") {
        return Ok((kubeconfig.into(), "kubectl".into(), None));
    }
    let state = env::var_os("DROP_CLUSTER_STATE")
        .map_or_else(|| settings::default_state(settings::DEFAULT_NAME), PathBuf::from);
    let info = ClusterInfo::load(&state)?;
    network::enter(&info.netns)?;
    let kubectl = info.binary("kubectl");
    Ok((info.kubeconfig.clone(), kubectl, Some(info)))
}

impl Cluster {
    async fn connect(
        kubeconfig: PathBuf,
        kubectl: PathBuf,
        info: Option<ClusterInfo>,
    ) -> anyhow::Result<Self> {
        let file = Kubeconfig::read_from(&kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = Some(Duration::from_secs(30));
        let client = Client::try_from(config.clone())?;
        client.apiserver_version().await.context("the API server does not answer")?;
        Ok(Self { config, client, info, kubeconfig, kubectl })
    }

    /// Runs a shell script in `directory` as a user of kubectl would, and returns what it wrote.
    ///
    /// # Errors
    /// What its first command that failed wrote to standard error.
    pub fn shell(&self, script: &str, directory: &Path) -> anyhow::Result<String> {
        let path = env::var("PATH").unwrap_or_default();
        let path = match self.kubectl.parent().filter(|parent| parent.is_absolute()) {
            Some(directory) => format!("{}:{path}", directory.display()),
            None => path,
        };
        let output = Command::new("sh")
            .args(["-euc", script])
            .env("PATH", path)
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(directory)
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("{script}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs kubectl with `input` on its standard input and returns what it wrote.
    ///
    /// # Errors
    /// What kubectl wrote to standard error, if it failed.
    pub fn kubectl(&self, args: &[&str], input: &str) -> anyhow::Result<String> {
        use std::io::Write as _;
        let mut child = Command::new(&self.kubectl)
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(repository())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.kubectl.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
