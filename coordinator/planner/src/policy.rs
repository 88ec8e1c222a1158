//! The pacing that applies to each image: its PullPolicy, or the built-in one.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::{Cluster, PullPolicy};
use crate::waiting::WaitReason;

/// A backoff shorter than this would let a failing pair spin.
const LEAST_BACKOFF: Duration = Duration::from_secs(1);

/// Pacing under one name.
#[derive(Debug, Clone)]
pub(crate) struct Pacing<'w> {
    /// Name of the PullPolicy; empty for the built-in one.
    pub(crate) name: &'w str,
    pub(crate) object: Option<&'w PullPolicy>,
    /// Why nothing can be pulled under it.
    pub(crate) obstacle: Option<WaitReason>,
    pub(crate) max_nodes: u32,
    pub(crate) delay: Duration,
    pub(crate) initial: Duration,
    pub(crate) max: Duration,
    pub(crate) repull: Option<Duration>,
}

/// All pacings that images name, and an index by name.
#[derive(Debug)]
pub(crate) struct Pacings<'w> {
    pub(crate) all: Vec<Pacing<'w>>,
    by_name: BTreeMap<&'w str, usize>,
}

impl<'w> Pacings<'w> {
    pub(crate) fn new(cluster: &'w Cluster) -> Self {
        let mut pacings = Self { all: Vec::new(), by_name: BTreeMap::new() };
        for image in cluster.images.values() {
            let name = image.policy.as_deref().unwrap_or_default();
            if !pacings.by_name.contains_key(name) {
                pacings.by_name.insert(name, pacings.all.len());
                let object = cluster.policies.get(name).map(AsRef::as_ref);
                pacings.all.push(if name.is_empty() { built_in() } else { pacing(name, object) });
            }
        }
        pacings
    }

    /// Index of the pacing that an image with this policy has.
    pub(crate) fn index(&self, policy: Option<&str>) -> usize {
        self.by_name.get(policy.unwrap_or_default()).copied().unwrap_or_default()
    }
}

/// One node, 10 s apart, 30 s up to 5 min: shared by all images without a policy.
const fn built_in<'w>() -> Pacing<'w> {
    Pacing {
        name: "",
        object: None,
        obstacle: None,
        max_nodes: 1,
        delay: Duration::from_secs(10),
        initial: Duration::from_secs(30),
        max: Duration::from_secs(300),
        repull: None,
    }
}

fn pacing<'w>(name: &'w str, object: Option<&'w PullPolicy>) -> Pacing<'w> {
    let Some(policy) = object else {
        return Pacing { name, obstacle: Some(WaitReason::PolicyNotFound), ..built_in() };
    };
    Pacing {
        name,
        object,
        obstacle: policy.problem.is_some().then_some(WaitReason::InvalidPolicy),
        max_nodes: policy.max_concurrent_nodes,
        delay: policy.min_delay,
        initial: policy.backoff_initial.max(LEAST_BACKOFF),
        max: policy.backoff_max.max(LEAST_BACKOFF),
        repull: policy.repull_interval,
    }
}
