//! Coming from the Go implementation: the commands of `deploy/MIGRATION.md`, one block after another, on a cluster as that
//! release leaves it (`go-release/`), and the coordinator's own code on the objects. Needs a cluster without Drop.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use drop_integration::cluster::{self, Cluster, repository};
use drop_integration::identities::with_identities;
use drop_integration::{cleanup, coordinator, definitions, manifests, wait};
use serde_json::{Value, json};

const RELEASE: &str = "tests/integration/go-release";
/// Objects of the four kinds in `go-release/objects.yaml` and `manifests/v1.4.2.yaml`, and a child of the set.
const OBJECTS: usize = 11;
/// As the Go implementation calls the image of a set.
const CHILD: &str = "old-set-nginx-1-25-alpine";

#[test]
fn the_steps_of_the_migration_keep_objects_and_clear_away_the_old_release() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        let namespace =
            cluster.kubectl(&["get", "namespace", "drop-system", "--ignore-not-found", "-o", "name"], "")?;
        ensure!(namespace.is_empty(), "something is installed here: this test needs a cluster without Drop");
        cleanup::always(Box::pin(migrates(cluster)), async || remove_everything(cluster)).await
    })
}

async fn migrates(cluster: &Cluster) -> anyhow::Result<()> {
    let place = tempfile::tempdir()?;
    std::os::unix::fs::symlink(repository().join("deploy").canonicalize()?, place.path().join("deploy"))?;
    let steps = manifests::blocks(&repository().join("deploy/MIGRATION.md"), "sh")?;
    let [look, stop, install, clear, back] = steps.as_slice() else {
        return Err(anyhow!("{} blocks of commands, and not five", steps.len()));
    };
    run_the_old_release(cluster).await?;
    let before = objects(cluster)?;
    ensure!(before.len() == OBJECTS, "{} objects before", before.len());

    step(cluster, look, place.path())?;
    let copy = std::fs::read_to_string(place.path().join("drop-objects.yaml"))?;
    ensure!(copy.matches("kind: CachedImage\n").count() == 6, "not a copy of all objects: {copy}");

    step(cluster, stop, place.path())?;
    let pods = ["get", "pods", "--all-namespaces", "-o", "name", "--selector"];
    for selector in ["app.kubernetes.io/name=drop", "drop.corewire.io/cachedimage"] {
        let running = cluster.kubectl(&[&pods[..], &[selector]].concat(), "")?;
        ensure!(running.is_empty(), "still there: {running}");
    }

    step(cluster, install, place.path())?;
    the_new_rules_hold(cluster).await?;
    same(&before, &objects(cluster)?).context("after the installation")?;
    conditions_are_all_that_the_coordinator_writes(cluster, &before).await?;
    let before = objects(cluster)?;

    step(cluster, clear, place.path())?;
    let left = left_of_the_old_release(cluster)?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    for kept in ["secret/ghcr-creds", "deployment/drop-coordinator", "daemonset/drop-agent"] {
        cluster.kubectl(&["-n", "drop-system", "get", kept], "")?;
    }
    same(&before, &objects(cluster)?).context("after clearing away")?;

    step(cluster, back, place.path())?;
    let programs =
        cluster.kubectl(&["-n", "drop-system", "get", "deployments,daemonsets", "-o", "name"], "")?;
    ensure!(programs.is_empty(), "still there after going back: {programs}");
    the_old_definitions(cluster)?;
    // The status loses what only the newer definitions know.
    written_the_same(&before, &objects(cluster)?).context("after going back")
}

fn step(cluster: &Cluster, commands: &str, place: &Path) -> anyhow::Result<()> {
    cluster.shell(commands, place).map(|_| ())
}

/// Installs the definitions as Helm does: by another field manager, without kubectl's annotation.
fn the_old_definitions(cluster: &Cluster) -> anyhow::Result<()> {
    let path = format!("{RELEASE}/definitions.yaml");
    let apply = ["apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", &path];
    cluster.kubectl(&apply, "").map(|_| ())
}

