//! Which Secrets agents may read: those that some imagePullSecrets names, and no others. Agents learn that by a Role.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::{CachedImage, Cluster};
use crate::memory::WriteKey;
use crate::survey::Survey;
use crate::wake::Wake;

/// While things change, the Role is rewritten no more often than this.
const GAP: Duration = Duration::from_secs(5);

/// Whether agents may not read some Secret of `image` yet. Without the Role nobody waits for it: then whoever
/// administers the cluster lets agents read Secrets in another way, or their failures tell which one they may not read.
pub(crate) fn are_pending(cluster: &Cluster, image: &CachedImage) -> bool {
    !image.secrets.is_empty() && cluster.pull_secrets.is_some() && !pending(cluster, image).is_empty()
}

/// Names of the Secrets of `image` that the Role does not let agents read.
pub(crate) fn pending<'w>(cluster: &'w Cluster, image: &'w CachedImage) -> Vec<&'w str> {
    let allowed = cluster.pull_secrets.as_ref().and_then(|stored| stored.secrets.as_ref());
    let pending = image.secrets.iter().filter(|name| allowed.is_none_or(|allowed| !allowed.contains(*name)));
    pending.map(String::as_str).collect()
}

/// What the Role is to name, if it is to be written now.
pub(crate) fn plan(survey: &Survey<'_>, wake: &Wake) -> Option<BTreeSet<String>> {
    let world = survey.world;
    let stored = world.cluster.pull_secrets.as_ref()?;
    let wanted = wanted(survey);
    if stored
        .secrets
        .as_ref()
        .is_some_and(|allowed| allowed.iter().map(String::as_str).eq(wanted.iter().copied()))
    {
        return None;
    }
    let writes = &world.memory.writes;
    let not_before = writes
        .pull_secrets
        .map(|at| at.after(GAP))
        .max(writes.left_alone_until(&WriteKey::PullSecrets))
        .max(world.memory.bursts.settled());
    if not_before.is_some_and(|at| wake.ahead(at)) {
        return None;
    }
    Some(wanted.into_iter().map(str::to_owned).collect())
}

/// What CachedImages name, and what the grants name that are being worked on: a pull in flight keeps its Secrets.
fn wanted<'w>(survey: &Survey<'w>) -> BTreeSet<&'w str> {
    let live = survey.granted.iter().map(|granted| granted.seen).filter(|seen| seen.live.is_some());
    let granted = live.filter_map(|seen| seen.lease.grant.as_ref()).flat_map(|grant| &grant.images);
    let of_grants = granted.flat_map(|image| &image.secrets);
    let of_images = survey.world.cluster.images.values().flat_map(|image| &image.secrets);
    of_images.chain(of_grants).map(String::as_str).collect()
}
