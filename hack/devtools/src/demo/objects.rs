//! The PullPolicy and the CachedImages of the demonstration.

use crate::images::Pushed;
use serde_json::{Value, json};

/// Label of everything that the demonstration creates.
pub const LABEL: &str = "drop-demo";

/// The image that is asked for by digest instead of by tag.
const BY_DIGEST: &str = "nginx";

/// One CachedImage of the demonstration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the CachedImage.
    pub name: String,
    /// What nodes are asked for.
    pub reference: String,
    /// Digest of the manifest in the registry.
    pub digest: String,
    image: String,
    tag: Option<String>,
}

/// A CachedImage for each image of the registry, one of them by digest.
#[must_use]
pub fn wanted(pushed: &[Pushed]) -> Vec<Wanted> {
    pushed.iter().map(one).collect()
}

fn one(pushed: &Pushed) -> Wanted {
    let (image, tag) = pushed.reference.rsplit_once(':').unwrap_or((&pushed.reference, "latest"));
    let short = image.rsplit('/').next().unwrap_or(image);
    let by_digest = short == BY_DIGEST;
    Wanted {
        name: format!("demo-{short}"),
        reference: if by_digest { pushed.by_digest() } else { pushed.reference.clone() },
        digest: pushed.digest.clone(),
        image: image.to_owned(),
        tag: (!by_digest).then(|| tag.to_owned()),
    }
}

/// What is applied: a policy of two nodes at once, one second apart, and the images under it.
#[must_use]
pub fn manifest(wanted: &[Wanted]) -> Value {
    let mut items = vec![json!({
        "apiVersion": "drop.corewire.io/v1alpha1",
        "kind": "PullPolicy",
        "metadata": { "name": "demo", "labels": { LABEL: "true" } },
        "spec": { "maxConcurrentNodes": 2, "minDelayBetweenPulls": "1s" },
    })];
    items.extend(wanted.iter().map(|image| {
        let mut spec = json!({ "image": image.image, "policyRef": { "name": "demo" } });
        match &image.tag {
            Some(tag) => spec["tag"] = json!(tag),
            None => spec["digest"] = json!(image.digest),
        }
        json!({
            "apiVersion": "drop.corewire.io/v1alpha1",
            "kind": "CachedImage",
            "metadata": { "name": image.name, "labels": { LABEL: "true" } },
            "spec": spec,
        })
    }));
    list(&items)
}

/// A pod on `node` that starts from `image` and may not pull it.
#[must_use]
pub fn pod(name: &str, node: &str, image: &Wanted) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": { LABEL: "true" } },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "containers": [{ "name": "demo", "image": image.reference, "imagePullPolicy": "Never" }],
        },
    })
}

/// Several objects as one.
#[must_use]
pub fn list(items: &[Value]) -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": items })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pushed(name: &str) -> Pushed {
        Pushed { reference: format!("10.0.0.1:5000/demo/{name}:7"), digest: "sha256:ab".into() }
    }

    #[test]
    fn one_image_is_wanted_by_digest_and_the_others_by_tag() {
        let wanted = wanted(&[pushed("redis"), pushed("nginx")]);
        assert_eq!(wanted[0].reference, "10.0.0.1:5000/demo/redis:7");
        assert_eq!(wanted[1].reference, "10.0.0.1:5000/demo/nginx@sha256:ab");
        let objects = manifest(&wanted);
        assert_eq!(objects["items"][1]["spec"]["tag"], "7");
        assert_eq!(objects["items"][2]["spec"]["digest"], "sha256:ab");
        assert!(objects["items"][2]["spec"]["tag"].is_null());
    }
}
