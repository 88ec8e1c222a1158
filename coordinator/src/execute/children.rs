//! The CachedImages that belong to sets: objects and patches.

use drop_crds::cached_image::CachedImageSpec;
use drop_crds::{IMAGE_SET_LABEL, ImagePullPolicy, PolicyReference};
use drop_planner::{ChildSpec, ChildWrite, ChildWriteKind, WrittenToleration};
use drop_protocol::grant;
use k8s_openapi::api::core::v1::{LocalObjectReference, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Preconditions};
use serde_json::{Value, json};

/// Fields of a spec that are left out when empty. A merge patch has to name them to clear them.
const LEFT_OUT_WHEN_EMPTY: [&str; 7] =
    ["tag", "digest", "imagePullSecrets", "nodeSelector", "tolerations", "priority", "policyRef"];

/// What is sent for a child.
#[derive(Debug)]
pub enum ChildRequest {
    /// The object to create.
    Create(Box<drop_crds::CachedImage>),
    /// A merge patch of the version that was seen.
    Patch(Value),
    /// What has to hold for it to be deleted.
    Delete(DeleteParams),
}

/// The request of a planned write.
///
/// # Errors
/// If it has no JSON form.
pub fn request(write: &ChildWrite) -> Result<ChildRequest, serde_json::Error> {
    Ok(match &write.kind {
        ChildWriteKind::Create { label, spec } => {
            ChildRequest::Create(Box::new(object(write, label, api_spec(spec))))
        }
        ChildWriteKind::Patch { uid, resource_version, label, spec, unselected } => {
            let mut spec = serde_json::to_value(api_spec(spec))?;
            clear_the_rest(&mut spec, unselected);
            ChildRequest::Patch(json!({
                "metadata": {
                    "uid": uid,
                    "resourceVersion": resource_version.to_string(),
                    "labels": { IMAGE_SET_LABEL: label },
                },
                "spec": spec,
            }))
        }
        ChildWriteKind::Delete { uid, resource_version } => ChildRequest::Delete(DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.clone()),
                resource_version: Some(resource_version.to_string()),
            }),
            ..DeleteParams::default()
        }),
    })
}

