//! CachedImageSets, DiscoveryPolicies and what is compared of children → rows, also those that don't decode or break a
//! rule.

use drop_crds::{CachedImageSetSpec, CachedImageSpec, ImageEntry, validation};
use drop_planner::{
    CachedImageSet, Child, ChildSettings, ChildSpec, Discovery, DiscoveryState, SetImage, SetImages,
    WrittenImage, WrittenToleration,
};
use drop_protocol::failure::cut;
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::core::DeserializeGuard;

use super::images::pull_policy;
use super::stored::{Stored, unreadable};
use crate::set_status;

/// Digits of an image ID, which monitoring may tell in place of a reference: `sha256:` and so many look like one.
const IMAGE_ID_DIGITS: usize = 64;

/// So much of a text that is no reference is quoted, in bytes.
const QUOTED: usize = 200;

/// A CachedImageSet as a row.
#[must_use]
pub fn set(object: Stored<drop_crds::CachedImageSet>) -> CachedImageSet {
    let (meta, spec, status) = object.into_parts::<CachedImageSetSpec, _>();
    let (spec, problem) = match spec {
        Ok(spec) => (spec, None),
        Err(problem) => (CachedImageSetSpec::default(), Some(problem)),
    };
    let problems = validation::cached_image_set(&spec);
    // What is wrong with single images leaves the others alone.
    let of_settings: Vec<_> =
        problems.into_iter().filter(|problem| !problem.field.starts_with("spec.images[")).collect();
    let mut images = SetImages::default();
    for (index, entry) in spec.images.into_iter().enumerate() {
        add(&mut images, &format!("spec.images[{index}]"), entry);
    }
    CachedImageSet {
        name: meta.name.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        being_deleted: meta.deletion_timestamp.is_some(),
        images,
        discovery: spec.discovery_policy_ref.map(|discovery| discovery.name),
        settings: ChildSettings {
            policy: spec.policy_ref.map(|policy| policy.name),
            pull_policy: pull_policy(spec.image_pull_policy),
            secrets: spec.image_pull_secrets.into_iter().map(|secret| secret.name).collect(),
            node_selector: spec.node_selector,
            tolerations: spec.tolerations.into_iter().map(toleration).collect(),
        },
        problem: problem.or_else(|| (!of_settings.is_empty()).then(|| validation::summary(&of_settings))),
        status: status.map(set_status::read).unwrap_or_default(),
    }
}

/// A DiscoveryPolicy as a row.
#[must_use]
pub fn discovery(object: DeserializeGuard<drop_crds::DiscoveryPolicy>) -> Discovery {
    let object = match object.0 {
        Ok(object) => object,
        Err(invalid) => {
            return Discovery {
                name: invalid.metadata.name.unwrap_or_default(),
                state: DiscoveryState::Failing {
                    reason: "InvalidSpec".to_owned(),
                    message: unreadable(&invalid.error),
                },
                ..Discovery::default()
            };
        }
    };
    let status = object.status.unwrap_or_default();
    let mut images = SetImages::default();
    for found in status.discovered_images {
        add(&mut images, &format!("{:?}", cut(&found.image, QUOTED)), entry(&found.image));
    }
    Discovery { name: object.metadata.name.unwrap_or_default(), images, state: state(&status.conditions) }
}

/// What is compared of a CachedImage whose controller is a CachedImageSet; `spec` is what can be read of its own.
#[must_use]
pub fn child(meta: &ObjectMeta, spec: Option<&CachedImageSpec>) -> Option<Box<Child>> {
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let of_ours = owner.api_version.split_once('/').is_some_and(|(group, _)| group == drop_crds::GROUP);
    if !of_ours || owner.kind != "CachedImageSet" {
        return None;
    }
    let spec = spec.map(child_spec);
    Some(Box::new(Child {
        set_uid: owner.uid.clone(),
        resource_version: meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0),
        being_deleted: meta.deletion_timestamp.is_some(),
        label: meta.labels.as_ref().and_then(|labels| labels.get(drop_crds::IMAGE_SET_LABEL)).cloned(),
        normalised: spec.as_ref().and_then(|spec| spec.image.normalise().ok()),
        spec,
    }))
}

