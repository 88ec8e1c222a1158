//! Installing Drop on the development cluster: `deploy/` as it is, by an overlay that changes image names only.

use super::{Error, diagnosis};
use crate::control_plane::kubectl;
use crate::product_images::ProductImage;
use crate::progress::say;
use crate::state::ClusterInfo;
use crate::{command, files, wait};
use serde_json::{Value, json};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The namespace of `deploy/`.
pub const NAMESPACE: &str = "drop-system";

const PATIENCE: Duration = Duration::from_secs(180);

/// Applies `deploy/` with these images and waits until coordinators and agents are ready.
pub fn install(info: &ClusterInfo, repository: &Path, images: &[ProductImage]) -> Result<(), Error> {
    write_overlay(info, repository, images)?;
    reinstall(info)
}

/// Applies what was installed last once more, and waits in the same way.
pub fn reinstall(info: &ClusterInfo) -> Result<(), Error> {
    say("applying deploy/ …");
    // The API server may still be opening the resources of an earlier installation that it closes.
    let mut refused = None;
    let applied = wait::until(Duration::from_secs(60), || {
        refused = command::run(kubectl(info).arg("apply").arg("-k").arg(overlay(info))).err();
        refused.is_none()
    });
    if let (false, Some(error)) = (applied, refused) {
        return Err(error.into());
    }
    wait_ready(info)
}

/// Applies `deploy/overlays/NAME` instead, with the images that were installed last and with patches (kustomize's) for the
/// paths of this cluster's nodes; waits in the same way. [`reinstall`] goes back.
pub fn apply_overlay(
    info: &ClusterInfo,
    repository: &Path,
    name: &str,
    patches: &[Value],
) -> Result<(), Error> {
    let installed = files::read(&overlay(info).join("kustomization.yaml"))?;
    // It was written as JSON.
    let mut kustomization: Value = serde_json::from_str(&installed).unwrap_or_default();
    let directory = info.state.join("overlay-of-deploy");
    files::create_dir(&directory)?;
    let base = relative(&real(&directory)?, &real(&repository.join("deploy/overlays").join(name))?);
    kustomization["resources"] = json!([base]);
    kustomization["patches"] = json!(patches);
    files::write(&directory.join("kustomization.yaml"), format!("{kustomization:#}\n"))?;
    command::run(kubectl(info).arg("apply").arg("-k").arg(&directory))?;
    wait_ready(info)
}

/// Waits until every coordinator and agent that there should be is ready, of the newest version.
pub fn wait_ready(info: &ClusterInfo) -> Result<(), Error> {
    say("waiting for coordinators and agents…");
    let mut missing = String::new();
    let ready = wait::until(PATIENCE, || {
        missing = not_ready(info).unwrap_or_else(|error| error.to_string());
        missing.is_empty()
    });
    if ready { Ok(()) } else { Err(Error::NotReady { what: missing, diagnosis: diagnosis::of_pods(info) }) }
}

/// Removes Drop: what `kubectl delete -k deploy/` does.
pub fn uninstall(info: &ClusterInfo, repository: &Path) -> Result<(), Error> {
    let mut delete = kubectl(info);
    delete.current_dir(repository).args(["delete", "-k", "deploy/", "--ignore-not-found", "--timeout=120s"]);
    Ok(command::run(&mut delete)?)
}

/// What is not ready, in words; empty when all is.
fn not_ready(info: &ClusterInfo) -> Result<String, Error> {
    let listed = super::get(info, &["--namespace", NAMESPACE, "deployments,daemonsets"])?;
    let items = listed["items"].as_array().cloned().unwrap_or_default();
    let mut missing: Vec<String> = items.iter().filter_map(unready).collect();
    if items.len() < 2 {
        missing.push("the Deployment or the DaemonSet is absent".into());
    }
    Ok(missing.join(", "))
}

fn unready(workload: &Value) -> Option<String> {
    let status = &workload["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    let (wanted, updated, ready, all) = if workload["kind"] == "DaemonSet" {
        let wanted = status["desiredNumberScheduled"].as_i64().unwrap_or(-1);
        (wanted, number("updatedNumberScheduled"), number("numberReady"), number("currentNumberScheduled"))
    } else {
        let wanted = workload["spec"]["replicas"].as_i64().unwrap_or(1);
        (wanted, number("updatedReplicas"), number("readyReplicas"), number("replicas"))
    };
    let seen = status["observedGeneration"] == workload["metadata"]["generation"];
    let well = seen && wanted > 0 && updated == wanted && ready == wanted && all == wanted;
    let name = workload["metadata"]["name"].as_str().unwrap_or_default();
    (!well).then(|| format!("{name}: {ready} of {} ready", wanted.max(0)))
}

/// Directory of the overlay in the cluster's state.
fn overlay(info: &ClusterInfo) -> PathBuf {
    info.state.join("overlay")
}

fn write_overlay(info: &ClusterInfo, repository: &Path, images: &[ProductImage]) -> Result<(), Error> {
    let directory = overlay(info);
    files::create_dir(&directory)?;
    let base = relative(&real(&directory)?, &real(&repository.join("deploy"))?);
    let renamed: Vec<Value> = images
        .iter()
        .map(|image| {
            json!({
                "name": format!("ghcr.io/corewire/drop-{}", image.program),
                "newName": image.repository,
                "newTag": image.tag,
            })
        })
        .collect();
    // YAML is a superset of JSON.
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [base],
        "images": renamed,
    });
    Ok(files::write(&directory.join("kustomization.yaml"), format!("{overlay:#}\n"))?)
}

fn real(path: &Path) -> Result<PathBuf, Error> {
    Ok(files::named(path.canonicalize(), "find", path)?)
}

/// The way from one absolute directory to another: kustomize takes no absolute ones.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(one, other)| one == other).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kustomize_gets_a_relative_way() {
        let way = relative(Path::new("/var/tmp/drop-cluster/overlay"), Path::new("/home/me/drop/deploy"));
        assert_eq!(way, Path::new("../../../../home/me/drop/deploy"));
        assert_eq!(relative(Path::new("/a/b"), Path::new("/a/c/d")), Path::new("../c/d"));
    }

    #[test]
    fn a_workload_is_ready_when_all_of_it_is_new_and_ready() {
        let mut workload = json!({
            "kind": "DaemonSet",
            "metadata": { "name": "drop-agent", "generation": 2 },
            "status": {
                "observedGeneration": 2, "desiredNumberScheduled": 3, "currentNumberScheduled": 3,
                "updatedNumberScheduled": 3, "numberReady": 3,
            },
        });
        assert_eq!(unready(&workload), None);
        workload["status"]["updatedNumberScheduled"] = json!(2);
        assert!(unready(&workload).unwrap().contains("drop-agent"));
        workload["status"]["updatedNumberScheduled"] = json!(3);
        workload["status"]["observedGeneration"] = json!(1);
        assert!(unready(&workload).is_some());
    }
}
