//! A stage for the coordinator's process: a namespace of its own on a real API server, which `DROP_TEST_KUBECONFIG`
//! leads to, and which has to be reached from where the tests run.
#![allow(unreachable_pub)] // a module of tests
#![allow(dead_code)] // each test file uses its own part

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Every coordinator sees all DiscoveryPolicies: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A status is there by then, unless something is wrong.
const SOON: Duration = Duration::from_secs(60);

pub struct Stage {
    pub client: kube::Client,
    pub namespace: String,
    state: tempfile::TempDir,
    coordinator: Option<Child>,
    listen: Option<std::net::SocketAddr>,
    applied: Vec<String>,
}

fn kubeconfig() -> String {
    std::env::var("DROP_TEST_KUBECONFIG")
        .expect("DROP_TEST_KUBECONFIG is not set: see coordinator/discovery/README.md")
}

/// Runs a test on a stage of its own.
pub fn on_stage(test: impl AsyncFnOnce(&mut Stage)) {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut stage = Stage::set().await;
        let outcome = AssertUnwindSafe(test(&mut stage)).catch_unwind().await;
        stage.clear().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    });
}

/// Waits until `found` is there.
pub async fn within<T>(limit: Duration, what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(there) = found().await {
            return there;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until `found` is there.
pub async fn eventually<T>(what: &str, found: impl AsyncFnMut() -> Option<T>) -> T {
    within(SOON, what, found).await
}

/// A condition as `status reason: message`.
pub fn condition(status: &Value, kind: &str) -> String {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .map(|c| {
            let text = |field: &str| c[field].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", text("status"), text("reason"), text("message"))
        })
        .unwrap_or_default()
}

impl Stage {
    async fn set() -> Self {
        let file = kube::config::Kubeconfig::read_from(kubeconfig()).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        let client = kube::Client::try_from(config).unwrap();
        install_definitions(&client).await;
        let namespace = format!("discovery-{}-{:x}", std::process::id(), fastrand::u32(..));
        let metadata = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
        let object = Namespace { metadata, ..Namespace::default() };
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let state = tempfile::tempdir().unwrap();
        Self { client, namespace, state, coordinator: None, listen: None, applied: Vec::new() }
    }

    /// All CachedImages. Those with the label `stage=<namespace>` go with the stage, and so do Nodes.
    pub fn images(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(drop_crds::GROUP, drop_crds::VERSION, "CachedImage");
        Api::all_with(self.client.clone(), &ApiResource::from_gvk(&kind))
    }

    pub fn directory(&self) -> PathBuf {
        self.state.path().to_owned()
    }

    pub fn start_coordinator(&mut self) {
        self.start_coordinator_with(&[]);
    }

    pub fn start_coordinator_with(&mut self, flags: &[&str]) {
        let listen = drop_devtools::sources::free_address().unwrap();
        self.listen = Some(listen);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.state.path().join("log"))
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_drop-coordinator"))
            .args(["--pod-namespace", &self.namespace, "--listen", &listen.to_string()])
            .args(["--log-level", "info,drop_coordinator=debug,drop_discovery=trace,reqwest=trace"])
            .args(flags)
            .env("KUBECONFIG", kubeconfig())
            .stderr(log)
            .spawn()
            .unwrap();
        self.coordinator = Some(child);
    }

    pub async fn restart_coordinator(&mut self) {
        let mut child = self.coordinator.take().unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.id().try_into().unwrap()),
            nix::sys::signal::SIGTERM,
        )
        .unwrap();
        eventually("the coordinator ends", async || child.try_wait().unwrap()).await;
        self.start_coordinator();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.state.path().join("log")).unwrap()
    }

    pub async fn metrics(&self) -> String {
        let answer = async || {
            let mut stream = tokio::net::TcpStream::connect(self.listen?).await.ok()?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.ok()?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await.ok()?;
            Some(text)
        };
        eventually("the metrics are served", answer).await
    }

    fn policies(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(drop_crds::GROUP, drop_crds::VERSION, "DiscoveryPolicy");
        Api::all_with(self.client.clone(), &ApiResource::from_gvk_with_plural(&kind, "discoverypolicies"))
    }

    /// Applies a DiscoveryPolicy and returns its name, which no other test uses.
    pub async fn apply(&mut self, name: &str, spec: &Value) -> String {
        let name = format!("{}-{name}", self.namespace);
        let object = json!({
            "apiVersion": format!("{}/{}", drop_crds::GROUP, drop_crds::VERSION),
            "kind": "DiscoveryPolicy",
            "metadata": { "name": name },
            "spec": spec,
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.policies()
            .patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&object))
            .await
            .unwrap();
        self.applied.push(name.clone());
        name
    }

    pub async fn delete(&self, name: &str) {
        self.policies().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// The status, once it is about the newest spec and `is` as wanted.
    pub async fn status(&self, name: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = async || {
            let object = self.policies().get(name).await.unwrap();
            last = object.data["status"].clone();
            let observed = last["conditions"].as_array()?.first()?["observedGeneration"].as_i64();
            (observed == object.metadata.generation && is(&last)).then(|| last.clone())
        };
        let started = Instant::now();
        let mut found = found;
        loop {
            if let Some(status) = found().await {
                return status;
            }
            assert!(started.elapsed() < SOON, "the status of {name} is not as wanted; log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn clear(&mut self) {
        for name in std::mem::take(&mut self.applied) {
            // The test may have deleted it.
            let _ = self.policies().delete(&name, &DeleteParams::default()).await;
        }
        // A Node without a kubelet would be in the way of whoever uses the cluster next.
        let made_here = ListParams::default().labels(&format!("stage={}", self.namespace));
        let nodes: Api<Node> = Api::all(self.client.clone());
        self.images().delete_collection(&DeleteParams::default(), &made_here).await.unwrap();
        nodes.delete_collection(&DeleteParams::default(), &made_here).await.unwrap();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
    }

    pub async fn secret(&self, name: &str, data: &[(&str, &str)]) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let data: serde_json::Map<String, Value> =
            data.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data
        });
        secrets.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(&secret)).await.unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut child) = self.coordinator.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

async fn install_definitions(client: &kube::Client) {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    for (_, yaml) in drop_crds::manifest::files().unwrap() {
        let definition: DynamicObject = serde_saphyr::from_str(&yaml).unwrap();
        let name = definition.metadata.name.clone().unwrap();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&definition)).await.unwrap();
        eventually("the definition is served", async || {
            let stored = api.get(&name).await.unwrap();
            let conditions = stored.data["status"]["conditions"].as_array()?.clone();
            conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True").then_some(())
        })
        .await;
    }
}
