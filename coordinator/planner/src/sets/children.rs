//! The children of one set beside what it wants.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::wanted::Wanted;
use super::{names, spec};
use crate::cluster::{CachedImage, Cluster};
use crate::plan::{ChildWrite, ChildWriteKind};
use crate::set::{CachedImageSet, Child, WrittenImage};

/// How the children of a set stand.
pub(super) struct Children<'w> {
    set: &'w CachedImageSet,
    label: String,
    /// Those that stay, in order of their names.
    pub(super) staying: Vec<Staying<'w>>,
    /// Those that go.
    going: Vec<(&'w CachedImage, &'w Child)>,
    /// Those to be made, by name.
    pub(super) missing: BTreeMap<String, &'w WrittenImage>,
    /// Names that belong to a CachedImage of somebody else.
    pub(super) taken: Vec<String>,
    /// Names that belong to a CachedImage that is about to vanish.
    pub(super) occupied: Vec<String>,
}

/// A child that stays.
pub(super) struct Staying<'w> {
    pub(super) image: &'w CachedImage,
    child: &'w Child,
    /// The image that it is to be about; `None`: it stays as it is.
    wanted: Option<&'w WrittenImage>,
    /// It is not as the set wants it.
    pub(super) differs: bool,
}

impl Staying<'_> {
    /// It stays only because it is not certain that nobody wants it.
    pub(super) fn is_kept(&self) -> bool {
        self.wanted.is_none()
    }
}

impl<'w> Children<'w> {
    /// `owned` are the CachedImages whose controller is `set`.
    pub(super) fn of(
        set: &'w CachedImageSet,
        wanted: &Wanted<'w>,
        cluster: &'w Cluster,
        owned: Option<Vec<&'w CachedImage>>,
    ) -> Self {
        let label = names::label(&set.name);
        let owned: BTreeMap<&str, (&CachedImage, &Child)> = owned
            .into_iter()
            .flatten()
            .filter_map(|image| Some((image.name.as_str(), (image, image.child.as_deref()?))))
            .filter(|(_, (_, child))| !child.being_deleted)
            .collect();
        let mut children = Self {
            set,
            label,
            staying: Vec::new(),
            going: Vec::new(),
            missing: BTreeMap::new(),
            taken: Vec::new(),
            occupied: Vec::new(),
        };
        let mut matched: BTreeSet<&str> = BTreeSet::new();
        let mut nameless = Vec::new();
        for (normalised, written) in &wanted.images {
            let name = names::child(&set.name, normalised);
            match owned.get(name.as_str()) {
                Some((image, child)) if matched.insert(&image.name) => {
                    children.stays(image, child, Some(written));
                }
                _ => nameless.push((name, *normalised, *written)),
            }
        }
        // One of another name that is about the image will do: whoever made it chose the name.
        let mut by_reference: BTreeMap<&str, (&CachedImage, &Child)> = BTreeMap::new();
        for (image, child) in owned.values().filter(|(image, _)| !matched.contains(image.name.as_str())) {
            if let Some(normalised) = &child.normalised {
                by_reference.entry(normalised).or_insert((image, child));
            }
        }
        for (name, normalised, written) in nameless {
            match by_reference.get(normalised) {
                Some((image, child)) => {
                    matched.insert(&image.name);
                    children.stays(image, child, Some(written));
                }
                None => children.misses(name, written, cluster),
            }
        }
        for (image, child) in owned.values().filter(|(image, _)| !matched.contains(image.name.as_str())) {
            if wanted.is_certain {
                children.going.push((image, child));
            } else {
                children.stays(image, child, None);
            }
        }
        children.staying.sort_by_key(|staying| staying.image.name.as_str());
        children
    }

    fn stays(&mut self, image: &'w CachedImage, child: &'w Child, wanted: Option<&'w WrittenImage>) {
        let differs = child.label.as_deref() != Some(&self.label)
            || match &child.spec {
                // It can be put right only if it is known what it is about.
                None => wanted.is_some(),
                Some(spec) => {
                    wanted.is_some_and(|wanted| spec.image != *wanted)
                        || spec.settings != self.set.settings
                        || spec.priority.is_some()
                }
            };
        self.staying.push(Staying { image, child, wanted, differs });
    }

    fn misses(&mut self, name: String, written: &'w WrittenImage, cluster: &Cluster) {
        let Some(holder) = cluster.images.get(&name) else {
            match self.missing.entry(name) {
                Entry::Vacant(vacant) => drop(vacant.insert(written)),
                Entry::Occupied(other) => self.taken.push(other.key().clone()),
            }
            return;
        };
        // The garbage collector takes away those of an earlier set of this name.
        let leaves =
            holder.child.as_ref().is_some_and(|child| child.being_deleted || child.set_uid != self.set.uid);
        if leaves { self.occupied.push(name) } else { self.taken.push(name) }
    }

    /// What is to be written, the most useful first.
    pub(super) fn writes(&self) -> impl Iterator<Item = ChildWrite> {
        let patches = self.staying.iter().filter_map(|staying| self.patch(staying));
        let creations = self.missing.iter().map(|(name, written)| {
            let kind = ChildWriteKind::Create { label: self.label.clone(), spec: spec(self.set, written) };
            self.write(name, kind)
        });
        let deletions = self.going.iter().map(|(image, child)| {
            let kind =
                ChildWriteKind::Delete { uid: image.uid.clone(), resource_version: child.resource_version };
            self.write(&image.name, kind)
        });
        patches.chain(creations).chain(deletions)
    }

    fn patch(&self, staying: &Staying<'_>) -> Option<ChildWrite> {
        let Staying { image, child, wanted, differs } = staying;
        let stored = child.spec.as_ref();
        let written = wanted.or(stored.map(|spec| &spec.image)).filter(|_| *differs)?;
        let selector = stored.map(|spec| &spec.settings.node_selector);
        let kind = ChildWriteKind::Patch {
            uid: image.uid.clone(),
            resource_version: child.resource_version,
            label: self.label.clone(),
            spec: spec(self.set, written),
            unselected: selector
                .into_iter()
                .flat_map(|selector| selector.keys())
                .filter(|key| !self.set.settings.node_selector.contains_key(*key))
                .cloned()
                .collect(),
        };
        Some(self.write(&image.name, kind))
    }

    fn write(&self, child: &str, kind: ChildWriteKind) -> ChildWrite {
        ChildWrite {
            child: child.to_owned(),
            set: self.set.name.clone(),
            set_uid: self.set.uid.clone(),
            generation: self.set.generation,
            kind,
        }
    }
}
