//! `deploy/` on a real API server: it installs in one command, also twice, and is removed in one command without a
//! trace, or with what users wrote left alone.
//!
//! One test, because there is one place to install to. It needs a cluster without Drop.

use anyhow::{Context as _, ensure};
use drop_integration::cluster::{self, Cluster};
use drop_integration::{cleanup, manifests, wait};
use serde_json::Value;

const EVERYTHING: &str = "deploy/";
const WITHOUT_DEFINITIONS: &str = "deploy/without-crds";

fn install(cluster: &Cluster) -> anyhow::Result<String> {
    cluster.kubectl(&["apply", "-k", EVERYTHING], "")
}

fn remove(cluster: &Cluster, what: &str) -> anyhow::Result<String> {
    cluster.kubectl(&["delete", "--ignore-not-found", "--wait", "--timeout=120s", "-k", what], "")
}

/// Names of the objects of all cluster-scoped kinds and of the installed definitions that carry Drop's label or name.
fn traces(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let kinds =
        cluster.kubectl(&["api-resources", "--namespaced=false", "--verbs=list", "-o", "name"], "")?;
    let kinds: Vec<&str> = kinds.lines().collect();
    let all = cluster.kubectl(&["get", &kinds.join(","), "-o", "name"], "")?;
    Ok(all
        .lines()
        .filter(|name| name.contains("/drop-") || name.contains("drop.corewire.io"))
        .map(str::to_owned)
        .collect())
}

#[test]
fn one_command_installs_and_one_command_removes_everything() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        let installed =
            cluster.kubectl(&["get", "namespace", "drop-system", "--ignore-not-found", "-o", "name"], "")?;
        ensure!(installed.is_empty(), "Drop is installed here: this test needs a cluster without it");
        let body = async { installs_and_removes(cluster).await };
        cleanup::always(body, async || remove(cluster, EVERYTHING).map(|_| ())).await
    })
}

async fn installs_and_removes(cluster: &Cluster) -> anyhow::Result<()> {
    let before = traces_without_definitions(cluster)?;
    ensure!(before.is_empty(), "left from somewhere else: {before:?}");

    install(cluster).context("the first time")?;
    let rules =
        r#"{"rules":[{"apiGroups":[""],"resources":["secrets"],"resourceNames":["a"],"verbs":["get"]}]}"#;
    let role = ["-n", "drop-system", "role", "drop-agent-pull-secrets"];
    cluster.kubectl(&[&["patch"][..], &role, &["--type=merge", "-p", rules]].concat(), "")?;
    let again = install(cluster).context("the second time")?;
    ensure!(!again.contains(" created"), "the second time, something was created: {again}");
    let kept = cluster
        .kubectl(&[&["get"][..], &role, &["-o", "jsonpath={.rules[*].resourceNames}"]].concat(), "")?;
    ensure!(kept == r#"["a"]"#, "the second time took away the coordinator's rules: {kept:?}");

    wait::until("the images are served", async || {
        Ok(cluster.kubectl(&["apply", "-f", "deploy/samples/cachedimage.yaml"], "").ok())
    })
    .await?;
    remove(cluster, WITHOUT_DEFINITIONS)?;
    let left = traces_without_definitions(cluster)?;
    ensure!(left.is_empty(), "left by {WITHOUT_DEFINITIONS}: {left:?}");
    let image = cluster.kubectl(&["get", "cachedimage", "build-base", "-o", "name"], "")?;
    ensure!(!image.is_empty(), "what users wrote is gone");

    install(cluster).context("again, beside what users wrote")?;
    remove(cluster, EVERYTHING)?;
    let left = traces(cluster)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

fn traces_without_definitions(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let mut traces = traces(cluster)?;
    traces.retain(|name| !name.contains("drop.corewire.io"));
    Ok(traces)
}

#[test]
fn the_images_carry_the_version_of_this_workspace() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        let objects = manifests::parse(&cluster.kubectl(&["kustomize", EVERYTHING], "")?)?;
        let images: Vec<&str> = objects
            .iter()
            .filter_map(|o| o.pointer("/spec/template/spec/containers/0/image")?.as_str())
            .collect();
        let version = env!("CARGO_PKG_VERSION");
        let expected = ["coordinator", "agent"].map(|name| format!("ghcr.io/corewire/drop-{name}:{version}"));
        assert_eq!(images, expected);
        Ok(())
    })
}

#[test]
fn overlays_change_what_they_say_and_nothing_else() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        let render = |what: &str| manifests::parse(&cluster.kubectl(&["kustomize", what], "")?);
        let base = render(EVERYTHING)?;
        let changes: [(&str, &str, Value); 3] = [
            (
                "deploy/overlays/k3s",
                "/spec/template/spec/volumes/0/hostPath/path",
                "/run/k3s/containerd".into(),
            ),
            (
                "deploy/overlays/selinux",
                "/spec/template/spec/securityContext/seLinuxOptions/type",
                "spc_t".into(),
            ),
            (
                "deploy/overlays/credential-providers",
                "/spec/template/spec/containers/0/args/2",
                "--image-credential-provider-config=/credential-providers/config/config.json".into(),
            ),
        ];
        for (overlay, pointer, value) in changes {
            let overlaid = render(overlay)?;
            assert_eq!(overlaid.len(), base.len(), "{overlay}");
            let changed: Vec<_> = overlaid.iter().filter(|object| !base.contains(object)).collect();
            assert_eq!(changed.len(), 1, "{overlay}");
            assert_eq!(changed[0]["metadata"]["name"], "drop-agent", "{overlay}");
            assert_eq!(changed[0].pointer(pointer), Some(&value), "{overlay}");
        }
        Ok(())
    })
}
