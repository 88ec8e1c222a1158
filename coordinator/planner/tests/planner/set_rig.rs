//! Sets and their children in a [`Rig`]: what the API server does with planned writes, and what users do.

use std::sync::Arc;

use drop_planner::cluster::CachedImage;
use drop_planner::memory::WriteOutcome;
use drop_planner::plan::{ChildWrite, ChildWriteKind, Plan};
use drop_planner::set::{
    CachedImageSet, Child, ChildSpec, Discovery, DiscoveryState, SetImage, SetImages, SetStatus, WrittenImage,
};
use drop_planner::status::READY;

use crate::rig::Rig;

/// References as sets list them.
pub(crate) fn images(references: &[&str]) -> SetImages {
    let sound = references.iter().map(|reference| SetImage::new(WrittenImage::split(reference)).unwrap());
    SetImages { sound: sound.collect(), malformed: Vec::new() }
}

pub(crate) fn failing() -> DiscoveryState {
    let (reason, message) = ("DNSError".to_owned(), "no such host: prometheus.test".to_owned());
    DiscoveryState::Failing { reason, message }
}

impl Rig {
    /// Adds or changes a CachedImageSet; a change raises its generation.
    pub(crate) fn set(&mut self, name: &str, change: impl FnOnce(&mut CachedImageSet)) {
        let mut set = self.world.cluster.sets.get(name).map_or_else(
            || CachedImageSet {
                name: name.to_owned(),
                uid: format!("set-{name}"),
                ..CachedImageSet::default()
            },
            |set| CachedImageSet::clone(set),
        );
        set.generation += 1;
        change(&mut set);
        self.world.cluster.sets.insert(name.to_owned(), Arc::new(set));
    }

    /// A set that lists these references.
    pub(crate) fn listing(&mut self, name: &str, references: &[&str]) {
        self.set(name, |set| set.images = images(references));
    }

    pub(crate) fn discovery(&mut self, name: &str, state: DiscoveryState, references: &[&str]) {
        let discovery = Discovery { name: name.to_owned(), images: images(references), state };
        self.world.cluster.discoveries.insert(name.to_owned(), Arc::new(discovery));
    }

    /// Children of a set as `name → reference`, in order of their references.
    pub(crate) fn children(&self, set: &str) -> Vec<(String, String)> {
        let uid = &self.world.cluster.sets[set].uid;
        let mut children: Vec<(String, String)> = self
            .world
            .cluster
            .images
            .values()
            .filter(|image| image.child.as_ref().is_some_and(|child| child.set_uid == *uid))
            .map(|image| (image.name.clone(), image.reference.clone()))
            .collect();
        children.sort_by(|a, b| a.1.cmp(&b.1));
        children
    }

    /// References of the children of a set.
    pub(crate) fn references(&self, set: &str) -> Vec<String> {
        self.children(set).into_iter().map(|(_, reference)| reference).collect()
    }

    /// Name of the child of a set that is about `reference`.
    pub(crate) fn child_of(&self, set: &str, reference: &str) -> String {
        self.children(set).into_iter().find(|(_, of)| of == reference).unwrap().0
    }

    pub(crate) fn child_spec(&self, name: &str) -> ChildSpec {
        self.world.cluster.images[name].child.as_ref().unwrap().spec.clone().unwrap()
    }

    /// Somebody edits the spec of a child.
    pub(crate) fn edit_child(&mut self, name: &str, change: impl FnOnce(&mut ChildSpec)) {
        let image = Arc::clone(&self.world.cluster.images[name]);
        let child = image.child.as_ref().unwrap();
        let mut spec = child.spec.clone().unwrap();
        change(&mut spec);
        let (set_uid, label) = (child.set_uid.clone(), child.label.clone());
        self.store_child(name, &image.uid, &set_uid, label, spec);
    }

