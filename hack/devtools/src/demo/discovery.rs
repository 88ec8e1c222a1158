//! The second half of the demonstration: what Prometheus measures decides which images are on the nodes.

use super::objects::{LABEL, list};
use super::proof::held;
use super::{Error, apply, diagnosis, get};
use crate::images::{Pushed, synthetic};
use crate::progress::{elapsed, say};
use crate::state::ClusterInfo;
use crate::{prometheus, wait};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Name of the DiscoveryPolicy and of the CachedImageSet.
const NAME: &str = "demo-busiest";
/// How many images the set keeps.
const KEPT: usize = 2;
/// What is measured.
const METRIC: &str = "demo_starts";
const PATIENCE: Duration = Duration::from_secs(120);

/// Has Prometheus measure which of three images are used most, shows that these get onto all nodes, then changes the
/// measured values and shows that the set follows.
pub fn show(info: &ClusterInfo, cache: &Path) -> Result<(), Error> {
    let images = synthetic::push_all(info, cache, "demo/worker", 3, 5, 1)?;
    let worker = |number: usize| images.get(number).map_or("", |image: &Pushed| image.reference.as_str());
    say("\nPrometheus measures how often images are started; a CachedImageSet keeps the two busiest:");
    round(info, &images, &[(worker(0), 90), (worker(1), 60), (worker(2), 5)])?;
    say("the metrics change…");
    round(info, &images, &[(worker(0), 90), (worker(1), 3), (worker(2), 75)])?;
    say(format!("the image of {} stays where it is: Drop removes none", short(worker(1))));
    Ok(())
}

/// Measures `values`, and waits until the busiest images, and no others, are children of the set and on all nodes.
fn round(info: &ClusterInfo, images: &[Pushed], values: &[(&str, u32)]) -> Result<(), Error> {
    prometheus::measure(info, METRIC, values)?;
    let started = Instant::now();
    apply(info, &manifest())?;
    let mut busiest: Vec<&(&str, u32)> = values.iter().collect();
    busiest.sort_by_key(|(_, value)| std::cmp::Reverse(*value));
    let mut wanted: Vec<&str> = busiest.iter().take(KEPT).map(|(image, _)| *image).collect();
    wanted.sort_unstable();
    let mut seen = String::new();
    let follows = wait::until(PATIENCE, || match ready(info) {
        Ok(ready) => {
            seen = format!("{ready:?}");
            ready.keys().map(String::as_str).eq(wanted.iter().copied())
                && ready.values().all(|on| *on == info.nodes.len())
        }
        Err(error) => {
            seen = error.to_string();
            false
        }
    });
    if !follows {
        let what = format!("{} of {NAME}; there is {seen}", wanted.join(", "));
        return Err(Error::NotCached { what, diagnosis: diagnosis::of_images(info) });
    }
    for image in images.iter().filter(|image| wanted.contains(&image.reference.as_str())) {
        for node in &info.nodes {
            let held = held(info, node)?.get(&image.reference).cloned();
            if held.as_deref() != Some(image.digest.as_str()) {
                let what = format!("{} holds {held:?} of {}", node.name, image.reference);
                return Err(Error::Proof(what));
            }
        }
    }
    for (image, value) in &busiest {
        let kept = if wanted.contains(image) { "cached on all nodes" } else { "not kept" };
        say(format!("  {:<16} started {value:>2} times: {kept}", short(image)));
    }
    say(format!("  the set has followed after {}", elapsed(started.elapsed())));
    Ok(())
}

/// The children of the set by reference, with the number of nodes that are ready.
fn ready(info: &ClusterInfo) -> Result<BTreeMap<String, usize>, Error> {
    let selector = format!("drop.corewire.io/imageset={NAME}");
    let listed = get(info, &["cachedimages", "--selector", &selector])?;
    let items = listed["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().map(reference_and_nodes).collect())
}

fn reference_and_nodes(child: &Value) -> (String, usize) {
    let text = |field: &str| child["spec"][field].as_str().unwrap_or_default();
    let nodes = child["status"]["nodesReady"].as_u64().unwrap_or_default();
    (format!("{}:{}", text("image"), text("tag")), usize::try_from(nodes).unwrap_or_default())
}

fn manifest() -> Value {
    let object = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "drop.corewire.io/v1alpha1",
            "kind": kind,
            "metadata": { "name": NAME, "labels": { LABEL: "true" } },
            "spec": spec,
        })
    };
    let source = json!({
        "type": "prometheus",
        "prometheus": { "endpoint": prometheus::url(), "query": METRIC },
    });
    list(&[
        object("DiscoveryPolicy", json!({ "sources": [source], "syncInterval": "5s", "maxImages": KEPT })),
        object(
            "CachedImageSet",
            json!({ "discoveryPolicyRef": { "name": NAME }, "policyRef": { "name": "demo" } }),
        ),
    ])
}

/// The last part of a reference.
fn short(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_tells_its_reference_and_how_many_nodes_have_it() {
        let child = json!({ "spec": { "image": "h:5000/a", "tag": "1" }, "status": { "nodesReady": 3 } });
        assert_eq!(reference_and_nodes(&child), ("h:5000/a:1".to_owned(), 3));
        assert_eq!(reference_and_nodes(&json!({ "spec": { "image": "a", "tag": "2" } })).1, 0);
    }
}
