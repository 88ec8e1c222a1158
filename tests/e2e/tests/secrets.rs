//! Agents read the Secrets that images name, as soon as one does and no longer than one does.

use std::time::Duration;

use anyhow::Result;
use drop_harness::{Cluster, identity, run};
use drop_protocol::names;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

const SECRET: &str = "secrets-login";

fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), names::DEFAULT_NAMESPACE)
}

/// Names of the Secrets that agents may read.
async fn readable(cluster: &Cluster) -> Result<Vec<String>> {
    let roles = Api::<Role>::namespaced(cluster.client.clone(), names::DEFAULT_NAMESPACE);
    let rules = roles.get(names::PULL_SECRETS_ROLE).await?.rules.unwrap_or_default();
    Ok(rules.into_iter().filter_map(|rule| rule.resource_names).flatten().collect())
}

async fn wait_readable(cluster: &Cluster, wanted: &[&str]) -> Result<()> {
    let limit = Duration::from_secs(30);
    let what = format!("agents may read the Secrets {wanted:?}");
    cluster.wait_until(limit, &what, async || Ok(readable(cluster).await? == wanted)).await
}

async fn create_login(cluster: &Cluster) -> Result<()> {
    let login = json!({ "auths": { cluster.info.registry.clone(): { "username": "u", "password": "p" } } });
    let secret: Secret = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRET },
        "type": "kubernetes.io/dockerconfigjson", "stringData": { ".dockerconfigjson": login.to_string() },
    }))?;
    secrets(cluster).create(&PostParams::default(), &secret).await?;
    Ok(())
}

#[test]
fn a_secret_is_readable_while_an_image_names_it() -> Result<()> {
    run("secrets", async |cluster| {
        // What an earlier run left.
        let _ = secrets(cluster).delete(SECRET, &DeleteParams::default()).await;
        create_login(cluster).await?;
        let wanted = cluster.fresh_images(1, 5).await?;
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        wait_readable(cluster, &[]).await?;
        let names = json!({ "imagePullSecrets": [{ "name": SECRET }] });
        cluster.apply_image_with(&wanted[0], &names).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(60)).await?;
        wait_readable(cluster, &[SECRET]).await?;
        cluster.clean().await?;
        wait_readable(cluster, &[]).await?;
        secrets(cluster).delete(SECRET, &DeleteParams::default()).await?;
        Ok(())
    })
}

#[test]
fn an_agent_reads_no_secret_but_those_that_images_name() -> Result<()> {
    run("discoverysecret", async |cluster| {
        const DISCOVERY: &str = "secrets-discovery";
        for name in [SECRET, DISCOVERY] {
            let _ = secrets(cluster).delete(name, &DeleteParams::default()).await;
        }
        create_login(cluster).await?;
        let discovery: Secret = serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": DISCOVERY },
            "stringData": { "username": "u", "password": "p" },
        }))?;
        secrets(cluster).create(&PostParams::default(), &discovery).await?;
        let wanted = cluster.fresh_images(1, 5).await?;
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        let login = json!({ "imagePullSecrets": [{ "name": SECRET }] });
        cluster.apply_image_with(&wanted[0], &login).await?;
        wait_readable(cluster, &[SECRET]).await?;
        let agent = Api::<Secret>::namespaced(identity::agent(cluster).await?, names::DEFAULT_NAMESPACE);
        let limit = Duration::from_secs(10);
        cluster
            .wait_until(limit, "the agent reads the named Secret", async || {
                Ok(agent.get(SECRET).await.is_ok())
            })
            .await?;
        let forbidden = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
        let read = agent.get(DISCOVERY).await;
        anyhow::ensure!(read.as_ref().is_err_and(forbidden), "the discovery Secret: {read:?}");
        let listed = agent.list(&ListParams::default()).await;
        anyhow::ensure!(listed.as_ref().is_err_and(forbidden), "all Secrets: {listed:?}");
        cluster.clean().await?;
        for name in [SECRET, DISCOVERY] {
            secrets(cluster).delete(name, &DeleteParams::default()).await?;
        }
        Ok(())
    })
}

#[test]
fn a_secret_that_does_not_exist_is_named() -> Result<()> {
    run("nosecret", async |cluster| {
        let image = cluster.fresh_images(1, 5).await?.remove(0);
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        let absent = json!({ "imagePullSecrets": [{ "name": "no-such-secret" }] });
        cluster.apply_image_with(&image, &absent).await?;
        cluster
            .wait_until(Duration::from_secs(60), "the name of the Secret in the condition", async || {
                let status = cluster.status(&image.name).await?;
                Ok(status.conditions.iter().any(|condition| {
                    condition.type_ == "Ready"
                        && condition.status == "False"
                        && condition.reason == "SecretNotFound"
                        && condition.message.contains("no-such-secret")
                }))
            })
            .await?;
        let spec = json!({ "imagePullSecrets": null });
        cluster.edit_spec(&image.name, &spec).await?;
        cluster.wait_ready(std::slice::from_ref(&image), Duration::from_secs(60)).await?;
        cluster.clean().await
    })
}
