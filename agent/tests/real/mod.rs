//! A stage on real parts: the tests play the coordinator on a real API server, and a real `drop-agent` process pulls
//! through a real containerd.
//!
//! Needs `DROP_TEST_KUBECONFIG`, `DROP_TEST_CRI_SOCKET` and `DROP_TEST_RESTART_RUNTIME` (a command that restarts that
//! containerd), and has to run where both are reached; `tests/README.md` beside this says how.
#![allow(dead_code, unreachable_pub)] // each test file uses its own part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // all of this is test code

pub mod new_image;
pub mod registry;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use drop_protocol::*;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The tests share one containerd, and one of them restarts it.
static ALONE: Mutex<()> = Mutex::new(());
static STAGES: AtomicU32 = AtomicU32::new(0);
const NODE: &str = "node-1";

/// Type and key of a Secret of logins.
pub const DOCKER_CONFIG: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
/// Of the older form.
pub const OLD_DOCKER_CONFIG: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

pub struct Stage {
    client: kube::Client,
    namespace: String,
    pub leases: Api<Lease>,
    leader: Epoch,
    sequence: u64,
    pub agent: Option<Child>,
    pub port: u16,
    pub cri: drop_cri::Runtime,
    /// Further arguments of agents that are started.
    pub arguments: Vec<String>,
    log: tempfile::NamedTempFile,
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: start `hack/cluster up` and see agent/tests/README.md")
    })
}

/// Runs a test on a stage of its own.
pub fn on_stage<T: Future<Output = ()>>(test: impl FnOnce(Stage) -> T) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { test(Stage::set().await).await });
}

