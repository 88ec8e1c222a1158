//! Where each image stands on each node, read from CachedImages and node Leases.
//!
//! Status is written every few seconds; the reports in the node Leases say the same a little earlier.

use super::objects::Wanted;
use super::{Error, get, install::NAMESPACE};
use crate::state::ClusterInfo;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// Where one image stands on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing happens yet.
    Waiting,
    /// The node may pull it, after the one it is pulling.
    Queued,
    /// The node pulls it.
    Pulling,
    /// It is there, and status says so.
    Cached,
    /// The last pull failed; the reason in a word.
    Failed(String),
}

impl fmt::Display for Standing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => out.pad("waiting"),
            Self::Queued => out.pad("granted"),
            Self::Pulling => out.pad("pulling"),
            Self::Cached => out.pad("cached"),
            Self::Failed(reason) => out.pad(reason),
        }
    }
}

/// The standing of every pair, by CachedImage and node.
pub type Pairs = BTreeMap<(String, String), Standing>;

/// Reads the standing of every wanted image on every node.
pub fn read(info: &ClusterInfo, wanted: &[Wanted]) -> Result<Pairs, Error> {
    let images = get(info, &["cachedimages"])?;
    let leases = get(info, &["--namespace", NAMESPACE, "leases"])?;
    let nodes: Vec<&str> = info.nodes.iter().map(|node| node.name.as_str()).collect();
    let names: Vec<&str> = wanted.iter().map(|image| image.name.as_str()).collect();
    Ok(fold(&names, &nodes, &images, &leases))
}

fn fold(names: &[&str], nodes: &[&str], images: &Value, leases: &Value) -> Pairs {
    let mut pairs = Pairs::new();
    for node in nodes {
        let lease = by_name(leases, node);
        let annotation = |key: &str| -> Value {
            let text = lease["metadata"]["annotations"][key].as_str().unwrap_or_default();
            serde_json::from_str(text).unwrap_or_default()
        };
        let report = annotation("drop.corewire.io/report");
        let grant = annotation("drop.corewire.io/grant");
        let held = lease["spec"]["holderIdentity"].as_str().is_some_and(|holder| !holder.is_empty());
        for name in names {
            let image = by_name(images, name);
            let reported = &report["images"][image["metadata"]["uid"].as_str().unwrap_or_default()];
            let listed = image["status"]["cachedNodes"].as_array();
            let standing = if listed.is_some_and(|cached| cached.iter().any(|cached| cached == node)) {
                Standing::Cached
            } else if let Some(reason) = reported["failure"]["reason"].as_str() {
                Standing::Failed(reason.to_owned())
            } else {
                Standing::Waiting
            };
            pairs.insert(((*name).to_owned(), (*node).to_owned()), standing);
        }
        let granted = grant["images"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut first = true;
        for image in granted.iter().filter(|_| held) {
            let done = !report["images"][image["uid"].as_str().unwrap_or_default()].is_null();
            let name = image["name"].as_str().unwrap_or_default();
            let pair = pairs.get_mut(&(name.to_owned(), (*node).to_owned()));
            if let (false, Some(standing @ Standing::Waiting)) = (done, pair) {
                *standing = if first { Standing::Pulling } else { Standing::Queued };
                first = false;
            }
        }
    }
    pairs
}

fn by_name<'a>(list: &'a Value, name: &str) -> &'a Value {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().find(|item| item["metadata"]["name"] == name).unwrap_or(&Value::Null)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_with_a_grant_pulls_the_first_image_that_it_has_not_reported() {
        let image = |name: &str, cached: &[&str]| {
            json!({
                "metadata": { "name": name, "uid": format!("uid-{name}") },
                "status": { "cachedNodes": cached },
            })
        };
        let images =
            json!({ "items": [image("a", &["n1"]), image("b", &[]), image("c", &[]), image("d", &[])] });
        let granted = |name: &str| json!({ "name": name, "uid": format!("uid-{name}") });
        let grant = json!({ "images": [granted("a"), granted("b"), granted("c")] }).to_string();
        let report = json!({ "images": {
            "uid-a": { "digest": "sha256:0" },
            "uid-d": { "failure": { "reason": "NotFound" } },
        } });
        let leases = json!({ "items": [{
            "metadata": { "name": "n1", "annotations": {
                "drop.corewire.io/grant": grant,
                "drop.corewire.io/report": report.to_string(),
            } },
            "spec": { "holderIdentity": "x/y" },
        }] });
        let pairs = fold(&["a", "b", "c", "d"], &["n1", "n2"], &images, &leases);
        let on = |name: &str, node: &str| pairs[&(name.to_owned(), node.to_owned())].clone();
        assert_eq!(on("a", "n1"), Standing::Cached);
        assert_eq!(on("b", "n1"), Standing::Pulling);
        assert_eq!(on("c", "n1"), Standing::Queued);
        assert_eq!(on("d", "n1"), Standing::Failed("NotFound".into()));
        assert_eq!(on("a", "n2"), Standing::Waiting);
    }
}