fn child_spec(spec: &CachedImageSpec) -> ChildSpec {
    let spec = spec.clone();
    ChildSpec {
        image: written(ImageEntry { image: spec.image, tag: spec.tag, digest: spec.digest }),
        settings: ChildSettings {
            policy: spec.policy_ref.map(|policy| policy.name),
            pull_policy: pull_policy(spec.image_pull_policy),
            secrets: spec.image_pull_secrets.into_iter().map(|secret| secret.name).collect(),
            node_selector: spec.node_selector,
            tolerations: spec.tolerations.into_iter().map(toleration).collect(),
        },
        priority: spec.priority,
    }
}

/// Adds an image that is sound, or what is wrong with it.
fn add(images: &mut SetImages, field: &str, entry: ImageEntry) {
    let problems = validation::image_entry(field, &entry);
    if !problems.is_empty() {
        return images.malformed.push(validation::summary(&problems));
    }
    let written = written(entry);
    if written.image == "sha256" && written.tag.as_ref().is_some_and(|tag| tag.len() == IMAGE_ID_DIGITS) {
        return images.malformed.push(format!("{field}: is the ID of an image, not a reference"));
    }
    match SetImage::new(written) {
        Ok(image) => images.sound.push(image),
        Err(error) => images.malformed.push(format!("{field}: {error}")),
    }
}

/// The entry that a user would write for a reference.
fn entry(reference: &str) -> ImageEntry {
    let WrittenImage { image, tag, digest } = WrittenImage::split(reference);
    ImageEntry { image, tag, digest }
}

fn written(entry: ImageEntry) -> WrittenImage {
    let filled = |part: Option<String>| part.filter(|part| !part.is_empty());
    WrittenImage { image: entry.image, tag: filled(entry.tag), digest: filled(entry.digest) }
}

fn toleration(toleration: v1::Toleration) -> WrittenToleration {
    WrittenToleration {
        key: toleration.key,
        operator: toleration.operator,
        value: toleration.value,
        effect: toleration.effect,
        seconds: toleration.toleration_seconds,
    }
}

fn state(conditions: &[Condition]) -> DiscoveryState {
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        None => DiscoveryState::NeverSynced,
        Some(ready) if ready.status == "True" => DiscoveryState::Synced,
        Some(ready) if ready.status == "False" => {
            DiscoveryState::Failing { reason: ready.reason.clone(), message: ready.message.clone() }
        }
        Some(_) => DiscoveryState::NeverSynced,
    }
}

#[cfg(test)]
mod tests {
    use drop_planner::{DiscoveryState, WrittenImage};
    use serde_json::{Value, json};

    use super::{child, discovery, set};
    use crate::watch::images::image;

    const DIGEST: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";

    fn discovered(references: &[&str]) -> drop_planner::Discovery {
        let images: Vec<Value> =
            references.iter().map(|image| json!({ "image": image, "score": 1, "source": "s" })).collect();
        let object = json!({
            "metadata": { "name": "d" },
            "spec": { "sources": [] },
            "status": { "discoveredImages": images },
        });
        discovery(serde_json::from_value(object).unwrap())
    }

    fn parts(reference: &str) -> WrittenImage {
        discovered(&[reference]).images.sound.remove(0).written
    }

    #[test]
    fn discovered_references_are_taken_apart() {
        let written = |image: &str, tag: Option<&str>, digest: Option<&str>| WrittenImage {
            image: image.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        };
        assert_eq!(parts("nginx"), written("nginx", None, None));
        assert_eq!(parts("reg.test:5000/app"), written("reg.test:5000/app", None, None));
        assert_eq!(parts("reg.test:5000/app:v1"), written("reg.test:5000/app", Some("v1"), None));
        assert_eq!(parts(&format!("reg.test/app@{DIGEST}")), written("reg.test/app", None, Some(DIGEST)));
        assert_eq!(parts(&format!("reg.test/app:v1@{DIGEST}")), written("reg.test/app", None, Some(DIGEST)));
    }

