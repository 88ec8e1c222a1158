//! What the metrics show of the cluster, gathered once a pass.

use drop_planner::{Cluster, WaitReason, Waiting};
use drop_protocol::{GrantState, Monotonic};

use super::{ImageState, Snapshot, repository};

impl Snapshot {
    /// Gathers what `cluster` and the reasons to wait show.
    #[must_use]
    pub fn of(cluster: &Cluster, waiting: &Waiting) -> Self {
        let (mut active_pulls, mut live_grants) = (0, 0);
        for lease in cluster.leases.values() {
            match lease.state() {
                GrantState::Taken => {
                    active_pulls += 1;
                    live_grants += 1;
                }
                GrantState::Untaken => live_grants += 1,
                GrantState::None | GrantState::Ended(_) => {}
            }
        }
        let counts = waiting.counts();
        let min_delay = WaitReason::MinDelay { until: Monotonic::default() }.as_str();
        let due = [WaitReason::WaitingForSlot.as_str(), WaitReason::NodeBusy.as_str(), min_delay];
        let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        Self {
            objects: vec![
                ("cachedimages", cluster.images.len()),
                ("cachedimagesets", cluster.sets.len()),
                ("discoverypolicies", cluster.discoveries.len()),
                ("pullpolicies", cluster.policies.len()),
                ("nodes", cluster.nodes.len()),
                ("agents", cluster.agents.len()),
                ("leases", cluster.leases.len()),
            ],
            due: due.iter().filter_map(|reason| counts.get(reason)).sum(),
            waiting: counts.into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect(),
            active_pulls,
            live_grants,
            images: cluster
                .images
                .values()
                .map(|image| ImageState {
                    name: image.name.clone(),
                    image: repository(&image.reference).to_owned(),
                    targeted: int(image.status.nodes_targeted),
                    cached: int(image.status.nodes_ready),
                    consecutive_failures: int(image.status.consecutive_failures),
                })
                .collect(),
        }
    }
}
