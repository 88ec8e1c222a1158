//! A PullPolicy's numbers as values: what its texts mean, and the built-in policy.

use std::time::Duration;

use crate::validation::{self, Problem};
use crate::{BackoffConfig, PullPolicySpec, duration};

/// How pulls under one policy are paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// How many nodes may pull at once; at least 1.
    pub max_concurrent_nodes: u32,
    /// The least time between starts on different nodes.
    pub min_delay: Duration,
    /// Waiting time after a first failure; never zero.
    pub backoff_initial: Duration,
    /// The longest waiting time; never zero.
    pub backoff_max: Duration,
    /// How long after a pull or check a node asks the registry again, if ever.
    pub repull_interval: Option<Duration>,
}

impl Default for Pacing {
    /// The built-in policy of images that name none.
    fn default() -> Self {
        Self {
            max_concurrent_nodes: 1,
            min_delay: Duration::from_secs(10),
            backoff_initial: Duration::from_secs(30),
            backoff_max: Duration::from_secs(300),
            repull_interval: None,
        }
    }
}

impl PullPolicySpec {
    /// What the policy says, with the built-in values where it says nothing.
    ///
    /// # Errors
    /// Everything that is wrong with the policy; none of it can be acted on then.
    pub fn pacing(&self) -> Result<Pacing, Vec<Problem>> {
        let problems = validation::pull_policy(self);
        if !problems.is_empty() {
            return Err(problems);
        }
        let built_in = Pacing::default();
        let read = |text: &str| duration::parse(text).unwrap_or_default();
        let or = |value: Duration, default: Duration| if value.is_zero() { default } else { value };
        let BackoffConfig { initial, max } = self.failure_backoff.clone().unwrap_or_default();
        Ok(Pacing {
            max_concurrent_nodes: u32::try_from(self.max_concurrent_nodes).unwrap_or(1),
            min_delay: read(&self.min_delay_between_pulls),
            backoff_initial: or(read(&initial), built_in.backoff_initial),
            backoff_max: or(read(&max), built_in.backoff_max),
            repull_interval: self.repull_interval.as_deref().map(read).filter(|interval| !interval.is_zero()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_policy_is_the_built_in_one() {
        let spec: PullPolicySpec = serde_json::from_str("{}").unwrap();
        assert_eq!(spec.pacing(), Ok(Pacing::default()));
    }

    #[test]
    fn zero_means_no_delay_no_repull_and_the_default_backoff() {
        let spec: PullPolicySpec = serde_json::from_str(
            r#"{"minDelayBetweenPulls":"0s","repullInterval":"0","failureBackoff":{"initial":"0s","max":"1h"}}"#,
        )
        .unwrap();
        let pacing = spec.pacing().unwrap();
        assert_eq!(pacing.min_delay, Duration::ZERO);
        assert_eq!(pacing.repull_interval, None);
        assert_eq!(pacing.backoff_initial, Duration::from_secs(30));
        assert_eq!(pacing.backoff_max, Duration::from_secs(3600));
    }

    #[test]
    fn a_stored_policy_with_a_bad_duration_names_the_field() {
        let spec = PullPolicySpec { min_delay_between_pulls: "soon".to_owned(), ..PullPolicySpec::default() };
        let problems = spec.pacing().unwrap_err();
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].field, "spec.minDelayBetweenPulls");
    }
}