async fn run_the_old_release(cluster: &Cluster) -> anyhow::Result<()> {
    remove_definitions(cluster)?;
    the_old_definitions(cluster)?;
    let installation = format!("{RELEASE}/installation.yaml");
    // No Pod is accepted before the namespace has its default service account.
    wait::until("the old release is installed", async || {
        Ok(cluster.kubectl(&["apply", "-f", &installation], "").ok())
    })
    .await?;
    for file in [format!("{RELEASE}/objects.yaml"), "tests/integration/manifests/v1.4.2.yaml".to_owned()] {
        wait::until("the old objects are stored", async || {
            Ok(cluster.kubectl(&["create", "--save-config", "-f", &file], "").ok())
        })
        .await
        .with_context(|| file.clone())?;
    }
    let set = cluster.kubectl(&["get", "cachedimageset", "old-set", "-o", "jsonpath={.metadata.uid}"], "")?;
    let child = json!({
        "apiVersion": "drop.corewire.io/v1alpha1",
        "kind": "CachedImage",
        "metadata": {
            "name": CHILD,
            "labels": { "drop.corewire.io/imageset": "old-set" },
            "ownerReferences": [{
                "apiVersion": "drop.corewire.io/v1alpha1", "kind": "CachedImageSet", "name": "old-set", "uid": set,
                "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": {
            "image": "docker.io/library/nginx", "tag": "1.25-alpine", "policyRef": { "name": "conservative" },
        },
    });
    cluster.kubectl(&["create", "-f", "-"], &child.to_string())?;
    let status = json!({ "status": {
        "phase": "Ready", "ready": "3/3", "nodesTargeted": 3, "nodesReady": 3, "cachedNodes": ["a", "b", "c"],
        "lastPulledAt": "2026-06-03T08:00:00Z",
    } });
    let patch = ["patch", "cachedimage", "old-nginx", "--subresource=status", "--type=merge", "-p"];
    cluster.kubectl(&[&patch[..], &[&status.to_string()]].concat(), "").map(|_| ())
}

/// All objects of the four kinds by kind and name, without the names of those who wrote them.
fn objects(cluster: &Cluster) -> anyhow::Result<BTreeMap<String, Value>> {
    let kinds: Vec<&str> = definitions::KINDS.iter().map(|(_, plural)| *plural).collect();
    let list: Value = serde_json::from_str(&cluster.kubectl(&["get", &kinds.join(","), "-o", "json"], "")?)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| {
        let text = |field: &Value| field.as_str().unwrap_or_default().to_owned();
        named(&text(&item["kind"]), &text(&item["metadata"]["name"]))
    };
    Ok(items.into_iter().map(|item| (name(&item), item)).collect())
}

fn named(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}

/// Uid, generation and resourceVersion are among what is compared: nothing was written at all.
fn same(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> anyhow::Result<()> {
    for (name, object) in before {
        let now = after.get(name).ok_or_else(|| anyhow!("{name} is gone"))?;
        ensure!(object == now, "{name} was\n{object}\nand is now\n{now}");
    }
    ensure!(before.len() == after.len(), "there are more objects than before");
    Ok(())
}

async fn the_new_rules_hold(cluster: &Cluster) -> anyhow::Result<()> {
    let images = definitions::api(cluster, "CachedImage")?;
    let wrong = json!({ "image": "nginx:1" });
    wait::until("the API server knows the rules", async || {
        Ok(definitions::dry_run(&images, "CachedImage", Some(&wrong)).await.is_err().then_some(()))
    })
    .await
}

/// The coordinator works on the old objects as its Pod would: each that breaks a rule says so, all others go on, and
/// nobody's spec or metadata is another one than before.
async fn conditions_are_all_that_the_coordinator_writes(
    cluster: &Cluster,
    before: &BTreeMap<String, Value>,
) -> anyhow::Result<()> {
    let reason = |objects: &BTreeMap<String, Value>, name: &str| {
        let conditions =
            objects.get(&named("CachedImage", name))?["status"]["conditions"].as_array()?.clone();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready")?;
        ready["reason"].as_str().map(str::to_owned)
    };
    let looks = async || {
        for name in ["tag-in-image", "tag-and-digest", "no-spec"] {
            wait::until(&format!("{name} says that it is invalid"), async || {
                let reason = reason(&objects(cluster)?, name);
                Ok((reason.as_deref() == Some("InvalidSpec")).then_some(()))
            })
            .await?;
        }
        wait::until("the set has the images that it lacked", async || {
            let of_set =
                |object: &&Value| object["metadata"]["labels"]["drop.corewire.io/imageset"] == "old-set";
            Ok((objects(cluster)?.values().filter(of_set).count() == 3).then_some(()))
        })
        .await?;
        wait::until("the status of what is in order is that of this cluster", async || {
            let now = objects(cluster)?;
            let status = &now.get(&named("CachedImage", "old-nginx")).context("old-nginx")?["status"];
            Ok((status["ready"] != "3/3" && status["conditions"].is_array()).then_some(()))
        })
        .await
    };
    with_identities(cluster, "test-migration", async |identities| {
        Box::pin(coordinator::beside(identities, looks())).await
    })
    .await?;
    let now = objects(cluster)?;
    let about_nginx = |object: &&Value| object["spec"]["tag"] == "1.25-alpine";
    ensure!(now.values().filter(about_nginx).count() == 1, "the set's image was made once more");
    written_the_same(before, &now)
}

/// Whatever became of their status, users find what they wrote.
fn written_the_same(before: &BTreeMap<String, Value>, now: &BTreeMap<String, Value>) -> anyhow::Result<()> {
    for (name, object) in before {
        let now = now.get(name).with_context(|| format!("{name} is gone"))?;
        ensure!(written(object) == written(now), "{name} was\n{object}\nand is now\n{now}");
    }
    Ok(())
}

/// What users wrote of an object, and its uid and generation.
fn written(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    object
}

/// What `go-release/installation.yaml` brought and neither users nor the new release want.
fn left_of_the_old_release(cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    let brought =
        manifests::parse(&std::fs::read_to_string(repository().join(RELEASE).join("installation.yaml"))?)?;
    let mut left = Vec::new();
    for object in &brought {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        if ["drop-system", "ghcr-creds"].contains(&name) {
            continue;
        }
        let get = ["-n", "drop-system", "get", kind, name, "--ignore-not-found", "-o", "name"];
        left.extend(cluster.kubectl(&get, "")?.lines().map(str::to_owned));
    }
    Ok(left)
}

fn remove_definitions(cluster: &Cluster) -> anyhow::Result<()> {
    let names = definitions::KINDS.map(|(_, plural)| format!("{plural}.{}", drop_crds::GROUP));
    let mut delete = vec!["delete", "customresourcedefinitions", "--ignore-not-found", "--timeout=120s"];
    delete.extend(names.iter().map(String::as_str));
    cluster.kubectl(&delete, "").map(|_| ())
}

fn remove_everything(cluster: &Cluster) -> anyhow::Result<()> {
    for what in [&["-f", "tests/integration/go-release/installation.yaml"][..], &["-k", "deploy/"]] {
        cluster
            .kubectl(&[&["delete", "--ignore-not-found", "--wait", "--timeout=120s"], what].concat(), "")?;
    }
    remove_definitions(cluster)
}
