//! The images that a set wants: those that it lists and those that were discovered for it, each once.

use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::set::{CachedImageSet, Discovery, DiscoveryState, WrittenImage};

/// What a set wants.
pub(super) struct Wanted<'w> {
    /// By normalised reference.
    pub(super) images: BTreeMap<&'w str, &'w WrittenImage>,
    pub(super) discovery: Found<'w>,
    /// Whether children that are not among `images` are to go: they may be wanted all the same while a list is not to
    /// be relied on.
    pub(super) is_certain: bool,
}

/// What a set knows by its DiscoveryPolicy.
#[derive(Debug, Clone, Copy)]
pub(super) enum Found<'w> {
    /// It names none.
    NotAsked,
    /// There is none of this name.
    Missing(&'w str),
    /// It has not looked yet.
    NotYet(&'w Discovery),
    /// It can't look.
    Failing { discovery: &'w Discovery, reason: &'w str, message: &'w str },
    /// It looked and found nothing.
    Nothing(&'w Discovery),
    /// It looked and found something.
    Images(&'w Discovery),
}

impl<'w> Wanted<'w> {
    pub(super) fn of(set: &'w CachedImageSet, cluster: &'w Cluster) -> Self {
        let found = Found::by(set, cluster);
        let mut images = BTreeMap::new();
        for image in &set.images.sound {
            images.entry(image.normalised.as_str()).or_insert(&image.written);
        }
        let mut discovered: BTreeMap<&str, &WrittenImage> = BTreeMap::new();
        for image in found.discovery().into_iter().flat_map(|discovery| &discovery.images.sound) {
            // Of two spellings the first in order, whatever the ranking: it must not change with each sync.
            let spelling = discovered.entry(&image.normalised).or_insert(&image.written);
            *spelling = (*spelling).min(&image.written);
        }
        for (normalised, written) in discovered {
            images.entry(normalised).or_insert(written);
        }
        let is_certain = set.problem.is_none()
            && set.images.malformed.is_empty()
            && match found {
                Found::NotAsked | Found::Images(_) => true,
                Found::Missing(_) | Found::NotYet(_) | Found::Failing { .. } | Found::Nothing(_) => false,
            };
        Self { images, discovery: found, is_certain }
    }
}

impl<'w> Found<'w> {
    fn by(set: &'w CachedImageSet, cluster: &'w Cluster) -> Self {
        let Some(name) = set.discovery.as_deref() else { return Self::NotAsked };
        let Some(discovery) = cluster.discoveries.get(name).map(AsRef::as_ref) else {
            return Self::Missing(name);
        };
        let images = &discovery.images;
        match &discovery.state {
            DiscoveryState::NeverSynced => Self::NotYet(discovery),
            DiscoveryState::Failing { reason, message } => Self::Failing { discovery, reason, message },
            DiscoveryState::Synced if images.sound.is_empty() => Self::Nothing(discovery),
            DiscoveryState::Synced => Self::Images(discovery),
        }
    }

    /// The DiscoveryPolicy, if it exists.
    pub(super) fn discovery(self) -> Option<&'w Discovery> {
        match self {
            Self::NotAsked | Self::Missing(_) => None,
            Self::NotYet(discovery)
            | Self::Failing { discovery, .. }
            | Self::Nothing(discovery)
            | Self::Images(discovery) => Some(discovery),
        }
    }
}