/// Owned by its set, which does not have to wait for it to go: `blockOwnerDeletion` would need a right to the finalizers
/// of sets.
fn object(write: &ChildWrite, label: &str, spec: CachedImageSpec) -> drop_crds::CachedImage {
    drop_crds::CachedImage {
        metadata: ObjectMeta {
            name: Some(write.child.clone()),
            labels: Some([(IMAGE_SET_LABEL.to_owned(), label.to_owned())].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: format!("{}/{}", drop_crds::GROUP, drop_crds::VERSION),
                kind: "CachedImageSet".to_owned(),
                name: write.set.clone(),
                uid: write.set_uid.clone(),
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

fn api_spec(spec: &ChildSpec) -> CachedImageSpec {
    let ChildSpec { image, settings, priority } = spec.clone();
    CachedImageSpec {
        image: image.image,
        tag: image.tag,
        digest: image.digest,
        image_pull_policy: match settings.pull_policy {
            grant::ImagePullPolicy::Always => ImagePullPolicy::Always,
            grant::ImagePullPolicy::IfNotPresent => ImagePullPolicy::IfNotPresent,
            grant::ImagePullPolicy::Never => ImagePullPolicy::Never,
        },
        image_pull_secrets: settings.secrets.into_iter().map(|name| LocalObjectReference { name }).collect(),
        node_selector: settings.node_selector,
        tolerations: settings.tolerations.into_iter().map(toleration).collect(),
        priority,
        policy_ref: settings.policy.map(|name| PolicyReference { name }),
    }
}

fn toleration(toleration: WrittenToleration) -> Toleration {
    let WrittenToleration { key, operator, value, effect, seconds } = toleration;
    Toleration { key, operator, value, effect, toleration_seconds: seconds }
}

/// Lets a merge patch leave nothing of the spec that was there before.
fn clear_the_rest(spec: &mut Value, unselected: &[String]) {
    let Some(fields) = spec.as_object_mut() else { return };
    for field in LEFT_OUT_WHEN_EMPTY {
        fields.entry(field).or_insert(Value::Null);
    }
    if let Some(selector) = fields.get_mut("nodeSelector").and_then(Value::as_object_mut) {
        for key in unselected {
            selector.insert(key.clone(), Value::Null);
        }
    }
}

#[cfg(test)]
mod tests {
    use drop_planner::{ChildSettings, ChildSpec, ChildWrite, ChildWriteKind, WrittenImage};
    use serde_json::{Value, json};

    use super::{ChildRequest, request};

    fn write(kind: ChildWriteKind) -> ChildRequest {
        let (set, set_uid) = ("tools".to_owned(), "set-uid".to_owned());
        request(&ChildWrite { child: "tools-app".to_owned(), set, set_uid, generation: 1, kind }).unwrap()
    }

    fn patch(settings: ChildSettings, unselected: &[&str]) -> Value {
        let image = WrittenImage { image: "reg.test/app".to_owned(), ..WrittenImage::default() };
        let request = write(ChildWriteKind::Patch {
            uid: "u".to_owned(),
            resource_version: 7,
            label: "tools".to_owned(),
            spec: Box::new(ChildSpec { image, settings, priority: None }),
            unselected: unselected.iter().map(|key| (*key).to_owned()).collect(),
        });
        let ChildRequest::Patch(patch) = request else { panic!("no patch") };
        patch
    }

    #[test]
    fn a_child_is_created_with_its_set_as_controller_and_nothing_else_of_it() {
        let image = WrittenImage {
            image: "reg.test/app".to_owned(),
            tag: Some("1".to_owned()),
            ..WrittenImage::default()
        };
        let spec = Box::new(ChildSpec { image, ..ChildSpec::default() });
        let ChildRequest::Create(object) = write(ChildWriteKind::Create { label: "tools".to_owned(), spec })
        else {
            panic!("not created")
        };
        assert_eq!(
            serde_json::to_value(object).unwrap(),
            json!({
                "apiVersion": "drop.corewire.io/v1alpha1",
                "kind": "CachedImage",
                "metadata": {
                    "name": "tools-app",
                    "labels": { "drop.corewire.io/imageset": "tools" },
                    "ownerReferences": [{
                        "apiVersion": "drop.corewire.io/v1alpha1", "kind": "CachedImageSet", "name": "tools",
                        "uid": "set-uid", "controller": true,
                    }],
                },
                "spec": { "image": "reg.test/app", "tag": "1", "imagePullPolicy": "Always" },
            })
        );
    }

    #[test]
    fn a_patch_is_conditional_and_clears_what_the_set_does_not_say() {
        let patch = patch(ChildSettings::default(), &["old"]);
        assert_eq!(
            (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
            (&json!("u"), &json!("7"))
        );
        for field in
            ["tag", "digest", "imagePullSecrets", "nodeSelector", "tolerations", "priority", "policyRef"]
        {
            assert_eq!(patch["spec"].get(field), Some(&Value::Null), "{field}");
        }
    }

    #[test]
    fn a_patch_takes_away_single_keys_of_a_selector() {
        let settings = ChildSettings {
            node_selector: [("new".to_owned(), "1".to_owned())].into(),
            ..ChildSettings::default()
        };
        assert_eq!(patch(settings, &["old"])["spec"]["nodeSelector"], json!({ "new": "1", "old": null }));
    }

    #[test]
    fn a_deletion_is_conditional() {
        let deletion = ChildWriteKind::Delete { uid: "u".to_owned(), resource_version: 7 };
        let ChildRequest::Delete(params) = write(deletion) else { panic!("not deleted") };
        let preconditions = params.preconditions.unwrap();
        assert_eq!(
            (preconditions.uid.as_deref(), preconditions.resource_version.as_deref()),
            (Some("u"), Some("7"))
        );
    }
}
