//! Why a pair is not being pulled: for status, metrics and people who ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use drop_protocol::Monotonic;

use crate::cluster::{CachedImage, Node};
use crate::survey::{Need, Survey};

/// Why a pair that lacks its image, or has a check due, is not being pulled now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaitReason {
    /// The spec can't be acted on.
    InvalidSpec,
    /// The PullPolicy that the image names does not exist.
    PolicyNotFound,
    /// The PullPolicy that the image names can't be acted on.
    InvalidPolicy,
    /// Pull policy `Never`, and the image is not there.
    ErrImageNeverPull,
    /// Agents may not read the Secrets yet that the image names.
    PullSecretsPending,
    /// The node has no node Lease yet.
    LeasePending,
    /// The node has no ready agent.
    AgentNotReady,
    /// The node's report can't be read by this release.
    ReportUnreadable,
    /// The node's report has no room for this image.
    ReportFull,
    /// The catalog has no room for this image.
    CatalogFull,
    /// The image file system of the node is too full.
    LowDisk,
    /// The reference is newly listed, and the node may still say that it holds it.
    NotYetAnswered,
    /// The node holds the image, and the coordinator asks the registry whether it is the right one.
    CheckingRegistry,
    /// The last attempt failed.
    BackingOff {
        /// When the next may start.
        until: Monotonic,
    },
    /// The image was evicted from the node more than once.
    EvictionBackoff {
        /// When the next pull may start.
        until: Monotonic,
    },
    /// The node let a grant pass without taking it, or gave it back undone.
    NotAnswering {
        /// When it is offered the next.
        until: Monotonic,
    },
    /// The image fails on several nodes: one of them tries at a time.
    WaitingForProbe,
    /// The image fails on several nodes of this architecture: one of them tries at a time.
    WaitingForPlatformProbe,
    /// The registry fails on several nodes: one of them tries at a time.
    WaitingForRegistryProbe,
    /// Several images fail on this node: it tries one at a time.
    WaitingForNodeProbe,
    /// The node works on another grant.
    NodeBusy,
    /// All slots of the policy are taken, or others come first.
    WaitingForSlot,
    /// The policy's delay between nodes has not passed.
    MinDelay {
        /// When it has.
        until: Monotonic,
    },
}

impl WaitReason {
    /// The word under which users and metrics see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::PolicyNotFound => "PolicyNotFound",
            Self::InvalidPolicy => "InvalidPolicy",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::PullSecretsPending => "PullSecretsPending",
            Self::LeasePending => "LeasePending",
            Self::AgentNotReady => "AgentNotReady",
            Self::ReportUnreadable => "ReportUnreadable",
            Self::ReportFull => "ReportFull",
            Self::CatalogFull => "CatalogFull",
            Self::LowDisk => "LowDisk",
            Self::NotYetAnswered => "NotYetAnswered",
            Self::CheckingRegistry => "CheckingRegistry",
            Self::BackingOff { .. } => "BackingOff",
            Self::EvictionBackoff { .. } => "EvictionBackoff",
            Self::NotAnswering { .. } => "NotAnswering",
            Self::WaitingForProbe => "WaitingForProbe",
            Self::WaitingForPlatformProbe => "WaitingForPlatformProbe",
            Self::WaitingForRegistryProbe => "WaitingForRegistryProbe",
            Self::WaitingForNodeProbe => "WaitingForNodeProbe",
            Self::NodeBusy => "NodeBusy",
            Self::WaitingForSlot => "WaitingForSlot",
            Self::MinDelay { .. } => "MinDelay",
        }
    }

    /// Whether the pair needs a grant and gets one as time passes and others finish, without anybody's doing.
    #[must_use]
    pub const fn is_in_line(self) -> bool {
        match self {
            Self::BackingOff { .. }
            | Self::EvictionBackoff { .. }
            | Self::WaitingForProbe
            | Self::WaitingForPlatformProbe
            | Self::WaitingForRegistryProbe
            | Self::WaitingForNodeProbe
            | Self::NodeBusy
            | Self::WaitingForSlot
            | Self::MinDelay { .. } => true,
            Self::InvalidSpec
            | Self::PolicyNotFound
            | Self::InvalidPolicy
            | Self::ErrImageNeverPull
            | Self::PullSecretsPending
            | Self::LeasePending
            | Self::AgentNotReady
            | Self::ReportUnreadable
            | Self::ReportFull
            | Self::CatalogFull
            | Self::LowDisk
            | Self::NotYetAnswered
            | Self::CheckingRegistry
            | Self::NotAnswering { .. } => false,
        }
    }

    /// When it ends by the passing of time alone, if that is known.
    #[must_use]
    pub const fn until(self) -> Option<Monotonic> {
        match self {
            Self::BackingOff { until }
            | Self::EvictionBackoff { until }
            | Self::NotAnswering { until }
            | Self::MinDelay { until } => Some(until),
            _ => None,
        }
    }
}

/// Every pair that waits, and why.
#[derive(Debug, Clone, Default)]
pub struct Waiting {
    pub(crate) images: Vec<Arc<CachedImage>>,
    pub(crate) nodes: Arc<[Arc<Node>]>,
    /// Index of the image, index of the node, why; sorted.
    pub(crate) pairs: Vec<(u32, u32, WaitReason)>,
}

impl Waiting {
    pub(crate) fn of(survey: &Survey<'_>) -> Self {
        let mut pairs = Vec::new();
        for (image, facts) in survey.images.iter().enumerate() {
            for pair in facts.pairs.iter() {
                if let Need::Waits(reason) = pair.need
                    && let (Ok(image), Ok(node)) = (u32::try_from(image), u32::try_from(pair.node))
                {
                    pairs.push((image, node, reason));
                }
            }
        }
        if pairs.is_empty() {
            return Self::default();
        }
        Self {
            images: survey.images.iter().map(|facts| Arc::clone(facts.image)).collect(),
            nodes: Arc::clone(&survey.memory.holders),
            pairs,
        }
    }

    /// Name of the image, name of the node, why; by image, then node.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, WaitReason)> {
        self.pairs.iter().filter_map(|&(image, node, reason)| {
            let image = self.images.get(usize::try_from(image).ok()?)?;
            let node = self.nodes.get(usize::try_from(node).ok()?)?;
            Some((image.name.as_str(), node.name.as_str(), reason))
        })
    }

    /// Why this pair waits, if it does.
    #[must_use]
    pub fn reason(&self, image: &str, node: &str) -> Option<WaitReason> {
        let position = |found: Result<usize, usize>| u32::try_from(found.ok()?).ok();
        let image = position(self.images.binary_search_by(|i| i.name.as_str().cmp(image)))?;
        let node = position(self.nodes.binary_search_by(|n| n.name.as_str().cmp(node)))?;
        let found =
            self.pairs.binary_search_by_key(&(image, node), |&(image, node, _)| (image, node)).ok()?;
        self.pairs.get(found).map(|&(_, _, reason)| reason)
    }

    /// How many pairs wait for each reason, by its word.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for (_, _, reason) in &self.pairs {
            *counts.entry(reason.as_str()).or_default() += 1;
        }
        counts
    }

    /// How many pairs wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}
