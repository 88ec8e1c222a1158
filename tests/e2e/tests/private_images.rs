//! A private image on real nodes: what is said while its password is wrong, that it heals, and that no secret gets out.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drop_crds::{CachedImage, CachedImageSet, DiscoveryPolicy};
use drop_harness::private_registry::{Access, PrivateRegistry};
use drop_harness::{Cluster, Wanted, run};
use drop_protocol::names;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, LogParams, Patch, PatchParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

const SECRET: &str = "private-login";
const USER: &str = "somebody";
const PASSWORD: &str = "correct-horse-battery";
const WRONG: &str = "incorrect-horse-staple";
const TOKEN: &str = "identity-of-somebody";

fn secrets(cluster: &Cluster) -> Api<Secret> {
    Api::namespaced(cluster.client.clone(), names::DEFAULT_NAMESPACE)
}

async fn put_login(cluster: &Cluster, host: &str, password: &str) -> Result<()> {
    let entry = json!({ "identitytoken": TOKEN, "auth": STANDARD.encode(format!("{USER}:{password}")) });
    let secret: Secret = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRET },
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": { ".dockerconfigjson": json!({ "auths": { host: entry } }).to_string() },
    }))?;
    secrets(cluster).patch(SECRET, &PatchParams::apply("test").force(), &Patch::Apply(&secret)).await?;
    Ok(())
}

/// Everything that Drop says anywhere, with the name of the place.
async fn said(cluster: &Cluster) -> Result<Vec<(String, String)>> {
    let mut said = vec![
        everything::<CachedImage>(cluster, "statuses of images").await?,
        everything::<CachedImageSet>(cluster, "statuses of sets").await?,
        everything::<DiscoveryPolicy>(cluster, "statuses of policies").await?,
        everything::<Lease>(cluster, "Leases").await?,
        everything::<Event>(cluster, "events").await?,
        everything::<ConfigMap>(cluster, "ConfigMaps").await?,
        everything::<Pod>(cluster, "Pods").await?,
    ];
    for pod in cluster.pods().list(&ListParams::default()).await? {
        let name = pod.metadata.name.unwrap_or_default();
        let log = cluster.pods().logs(&name, &LogParams::default()).await?;
        said.push((format!("log of {name}"), log));
    }
    Ok(said)
}

/// All objects of a kind.
async fn everything<K>(cluster: &Cluster, what: &str) -> Result<(String, String)>
where
    K: kube::Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let list = Api::<K>::all(cluster.client.clone()).list(&ListParams::default()).await?;
    Ok((what.to_owned(), serde_json::to_string(&list.items)?))
}

/// Every form in which a secret could get out.
fn forms() -> Vec<String> {
    let mut forms = Vec::new();
    for plain in [PASSWORD, WRONG, TOKEN] {
        forms.extend([plain.to_owned(), STANDARD.encode(plain), STANDARD.encode(format!("{USER}:{plain}"))]);
    }
    // Padding may be left out.
    forms.iter().map(|form| form.trim_end_matches('=').to_owned()).collect()
}

#[test]
fn a_private_image_heals_when_its_password_does_and_no_secret_gets_out() -> Result<()> {
    run("private", async |cluster| {
        let place = cluster.info.state.join("private-registry");
        std::fs::create_dir_all(&place)?;
        let storage = cluster.info.state.join("registry/data");
        let registry = PrivateRegistry::start(&storage, &place, Access::Password(USER, PASSWORD))?;
        let host = registry.address();
        let public = cluster.fresh_images(1, 5).await?.remove(0);
        let private = Wanted { image: public.image.replace(&cluster.info.registry, host), ..public };
        put_login(cluster, host, WRONG).await?;
        cluster.apply_policy(3, Duration::from_millis(100)).await?;
        let login = json!({ "imagePullSecrets": [{ "name": SECRET }] });
        cluster.apply_image_with(&private, &login).await?;
        cluster
            .wait_until(Duration::from_secs(60), "the Secret and the registry in the condition", async || {
                let status = cluster.status(&private.name).await?;
                let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
                Ok(ready.is_some_and(|condition| {
                    condition.reason == "Unauthorized"
                        && [host, SECRET].iter().all(|named| condition.message.contains(named))
                }))
            })
            .await?;
        put_login(cluster, host, PASSWORD).await?;
        cluster.wait_ready(std::slice::from_ref(&private), Duration::from_secs(150)).await?;
        let said = said(cluster).await?;
        for place in ["statuses of images", "Leases", "events", "log of drop-agent"] {
            let speaks = said.iter().any(|(name, text)| name.starts_with(place) && text.contains(host));
            ensure!(speaks, "{place} don't speak of the image at all");
        }
        for (place, text) in &said {
            for form in forms() {
                ensure!(!text.contains(&form), "{place}: {form}");
            }
        }
        cluster.clean().await?;
        secrets(cluster).delete(SECRET, &DeleteParams::default()).await?;
        std::fs::remove_dir_all(&place)?;
        Ok(())
    })
}
