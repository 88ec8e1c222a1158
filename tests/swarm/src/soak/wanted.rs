//! What the cluster is to look like, as the churn has left it: the objects that were written, and what ails registries.
//! Pure; everything that Drop is held to at the end follows from it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::churn::Event;

/// How many registries there are.
pub(super) const HOSTS: usize = 4;
/// The PullPolicy that is never changed, so that its bounds are exact.
pub(super) const STEADY: usize = 0;
/// Name of the taint and its toleration.
const DEDICATED: &str = "soak.example.com/dedicated";
/// Name of the label that pools of nodes carry.
const POOL: &str = "soak.example.com/pool";

/// Everything that was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// CachedImages that belong to nobody, by name.
    pub(super) images: BTreeMap<String, Image>,
    /// CachedImageSets, by name.
    pub(super) sets: BTreeMap<String, Set>,
    /// PullPolicies, by number; `None` while one is deleted.
    pub(super) policies: BTreeMap<usize, Option<Policy>>,
    /// Nodes, by number.
    pub(super) nodes: BTreeMap<usize, Node>,
    /// What the source of each DiscoveryPolicy tells.
    pub(super) sources: Vec<Source>,
    /// References that cannot be pulled.
    pub(super) failing: BTreeSet<String>,
    /// Registries that answer nothing.
    pub(super) hosts_down: BTreeSet<usize>,
    /// About how many nodes there are.
    pub(super) size: usize,
    /// The next number that nothing is called after yet.
    pub(super) next: usize,
}

/// Settings that a CachedImage has for itself and a set for all of its images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    /// Number of the PullPolicy.
    pub(super) policy: usize,
    /// Only nodes of this pool.
    pub(super) pool: Option<usize>,
    /// Goes to dedicated nodes too.
    pub(super) tolerates: bool,
    /// `imagePullPolicy: Always`, else `IfNotPresent`.
    pub(super) always: bool,
}

/// A CachedImage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Image {
    /// Which application.
    pub(super) app: usize,
    /// Of which version.
    pub(super) version: usize,
    /// Where to, and how.
    pub(super) reach: Reach,
    /// `spec.priority`
    pub(super) priority: i32,
}

/// A CachedImageSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    /// Applications that it lists.
    pub(super) apps: BTreeSet<usize>,
    /// Number of the DiscoveryPolicy.
    pub(super) source: Option<usize>,
    /// Where to, and how.
    pub(super) reach: Reach,
}

/// A PullPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    /// `maxConcurrentNodes`
    pub(super) cap: usize,
    /// `minDelayBetweenPulls` in milliseconds.
    pub(super) delay_ms: u64,
    /// `failureBackoff.initial` in seconds; the longest is four times that.
    pub(super) backoff: u64,
}

/// A Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Node {
    /// Pool by its label.
    pub(super) pool: Option<usize>,
    /// Tainted for those who tolerate it.
    pub(super) dedicated: bool,
    /// Nobody may go there.
    pub(super) cordoned: bool,
    /// Its agent runs.
    pub(super) agent: bool,
}

/// What a DiscoveryPolicy asks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Source {
    /// The applications that it names. Never none: a set would keep what it has.
    pub(super) apps: BTreeSet<usize>,
    /// Answers 503 instead.
    pub(super) down: bool,
}

