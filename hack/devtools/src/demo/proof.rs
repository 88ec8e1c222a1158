//! The proof: what containerd on each node holds is what the registry serves and what status says, and pods that may
//! not pull start from it.

use super::objects::{self, LABEL, Wanted};
use super::{Error, apply, get};
use crate::control_plane::kubectl;
use crate::progress::say;
use crate::state::{ClusterInfo, NodeInfo};
use crate::{command, node, wait};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const POD_PATIENCE: Duration = Duration::from_secs(120);

/// Compares registry, status and the containerd of every node, and shows the digests.
pub fn digests(info: &ClusterInfo, wanted: &[Wanted]) -> Result<(), Error> {
    say("digests in the registry, in status, and in containerd on every node:");
    let listed = get(info, &["cachedimages"])?;
    let nodes = info
        .nodes
        .iter()
        .map(|node| Ok((node.name.as_str(), held(info, node)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    for image in wanted {
        let status = resolved(&listed, &image.name);
        if status.as_deref() != Some(image.digest.as_str()) {
            return Err(Error::Proof(format!(
                "{}: the registry has {}, status says {status:?}",
                image.name, image.digest
            )));
        }
        for (node, held) in &nodes {
            let held = held.get(&image.reference);
            if held != Some(&image.digest) {
                return Err(Error::Proof(format!(
                    "{}: the registry has {}, {node} holds {held:?}",
                    image.name, image.digest
                )));
            }
        }
        let short = image.digest.get(..19).unwrap_or(&image.digest);
        say(format!("  {:<16} {short}…  registry = status = {}", image.name, names(info).join(" = ")));
    }
    Ok(())
}

/// Starts a pod with imagePullPolicy Never on every node for every image that runs without arguments.
pub fn pods(info: &ClusterInfo, wanted: &[Wanted]) -> Result<(), Error> {
    let mut pods = Vec::new();
    for (number, node) in info.nodes.iter().enumerate() {
        // Another image on each node, so that none is special.
        let image = &wanted[number % wanted.len()];
        pods.push(objects::pod(&format!("{}-{}", image.name, node.name), &node.name, image));
    }
    apply(info, &objects::list(&pods))?;
    let mut waiting = Vec::new();
    let selector = format!("{LABEL}=true");
    let started = wait::until(POD_PATIENCE, || {
        let listed = get(info, &["pods", "--selector", &selector]).unwrap_or_default();
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        waiting = items.iter().filter_map(not_running).collect();
        items.len() >= pods.len() && waiting.is_empty()
    });
    if !started {
        return Err(Error::Proof(format!("pods don't start: {}", waiting.join(", "))));
    }
    say("pods with imagePullPolicy: Never run on every node:");
    for pod in &pods {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default();
        say(format!("  {name:<24} from {image}"));
    }
    Ok(())
}

/// Removes what an earlier demonstration left: its pods and objects, and its images from every node.
pub fn clear(info: &ClusterInfo) -> Result<(), Error> {
    let mut delete = kubectl(info);
    let kinds = "cachedimagesets,discoverypolicies,cachedimages,pullpolicies,pods";
    delete.args(["delete", kinds, "--ignore-not-found", "--wait"]);
    command::run(delete.arg(format!("--selector={LABEL}=true")))?;
    let demonstrated = format!("{}/demo/", info.registry);
    for node in &info.nodes {
        let held = held(info, node)?;
        // containerd also knows each image by its id: under the same digest.
        let ours = |reference: &str| reference.starts_with(&demonstrated);
        let digests: Vec<&String> =
            held.iter().filter(|(reference, _)| ours(reference)).map(|(_, digest)| digest).collect();
        let references = held.iter().filter(|(_, digest)| digests.contains(digest)).map(|(held, _)| held);
        let references: Vec<&String> = references.collect();
        if !references.is_empty() {
            command::run(node::ctr(info, node).args(["images", "rm", "--sync"]).args(references))?;
        }
    }
    Ok(())
}

/// References that the node's containerd knows, with their digests.
pub fn held(info: &ClusterInfo, node: &NodeInfo) -> Result<BTreeMap<String, String>, Error> {
    let listed = command::output(node::ctr(info, node).args(["images", "ls"]))?;
    Ok(listed.lines().skip(1).filter_map(reference_and_digest).collect())
}

/// The digest that a CachedImage's status shows.
#[must_use]
pub fn resolved(listed: &Value, name: &str) -> Option<String> {
    let image = listed["items"].as_array()?.iter().find(|image| image["metadata"]["name"] == name)?;
    Some(image["status"]["resolvedDigest"].as_str()?.to_owned())
}

fn reference_and_digest(line: &str) -> Option<(String, String)> {
    let mut words = line.split_whitespace();
    let (reference, digest) = (words.next()?, words.nth(1)?);
    digest.starts_with("sha256:").then(|| (reference.to_owned(), digest.to_owned()))
}

fn not_running(pod: &Value) -> Option<String> {
    let container = &pod["status"]["containerStatuses"][0];
    if container["state"]["running"].is_object() {
        return None;
    }
    let why = container["state"]["waiting"]["message"].as_str().or(pod["status"]["phase"].as_str());
    Some(format!("{}: {}", pod["metadata"]["name"].as_str().unwrap_or_default(), why.unwrap_or("unknown")))
}

fn names(info: &ClusterInfo) -> Vec<&str> {
    info.nodes.iter().map(|node| node.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_and_digests_are_read_from_the_listing() {
        let line = "10.0.0.1:5000/demo/redis:7  application/vnd.oci.image.manifest.v1+json sha256:c48 57.1 MiB linux";
        let read = reference_and_digest(line).unwrap();
        assert_eq!(read, ("10.0.0.1:5000/demo/redis:7".to_owned(), "sha256:c48".to_owned()));
        assert_eq!(reference_and_digest("REF TYPE DIGEST SIZE"), None);
    }
}
