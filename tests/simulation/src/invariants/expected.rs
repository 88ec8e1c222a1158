//! Invariants 3 and 5: what must be cached in the end, and what status must say.

use std::sync::Arc;

use drop_planner::status::READY;
use drop_planner::{
    CachedImage, Cluster, ConditionStatus, ImageStatus, Node, Phase, PullPolicy, RegistryCheck, StatusWrite,
    TaintEffect, Toleration, TolerationOperator,
};
use drop_protocol::{ImagePullPolicy, NodeLease, ReportEntry};

use crate::api::{Kind, Object};
use crate::simulation::Simulation;

/// Whether the image is wanted on the node, by the rules of the CRD reference.
#[must_use]
pub fn is_target(image: &CachedImage, policy: Option<&PullPolicy>, node: &Node) -> bool {
    let selected = |selector: &std::collections::BTreeMap<String, String>| {
        selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
    };
    let tolerations = || image.tolerations.iter().chain(policy.into_iter().flat_map(|p| &p.tolerations));
    node.os == "linux"
        && !node.virtual_kubelet
        && selected(&image.node_selector)
        && policy.is_none_or(|policy| selected(&policy.node_selector))
        && node
            .taints
            .iter()
            .filter(|taint| matches!(taint.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute))
            .all(|taint| tolerations().any(|toleration| tolerates(toleration, taint)))
}

fn tolerates(toleration: &Toleration, taint: &drop_planner::Taint) -> bool {
    toleration.effect.is_none_or(|effect| effect == taint.effect)
        && match toleration.operator {
            TolerationOperator::Exists => toleration.key.is_empty() || toleration.key == taint.key,
            TolerationOperator::Equal => toleration.key == taint.key && toleration.value == taint.value,
            TolerationOperator::Other => false,
        }
}

/// The entry of the node's report about the image as it is wanted now.
fn entry<'a>(lease: Option<&'a NodeLease>, node: &Node, image: &CachedImage) -> Option<&'a ReportEntry> {
    let lease = lease.filter(|lease| lease.node_uid.as_deref() == Some(node.uid.as_str()))?;
    lease.report.as_ref()?.images.get(image.uid.as_str()).filter(|entry| *entry.reference == *image.reference)
}

/// Whether the node last reported the image as cached, or as what the registry said according to `check`.
fn reported_cached(
    lease: Option<&NodeLease>,
    node: &Node,
    image: &CachedImage,
    check: Option<&RegistryCheck>,
) -> bool {
    entry(lease, node, image).is_some_and(|entry| {
        let said = |digest: &str| {
            check.filter(|check| check.reference == image.reference).is_some_and(|check| {
                check.digest == digest || check.earlier_digests.iter().any(|earlier| earlier == digest)
            })
        };
        let must_be_confirmed =
            image.pull_policy == ImagePullPolicy::Always && !image.reference.contains('@');
        entry
            .digest
            .as_ref()
            .is_some_and(|held| !must_be_confirmed || entry.pulled_at.is_some() || said(held))
    })
}

fn targets<'a>(cluster: &'a Cluster, image: &'a CachedImage) -> impl Iterator<Item = &'a Arc<Node>> {
    let policy = image.policy.as_ref().and_then(|name| cluster.policies.get(name));
    cluster.nodes.values().filter(move |node| is_target(image, policy.map(Arc::as_ref), node))
}

impl Simulation {
    /// A coordinator is about to write a status: it must not claim more than the nodes have told this coordinator.
    pub fn check_status(&mut self, index: usize, write: &StatusWrite) {
        let Some(process) = self.coordinators[index].process.as_ref() else { return };
        let cluster = &process.world.cluster;
        let Some(image) = cluster.images.get(&write.image).filter(|image| image.uid == write.uid) else {
            return;
        };
        let check = write.status.registry_check.as_ref();
        let never_said = check.and_then(|check| {
            let said = |digest: &&String| {
                self.checker.answers.contains(&(image.reference.clone(), (*digest).clone()))
            };
            std::iter::once(&check.digest).chain(&check.earlier_digests).find(|digest| !said(digest)).cloned()
        });
        let cached = |node: &str| {
            let lease = cluster.leases.get(node).map(Arc::as_ref);
            cluster.nodes.get(node).is_some_and(|node| reported_cached(lease, node, image, check))
        };
        let claims = write.status.condition(READY).is_some_and(|ready| ready.status == ConditionStatus::True)
            || write.status.phase == Some(Phase::Ready);
        let lacking = targets(cluster, image).find(|node| !cached(&node.name)).map(|node| node.name.clone());
        let invented = write.status.cached_nodes.iter().find(|node| !cached(node)).cloned();
        if let Some(what) = wrong_sum(&write.status) {
            self.report(5, format!("status of {}: {what}", write.image));
        }
        if let (true, Some(node), false) = (claims, lacking, write.status.nodes_targeted == 0) {
            self.report(5, format!("{} was called Ready, but {node} is known to lack it", write.image));
        }
        if let Some(digest) = never_said {
            self.report(5, format!("{}: no registry said that it stands for {digest}", write.image));
        }
        if let Some(node) = invented {
            self.report(5, format!("{} was called cached on {node}, which has not reported it", write.image));
        }
    }

