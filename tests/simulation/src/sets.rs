//! CachedImageSets and DiscoveryPolicies: what people do to them, what discoveries find, and the garbage collector.
//!
//! A DiscoveryPolicy is a list and how far it can be relied on; nobody looks anywhere. The coordinator makes of it what
//! it makes of a real one.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::{
    CachedImage, CachedImageSet, ChildSettings, Discovery, DiscoveryState, SetImage, SetImages, WrittenImage,
    WrittenToleration,
};

use crate::api::children::with_spec;
use crate::api::{Kind, Object};
use crate::faults::{Fault, Heal};
use crate::scenario::DEDICATED;
use crate::simulation::{Event, Simulation};
use crate::streams::choose;

/// No more sets than this; some name a DiscoveryPolicy that never existed.
const SETS: usize = 3;

impl Simulation {
    /// Somebody creates a CachedImageSet, unless there is one of that number.
    pub fn add_set(&mut self, number: usize) -> bool {
        let name = format!("set-{number}");
        if self.api.set(&name).is_some() {
            return false;
        }
        let set = CachedImageSet {
            uid: self.api.new_uid(&name),
            generation: 1,
            images: self.any_list(3),
            discovery: self.any_discovery(),
            settings: self.any_settings(),
            name: name.clone(),
            ..CachedImageSet::default()
        };
        self.commit(Kind::Set, &name, Some(Object::Set(Arc::new(set))));
        true
    }

    /// A DiscoveryPolicy that has not looked yet, or has found something.
    pub fn add_discovery(&mut self, number: usize) {
        let name = format!("found-{number}");
        let state = if self.rng.bool() { DiscoveryState::Synced } else { DiscoveryState::NeverSynced };
        let discovery = Discovery { images: self.any_list(4), state, name: name.clone() };
        self.commit(Kind::Discovery, &name, Some(Object::Discovery(Arc::new(discovery))));
    }

    /// Up to so many images.
    fn any_list(&mut self, most: usize) -> SetImages {
        let mut sound = Vec::new();
        for _ in 0..self.rng.usize(0..=most) {
            sound.extend(SetImage::new(WrittenImage::split(&self.any_reference())).ok());
        }
        SetImages { sound, malformed: Vec::new() }
    }

    fn any_discovery(&mut self) -> Option<String> {
        self.rng.bool().then(|| format!("found-{}", self.rng.usize(0..SETS)))
    }

    fn any_settings(&mut self) -> ChildSettings {
        let tolerates = self.rng.u32(0..4) == 0;
        let toleration = WrittenToleration {
            key: Some(DEDICATED.to_owned()),
            operator: Some("Exists".to_owned()),
            ..WrittenToleration::default()
        };
        ChildSettings {
            policy: self.any_policy(),
            pull_policy: self.any_pull_policy(),
            secrets: Vec::new(),
            node_selector: self.any_selector(),
            tolerations: if tolerates { vec![toleration] } else { Vec::new() },
        }
    }

    /// What is done to sets and DiscoveryPolicies of no particular name.
    pub fn touch_discovery(&mut self, fault: Fault) -> bool {
        if fault == Fault::CreateSet {
            let free = (0..SETS).find(|number| self.api.set(&format!("set-{number}")).is_none());
            return free.is_some_and(|number| self.add_set(number));
        }
        let Some(name) = self.any_of(Kind::Discovery) else { return false };
        let Some(old) = self.api.discovery(&name).cloned() else { return false };
        if fault == Fault::DeleteDiscovery {
            self.commit(Kind::Discovery, &name, None);
            if self.rng.u32(0..4) > 0 {
                let delay = self.seconds(1.0, 120.0);
                self.after(delay, Event::Heal(Heal::Discovery(old)));
            }
            return true;
        }
        let failing = DiscoveryState::Failing { reason: "DNSError".into(), message: "no such host".into() };
        let (state, images) = match self.rng.u32(0..8) {
            0..4 => (DiscoveryState::Synced, self.any_list(4)),
            4 => (DiscoveryState::Synced, SetImages::default()),
            5 => (failing, old.images.clone()),
            6 => (failing, SetImages::default()),
            _ => (DiscoveryState::NeverSynced, SetImages::default()),
        };
        let discovery = Discovery { name: name.clone(), images, state };
        self.commit(Kind::Discovery, &name, Some(Object::Discovery(Arc::new(discovery))));
        true
    }

    /// Somebody edits or deletes a set.
    pub fn touch_set(&mut self, fault: Fault) -> bool {
        let Some(name) = self.any_of(Kind::Set) else { return false };
        let Some(old) = self.api.set(&name).filter(|set| !set.being_deleted).cloned() else { return false };
        if let Some(state) = self.set_state(&name) {
            self.coverage.sets.count(fault, state as usize);
        }
        if fault == Fault::DeleteSet {
            self.delete_set(&old);
            return true;
        }
        let mut set = CachedImageSet { generation: old.generation + 1, ..(*old).clone() };
        match self.rng.u32(0..4) {
            0 | 1 => set.images = self.any_list(3),
            2 => set.discovery = self.any_discovery(),
            _ => set.settings = self.any_settings(),
        }
        self.commit(Kind::Set, &name, Some(Object::Set(Arc::new(set))));
        true
    }

