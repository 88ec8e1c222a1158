//! What one grant carries.

use drop_protocol::names::{GRANT_MAX_BYTES, GRANT_MAX_IMAGES};
use drop_protocol::{Grant, GrantedImage, grant};

use super::candidates::Candidate;
use super::{DURATION, new_id};
use crate::plan::{Issue, IssueKind};
use crate::survey::{Need, Survey};

/// The issue of a new grant to `candidate`: its due images of the pacing in `order`, none of a priority value above
/// `limit`.
pub(super) fn issue(
    survey: &Survey<'_>,
    order: &[usize],
    pacing: usize,
    candidate: &Candidate,
    limit: Option<i32>,
    sequence: u64,
) -> Option<Issue> {
    let node = survey.nodes.get(candidate.node)?;
    let lease = survey.world.cluster.leases.get(node.name)?;
    let limit = limit.map_or(i32::MAX, |limit| limit.max(candidate.priority));
    let (images, due_since) = order
        .iter()
        .filter_map(|ix| {
            let facts = survey.images.get(*ix)?;
            if facts.pacing != pacing || facts.image.priority > limit {
                return None;
            }
            let Need::Due { since, refresh } = facts.pair(candidate.node)?.need else { return None };
            let image = GrantedImage {
                name: facts.image.name.clone(),
                uid: facts.image.uid.clone(),
                reference: facts.image.reference.clone(),
                pull_policy: facts.image.pull_policy,
                refresh,
                secrets: facts.image.secrets.clone(),
            };
            Some((image, since))
        })
        .take(GRANT_MAX_IMAGES)
        .unzip();
    let mut grant = Grant {
        version: grant::VERSION,
        id: new_id(survey, sequence),
        epoch: survey.leadership.epoch.clone(),
        policy: survey.pacings.all.get(pacing)?.name.to_owned(),
        issued_at: survey.now.wall,
        withdrawn: None,
        images,
    };
    while grant.images.len() > 1 && grant.encode().len() > GRANT_MAX_BYTES {
        grant.images.pop();
    }
    (!grant.images.is_empty()).then(|| Issue {
        node: node.name.to_owned(),
        lease_uid: lease.uid.clone(),
        resource_version: lease.resource_version,
        grant,
        duration: DURATION,
        due_since,
        kind: IssueKind::New,
    })
}

/// From here on the pairs of `issue` count as in flight.
pub(super) fn note_in_flight(survey: &mut Survey<'_>, node: usize, issue: &Issue) {
    for granted in &issue.grant.images {
        if let Some(pair) = survey.pair_mut(&granted.uid, node) {
            pair.need = Need::InFlight;
        }
    }
}