    /// The cluster as it is, without any delay.
    #[must_use]
    pub fn truth(&self) -> Cluster {
        let mut cluster = Cluster::default();
        for kind in Kind::ALL {
            for (name, object) in self.api.list(kind) {
                let name = name.to_owned();
                match object {
                    Object::Lease(lease) => drop(cluster.leases.insert(name, Arc::new(lease.lease.clone()))),
                    Object::Node(node) => drop(cluster.nodes.insert(name, Arc::clone(node))),
                    Object::Pod(pod) => drop(cluster.agents.insert(name, Arc::new(pod.clone()))),
                    Object::Image(image) => drop(cluster.images.insert(name, Arc::clone(image))),
                    Object::Policy(policy) => drop(cluster.policies.insert(name, Arc::clone(policy))),
                    Object::Set(set) => drop(cluster.sets.insert(name, Arc::clone(set))),
                    Object::Discovery(found) => drop(cluster.discoveries.insert(name, Arc::clone(found))),
                    Object::Catalog(catalog) => cluster.catalog = Some(Arc::clone(catalog)),
                }
            }
        }
        cluster
    }

    /// What is not yet as it should be in the end: the invariant and what is missing.
    #[must_use]
    pub fn shortcoming(&self) -> Option<(u8, String)> {
        let cluster = self.truth();
        let of_images = || {
            cluster.images.values().find_map(|image| {
                targets(&cluster, image)
                    .find_map(|node| self.lacking(&cluster, image, node))
                    .map(|what| (3, what))
                    .or_else(|| wrong_status(&cluster, image).map(|what| (5, what)))
            })
        };
        super::sets::shortcoming(&cluster).or_else(of_images)
    }

    /// Why a pair is not as it should be.
    fn lacking(&self, cluster: &Cluster, image: &CachedImage, node: &Node) -> Option<String> {
        let machine = self.machines.iter().find(|machine| machine.name == node.name && machine.powered)?;
        let held = machine.runtime.digest_of(&image.reference);
        let lease = cluster.leases.get(&node.name).map(Arc::as_ref);
        let said = entry(lease, node, image).and_then(|entry| entry.digest.clone());
        let pair = format!("{} on {}", image.name, node.name);
        if held.is_some() != said.is_some() || (held.is_some() && held.as_deref() != said.as_deref()) {
            return Some(format!("{pair}: the node holds {held:?} and reports {said:?}"));
        }
        if image.pull_policy == ImagePullPolicy::Never || self.pullable(cluster, image, node).is_none() {
            return None;
        }
        (!reported_cached(lease, node, image, image.status.registry_check.as_ref()))
            .then(|| format!("{pair}: can be pulled, is not cached ({held:?})"))
    }

    fn pullable(&self, cluster: &Cluster, image: &CachedImage, node: &Node) -> Option<()> {
        if let Some(policy) = &image.policy {
            cluster.policies.get(policy)?;
        }
        let reference = drop_protocol::reference::normalise(&image.reference).ok()?;
        self.registry.resolve(&reference, &node.architecture).ok().map(drop)
    }
}

/// What of an image's status is not what the nodes last reported.
fn wrong_status(cluster: &Cluster, image: &CachedImage) -> Option<String> {
    let status = &image.status;
    let targeted: Vec<&Arc<Node>> = targets(cluster, image).collect();
    let mut cached: Vec<&str> = targeted
        .iter()
        .filter(|node| {
            let lease = cluster.leases.get(&node.name).map(Arc::as_ref);
            reported_cached(lease, node, image, status.registry_check.as_ref())
        })
        .map(|node| node.name.as_str())
        .collect();
    cached.sort_unstable();
    let complain = |what: String| Some(format!("status of {}: {what}", image.name));
    if status.observed_generation != Some(image.generation) {
        return complain(format!(
            "is about generation {:?}, not {}",
            status.observed_generation, image.generation
        ));
    }
    if usize::try_from(status.nodes_targeted).ok() != Some(targeted.len()) {
        return complain(format!("{} targets, not {}", status.nodes_targeted, targeted.len()));
    }
    if !status.cached_nodes.iter().map(AsRef::as_ref).eq(cached.iter().copied())
        || usize::try_from(status.nodes_ready).ok() != Some(cached.len())
    {
        return complain(format!(
            "{} ready, {:?} cached, not {cached:?}",
            status.nodes_ready, status.cached_nodes
        ));
    }
    if status.ready != format!("{}/{}", cached.len(), targeted.len()) {
        return complain(format!("ready reads {:?}", status.ready));
    }
    let ready = status.condition(READY).map(|condition| condition.status);
    let missing = targeted.len() - cached.len();
    if (ready == Some(ConditionStatus::True)) != (missing == 0 && !targeted.is_empty()) {
        return complain(format!("Ready is {ready:?} with {missing} of {} missing", targeted.len()));
    }
    wrong_sum(status).and_then(complain)
}

/// What does not add up: every target is ready, pulling, failing or waiting, and the last two have a reason each.
fn wrong_sum(status: &ImageStatus) -> Option<String> {
    let reasons: u32 = status.waiting.iter().map(|waiting| waiting.nodes).sum();
    let explained = status.nodes_ready + status.nodes_pulling + reasons;
    let counted = status.nodes_ready + status.nodes_pulling + status.nodes_failing + status.nodes_waiting;
    let targeted = status.nodes_targeted;
    (counted != targeted || explained != targeted)
        .then(|| format!("{targeted} targets, but {counted} are counted and {explained} explained"))
}
