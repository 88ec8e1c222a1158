//! Agents that get their logins from a plugin on the node, as `deploy/overlays/credential-providers` sets it up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use drop_devtools::demo::install;
use drop_devtools::state::NodeInfo;
use drop_harness::private_registry::{Access, PrivateRegistry};
use drop_harness::{Cluster, Wanted, run};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
/// Where plugin and configuration lie on a node: below a directory that is the node's own.
const PLACE: &str = "/etc/containerd/credential-provider";
/// Where the overlay shows the configuration to the agent.
const SHOWN: &str = "/credential-providers/config";
const USER: &str = "somebody";
const PASSWORD: &str = "of-the-node";

/// Puts a plugin onto the node. It answers each question with what lies in a file beside it.
fn put_plugin(node: &NodeInfo, host: &str) -> Result<()> {
    let place = node.directory.join("etc/containerd/credential-provider");
    fs::create_dir_all(&place)?;
    let plugin = place.join("handout");
    fs::copy("/bin/cat", &plugin).context("cat of Debian's coreutils")?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
        "providers": [{
            "name": "handout", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "matchImages": [host], "defaultCacheDuration": "1m", "args": [format!("{SHOWN}/answer.json")],
        }],
    });
    let answer = json!({
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry", "auth": { host: { "username": USER, "password": PASSWORD } },
    });
    fs::write(place.join("config.json"), config.to_string())?;
    fs::write(place.join("answer.json"), answer.to_string())?;
    for (file, mode) in [("handout", 0o755), ("config.json", 0o644), ("answer.json", 0o644)] {
        fs::set_permissions(place.join(file), fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The paths of this cluster's nodes instead of those of EKS's; and all agents are replaced at once.
fn paths_of_these_nodes() -> Value {
    let volume = |name: &str| json!({ "name": name, "hostPath": { "path": PLACE } });
    let patch = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": { "name": "drop-agent", "namespace": "drop-system" },
        "spec": {
            "updateStrategy": { "rollingUpdate": { "maxUnavailable": "100%" } },
            "template": { "spec": {
                "volumes": [volume("credential-provider-config"), volume("credential-provider-bin")],
            } },
        },
    });
    json!({ "patch": patch.to_string() })
}

async fn is_pulled_by_plugin(cluster: &Cluster, repository: &Path, host: &str) -> Result<()> {
    let public = cluster.fresh_images(1, 1).await?.remove(0);
    let private = Wanted { image: public.image.replace(&cluster.info.registry, host), ..public };
    let quickly = json!({ "failureBackoff": { "initial": "2s", "max": "4s" } });
    cluster.apply_policy_with(3, Duration::ZERO, &quickly).await?;
    cluster.apply_image(&private).await?;
    let refused =
        async || Ok(cluster.told(&private.name).await?.is_some_and(|told| told.reason == "Unauthorized"));
    cluster.wait_until(SOON, "without a login it is refused", refused).await?;
    install::apply_overlay(&cluster.info, repository, "credential-providers", &[paths_of_these_nodes()])?;
    cluster.wait_ready(&[private], SOON * 2).await?;
    cluster.clean().await
}

#[test]
fn a_private_image_is_pulled_with_the_login_that_a_plugin_on_the_node_hands_out() -> Result<()> {
    run("plugins", async |cluster| {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let place = cluster.info.state.join("registry-for-plugins");
        fs::create_dir_all(&place)?;
        let storage = cluster.info.state.join("registry/data");
        let registry = PrivateRegistry::start(&storage, &place, Access::Password(USER, PASSWORD))?;
        for node in &cluster.info.nodes {
            put_plugin(node, registry.address())?;
        }
        let outcome = is_pulled_by_plugin(cluster, &repository, registry.address()).await;
        install::reinstall(&cluster.info)?;
        for node in &cluster.info.nodes {
            fs::remove_dir_all(node.directory.join("etc/containerd/credential-provider"))?;
        }
        fs::remove_dir_all(&place)?;
        outcome
    })
}
