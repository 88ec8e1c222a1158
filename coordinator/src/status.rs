//! `status` of a CachedImage: as the planner thinks of it ↔ as the API server stores it.

use std::sync::Arc;

use drop_crds::cached_image::{self as api, CachedImageStatus};
use drop_planner::{
    Condition, ConditionStatus, DigestNodes, FailedNode, ImageStatus, Phase, RegistryCheck, WaitingNodes,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use serde_json::Value;

/// Fields that are left out when empty. A merge patch has to name them to clear them.
const LEFT_OUT_WHEN_EMPTY: [&str; 9] = [
    "observedGeneration",
    "phase",
    "resolvedDigest",
    "lastPulledAt",
    "lastAttemptedAt",
    "failedNodes",
    "digests",
    "registryCheck",
    "waiting",
];
/// The same of `registryCheck`.
const LEFT_OUT_OF_CHECK: &str = "earlierDigests";

/// What is stored, as the planner thinks of it.
#[must_use]
pub fn read(status: CachedImageStatus) -> ImageStatus {
    ImageStatus {
        observed_generation: status.observed_generation,
        phase: status.phase.map(|phase| match phase {
            api::Phase::Pending => Phase::Pending,
            api::Phase::Pulling => Phase::Pulling,
            api::Phase::Ready => Phase::Ready,
            api::Phase::Degraded => Phase::Degraded,
        }),
        ready: status.ready,
        resolved_digest: status.resolved_digest,
        nodes_targeted: count(status.nodes_targeted),
        nodes_ready: count(status.nodes_ready),
        nodes_pulling: count(status.nodes_pulling),
        nodes_failing: count(status.nodes_failing),
        nodes_waiting: count(status.nodes_waiting),
        cached_nodes: status.cached_nodes.into_iter().map(Arc::from).collect(),
        consecutive_failures: count(status.consecutive_failures),
        last_pulled_at: status.last_pulled_at.map(|time| time.0),
        last_attempted_at: status.last_attempted_at.map(|time| time.0),
        failed_nodes: status
            .failed_nodes
            .into_iter()
            .map(|failed| FailedNode {
                node: failed.node,
                reason: failed.reason,
                message: failed.message,
                attempts: count(failed.attempts),
                since: failed.since.map(|time| time.0),
            })
            .collect(),
        failed_nodes_total: count(status.failed_nodes_total),
        digests: status
            .digests
            .into_iter()
            .map(|held| DigestNodes { digest: held.digest, nodes: count(held.nodes), newest: held.newest })
            .collect(),
        digests_total: count(status.digests_total),
        // Without a time nobody knows how old it is: it was not written by us.
        registry_check: status.registry_check.and_then(|check| {
            Some(RegistryCheck {
                reference: check.reference,
                digest: check.digest,
                at: check.at?.0,
                earlier_digests: check.earlier_digests,
            })
        }),
        waiting: status
            .waiting
            .into_iter()
            .map(|waiting| WaitingNodes { reason: waiting.reason, nodes: count(waiting.nodes) })
            .collect(),
        conditions: status.conditions.into_iter().map(read_condition).collect(),
    }
}

/// What the planner wants stored, as a merge patch of `status` that leaves nothing of the old one.
///
/// # Errors
/// If it has no JSON form: a time outside of what JSON can tell.
pub fn patch(status: &ImageStatus) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(write(status))?;
    if let Value::Object(fields) = &mut value {
        for field in LEFT_OUT_WHEN_EMPTY {
            fields.entry(field).or_insert(Value::Null);
        }
        if let Some(Value::Object(check)) = fields.get_mut("registryCheck") {
            check.entry(LEFT_OUT_OF_CHECK).or_insert(Value::Null);
        }
    }
    Ok(value)
}

fn write(status: &ImageStatus) -> CachedImageStatus {
    CachedImageStatus {
        observed_generation: status.observed_generation,
        phase: status.phase.map(|phase| match phase {
            Phase::Pending => api::Phase::Pending,
            Phase::Pulling => api::Phase::Pulling,
            Phase::Ready => api::Phase::Ready,
            Phase::Degraded => api::Phase::Degraded,
        }),
        ready: status.ready.clone(),
        resolved_digest: status.resolved_digest.clone(),
        nodes_targeted: int(status.nodes_targeted),
        nodes_ready: int(status.nodes_ready),
        nodes_pulling: int(status.nodes_pulling),
        nodes_failing: int(status.nodes_failing),
        nodes_waiting: int(status.nodes_waiting),
        cached_nodes: status.cached_nodes.iter().map(ToString::to_string).collect(),
        consecutive_failures: int(status.consecutive_failures),
        last_pulled_at: status.last_pulled_at.map(meta::Time),
        last_attempted_at: status.last_attempted_at.map(meta::Time),
        failed_nodes: status
            .failed_nodes
            .iter()
            .map(|failed| api::FailedNode {
                node: failed.node.clone(),
                reason: failed.reason.clone(),
                message: failed.message.clone(),
                attempts: int(failed.attempts),
                since: failed.since.map(meta::Time),
            })
            .collect(),
        failed_nodes_total: int(status.failed_nodes_total),
        digests: status
            .digests
            .iter()
            .map(|held| api::DigestNodes {
                digest: held.digest.clone(),
                nodes: int(held.nodes),
                newest: held.newest,
            })
            .collect(),
        digests_total: int(status.digests_total),
        registry_check: status.registry_check.as_ref().map(|check| api::RegistryCheck {
            reference: check.reference.clone(),
            digest: check.digest.clone(),
            at: Some(meta::Time(check.at)),
            earlier_digests: check.earlier_digests.clone(),
        }),
        waiting: status
            .waiting
            .iter()
            .map(|waiting| api::WaitingNodes { reason: waiting.reason.clone(), nodes: int(waiting.nodes) })
            .collect(),
        conditions: status.conditions.iter().map(write_condition).collect(),
    }
}

