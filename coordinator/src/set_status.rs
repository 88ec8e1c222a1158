//! `status` of a CachedImageSet: as the planner thinks of it ↔ as the API server stores it.

use drop_crds::cached_image_set::{self as api, CachedImageSetStatus};
use drop_planner::{SetPhase, SetStatus};
use serde_json::Value;

use crate::status::{count, int, read_condition, write_condition};

/// Fields that are left out when empty. A merge patch has to name them to clear them.
const LEFT_OUT_WHEN_EMPTY: [&str; 2] = ["observedGeneration", "phase"];

/// What is stored, as the planner thinks of it.
#[must_use]
pub fn read(status: CachedImageSetStatus) -> SetStatus {
    SetStatus {
        observed_generation: status.observed_generation,
        phase: status.phase.map(|phase| match phase {
            api::SetPhase::Pending => SetPhase::Pending,
            api::SetPhase::Ready => SetPhase::Ready,
            api::SetPhase::Degraded => SetPhase::Degraded,
        }),
        images_managed: count(status.images_managed),
        images_ready: count(status.images_ready),
        conditions: status.conditions.into_iter().map(read_condition).collect(),
    }
}

/// What the planner wants stored, as a merge patch of `status` that leaves nothing of the old one.
///
/// # Errors
/// If it has no JSON form: a time outside of what JSON can tell.
pub fn patch(status: &SetStatus) -> Result<Value, serde_json::Error> {
    let written = CachedImageSetStatus {
        observed_generation: status.observed_generation,
        phase: status.phase.map(|phase| match phase {
            SetPhase::Pending => api::SetPhase::Pending,
            SetPhase::Ready => api::SetPhase::Ready,
            SetPhase::Degraded => api::SetPhase::Degraded,
        }),
        images_managed: int(status.images_managed),
        images_ready: int(status.images_ready),
        conditions: status.conditions.iter().map(write_condition).collect(),
    };
    let mut value = serde_json::to_value(written)?;
    if let Value::Object(fields) = &mut value {
        for field in LEFT_OUT_WHEN_EMPTY {
            fields.entry(field).or_insert(Value::Null);
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use drop_planner::{Condition, ConditionStatus, SetPhase, SetStatus};
    use jiff::Timestamp;
    use serde_json::Value;

    use super::{patch, read};

    #[test]
    fn what_is_written_reads_back_the_same_and_clears_the_rest() {
        let full = SetStatus {
            observed_generation: Some(2),
            phase: Some(SetPhase::Degraded),
            images_managed: 3,
            images_ready: 1,
            conditions: vec![Condition {
                kind: "Ready".to_owned(),
                status: ConditionStatus::False,
                reason: "Degraded".to_owned(),
                message: "1/3 images are ready".to_owned(),
                observed_generation: Some(2),
                last_transition_time: Timestamp::from_second(1_700_000_000).unwrap(),
            }],
        };
        let fields: Vec<usize> = [full, SetStatus::default()]
            .into_iter()
            .map(|status| {
                let Value::Object(mut stored) = patch(&status).unwrap() else { panic!("not an object") };
                let fields = stored.len();
                stored.retain(|_, value| !value.is_null());
                assert_eq!(read(serde_json::from_value(Value::Object(stored)).unwrap()), status);
                fields
            })
            .collect();
        assert_eq!(fields[0], fields[1], "both name every field");
    }
}
