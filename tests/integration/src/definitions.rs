//! Drop's CustomResourceDefinitions on the cluster, and creating what they define without keeping it.

use anyhow::{Context as _, anyhow, bail};
use drop_crds::{GROUP, VERSION, manifest};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::conditions::is_crd_established;
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// The four kinds and their plurals.
pub const KINDS: [(&str, &str); 4] = [
    ("CachedImage", "cachedimages"),
    ("CachedImageSet", "cachedimagesets"),
    ("DiscoveryPolicy", "discoverypolicies"),
    ("PullPolicy", "pullpolicies"),
];

/// The generated definitions.
///
/// # Errors
/// If they can't be made or read.
pub fn generated() -> anyhow::Result<Vec<Value>> {
    manifest::files()?.into_iter().map(|(_, yaml)| Ok(serde_saphyr::from_str(&yaml)?)).collect()
}

/// Installs the generated definitions, or brings those that are there up to date.
///
/// # Errors
/// If the API server refuses one or does not serve it within a minute.
pub async fn install(cluster: &Cluster) -> anyhow::Result<()> {
    for definition in generated()? {
        apply(cluster, &definition).await?;
    }
    Ok(())
}

/// Installs one definition and waits until it is served.
///
/// # Errors
/// If the API server refuses it or does not serve it within a minute.
pub async fn apply(cluster: &Cluster, definition: &Value) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let name =
        definition.pointer("/metadata/name").and_then(Value::as_str).ok_or_else(|| anyhow!("no name"))?;
    let params = PatchParams::apply("drop-integration").force();
    api.patch(name, &params, &Patch::Apply(definition))
        .await
        .with_context(|| format!("cannot install {name}"))?;
    let established = await_condition(api, name, is_crd_established());
    tokio::time::timeout(std::time::Duration::from_secs(60), established)
        .await
        .with_context(|| format!("{name} is not served"))??;
    Ok(())
}

/// Objects of one kind of Drop.
///
/// # Errors
/// If Drop has no such kind.
pub fn api(cluster: &Cluster, kind: &str) -> anyhow::Result<Api<DynamicObject>> {
    let Some((_, plural)) = KINDS.iter().find(|(known, _)| *known == kind) else { bail!("no kind {kind}") };
    let kind = GroupVersionKind::gvk(GROUP, VERSION, kind);
    Ok(Api::all_with(cluster.client.clone(), &ApiResource::from_gvk_with_plural(&kind, plural)))
}

/// Has the API server check and default an object, without storing it.
///
/// # Errors
/// The API server's refusal.
pub async fn dry_run(api: &Api<DynamicObject>, kind: &str, spec: Option<&Value>) -> kube::Result<Value> {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": kind,
        "metadata": { "name": "dry-run" },
    });
    if let Some(spec) = spec {
        object["spec"] = spec.clone();
    }
    let object: DynamicObject = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
    let params = PostParams { dry_run: true, ..PostParams::default() };
    Ok(api.create(&params, &object).await?.data)
}
