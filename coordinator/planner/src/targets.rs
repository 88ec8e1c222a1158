//! On which nodes an image is wanted.

use std::collections::BTreeMap;

use drop_protocol::names::LEADER_LEASE;

use crate::cluster::{CachedImage, Node, PullPolicy, Taint, TaintEffect, Toleration, TolerationOperator};

/// Whether any image can be wanted on `node`: it runs Linux containers, and its Lease would not be the leader's.
pub(crate) fn can_hold_images(node: &Node) -> bool {
    node.os == "linux" && !node.virtual_kubelet && node.name != LEADER_LEASE
}

/// Whether `image` is wanted on every node that can hold images and has no taints.
pub(crate) fn is_for_all(image: &CachedImage, policy: Option<&PullPolicy>) -> bool {
    image.node_selector.is_empty() && policy.is_none_or(|policy| policy.node_selector.is_empty())
}

/// Whether `image` is wanted on `node`, which can hold images. A `policy` that is missing narrows nothing.
pub(crate) fn is_target(image: &CachedImage, policy: Option<&PullPolicy>, node: &Node) -> bool {
    is_selected(image, policy, node) && repelling_taint(image, policy, node).is_none()
}

/// Whether `node` has all the labels that are asked for.
pub(crate) fn is_selected(image: &CachedImage, policy: Option<&PullPolicy>, node: &Node) -> bool {
    selects(&image.node_selector, node) && policy.is_none_or(|policy| selects(&policy.node_selector, node))
}

/// The first taint of `node` that nobody tolerates.
pub(crate) fn repelling_taint<'n>(
    image: &CachedImage,
    policy: Option<&PullPolicy>,
    node: &'n Node,
) -> Option<&'n Taint> {
    node.taints.iter().find(|taint| {
        keeps_away(taint)
            && !image.tolerations.iter().any(|toleration| tolerates(toleration, taint))
            && !policy.is_some_and(|p| p.tolerations.iter().any(|t| tolerates(t, taint)))
    })
}

fn selects(selector: &BTreeMap<String, String>, node: &Node) -> bool {
    selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
}

const fn keeps_away(taint: &Taint) -> bool {
    matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute)
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    if toleration.effect.is_some_and(|effect| effect != taint.effect) {
        return false;
    }
    match toleration.operator {
        TolerationOperator::Exists => toleration.key.is_empty() || toleration.key == taint.key,
        TolerationOperator::Equal => toleration.key == taint.key && toleration.value == taint.value,
        TolerationOperator::Other => false,
    }
}

#[cfg(test)]
mod tests;
