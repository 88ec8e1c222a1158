//! A tag is asked for once, on behalf of all nodes that hold the image.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use drop_devtools::command;
use drop_devtools::control_plane::kubectl;
use drop_devtools::demo::install::{self, NAMESPACE};
use drop_devtools::registry::REGISTRY;
use drop_harness::{Cluster, Wanted, run};
use drop_protocol::names;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

/// The flag by which the coordinator speaks to the cluster's registry, as its environment variable.
const PLAIN_HTTP: &str = "DROP_PLAIN_HTTP_REGISTRIES";

fn set_environment(cluster: &Cluster, setting: &str) -> Result<()> {
    let mut set = kubectl(&cluster.info);
    set.args(["--namespace", NAMESPACE, "set", "env", "deployment/drop-coordinator", setting]);
    command::run(&mut set)?;
    Ok(install::wait_ready(&cluster.info)?)
}

/// Requests for manifests of `image` in the registry's access log from byte `from` on.
fn manifest_requests(cluster: &Cluster, image: &Wanted, from: usize) -> Result<Vec<String>> {
    let log = std::fs::read_to_string(cluster.info.log(REGISTRY)).context("the registry's log")?;
    let repository = image.image.split_once('/').map_or("", |(_, repository)| repository);
    let path = format!("/v2/{repository}/manifests/");
    // The lines of the access log itself quote the request.
    let asks =
        |line: &&str| line.contains(&format!("\"HEAD {path}")) || line.contains(&format!("\"GET {path}"));
    Ok(log[from..].lines().filter(asks).map(str::to_owned).collect())
}

/// The grant in each node Lease.
async fn grants(cluster: &Cluster) -> Result<BTreeMap<String, Option<String>>> {
    let leases = cluster.leases().list(&ListParams::default()).await?;
    let grant = |lease: k8s_openapi::api::coordination::v1::Lease| {
        let annotations = lease.metadata.annotations.unwrap_or_default();
        (lease.metadata.name.unwrap_or_default(), annotations.get(names::GRANT_ANNOTATION).cloned())
    };
    Ok(leases.items.into_iter().map(grant).collect())
}

/// Wants `image`, which all nodes hold already, confirmed; waits until it is. No node may be granted it.
async fn confirm(cluster: &Cluster, image: &Wanted) -> Result<()> {
    cluster.images().delete(&image.name, &DeleteParams::default()).await?;
    // Agents say that they hold it before it matters: how soon they do depends on the machine.
    cluster.apply_image_with(image, &json!({ "imagePullPolicy": "Never" })).await?;
    cluster.wait_ready(std::slice::from_ref(image), Duration::from_secs(60)).await?;
    let before = grants(cluster).await?;
    cluster.edit_spec(&image.name, &json!({ "imagePullPolicy": "Always" })).await?;
    let confirmed = async || {
        let checked = cluster.status(&image.name).await?.registry_check.is_some();
        Ok(checked && cluster.all_ready(std::slice::from_ref(image)).await?)
    };
    cluster.wait_until(Duration::from_secs(60), "confirmed by the registry", confirmed).await?;
    ensure!(grants(cluster).await? == before, "a node was granted what it holds");
    let status = cluster.status(&image.name).await?;
    let check = status.registry_check.context("status.registryCheck")?;
    ensure!(Some(&check.digest) == status.resolved_digest.as_ref(), "{check:?}");
    ensure!(check.reference == image.reference(), "{check:?}");
    Ok(())
}

#[test]
fn nodes_that_hold_the_image_are_confirmed_by_one_request_and_no_grant() -> Result<()> {
    run("checks", async |cluster| {
        let wanted = cluster.fresh_images(1, 5).await?;
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        cluster.apply_image_with(&wanted[0], &json!({ "imagePullPolicy": "IfNotPresent" })).await?;
        cluster.wait_ready(&wanted, Duration::from_secs(60)).await?;
        let log = std::fs::metadata(cluster.info.log(REGISTRY))?.len();
        set_environment(cluster, &format!("{PLAIN_HTTP}={}", cluster.info.registry))?;
        let outcome = confirm(cluster, &wanted[0]).await;
        set_environment(cluster, &format!("{PLAIN_HTTP}-"))?;
        outcome?;
        let asked = manifest_requests(cluster, &wanted[0], usize::try_from(log)?)?;
        ensure!(asked.len() == 1 && asked[0].contains("drop-coordinator"), "asked {asked:#?}");
        cluster.clean().await
    })
}