    /// A CachedImage whose controller has this uid, as the server stores it.
    pub(crate) fn store_child(
        &mut self,
        name: &str,
        uid: &str,
        set_uid: &str,
        label: Option<String>,
        spec: ChildSpec,
    ) {
        let before = self.world.cluster.images.get(name).map(|image| CachedImage::clone(image));
        let before = before.unwrap_or_else(|| CachedImage {
            name: name.to_owned(),
            uid: uid.to_owned(),
            created: self.now.wall,
            ..CachedImage::default()
        });
        let image = CachedImage {
            generation: before.generation + 1,
            reference: match (&spec.image.tag, &spec.image.digest) {
                (None, None) => format!("{}:latest", spec.image),
                _ => spec.image.to_string(),
            },
            pull_policy: spec.settings.pull_policy,
            node_selector: spec.settings.node_selector.clone(),
            policy: spec.settings.policy.clone(),
            priority: spec.priority.unwrap_or_default(),
            secrets: spec.settings.secrets.clone(),
            child: Some(Box::new(Child {
                set_uid: set_uid.to_owned(),
                resource_version: self.version(),
                being_deleted: false,
                label,
                normalised: spec.image.normalise().ok(),
                spec: Some(spec),
            })),
            ..before
        };
        self.world.cluster.images.insert(name.to_owned(), Arc::new(image));
    }

    /// What the server does with a write to a child, and what the coordinator learns of it.
    pub(crate) fn apply_child(&mut self, write: &ChildWrite) {
        let stored = self.world.cluster.images.get(&write.child).cloned();
        let outcome = match &write.kind {
            ChildWriteKind::Create { .. } if stored.is_some() => WriteOutcome::Refused,
            ChildWriteKind::Create { label, spec } => {
                let uid = format!("{}-{}", write.child, self.version());
                self.store_child(&write.child, &uid, &write.set_uid, Some(label.clone()), (**spec).clone());
                WriteOutcome::Applied
            }
            ChildWriteKind::Patch { uid, resource_version, label, spec, .. } => {
                let stored = stored.unwrap();
                let child = stored.child.as_ref().unwrap();
                assert_eq!((&stored.uid, child.resource_version), (uid, *resource_version));
                assert_eq!(child.set_uid, write.set_uid, "{write} is not the set's");
                self.store_child(&write.child, uid, &write.set_uid, Some(label.clone()), (**spec).clone());
                WriteOutcome::Applied
            }
            ChildWriteKind::Delete { uid, resource_version } => {
                let stored = stored.unwrap();
                let child = stored.child.as_ref().unwrap();
                assert_eq!((&stored.uid, child.resource_version), (uid, *resource_version));
                assert_eq!(child.set_uid, write.set_uid, "{write} is not the set's");
                self.world.cluster.images.remove(&write.child);
                WriteOutcome::Applied
            }
        };
        self.world.memory.child_settled(write, outcome, self.now);
        self.child_writes.push((self.now.monotonic, write.clone()));
    }

    pub(crate) fn apply_sets(&mut self, plan: &Plan) {
        for write in &plan.children {
            self.apply_child(write);
        }
        for write in &plan.set_statuses {
            let set = CachedImageSet {
                status: write.status.clone(),
                ..CachedImageSet::clone(&self.world.cluster.sets[&write.set])
            };
            self.world.cluster.sets.insert(write.set.clone(), Arc::new(set));
            self.world.memory.set_status_written(&write.set, self.now);
            self.set_statuses.push(write.clone());
        }
    }

    pub(crate) fn set_status(&self, set: &str) -> &SetStatus {
        &self.world.cluster.sets[set].status
    }

    /// Reason and message of a set's condition.
    pub(crate) fn says(&self, set: &str) -> (String, String) {
        let ready = self.set_status(set).condition(READY).unwrap();
        (ready.reason.clone(), ready.message.clone())
    }

    /// Everything that is written from now on until nothing is: names of children, without those of statuses.
    pub(crate) fn settle_sets(&mut self) -> Vec<String> {
        let before = self.child_writes.len();
        self.run(std::time::Duration::from_secs(30));
        self.child_writes[before..].iter().map(|(_, write)| write.child.clone()).collect()
    }
}