impl Wanted {
    /// Takes note of `event`, which is about to be carried out.
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::WriteImage { name, image } => drop(self.images.insert(name.clone(), image.clone())),
            Event::DeleteImage { name } => drop(self.images.remove(name)),
            Event::WriteSet { name, set } => drop(self.sets.insert(name.clone(), set.clone())),
            Event::DeleteSet { name } => drop(self.sets.remove(name)),
            Event::WritePolicy { number, policy } => drop(self.policies.insert(*number, Some(*policy))),
            Event::DeletePolicy { number } => drop(self.policies.insert(*number, None)),
            Event::ChangeSource { number, source } => {
                if let Some(known) = self.sources.get_mut(*number) {
                    known.clone_from(source);
                }
            }
            Event::AddNode { number, node } | Event::ReplaceNode { number, node } => {
                self.nodes.insert(*number, Node { agent: true, ..*node });
            }
            Event::ChangeNode { number, node } => drop(self.nodes.insert(*number, *node)),
            Event::RemoveNode { number } => drop(self.nodes.remove(number)),
            Event::StopAgent { number, .. } => self.agent(*number, false),
            Event::StartAgent { number } => self.agent(*number, true),
            Event::FailImage { reference } => drop(self.failing.insert(reference.clone())),
            Event::HealImage { reference } => drop(self.failing.remove(reference)),
            Event::FailHost { host } => drop(self.hosts_down.insert(*host)),
            Event::HealHost { host } => drop(self.hosts_down.remove(host)),
            Event::Evict { .. }
            | Event::ReplacePod { .. }
            | Event::EndLeader { .. }
            | Event::Heartbeat { .. } => {}
        }
        self.next = self.next.max(event.named().map_or(0, |number| number + 1));
        if !self.failing.is_empty() {
            // What nobody wants any more can't fail.
            let wanted: BTreeSet<String> = self.references().collect();
            self.failing.retain(|reference| wanted.contains(reference));
        }
    }

    fn agent(&mut self, number: usize, runs: bool) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.agent = runs;
        }
    }

    /// Every reference that is wanted anywhere; one that two objects want comes twice.
    pub(super) fn references(&self) -> impl Iterator<Item = String> {
        let of_sets = self.sets.values().flat_map(|set| self.members(set)).map(|app| reference(app, 1));
        self.images.values().map(|image| reference(image.app, image.version)).chain(of_sets)
    }

    /// The applications that `set` is to hold.
    pub(super) fn members(&self, set: &Set) -> BTreeSet<usize> {
        let found = set.source.and_then(|number| self.sources.get(number));
        set.apps.iter().chain(found.into_iter().flat_map(|source| &source.apps)).copied().collect()
    }

    /// The nodes on which an image is wanted, by number.
    pub(super) fn targets(&self, reach: Reach) -> BTreeSet<usize> {
        let open = |node: &Node| {
            !node.cordoned
                && (!node.dedicated || reach.tolerates)
                && (reach.pool.is_none() || reach.pool == node.pool)
        };
        self.nodes.iter().filter(|(_, node)| open(node)).map(|(number, _)| *number).collect()
    }

    /// What has to happen so that everything can be pulled everywhere.
    pub(super) fn cures(&self) -> Vec<Event> {
        let mut cures = Vec::new();
        cures.extend(self.hosts_down.iter().map(|host| Event::HealHost { host: *host }));
        cures.extend(self.failing.iter().map(|reference| Event::HealImage { reference: reference.clone() }));
        for (number, source) in self.sources.iter().enumerate().filter(|(_, source)| source.down) {
            cures.push(Event::ChangeSource { number, source: Source { down: false, ..source.clone() } });
        }
        for number in self.policies.iter().filter(|(_, policy)| policy.is_none()).map(|(number, _)| *number) {
            cures.push(Event::WritePolicy { number, policy: Policy::PLAIN });
        }
        for number in self.nodes.iter().filter(|(_, node)| !node.agent).map(|(number, _)| *number) {
            cures.push(Event::StartAgent { number });
        }
        cures
    }
}

impl Reach {
    fn spec(self) -> Value {
        let mut spec = json!({
            "policyRef": { "name": policy_name(self.policy) },
            "imagePullPolicy": if self.always { "Always" } else { "IfNotPresent" },
            // Not left out: an edit has to take an earlier value away.
            "nodeSelector": null,
            "tolerations": null,
        });
        if let Some(pool) = self.pool {
            spec["nodeSelector"] = json!({ POOL: pool_name(pool) });
        }
        if self.tolerates {
            spec["tolerations"] = json!([{ "key": DEDICATED, "operator": "Exists", "effect": "NoSchedule" }]);
        }
        spec
    }
}

impl Image {
    /// `spec` of the CachedImage, as a merge patch.
    pub(super) fn spec(&self) -> Value {
        let mut spec = self.reach.spec();
        spec["image"] = Value::from(repository(self.app));
        spec["tag"] = Value::from(format!("v{}", self.version));
        spec["priority"] = Value::from(self.priority);
        spec
    }
}

impl Set {
    /// `spec` of the CachedImageSet, as a merge patch.
    pub(super) fn spec(&self) -> Value {
        let mut spec = self.reach.spec();
        spec["images"] =
            self.apps.iter().map(|app| json!({ "image": repository(*app), "tag": "v1" })).collect();
        spec["discoveryPolicyRef"] =
            self.source.map_or(Value::Null, |number| json!({ "name": source_name(number) }));
        spec
    }
}

impl Policy {
    /// Nothing in particular.
    pub(super) const PLAIN: Self = Self { cap: 4, delay_ms: 100, backoff: 1 };

