//! CachedImageSets and what belongs to them, as domain types. Knows neither how they are read nor what follows from them.

use std::collections::BTreeMap;

use drop_protocol::ImagePullPolicy;
use drop_protocol::reference::{self, ReferenceError};

use crate::status::Condition;

/// A CachedImageSet: which images, the settings that they share, and its status as stored now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CachedImageSet {
    /// `metadata.name`
    pub name: String,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`
    pub generation: i64,
    /// It has a `metadata.deletionTimestamp`: its children are the garbage collector's.
    pub being_deleted: bool,
    /// What every child is told beside its image.
    pub settings: ChildSettings,
    /// `spec.images`
    pub images: SetImages,
    /// `spec.discoveryPolicyRef.name`
    pub discovery: Option<String>,
    /// Why the spec can't be acted on: names the field and the cure. Single images are told of in `images`.
    pub problem: Option<String>,
    /// `status` as stored now.
    pub status: SetStatus,
}

/// A DiscoveryPolicy, pruned to what sets make of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovery {
    /// `metadata.name`
    pub name: String,
    /// `status.discoveredImages`
    pub images: SetImages,
    /// Whether that list can be relied on.
    pub state: DiscoveryState,
}

/// What condition `Ready` of a DiscoveryPolicy says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DiscoveryState {
    /// There is no such condition yet.
    #[default]
    NeverSynced,
    /// The list is what was found last.
    Synced,
    /// The list is what was once found, if anything.
    Failing {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
}

/// The images that a set lists, or that a DiscoveryPolicy found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetImages {
    /// Those that can be asked for, in the order in which they are listed.
    pub sound: Vec<SetImage>,
    /// What is wrong with each of the others.
    pub malformed: Vec<String>,
}

/// One image of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetImage {
    /// As somebody wrote it.
    pub written: WrittenImage,
    /// The form in which containerd knows it: two images with the same form are one.
    pub normalised: String,
}

/// An image reference in parts, as the fields of a CachedImage hold it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrittenImage {
    /// `image`: the name, without tag or digest.
    pub image: String,
    /// `tag`, unless it is empty.
    pub tag: Option<String>,
    /// `digest`, unless it is empty.
    pub digest: Option<String>,
}

/// What a set tells all of its children alike, exactly as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChildSettings {
    /// `spec.policyRef.name`
    pub policy: Option<String>,
    /// `spec.imagePullPolicy`
    pub pull_policy: ImagePullPolicy,
    /// Names in `spec.imagePullSecrets`.
    pub secrets: Vec<String>,
    /// `spec.nodeSelector`
    pub node_selector: BTreeMap<String, String>,
    /// `spec.tolerations`
    pub tolerations: Vec<WrittenToleration>,
}

/// A toleration, field by field as it is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WrittenToleration {
    /// `key`
    pub key: Option<String>,
    /// `operator`
    pub operator: Option<String>,
    /// `value`
    pub value: Option<String>,
    /// `effect`
    pub effect: Option<String>,
    /// `tolerationSeconds`: means nothing to images, and is handed on all the same.
    pub seconds: Option<i64>,
}

/// `spec` of a child.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChildSpec {
    /// Which image.
    pub image: WrittenImage,
    /// What its set says of all its images.
    pub settings: ChildSettings,
    /// `spec.priority`: sets give none.
    pub priority: Option<i32>,
}

/// What is compared of a CachedImage whose controller is a CachedImageSet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Child {
    /// Uid of that set.
    pub set_uid: String,
    /// `metadata.resourceVersion`
    pub resource_version: u64,
    /// It has a `metadata.deletionTimestamp`.
    pub being_deleted: bool,
    /// Value of the label that names the set.
    pub label: Option<String>,
    /// The form in which containerd knows its reference, if that can be read.
    pub normalised: Option<String>,
    /// `spec`; `None` if it can't be read.
    pub spec: Option<ChildSpec>,
}

/// `status` of a CachedImageSet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetStatus {
    /// Generation of the spec that it is about; `None`: never written.
    pub observed_generation: Option<i64>,
    /// Where things stand.
    pub phase: Option<SetPhase>,
    /// How many CachedImages belong to the set.
    pub images_managed: u32,
    /// How many of them are in phase `Ready`.
    pub images_ready: u32,
    /// [`crate::status::READY`]
    pub conditions: Vec<Condition>,
}

impl SetStatus {
    /// The condition of this type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// `status.phase` of a CachedImageSet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetPhase {
    /// Some image is not everywhere yet.
    Pending,
    /// Every image is on all its nodes.
    Ready,
    /// Somebody should look: at an image, at the discovery, or at the spec.
    Degraded,
}

impl SetImage {
    /// An image from the fields that hold it.
    ///
    /// # Errors
    /// If they make no image reference.
    pub fn new(written: WrittenImage) -> Result<Self, ReferenceError> {
        let normalised = written.normalise()?;
        Ok(Self { written, normalised })
    }
}

impl WrittenImage {
    /// The form in which containerd knows it.
    ///
    /// # Errors
    /// If it is no image reference.
    pub fn normalise(&self) -> Result<String, ReferenceError> {
        reference::normalise(&self.to_string())
    }

    /// Takes a reference apart, sound or not. Beside a digest, a tag says nothing and is left out.
    #[must_use]
    pub fn split(reference: &str) -> Self {
        let (image, tag, digest) = reference::split(reference);
        let tag = tag.filter(|_| digest.is_none());
        Self { image: image.to_owned(), tag: tag.map(str::to_owned), digest: digest.map(str::to_owned) }
    }
}

impl std::fmt::Display for WrittenImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.image)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}
