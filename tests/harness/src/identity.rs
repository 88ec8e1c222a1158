//! The API server as one of Drop's agents sees it.

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ListParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::Cluster;

/// The agents' service account, and the value of their Pods' label `app.kubernetes.io/name`.
const AGENT: &str = "drop-agent";

/// A client with a token as the Pod of an installed agent has it.
///
/// # Errors
/// If no agent is installed, or the API server hands out no token.
pub async fn agent(cluster: &Cluster) -> Result<Client> {
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/name={AGENT}"));
    let pod = cluster.pods().list(&labelled).await?.items.pop().context("no agent is installed")?;
    let bound = BoundObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name,
        uid: pod.metadata.uid,
    };
    let spec = TokenRequestSpec { bound_object_ref: Some(bound), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let namespace = drop_protocol::names::DEFAULT_NAMESPACE;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), namespace);
    let answer = accounts.create_token_request(AGENT, &PostParams::default(), &request).await?;
    let token = answer.status.context("no token")?.token;
    let kubeconfig = Kubeconfig::read_from(&cluster.info.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
    Ok(Client::try_from(config)?)
}