/// A condition as the planner thinks of it.
pub(crate) fn read_condition(condition: meta::Condition) -> Condition {
    Condition {
        kind: condition.type_,
        status: match condition.status.as_str() {
            "True" => ConditionStatus::True,
            "False" => ConditionStatus::False,
            _ => ConditionStatus::Unknown,
        },
        reason: condition.reason,
        message: condition.message,
        observed_generation: condition.observed_generation,
        last_transition_time: condition.last_transition_time.0,
    }
}

/// A condition as the API server stores it.
pub(crate) fn write_condition(condition: &Condition) -> meta::Condition {
    meta::Condition {
        type_: condition.kind.clone(),
        status: match condition.status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        }
        .to_owned(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        observed_generation: condition.observed_generation,
        last_transition_time: meta::Time(condition.last_transition_time),
    }
}

pub(crate) fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

pub(crate) fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use drop_planner::{
        Condition, ConditionStatus, DigestNodes, FailedNode, ImageStatus, Phase, RegistryCheck, WaitingNodes,
    };
    use jiff::Timestamp;
    use serde_json::Value;

    use super::{patch, read};

    fn full() -> ImageStatus {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        ImageStatus {
            observed_generation: Some(2),
            phase: Some(Phase::Degraded),
            ready: "1/6".to_owned(),
            resolved_digest: Some("sha256:0".to_owned()),
            nodes_targeted: 6,
            nodes_ready: 1,
            nodes_pulling: 2,
            nodes_failing: 1,
            nodes_waiting: 2,
            cached_nodes: vec!["a".into()],
            consecutive_failures: 4,
            last_pulled_at: Some(time),
            last_attempted_at: Some(time),
            failed_nodes: vec![FailedNode {
                node: "b".to_owned(),
                reason: "ErrImagePull".to_owned(),
                message: "not found".to_owned(),
                attempts: 4,
                since: Some(time),
            }],
            failed_nodes_total: 1,
            digests: vec![DigestNodes { digest: "sha256:0".to_owned(), nodes: 1, newest: true }],
            digests_total: 1,
            registry_check: Some(RegistryCheck {
                reference: "app:1".to_owned(),
                digest: "sha256:0".to_owned(),
                at: time,
                earlier_digests: vec!["sha256:1".to_owned()],
            }),
            waiting: vec![WaitingNodes { reason: "BackingOff".to_owned(), nodes: 1 }],
            conditions: vec![Condition {
                kind: "Ready".to_owned(),
                status: ConditionStatus::False,
                reason: "ErrImagePull".to_owned(),
                message: "not found".to_owned(),
                observed_generation: Some(2),
                last_transition_time: time,
            }],
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        for status in [full(), ImageStatus::default()] {
            let Value::Object(mut stored) = patch(&status).unwrap() else { panic!("not an object") };
            stored.retain(|_, value| !value.is_null());
            assert_eq!(read(serde_json::from_value(Value::Object(stored)).unwrap()), status);
        }
    }

    #[test]
    fn a_patch_clears_every_field_that_it_does_not_set() {
        let (Value::Object(full), Value::Object(empty)) =
            (patch(&full()).unwrap(), patch(&ImageStatus::default()).unwrap())
        else {
            panic!("not objects")
        };
        for field in full.keys() {
            assert!(empty.contains_key(field), "{field} would survive");
        }
    }

    #[test]
    fn the_largest_status_stays_below_half_a_mebibyte() {
        let name = |n: usize| format!("{n:04}-{}", "n".repeat(248));
        let mut status = full();
        // As many names as the planner lists, and every other list at its longest.
        status.cached_nodes = (0..440 * 1024 / 256).map(|n| name(n).into()).collect();
        status.failed_nodes = (0..drop_crds::cached_image::MAX_FAILED_NODES)
            .map(|n| FailedNode { node: name(n), message: "m".repeat(256), ..status.failed_nodes[0].clone() })
            .collect();
        let digest = format!("sha256:{}", "0".repeat(64));
        let held = DigestNodes { digest, nodes: 5000, newest: false };
        status.digests = vec![held; drop_crds::cached_image::MAX_DIGESTS];
        let waiting = WaitingNodes { reason: "WaitingForPlatformProbe".to_owned(), nodes: 5000 };
        status.waiting = vec![waiting; drop_crds::cached_image::MAX_WAITING];
        status.conditions = vec![Condition { message: "m".repeat(2048), ..status.conditions[0].clone() }; 2];
        let bytes = patch(&status).unwrap().to_string().len();
        assert!((460_000..512 * 1024).contains(&bytes), "{bytes}");
    }

    #[test]
    fn a_patch_leaves_nothing_of_an_earlier_answer() {
        let mut status = full();
        let full = patch(&status).unwrap();
        status.registry_check.as_mut().unwrap().earlier_digests.clear();
        let without = patch(&status).unwrap();
        for field in full["registryCheck"].as_object().unwrap().keys() {
            assert!(without["registryCheck"].get(field).is_some(), "{field} would survive");
        }
    }
}
