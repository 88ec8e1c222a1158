//! Drop's own objects deleted and edited by an administrator's hand.

use anyhow::{Context as _, Result};
use drop_protocol::names;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::stage::Stage;

/// The Lease of a node that pulls is deleted; the coordinator makes another.
pub(crate) async fn lease_deleted(stage: &Stage<'_>) -> Result<()> {
    let node = stage.puller()?;
    let leases = stage.cluster.leases();
    let before = uid(&leases.get(&node).await?)?;
    stage.pace(std::time::Duration::from_secs(4));
    leases.delete(&node, &DeleteParams::default()).await?;
    stage.wait("another Lease", async || Ok(uid(&leases.get(&node).await?)? != before)).await
}

/// Grant and report of a node that pulls are overwritten with what is neither.
pub(crate) async fn lease_edited(stage: &Stage<'_>) -> Result<()> {
    let node = stage.puller()?;
    let leases = stage.cluster.leases();
    let nonsense = json!({ "metadata": { "annotations": {
        names::GRANT_ANNOTATION: "whatever",
        names::REPORT_ANNOTATION: "{\"version\": 1, \"images\": 7}",
    } } });
    leases.patch(&node, &PatchParams::default(), &Patch::Merge(nonsense)).await?;
    Ok(())
}

/// The catalog is deleted; what takes its place is emptied.
pub(crate) async fn catalog(stage: &Stage<'_>) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(stage.cluster.client.clone(), names::DEFAULT_NAMESPACE);
    maps.delete(names::CATALOG, &DeleteParams::default()).await?;
    stage.wait("another catalog", async || Ok(maps.get_opt(names::CATALOG).await?.is_some())).await?;
    let emptied = json!({ "data": null });
    maps.patch(names::CATALOG, &PatchParams::default(), &Patch::Merge(emptied)).await?;
    stage
        .wait("the catalog names images again", async || {
            Ok(maps.get(names::CATALOG).await?.data.is_some_and(|data| !data.is_empty()))
        })
        .await
}

fn uid(lease: &Lease) -> Result<String> {
    lease.metadata.uid.clone().context("an object without uid")
}
