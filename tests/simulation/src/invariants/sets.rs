//! Invariant 8, of sets: nothing is taken away while it is not certain what a set wants; and in the end its children are
//! what it says.

use std::collections::BTreeMap;

use drop_planner::status::READY;
use drop_planner::{
    CachedImage, CachedImageSet, ChildWrite, ChildWriteKind, Cluster, ConditionStatus, DiscoveryState, Phase,
    SetPhase, WrittenImage,
};

use crate::simulation::Simulation;

/// Why the list of a set can't be relied on, as far as `cluster` tells.
fn uncertainty(cluster: &Cluster, set: &CachedImageSet) -> Option<String> {
    let name = set.discovery.as_ref()?;
    let why = match cluster.discoveries.get(name).map(AsRef::as_ref) {
        None => "is missing",
        Some(found) => match &found.state {
            DiscoveryState::NeverSynced => "has not looked yet",
            DiscoveryState::Failing { .. } => "fails",
            DiscoveryState::Synced if found.images.sound.is_empty() => "has found nothing",
            DiscoveryState::Synced => return None,
        },
    };
    Some(format!("DiscoveryPolicy {name} {why}"))
}

impl Simulation {
    /// A coordinator is about to write a child: it must not delete one while it knows no better.
    pub fn check_child_write(&mut self, index: usize, write: &ChildWrite) {
        if !matches!(write.kind, ChildWriteKind::Delete { .. }) {
            return;
        }
        let Some(process) = self.coordinators[index].process.as_ref() else { return };
        let cluster = &process.world.cluster;
        let Some(set) = cluster.sets.get(&write.set).filter(|set| set.uid == write.set_uid) else { return };
        if let Some(why) = uncertainty(cluster, set) {
            self.report(8, format!("{} is deleted while {why}", write.child));
        }
    }
}

/// What of sets and children is not as it should be in the end: the invariant and what is wrong.
pub(super) fn shortcoming(cluster: &Cluster) -> Option<(u8, String)> {
    let orphan = cluster.images.values().find(|image| {
        image.child.as_ref().is_some_and(|child| cluster.sets.values().all(|set| set.uid != child.set_uid))
    });
    if let Some(image) = orphan {
        return Some((3, format!("{} outlives its set", image.name)));
    }
    cluster.sets.values().find_map(|set| {
        if set.being_deleted {
            return Some((3, format!("{} is still being deleted", set.name)));
        }
        let children: Vec<&CachedImage> = cluster
            .images
            .values()
            .map(AsRef::as_ref)
            .filter(|image| image.child.as_ref().is_some_and(|child| child.set_uid == set.uid))
            .collect();
        let wrong = wrong_children(cluster, set, &children).map(|what| (3, what));
        wrong
            .or_else(|| wrong_status(cluster, set, &children).map(|what| (5, what)))
            .map(|(invariant, what)| (invariant, format!("{}: {what}", set.name)))
    })
}

fn wrong_children(cluster: &Cluster, set: &CachedImageSet, children: &[&CachedImage]) -> Option<String> {
    let found = set.discovery.as_ref().and_then(|name| cluster.discoveries.get(name));
    let found = found.iter().flat_map(|found| &found.images.sound);
    let wanted: BTreeMap<&str, &WrittenImage> =
        set.images.sound.iter().chain(found).map(|i| (i.normalised.as_str(), &i.written)).collect();
    // Names that an earlier set of this name has left to nobody.
    let taken = cluster
        .images
        .values()
        .filter(|image| image.child.is_none() && image.name.starts_with(&format!("{}-", set.name)))
        .count();
    let mut missing = Vec::new();
    for (normalised, written) in &wanted {
        let about = |image: &&&CachedImage| {
            image.child.as_ref().is_some_and(|child| child.normalised.as_deref() == Some(normalised))
        };
        match children.iter().filter(about).collect::<Vec<_>>()[..] {
            [] => missing.push(written.to_string()),
            [image] => {
                let spec = image.child.as_ref().and_then(|child| child.spec.as_ref());
                if spec.is_none_or(|spec| spec.image != **written) {
                    return Some(format!("{} is about {spec:?}", image.name));
                }
            }
            // Somebody may have edited one that is only kept: it stays as it is until the list can be relied on.
            [..] if uncertainty(cluster, set).is_some() => {}
            [..] => return Some(format!("more than one child is about {written}")),
        }
    }
    if missing.len() > taken {
        return Some(format!("no child is about {missing:?}"));
    }
    children.iter().find_map(|image| {
        let child = image.child.as_ref()?;
        let spec = child.spec.as_ref()?;
        if spec.settings != set.settings || spec.priority.is_some() || child.label.as_ref() != Some(&set.name)
        {
            return Some(format!("{} is not as the set says: {child:?}", image.name));
        }
        let is_wanted = child.normalised.as_deref().is_some_and(|normalised| wanted.contains_key(normalised));
        (!is_wanted && uncertainty(cluster, set).is_none())
            .then(|| format!("{} is about what nobody wants", image.name))
    })
}

fn wrong_status(cluster: &Cluster, set: &CachedImageSet, children: &[&CachedImage]) -> Option<String> {
    let status = &set.status;
    if status.observed_generation != Some(set.generation) {
        return Some(format!(
            "status is about generation {:?}, not {}",
            status.observed_generation, set.generation
        ));
    }
    let ready = children.iter().filter(|image| image.status.phase == Some(Phase::Ready)).count();
    let counts = (status.images_managed as usize, status.images_ready as usize);
    if counts != (children.len(), ready) {
        return Some(format!("status counts {counts:?}, not {:?}", (children.len(), ready)));
    }
    let says = status.condition(READY).map(|condition| condition.status);
    if (says == Some(ConditionStatus::True)) != (status.phase == Some(SetPhase::Ready)) {
        return Some(format!("Ready is {says:?} in phase {:?}", status.phase));
    }
    let unsound = uncertainty(cluster, set).filter(|why| why.ends_with("missing") || why.ends_with("fails"));
    unsound
        .filter(|_| status.phase != Some(SetPhase::Degraded))
        .map(|why| format!("phase is {:?} though {why}", status.phase))
}
