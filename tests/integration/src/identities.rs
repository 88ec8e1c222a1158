//! Drop's programs as the API server sees them: the service accounts, rights and admission policy of `deploy/`, in a
//! namespace of the test's own beside whatever is installed, and tokens as Pods have them.

use std::cell::RefCell;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod, PodSpec, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::AuthInfo;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::{cleanup, manifests};

/// The agents' service account.
pub const AGENT: &str = "drop-agent";
/// The coordinators' service account.
pub const COORDINATOR: &str = "drop-coordinator";

/// What of `deploy/` says who may do what, installed in a namespace of its own.
pub struct Identities<'a> {
    cluster: &'a Cluster,
    /// The namespace.
    pub namespace: String,
    installed: RefCell<Vec<(Api<DynamicObject>, String)>>,
}

/// Runs `body` with the rights of Drop's programs installed in a namespace called `name` and a number, and removes them in any
/// case.
///
/// # Errors
/// What `body` returns, or why the rights can't be installed.
pub async fn with_identities<F>(cluster: &Cluster, name: &str, body: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&Identities<'_>) -> anyhow::Result<()>,
{
    let namespace = format!("{name}-{}", std::process::id());
    let identities = Identities { cluster, namespace, installed: RefCell::new(Vec::new()) };
    let use_them = async {
        identities.install().await?;
        body(&identities).await
    };
    cleanup::always(use_them, async || identities.remove().await).await
}

impl Identities<'_> {
    async fn install(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let metadata = ObjectMeta { name: Some(self.namespace.clone()), ..ObjectMeta::default() };
        namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;

        let rendered = self.cluster.kubectl(&["kustomize", "deploy/without-crds"], "")?;
        for mut object in manifests::parse(&rendered)? {
            if !says_who_may_do_what(&object) {
                continue;
            }
            self.adopt(&mut object);
            let object: DynamicObject = serde_json::from_value(object)?;
            let api = self.api(&object)?;
            let name = object.name_any();
            let params = PatchParams::apply("drop-integration").force();
            api.patch(&name, &params, &Patch::Apply(&object))
                .await
                .with_context(|| format!("cannot apply {name}"))?;
            self.installed.borrow_mut().push((api, name));
        }
        Ok(())
    }

    /// Moves an object of `deploy/` into the test's namespace; one that has none gets a name of its own.
    fn adopt(&self, object: &mut Value) {
        let namespace = json!(self.namespace);
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            subject["namespace"] = namespace.clone();
        }
        if object["metadata"]["namespace"].is_string() {
            object["metadata"]["namespace"] = namespace;
            return;
        }
        for name in ["/metadata/name", "/spec/policyName", "/roleRef/name"] {
            if let Some(name) = object.pointer_mut(name) {
                *name = json!(format!("{}-{}", self.namespace, name.as_str().unwrap_or_default()));
            }
        }
    }

    fn api(&self, object: &DynamicObject) -> anyhow::Result<Api<DynamicObject>> {
        let types = object.types.clone().ok_or_else(|| anyhow!("no kind"))?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        Ok(match object.namespace() {
            Some(namespace) => Api::namespaced_with(self.cluster.client.clone(), &namespace, &resource),
            None => Api::all_with(self.cluster.client.clone(), &resource),
        })
    }

    /// A client with the token that an agent's Pod on `node` has.
    ///
    /// # Errors
    /// If the API server hands out no token.
    pub async fn agent_on(&self, node: &str) -> anyhow::Result<Client> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let pod = Pod {
            metadata: ObjectMeta { name: Some(format!("agent-on-{node}")), ..ObjectMeta::default() },
            spec: Some(PodSpec {
                node_name: Some(node.to_owned()),
                service_account_name: Some(AGENT.to_owned()),
                containers: vec![Container {
                    name: "agent".to_owned(),
                    image: Some("not-pulled.example.com/agent".to_owned()),
                    ..Container::default()
                }],
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        let pod = pods.create(&PostParams::default(), &pod).await?;
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: pod.metadata.name,
            uid: pod.metadata.uid,
        };
        self.token(AGENT, Some(bound)).await
    }

    /// A client with a token of a service account that no Pod stands behind.
    ///
    /// # Errors
    /// If the API server hands out no token.
    pub async fn unbound(&self, account: &str) -> anyhow::Result<Client> {
        self.token(account, None).await
    }

    /// How to be a service account that no Pod stands behind.
    ///
    /// # Errors
    /// If the API server hands out no token.
    pub async fn config(&self, account: &str) -> anyhow::Result<Config> {
        self.token_config(account, None).await
    }

    async fn token(&self, account: &str, bound: Option<BoundObjectReference>) -> anyhow::Result<Client> {
        Ok(Client::try_from(self.token_config(account, bound).await?)?)
    }

    async fn token_config(
        &self,
        account: &str,
        bound: Option<BoundObjectReference>,
    ) -> anyhow::Result<Config> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let spec = TokenRequestSpec { bound_object_ref: bound, ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        let token = answer.status.ok_or_else(|| anyhow!("no token"))?.token;
        let mut config = self.cluster.config.clone();
        config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        Ok(config)
    }

    async fn remove(&self) -> anyhow::Result<()> {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        // A Pod on a node that has no kubelet goes only if it is told to go at once.
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        for pod in pods.list(&kube::api::ListParams::default()).await? {
            pods.delete(&pod.name_any(), &now).await?;
        }
        for (api, name) in self.installed.take() {
            api.delete(&name, &DeleteParams::default()).await?;
        }
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }
}

fn says_who_may_do_what(object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    kind == "ServiceAccount" || kind.contains("Role") || kind.starts_with("ValidatingAdmissionPolicy")
}