    /// In the background, in the foreground, or leaving the children to nobody.
    fn delete_set(&mut self, set: &Arc<CachedImageSet>) {
        match self.rng.u32(0..4) {
            0 => {
                let dying = CachedImageSet { being_deleted: true, ..(**set).clone() };
                self.commit(Kind::Set, &set.name, Some(Object::Set(Arc::new(dying))));
                self.after(Duration::from_secs(1), Event::CollectSet(set.name.clone(), set.uid.clone()));
            }
            1 => {
                for child in self.children_of(&set.uid) {
                    let orphan = CachedImage { child: None, ..(*child).clone() };
                    self.commit(Kind::Image, &child.name, Some(Object::Image(Arc::new(orphan))));
                }
                return self.commit(Kind::Set, &set.name, None);
            }
            _ => self.commit(Kind::Set, &set.name, None),
        }
        for child in self.children_of(&set.uid) {
            self.leave_to_collector(&child);
        }
    }

    /// The garbage collector will look at this child, whose set is gone or about to go.
    pub fn leave_to_collector(&mut self, child: &CachedImage) {
        let delay = self.seconds(0.1, 30.0);
        self.after(delay, Event::CollectImage(child.name.clone(), child.uid.clone()));
    }

    /// CachedImages whose controller has this uid.
    fn children_of(&self, set_uid: &str) -> Vec<Arc<CachedImage>> {
        let images = self.api.list(Kind::Image).filter_map(|(_, object)| match object {
            Object::Image(image) => Some(image),
            _ => None,
        });
        images.filter(|i| i.child.as_ref().is_some_and(|child| child.set_uid == set_uid)).cloned().collect()
    }

    /// Whether the set of a child is gone, or waits for its children to go.
    #[must_use]
    pub fn is_left_behind(&self, image: &CachedImage) -> bool {
        let Some(child) = &image.child else { return false };
        let owner = self.api.list(Kind::Set).find_map(|(_, object)| match object {
            Object::Set(set) if set.uid == child.set_uid => Some(set.being_deleted),
            _ => None,
        });
        owner.unwrap_or(true)
    }

    /// The garbage collector comes to a child.
    pub fn collect_image(&mut self, name: &str, uid: &str) {
        let Some(image) = self.api.image(name).filter(|image| image.uid == uid).cloned() else { return };
        if self.is_left_behind(&image) {
            self.commit(Kind::Image, name, None);
        }
    }

    /// A set that was deleted in the foreground goes once its children are gone.
    pub fn collect_set(&mut self, name: &str, uid: &str) {
        if self.api.set(name).is_none_or(|set| set.uid != uid) {
            return;
        }
        if self.children_of(uid).is_empty() {
            return self.commit(Kind::Set, name, None);
        }
        self.after(Duration::from_secs(2), Event::CollectSet(name.to_owned(), uid.to_owned()));
    }

    /// Somebody edits or deletes a child by hand.
    pub fn touch_child(&mut self, fault: Fault) -> bool {
        let Self { api, rng, .. } = self;
        let children = api.list(Kind::Image).filter_map(|(name, object)| match object {
            Object::Image(image) => image.child.is_some().then_some(name),
            _ => None,
        });
        let Some(name) = choose(rng, children).map(str::to_owned) else { return false };
        if let Some(state) = self.image_state(&name) {
            self.coverage.images.count(fault, state as usize);
        }
        match fault {
            Fault::DeleteChild => self.commit(Kind::Image, &name, None),
            _ => self.edit_child(&name),
        }
        true
    }

    /// Edits one field of a child, or its label.
    pub fn edit_child(&mut self, name: &str) {
        let Some(image) = self.api.image(name).cloned() else { return };
        let Some(child) = image.child.as_deref() else { return };
        let Some(mut spec) = child.spec.clone() else { return };
        let mut label = child.label.clone();
        match self.rng.u32(0..8) {
            0..3 => spec.image = WrittenImage::split(&self.any_reference()),
            3 => spec.settings.pull_policy = self.any_pull_policy(),
            4 => spec.settings.node_selector = self.any_selector(),
            5 => spec.settings.policy = self.any_policy(),
            6 => spec.priority = Some(self.rng.i32(-2..3)),
            _ => label = None,
        }
        let edited = with_spec((*image).clone(), &child.set_uid, label, spec);
        self.commit(Kind::Image, name, Some(Object::Image(Arc::new(edited))));
    }
}
