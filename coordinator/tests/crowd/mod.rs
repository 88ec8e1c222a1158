//! Nodes that a test speaks for: a Node, its agent's Pod, and what the agent would report.
#![allow(dead_code)] // each test file uses its own part

use std::sync::Arc;

use drop_protocol::{NodeLease, Report, ReportEntry, names};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::stage::{Stage, eventually};

/// The nodes of one test, and the CachedImage that they are the targets of.
pub(crate) struct Crowd {
    /// Namespace of the stage.
    namespace: String,
    pub(crate) nodes: Vec<String>,
    image: String,
    all_nodes: Api<Node>,
    pub(crate) leases: Api<Lease>,
    pub(crate) catalogs: Api<ConfigMap>,
    images: Api<DynamicObject>,
}

impl Crowd {
    /// `count` nodes with ready agents, each with its Lease. They go with the stage.
    pub(crate) async fn join(stage: &Stage, count: usize) -> Self {
        let (client, namespace) = (&stage.client, &stage.namespace);
        let crowd = Self {
            nodes: (1..=count).map(|n| format!("{namespace}-node-{n}")).collect(),
            image: format!("{namespace}-image"),
            all_nodes: Api::all(client.clone()),
            leases: Api::namespaced(client.clone(), namespace),
            catalogs: Api::namespaced(client.clone(), namespace),
            images: stage.images(),
            namespace: namespace.clone(),
        };
        let pods = Api::namespaced(client.clone(), namespace);
        for node in &crowd.nodes {
            crowd.join_one(node, &pods).await;
        }
        for node in &crowd.nodes {
            eventually("the node has a Lease", async || crowd.leases.get_opt(node).await.unwrap()).await;
        }
        crowd
    }

    async fn join_one(&self, name: &str, pods: &Api<Pod>) {
        let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "labels": {
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "stage": self.namespace,
        } } });
        self.all_nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let ready = Patch::Merge(
            json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } }),
        );
        self.all_nodes.patch_status(name, &PatchParams::default(), &ready).await.unwrap();
        let agent = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "labels": { "app.kubernetes.io/name": names::AGENT_APP } },
            "spec": {
                "nodeName": name, "automountServiceAccountToken": false, "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "agent", "image": "none" }],
            },
        });
        let agent: Pod = serde_json::from_value(agent).unwrap();
        // The namespace is new: its ServiceAccount comes with some delay.
        eventually("the agent's Pod", async || pods.create(&PostParams::default(), &agent).await.ok()).await;
        pods.patch_status(name, &PatchParams::default(), &ready).await.unwrap();
    }

    /// Uid of a node.
    pub(crate) async fn uid(&self, node: &str) -> String {
        self.all_nodes.get(node).await.unwrap().metadata.uid.unwrap()
    }

    /// Creates the CachedImage: `image`, with further fields of its spec, on these nodes.
    pub(crate) async fn want(&self, image: &str, fields: &Value) {
        let mut spec = json!({ "image": image, "nodeSelector": { "stage": self.namespace } });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let object = json!({
            "apiVersion": format!("{}/{}", drop_crds::GROUP, drop_crds::VERSION), "kind": "CachedImage",
            "metadata": { "name": self.image, "labels": { "stage": self.namespace } }, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        self.images.create(&PostParams::default(), &object).await.unwrap();
    }

    /// Creates a CachedImage of `image` that nodes are to hold already, with further fields of its spec; has all of
    /// them tell that they hold `digest`, as agents do that have not pulled it.
    pub(crate) async fn hold(&self, image: &str, digest: &str, fields: &Value) {
        let mut never = json!({ "tag": "1", "imagePullPolicy": "Never" });
        never.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.want(image, &never).await;
        let line = format!("{image}:1");
        eventually("the catalog lists it", async || {
            let catalog = self.catalogs.get_opt(names::CATALOG).await.unwrap()?;
            serde_json::to_string(&catalog.data).unwrap().contains(&line).then_some(())
        })
        .await;
        self.all_hold(&line, digest).await;
        let ready = format!("{0}/{0}", self.nodes.len());
        eventually("all hold it", async || (self.status().await["ready"] == ready).then_some(())).await;
    }

    /// From now on it has to be confirmed. However slow this machine is, no node's silence can be taken for absence.
    pub(crate) async fn confirm(&self) {
        let always = Patch::Merge(json!({ "spec": { "imagePullPolicy": "Always" } }));
        self.images.patch(&self.image, &PatchParams::default(), &always).await.unwrap();
    }

    async fn all_hold(&self, reference: &str, digest: &str) {
        let uid: Arc<str> = self.images.get(&self.image).await.unwrap().metadata.uid.unwrap().into();
        for node in &self.nodes {
            let lease = NodeLease::decode(&self.leases.get(node).await.unwrap()).unwrap();
            let mut report = Report::empty(node);
            let entry = ReportEntry {
                reference: reference.into(),
                digest: Some(digest.into()),
                ..ReportEntry::default()
            };
            report.images.insert(Arc::clone(&uid), entry);
            let patch = Patch::Merge(lease.report_patch(&report));
            self.leases.patch(node, &PatchParams::default(), &patch).await.unwrap();
        }
    }

    /// The status of the CachedImage.
    pub(crate) async fn status(&self) -> Value {
        self.images.get(&self.image).await.unwrap().data["status"].clone()
    }

    /// How many nodes have a grant.
    pub(crate) async fn granted(&self) -> usize {
        let mut granted = 0;
        for node in &self.nodes {
            let annotations = self.leases.get(node).await.unwrap().metadata.annotations;
            granted += usize::from(annotations.is_some_and(|a| a.contains_key(names::GRANT_ANNOTATION)));
        }
        granted
    }
}