    /// `spec` of the PullPolicy, as a merge patch.
    pub(super) fn spec(self) -> Value {
        json!({
            "maxConcurrentNodes": self.cap,
            "minDelayBetweenPulls": format!("{}ms", self.delay_ms),
            "failureBackoff": {
                "initial": format!("{}s", self.backoff), "max": format!("{}s", self.backoff * 4),
            },
        })
    }
}

impl Node {
    /// Label, taints and cordon, as a merge patch of the Node.
    pub(super) fn patch(self) -> Value {
        let mut taints = Vec::new();
        if self.dedicated {
            taints.push(json!({ "key": DEDICATED, "effect": "NoSchedule" }));
        }
        if self.cordoned {
            // What the node lifecycle controller makes of a cordon.
            taints.push(json!({ "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" }));
        }
        json!({
            "metadata": { "labels": { POOL: self.pool.map(pool_name) } },
            "spec": {
                "taints": taints,
                "unschedulable": if self.cordoned { json!(true) } else { Value::Null },
            },
        })
    }
}

/// The reference of an application in one of its versions.
pub(super) fn reference(app: usize, version: usize) -> String {
    format!("{}:v{version}", repository(app))
}

fn repository(app: usize) -> String {
    format!("{}/soak/app-{app:05}", host_name(app % HOSTS))
}

/// Name of a registry.
pub(super) fn host_name(host: usize) -> String {
    format!("registry-{host}.example.com")
}

/// Name of a PullPolicy.
pub(super) fn policy_name(number: usize) -> String {
    format!("soak-{number}")
}

/// Name of a DiscoveryPolicy, and of its query.
pub(super) fn source_name(number: usize) -> String {
    format!("found-{number}")
}

fn pool_name(pool: usize) -> String {
    format!("pool-{pool}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANYWHERE: Reach = Reach { policy: 0, pool: None, tolerates: false, always: false };

    #[test]
    fn targets_follow_pools_taints_and_cordons() {
        let node = Node { agent: true, ..Node::default() };
        let mut wanted = Wanted::default();
        wanted.nodes.insert(0, node);
        wanted.nodes.insert(1, Node { pool: Some(1), ..node });
        wanted.nodes.insert(2, Node { dedicated: true, ..node });
        wanted.nodes.insert(3, Node { cordoned: true, ..node });
        let targets = |reach| wanted.targets(reach).into_iter().collect::<Vec<_>>();
        assert_eq!(targets(ANYWHERE), [0, 1]);
        assert_eq!(targets(Reach { pool: Some(1), ..ANYWHERE }), [1]);
        assert_eq!(targets(Reach { tolerates: true, ..ANYWHERE }), [0, 1, 2]);
    }

    #[test]
    fn a_set_holds_what_it_lists_and_what_its_source_names() {
        let source = Source { apps: [2, 3].into(), down: true };
        let wanted = Wanted { sources: vec![source], ..Wanted::default() };
        let mut set = Set { apps: [1, 2].into(), source: Some(0), reach: ANYWHERE };
        assert_eq!(wanted.members(&set), [1, 2, 3].into());
        set.source = None;
        assert_eq!(wanted.members(&set), [1, 2].into());
    }

    #[test]
    fn cures_leave_nothing_that_ails() {
        let mut wanted = Wanted { sources: vec![Source::default()], ..Wanted::default() };
        wanted.images.insert("one".to_owned(), Image { app: 1, version: 1, reach: ANYWHERE, priority: 0 });
        wanted.failing.insert(reference(1, 1));
        wanted.hosts_down.insert(2);
        wanted.sources[0].down = true;
        wanted.policies.insert(1, None);
        wanted.nodes.insert(5, Node::default());
        let cures = wanted.cures();
        assert_eq!(cures.len(), 5);
        for cure in cures {
            wanted.apply(&cure);
        }
        assert!(wanted.cures().is_empty());
    }

    #[test]
    fn a_failure_ends_with_the_last_who_wants_the_image() {
        let mut wanted = Wanted::default();
        let image = Image { app: 1, version: 1, reach: ANYWHERE, priority: 0 };
        wanted.apply(&Event::WriteImage { name: "one".to_owned(), image: image.clone() });
        wanted.apply(&Event::FailImage { reference: reference(1, 1) });
        assert_eq!(wanted.failing.len(), 1);
        wanted.apply(&Event::WriteImage { name: "one".to_owned(), image: Image { version: 2, ..image } });
        assert!(wanted.failing.is_empty());
    }
}