    #[test]
    fn what_is_no_reference_is_told_and_the_others_go_on() {
        let id = format!("sha256:{}", "0".repeat(64));
        let found =
            discovered(&["Upper/Case:1", "reg.test/app:1", "", &id, "a:b:c", "reg.test/app@sha256:0"]);
        assert_eq!(found.images.sound.len(), 1);
        assert_eq!(found.images.malformed.len(), 5, "{:?}", found.images.malformed);
        assert!(found.images.malformed[0].contains("Upper/Case:1"), "{:?}", found.images.malformed);
    }

    #[test]
    fn only_condition_ready_makes_a_list_reliable() {
        let with = |status: &str| {
            let condition = json!({
                "type": "Ready", "status": status, "reason": "DNSError", "message": "no such host",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            });
            let object = json!({
                "metadata": { "name": "d" },
                "spec": { "sources": [] },
                "status": { "conditions": [condition] },
            });
            discovery(serde_json::from_value(object).unwrap()).state
        };
        assert_eq!(discovered(&[]).state, DiscoveryState::NeverSynced);
        assert_eq!(with("Unknown"), DiscoveryState::NeverSynced);
        assert_eq!(with("True"), DiscoveryState::Synced);
        assert!(matches!(with("False"), DiscoveryState::Failing { reason, .. } if reason == "DNSError"));
    }

    #[test]
    fn a_malformed_image_leaves_the_others_and_malformed_settings_leave_nothing() {
        let row = |spec: Value| {
            set(serde_json::from_value(json!({ "metadata": { "name": "s" }, "spec": spec })).unwrap())
        };
        let one = row(json!({ "images": [{ "image": "nginx:1" }, { "image": "redis", "tag": "" }] }));
        assert_eq!(one.problem, None);
        assert_eq!(one.images.sound.len(), 1);
        assert_eq!(one.images.sound[0].written.tag, None);
        assert!(one.images.malformed[0].starts_with("spec.images[0].image"), "{:?}", one.images.malformed);
        let all = row(json!({ "tolerations": [{ "operator": "Maybe" }] }));
        assert!(all.problem.unwrap().contains("spec.tolerations[0].operator"));
    }

    #[test]
    fn a_set_without_a_spec_says_so_and_keeps_its_status() {
        let object =
            json!({ "metadata": { "name": "s" }, "status": { "imagesManaged": 3, "conditions": [] } });
        let row = set(serde_json::from_value(object).unwrap());
        assert!(row.problem.unwrap().contains("apply it again"));
        assert_eq!(row.status.images_managed, 3);
    }

    #[test]
    fn a_child_is_told_by_its_controller() {
        let row = |kind: &str, controller: bool| {
            let owner = json!({
                "apiVersion": "drop.corewire.io/v1alpha1", "kind": kind, "name": "s", "uid": "set-uid",
                "controller": controller,
            });
            let object = json!({
                "metadata": {
                    "name": "c", "resourceVersion": "7", "ownerReferences": [owner],
                    "labels": { "drop.corewire.io/imageset": "s", "other": "label" },
                },
                "spec": { "image": "nginx", "tag": "", "priority": 3 },
            });
            image(serde_json::from_value(object).unwrap()).child
        };
        let child = row("CachedImageSet", true).unwrap();
        assert_eq!((child.set_uid.as_str(), child.resource_version), ("set-uid", 7));
        assert_eq!(child.label.as_deref(), Some("s"));
        assert_eq!(child.normalised.as_deref(), Some("docker.io/library/nginx:latest"));
        let spec = child.spec.unwrap();
        assert_eq!((spec.image.tag, spec.priority), (None, Some(3)));
        assert_eq!(row("CachedImageSet", false), None);
        assert_eq!(row("Deployment", true), None);
    }

    #[test]
    fn a_child_that_cannot_be_read_is_a_child_all_the_same() {
        let owner = json!({
            "apiVersion": "drop.corewire.io/v1alpha1", "kind": "CachedImageSet", "name": "s", "uid": "u",
            "controller": true,
        });
        let object = json!({ "metadata": { "name": "c", "ownerReferences": [owner] } });
        let row = image(serde_json::from_value(object).unwrap());
        assert_eq!(row.child.unwrap().spec, None);
        assert_eq!(child(&Default::default(), None), None);
    }
}
