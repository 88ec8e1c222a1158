//! What people do to objects. Each tells whether there was anything to do it to.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::{CachedImage, PullPolicy};

use super::{Fault, Heal};
use crate::api::{Kind, Object};
use crate::simulation::{Event, Simulation};
use crate::streams::choose;

impl Simulation {
    /// Any object of a kind.
    pub fn any_of(&mut self, kind: Kind) -> Option<String> {
        let Self { api, rng, .. } = self;
        choose(rng, api.list(kind).map(|(name, _)| name)).map(str::to_owned)
    }

    pub(super) fn strike_image(&mut self, fault: Fault) -> bool {
        if fault.is_about_sets() {
            return self.touch_child(fault);
        }
        let Some(name) = self.any_of(Kind::Image) else { return false };
        if let Some(state) = self.image_state(&name) {
            self.coverage.images.count(fault, state as usize);
        }
        match fault {
            Fault::DeleteImage => self.commit(Kind::Image, &name, None),
            _ => self.edit_image(&name),
        }
        true
    }

    /// What is done to objects of other kinds.
    pub(super) fn people_do(&mut self, fault: Fault) -> bool {
        if fault.is_about_sets() {
            return self.touch_discovery(fault);
        }
        match fault {
            Fault::CreateImage => return self.create_image(),
            Fault::EditPolicy | Fault::DeletePolicy => {
                let Some(name) = self.any_of(Kind::Policy) else { return false };
                let Some(policy) = self.api.policy(&name).cloned() else { return false };
                if fault == Fault::EditPolicy {
                    self.edit_policy(&policy);
                } else {
                    self.delete_policy(policy);
                }
            }
            _ => return false,
        }
        true
    }

    fn edit_image(&mut self, name: &str) {
        let Some(old) = self.api.image(name).cloned() else { return };
        if old.child.is_some() {
            return self.edit_child(name);
        }
        let mut image = CachedImage { generation: old.generation + 1, ..(*old).clone() };
        match self.rng.u32(0..8) {
            0..4 => image.reference = self.any_reference(),
            4 => image.pull_policy = self.any_pull_policy(),
            5 => image.node_selector = self.any_selector(),
            6 => image.policy = self.any_policy(),
            _ => image.priority = self.rng.i32(-2..3),
        }
        self.commit(Kind::Image, &old.name, Some(Object::Image(Arc::new(image))));
    }

    fn edit_policy(&mut self, old: &PullPolicy) {
        let mut policy = old.clone();
        if self.rng.bool() {
            policy.max_concurrent_nodes = self.rng.u32(1..5);
        } else {
            policy.min_delay = Duration::from_secs(self.rng.u64(0..12));
        }
        self.commit(Kind::Policy, &old.name, Some(Object::Policy(Arc::new(policy))));
    }

    fn delete_policy(&mut self, policy: Arc<PullPolicy>) {
        self.commit(Kind::Policy, &policy.name, None);
        if self.rng.u32(0..4) > 0 {
            let delay = self.seconds(1.0, 120.0);
            self.after(delay, Event::Heal(Heal::Policy(policy)));
        }
    }
}
