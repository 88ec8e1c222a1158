//! What the metrics show of the cluster, gathered once a pass.

use drop_planner::{Cluster, Waiting};
use drop_protocol::{GrantState, NodeLease, ReportEntry};

use super::{ImageState, Images, Snapshot};

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
            waiting: waiting.counts().into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect(),
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

impl Images {
    /// Counts what is new in a node's report.
    pub fn reported(&self, before: Option<&NodeLease>, after: &NodeLease) {
        let Some(before) = before.and_then(|lease| lease.report.as_ref()) else { return };
        for (uid, entry) in after.report.iter().flat_map(|report| &report.images) {
            let known = before.images.get(uid).filter(|known| known.reference == entry.reference);
            let attempts = |entry: &ReportEntry| entry.failure.as_ref().map_or(0, |failure| failure.attempts);
            if entry.pulled_at.is_some() && entry.pulled_at != known.and_then(|known| known.pulled_at) {
                self.cached(repository(&entry.reference));
            }
            if attempts(entry) > known.map_or(0, attempts) {
                self.failed(repository(&entry.reference));
            }
        }
    }
}

/// A reference without tag and digest: `spec.image`.
fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::repository;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(repository("nginx:1.25"), "nginx");
        assert_eq!(repository("host:5000/app"), "host:5000/app");
        assert_eq!(repository("host:5000/app:v1"), "host:5000/app");
        assert_eq!(repository("host/app@sha256:00"), "host/app");
    }
}