/// Waits until `found` is there.
pub async fn eventually<T>(what: &str, limit: Duration, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(there) = found().await {
            return there;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub const SOON: Duration = Duration::from_secs(30);

async fn client() -> kube::Client {
    let kubeconfig = kube::config::Kubeconfig::read_from(setting("DROP_TEST_KUBECONFIG")).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

impl Stage {
    async fn set() -> Self {
        let client = client().await;
        let number = STAGES.fetch_add(1, Ordering::SeqCst);
        let namespace = format!("agent-test-{}-{number}", std::process::id());
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let object = Namespace { metadata, ..Namespace::default() };
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let leases: Api<Lease> = Api::namespaced(client.clone(), &namespace);
        let leader = leases
            .create(
                &PostParams::default(),
                &Lease {
                    metadata: ObjectMeta {
                        name: Some(names::LEADER_LEASE.to_owned()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(LeaseSpec { lease_transitions: Some(1), ..LeaseSpec::default() }),
                },
            )
            .await
            .unwrap();
        Self {
            leader: Epoch { lease: leader.metadata.uid.unwrap(), transitions: 1 },
            client,
            leases,
            sequence: 0,
            agent: None,
            port: 20000 + u16::try_from(std::process::id() % 20000).unwrap() + u16::try_from(number).unwrap(),
            cri: drop_cri::Runtime::new(&PathBuf::from(setting("DROP_TEST_CRI_SOCKET"))),
            namespace,
            arguments: Vec::new(),
            log: tempfile::NamedTempFile::new().unwrap(),
        }
    }

    /// Creates the node's Lease, as the coordinator does.
    pub async fn create_lease(&self, duration: Duration) {
        let node = Api::<Node>::all(self.client.clone()).get(NODE).await.unwrap();
        let lease = NodeLease::create(&self.namespace, NODE, &node.metadata.uid.unwrap(), duration);
        self.leases.create(&PostParams::default(), &lease).await.unwrap();
    }

    pub async fn publish(&self, catalog: &Catalog) {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(names::CATALOG.to_owned()), ..ObjectMeta::default() },
            data: Some(catalog.encode()),
            ..ConfigMap::default()
        };
        let apply = PatchParams::apply("test").force();
        maps.patch(names::CATALOG, &apply, &Patch::Apply(&map)).await.unwrap();
    }

    pub fn start_agent(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_drop-agent"))
            .args(["--node-name", NODE, "--pod-namespace", &self.namespace, "--pod-uid", "pod-1"])
            .args(["--cri-socket", &setting("DROP_TEST_CRI_SOCKET"), "--min-free-percent", "0"])
            .args(["--listen", &format!("127.0.0.1:{}", self.port), "--log-level", "trace"])
            .args(&self.arguments)
            .env("KUBECONFIG", setting("DROP_TEST_KUBECONFIG"))
            .stdout(self.log.reopen().map(append).unwrap())
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    pub async fn ready_agent(&mut self) {
        self.start_agent();
        eventually("the agent is ready", SOON, async || {
            self.page("/readyz").await.filter(|page| page.starts_with("HTTP/1.1 200"))
        })
        .await;
    }

    /// Creates a Secret of logins for the registry at `host`.
    pub async fn create_secret(&self, name: &str, host: &str, username: &str, password: &str) {
        let logins = serde_json::json!({"auths": {host: {"username": username, "password": password}}});
        self.put_secret(name, DOCKER_CONFIG, &logins.to_string()).await;
    }

    /// Creates or changes a Secret of a type with what stands under a key.
    pub async fn put_secret(&self, name: &str, (kind, key): (&str, &str), content: &str) {
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            type_: Some(kind.to_owned()),
            string_data: Some([(key.to_owned(), content.to_owned())].into()),
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let apply = PatchParams::apply("test").force();
        secrets.patch(name, &apply, &Patch::Apply(&secret)).await.unwrap();
    }

    /// Everything that the agent has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// What the agent serves under `path`.
    pub async fn page(&self, path: &str) -> Option<String> {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await.ok()?;
        Some(page)
    }

    pub async fn lease(&self) -> NodeLease {
        NodeLease::decode(&self.leases.get(NODE).await.unwrap()).unwrap()
    }

    /// Grants `references` to the node.
    pub async fn grant(&mut self, duration: Duration, references: &[&str]) -> Grant {
        let images: Vec<GrantedImage> = references.iter().map(|reference| image(reference)).collect();
        self.grant_images(duration, images).await
    }

    /// Grants `images` to the node.
    pub async fn grant_images(&mut self, duration: Duration, images: Vec<GrantedImage>) -> Grant {
        self.sequence += 1;
        let grant = Grant {
            version: 1,
            id: GrantId::new(&self.leader, self.sequence),
            epoch: self.leader.clone(),
            policy: String::new(),
            issued_at: Timestamp::now(),
            withdrawn: None,
            images,
        };
        let patch = self.lease().await.issue_patch(&grant, duration);
        self.patch(patch).await;
        grant
    }

    pub async fn patch(&self, patch: serde_json::Value) {
        self.leases.patch(NODE, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn ended(&self, grant: &Grant) -> Report {
        eventually("the grant has ended", SOON, async || {
            let report = self.lease().await.report?;
            report.grant.as_ref().is_some_and(|ended| ended.id == grant.id).then_some(report)
        })
        .await
    }

    pub fn signal(&self, signal: Signal) {
        let child = self.agent.as_ref().expect("an agent runs");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    }

    /// Waits until the agent's process has ended; returns whether a signal ended it.
    pub async fn agent_ended(&mut self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        let mut child = self.agent.take().expect("an agent runs");
        let status = eventually("the agent has ended", SOON, async || child.try_wait().unwrap()).await;
        status.signal().is_some()
    }

    /// Removes an image behind the agent's back, as the kubelet's garbage collection does.
    pub async fn remove(&self, reference: &str) {
        remove(&self.cri, reference).await;
    }

    pub fn restart_runtime(&self) {
        let command = setting("DROP_TEST_RESTART_RUNTIME");
        let done = Command::new("sh").args(["-c", &command]).stdout(Stdio::null()).status().unwrap();
        assert!(done.success(), "{command}: {done}");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the agent's log:\n{}", self.log());
        }
        if let Some(mut child) = self.agent.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let namespace = self.namespace.clone();
        // A thread and a client of its own: this thread's runtime, on which the stage's client lives, waits here.
        let cleaned = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let namespaces: Api<Namespace> = Api::all(client().await);
                let _ = namespaces.delete(&namespace, &DeleteParams::default()).await;
            });
        });
        let _ = cleaned.join();
    }
}

/// Removes an image from `runtime`, which Drop's own client never does.
pub async fn remove(runtime: &drop_cri::Runtime, reference: &str) {
    let image = k8s_cri::v1::ImageSpec { image: reference.to_owned(), ..Default::default() };
    k8s_cri::v1::image_service_client::ImageServiceClient::new(connect(runtime.socket()))
        .remove_image(k8s_cri::v1::RemoveImageRequest { image: Some(image) })
        .await
        .unwrap();
}

/// A connection of the test's own to the runtime behind `socket`.
pub fn connect(socket: &Path) -> tonic::transport::Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(hyper_util::rt::TokioIo::new) }
    });
    tonic::transport::Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// Several processes write to one log, one after another.
fn append(file: std::fs::File) -> Stdio {
    use std::io::{Seek as _, SeekFrom};
    let mut file = file;
    file.seek(SeekFrom::End(0)).unwrap();
    Stdio::from(file)
}

/// The granted image of a CachedImage that wants `reference`.
pub fn image(reference: &str) -> GrantedImage {
    GrantedImage {
        name: reference.to_owned(),
        uid: uid(reference),
        reference: reference.to_owned(),
        pull_policy: ImagePullPolicy::IfNotPresent,
        refresh: false,
        secrets: Vec::new(),
    }
}

pub fn uid(reference: &str) -> String {
    format!("uid-{}", reference.replace(['/', ':'], "-"))
}

/// A catalog that wants `references`.
pub fn catalog(generation: u64, references: &[&str]) -> Catalog {
    Catalog {
        generation,
        answer_within: Duration::from_secs(2),
        wanted: references.iter().map(|r| ((*r).to_owned(), [uid(r)].into())).collect(),
    }
}
