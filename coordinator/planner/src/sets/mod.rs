//! CachedImageSets: which children are to be made, put right and taken away, and what each set's status says.
//!
//! | module | question |
//! |---|---|
//! | [`wanted`] | Which images does a set want, and is that all there is to know? |
//! | [`children`] | Which children are there, what is wrong with them, and which are missing? |
//! | [`names`] | What is a child called? |
//! | [`status`] | What does the status of a set say, and is it worth a write or an event? |
//!
//! A child is a CachedImage whose controller is the set, by uid. Nothing else is ever touched, whatever its name or labels.
//! While it is not certain what a set wants, nothing is taken away.

mod children;
mod names;
mod status;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_protocol::Now;

use crate::cluster::{CachedImage, World};
use crate::plan::{ChildWrite, ChildWriteKind, SetStatusWrite};
use crate::set::{CachedImageSet, ChildSpec, WrittenImage};
use crate::wake::Wake;
use children::Children;
use wanted::Wanted;

/// So many children are written in one pass, over all sets.
const WRITES: usize = 32;
/// From the last of them until the next pass writes more.
const GAP: Duration = Duration::from_millis(200);

/// What is to be written for all sets.
pub(crate) struct Sets {
    pub(crate) children: Vec<ChildWrite>,
    pub(crate) statuses: Vec<SetStatusWrite>,
}

impl Sets {
    pub(crate) fn plan(world: &World, now: Now, wake: &Wake) -> Self {
        let mut plan = Self { children: Vec::new(), statuses: Vec::new() };
        if world.cluster.sets.is_empty() {
            return plan;
        }
        let mut owned = by_owner(world);
        let mut budget = Budget::new(world, wake);
        for set in world.cluster.sets.values().filter(|set| !set.being_deleted) {
            let wanted = Wanted::of(set, &world.cluster);
            let children = Children::of(set, &wanted, &world.cluster, owned.remove(set.uid.as_str()));
            let mut more_to_come = false;
            for write in children.writes().filter(|_| set.problem.is_none()) {
                match budget.judge(&write) {
                    Turn::Now => plan.children.push(write),
                    Turn::Soon => {}
                    Turn::LeftAlone => continue,
                }
                more_to_come = true;
            }
            // While children are written in pass after pass, it is soon enough to tell about them after the last.
            if !more_to_come {
                plan.statuses.extend(status::fold(world, set, &wanted, &children, now, wake));
            }
        }
        plan
    }

    /// Uids of the CachedImages that are written: another write beside it would conflict with it.
    pub(crate) fn touched(&self) -> BTreeSet<&str> {
        let touched = self.children.iter().filter_map(|write| match &write.kind {
            ChildWriteKind::Create { .. } => None,
            ChildWriteKind::Patch { uid, .. } | ChildWriteKind::Delete { uid, .. } => Some(uid.as_str()),
        });
        touched.collect()
    }
}

/// Children by the uid of their set, in order of their names.
fn by_owner(world: &World) -> BTreeMap<&str, Vec<&CachedImage>> {
    let mut owned: BTreeMap<&str, Vec<&CachedImage>> = BTreeMap::new();
    for image in world.cluster.images.values() {
        if let Some(child) = &image.child {
            owned.entry(&child.set_uid).or_default().push(image);
        }
    }
    owned
}

/// How much may be written in this pass, and what has to wait.
struct Budget<'w> {
    world: &'w World,
    wake: &'w Wake,
    left: usize,
}

/// When a write is to happen.
enum Turn {
    /// In this pass.
    Now,
    /// In one that follows shortly.
    Soon,
    /// After a while, or never: the same was tried before.
    LeftAlone,
}

impl<'w> Budget<'w> {
    fn new(world: &'w World, wake: &'w Wake) -> Self {
        Self { world, wake, left: WRITES }
    }

    fn judge(&mut self, write: &ChildWrite) -> Turn {
        let memory = &self.world.memory.sets;
        if let ChildWriteKind::Delete { uid, .. } = &write.kind
            && memory.is_deleted(uid)
        {
            return Turn::LeftAlone;
        }
        let left_alone_until = memory.not_before(&write.child, write.generation);
        if left_alone_until.is_some_and(|at| self.wake.ahead(at)) {
            return Turn::LeftAlone;
        }
        if memory.last.is_some_and(|last| self.wake.ahead(last.after(GAP))) {
            return Turn::Soon;
        }
        // What is left over comes with the pass that follows every write.
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                Turn::Now
            }
            None => Turn::Soon,
        }
    }
}

/// A child as its set wants it to be.
fn spec(set: &CachedImageSet, image: &WrittenImage) -> Box<ChildSpec> {
    Box::new(ChildSpec { image: image.clone(), settings: set.settings.clone(), priority: None })
}
