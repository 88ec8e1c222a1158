//! CachedImages and PullPolicies → rows, also those that don't decode or break a rule.

use drop_crds::{CachedImageSpec, ImagePullPolicy, validation};
use drop_planner::{CachedImage, PullPolicy, Toleration, TolerationOperator};
use drop_protocol::grant;
use k8s_openapi::api::core::v1;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;

use super::nodes::effect;
use super::sets;
use super::stored::{Stored, unreadable};
use crate::status;

/// A CachedImage as a row.
#[must_use]
pub fn image(object: Stored<drop_crds::CachedImage>) -> CachedImage {
    let (meta, spec, status) = object.into_parts::<CachedImageSpec, _>();
    let child = sets::child(&meta, spec.as_ref().ok());
    let (spec, problem) = match spec {
        Ok(spec) => {
            let problems = validation::cached_image(&spec);
            (spec, (!problems.is_empty()).then(|| validation::summary(&problems)))
        }
        Err(problem) => (CachedImageSpec::default(), Some(problem)),
    };
    CachedImage {
        child,
        name: meta.name.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        created: meta.creation_timestamp.map(|time| time.0).unwrap_or_default(),
        reference: spec.reference(),
        pull_policy: pull_policy(spec.image_pull_policy),
        node_selector: spec.node_selector,
        tolerations: spec.tolerations.into_iter().map(toleration).collect(),
        priority: spec.priority.unwrap_or(0),
        policy: spec.policy_ref.map(|policy| policy.name),
        secrets: spec
            .image_pull_secrets
            .into_iter()
            .map(|secret| secret.name)
            .filter(|name| !name.is_empty())
            .collect(),
        problem,
        status: status.map(status::read).unwrap_or_default(),
    }
}

/// A PullPolicy as a row.
#[must_use]
pub fn policy(object: DeserializeGuard<drop_crds::PullPolicy>) -> PullPolicy {
    let object = match object.0 {
        Ok(object) => object,
        Err(invalid) => return unreadable_policy(invalid),
    };
    let name = object.metadata.name.unwrap_or_default();
    let spec = object.spec;
    let (pacing, problem) = match spec.pacing() {
        Ok(pacing) => (pacing, None),
        Err(problems) => (drop_crds::pacing::Pacing::default(), Some(validation::summary(&problems))),
    };
    PullPolicy {
        name,
        max_concurrent_nodes: pacing.max_concurrent_nodes,
        min_delay: pacing.min_delay,
        backoff_initial: pacing.backoff_initial,
        backoff_max: pacing.backoff_max,
        repull_interval: pacing.repull_interval,
        node_selector: spec.node_selector,
        tolerations: spec.tolerations.into_iter().map(toleration).collect(),
        problem,
    }
}

fn unreadable_policy(invalid: InvalidObject) -> PullPolicy {
    let pacing = drop_crds::pacing::Pacing::default();
    PullPolicy {
        name: invalid.metadata.name.unwrap_or_default(),
        max_concurrent_nodes: pacing.max_concurrent_nodes,
        min_delay: pacing.min_delay,
        backoff_initial: pacing.backoff_initial,
        backoff_max: pacing.backoff_max,
        problem: Some(unreadable(&invalid.error)),
        ..PullPolicy::default()
    }
}

/// The pull policy as the programs tell it to each other.
pub(super) fn pull_policy(policy: ImagePullPolicy) -> grant::ImagePullPolicy {
    match policy {
        ImagePullPolicy::Always => grant::ImagePullPolicy::Always,
        ImagePullPolicy::IfNotPresent => grant::ImagePullPolicy::IfNotPresent,
        ImagePullPolicy::Never => grant::ImagePullPolicy::Never,
    }
}

fn toleration(toleration: v1::Toleration) -> Toleration {
    Toleration {
        key: toleration.key.unwrap_or_default(),
        operator: match toleration.operator.as_deref() {
            None | Some("" | "Equal") => TolerationOperator::Equal,
            Some("Exists") => TolerationOperator::Exists,
            Some(_) => TolerationOperator::Other,
        },
        value: toleration.value.unwrap_or_default(),
        effect: toleration.effect.filter(|text| !text.is_empty()).map(|text| effect(&text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{image, policy};

    #[test]
    fn an_image_without_a_spec_becomes_a_row_that_says_so() {
        let object = json!({ "metadata": { "name": "old", "uid": "u", "generation": 3 } });
        let row = image(serde_json::from_value(object).unwrap());
        assert_eq!((row.name.as_str(), row.uid.as_str(), row.generation), ("old", "u", 3));
        assert!(row.problem.unwrap().contains("apply it again"));
    }

    #[test]
    fn a_spec_that_cannot_be_read_hides_no_status() {
        let object = json!({
            "metadata": { "name": "old" }, "spec": { "image": 7 },
            "status": { "observedGeneration": 2, "phase": "Degraded" },
        });
        let row = image(serde_json::from_value(object).unwrap());
        assert!(row.problem.is_some());
        // Were it taken for never written, it would be written again and again.
        assert_eq!(row.status.observed_generation, Some(2));
    }

    #[test]
    fn an_image_that_breaks_a_newer_rule_names_the_field() {
        let object = json!({
            "metadata": { "name": "both" },
            "spec": { "image": "nginx", "tag": "1", "digest": format!("sha256:{}", "0".repeat(64)) },
        });
        let row = image(serde_json::from_value(object).unwrap());
        assert!(row.problem.unwrap().contains("tag"));
    }

    #[test]
    fn a_policy_with_a_malformed_duration_names_the_field() {
        let object = json!({ "metadata": { "name": "p" }, "spec": { "minDelayBetweenPulls": "soon" } });
        let row = policy(serde_json::from_value(object).unwrap());
        assert!(row.problem.unwrap().contains("spec.minDelayBetweenPulls"));
    }

    #[test]
    fn a_sound_image_has_no_problem() {
        let object = json!({
            "metadata": { "name": "app" },
            "spec": { "image": "host:5000/app", "imagePullSecrets": [{ "name": "" }, { "name": "s" }], "policyRef": { "name": "slow" } },
        });
        let row = image(serde_json::from_value(object).unwrap());
        assert_eq!(row.problem, None);
        assert_eq!(row.reference, "host:5000/app:latest");
        assert_eq!(row.secrets, ["s"]);
        assert_eq!(row.policy.as_deref(), Some("slow"));
    }
}
