//! The committed YAML is what the types say, and says it in YAML that reads back unchanged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use drop_crds::{CachedImage, CachedImageSet, DiscoveryPolicy, PullPolicy, manifest};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml")
}

#[test]
fn the_committed_files_are_what_crdgen_writes() {
    let generated = manifest::files().unwrap();
    for (name, content) in &generated {
        let committed = std::fs::read_to_string(directory().join(name)).unwrap_or_default();
        assert!(
            committed == *content,
            "crds/yaml/{name} is out of date: run `cargo run -p drop-crds --bin crdgen` and commit the result"
        );
    }
    let expected: BTreeSet<String> = generated.into_iter().map(|(name, _)| name).collect();
    let present: BTreeSet<String> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(present, expected, "crds/yaml holds files that crdgen does not write");
}

#[test]
fn every_file_is_listed_for_installation() {
    let kustomization = std::fs::read_to_string(directory().join("../kustomization.yaml")).unwrap();
    for (name, _) in manifest::files().unwrap() {
        assert!(kustomization.contains(&format!("- yaml/{name}\n")), "crds/kustomization.yaml lacks {name}");
    }
}

#[test]
fn every_rule_survives_the_way_through_yaml() {
    let types = [CachedImage::crd(), CachedImageSet::crd(), DiscoveryPolicy::crd(), PullPolicy::crd()];
    for ((name, content), crd) in manifest::files().unwrap().into_iter().zip(types) {
        let read: CustomResourceDefinition = serde_saphyr::from_str(&content).unwrap();
        let mut expected = rules(&serde_json::to_value(crd).unwrap());
        let mut found = rules(&serde_json::to_value(read).unwrap());
        // The rule about a missing spec is added to the definition as a whole.
        found.retain(|rule| !rule.starts_with("has(self.spec)"));
        expected.sort();
        found.sort();
        assert!(!found.is_empty() && found == expected, "{name}: {found:#?} instead of {expected:#?}");
    }
}

#[test]
fn no_field_takes_null_for_a_value() {
    for (name, content) in manifest::files().unwrap() {
        assert!(!content.contains("nullable:"), "{name}");
    }
}

/// Every CEL rule in a definition.
fn rules(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(rule) if key == "rule" => vec![rule.clone()],
                other => rules(other),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(rules).collect(),
        _ => Vec::new(),
    }
}
