//! What one fault did: the row of the table, and whether Drop passed. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// What was seen of one fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Name of the fault on the command line.
    pub(crate) fault: String,
    /// What was done, in words.
    pub(crate) done: String,
    /// From the fault until it was healed, in seconds.
    pub(crate) lasted: f64,
    /// From then until every node had every image and the status said so, in seconds.
    pub(crate) converged: f64,
    /// Most nodes that the registry saw pulling at any instant.
    pub(crate) most: usize,
    /// The cap.
    pub(crate) cap: usize,
    /// Pulls that were begun again, by node and image.
    pub(crate) repeated: usize,
    /// So many pulls at most may such a fault cost.
    pub(crate) may_repeat: usize,
    /// Images that a node had before and not after, although nobody removed them.
    pub(crate) lost: Vec<String>,
}

impl Seen {
    /// What is wrong with it; empty if nothing is.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.most > self.cap {
            wrong.push(format!("{} nodes pulled at once, {} may", self.most, self.cap));
        }
        if self.most < self.cap {
            wrong.push(format!("no more than {} nodes pulled at once: the cap was not tried", self.most));
        }
        if self.repeated > self.may_repeat {
            wrong.push(format!("{} pulls were repeated, {} may be", self.repeated, self.may_repeat));
        }
        if !self.lost.is_empty() {
            wrong.push(format!("lost: {}", self.lost.join(", ")));
        }
        wrong
    }
}

/// All that is seen as a table.
pub(crate) fn table(seen: &[Seen]) -> String {
    let mut text = String::from(
        "| fault | what was done | fault lasted | then converged in | most nodes at once (cap) | pulls repeated (may be) | cached images lost |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in seen {
        // Writing to a String can't fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {:.0} s | {:.0} s | {} ({}) | {} ({}) | {} |",
            row.fault,
            row.done,
            row.lasted,
            row.converged,
            row.most,
            row.cap,
            row.repeated,
            row.may_repeat,
            row.lost.len(),
        );
    }
    text
}

/// `earlier`, with what was seen anew in its place or at the end.
pub(crate) fn merged(earlier: Vec<Seen>, anew: &[Seen]) -> Vec<Seen> {
    let mut all = earlier;
    for seen in anew {
        match all.iter_mut().find(|known| known.fault == seen.fault) {
            Some(known) => *known = seen.clone(),
            None => all.push(seen.clone()),
        }
    }
    all
}

/// What nodes held before and don't hold now, as `image on node`.
pub(crate) fn lost(
    before: &BTreeMap<String, BTreeSet<String>>,
    after: &BTreeMap<String, BTreeSet<String>>,
) -> Vec<String> {
    let none = BTreeSet::new();
    let missing = |(node, held): (&String, &BTreeSet<String>)| {
        let now = after.get(node).unwrap_or(&none);
        held.difference(now).map(|image| format!("{image} on {node}")).collect::<Vec<_>>()
    };
    before.iter().flat_map(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Seen {
        Seen {
            fault: "leader-killed".to_owned(),
            done: "done".to_owned(),
            lasted: 1.0,
            converged: 20.0,
            most: 2,
            cap: 2,
            repeated: 0,
            may_repeat: 0,
            lost: Vec::new(),
        }
    }

    #[test]
    fn only_what_keeps_every_promise_passes() {
        assert!(good().wrong().is_empty());
        assert_eq!(Seen { most: 3, ..good() }.wrong().len(), 1);
        assert_eq!(Seen { repeated: 1, ..good() }.wrong().len(), 1);
        assert_eq!(Seen { lost: vec!["image on node".to_owned()], ..good() }.wrong().len(), 1);
    }

    #[test]
    fn a_run_that_never_reached_the_cap_proves_nothing() {
        assert_eq!(Seen { most: 1, ..good() }.wrong().len(), 1);
    }

    #[test]
    fn what_a_node_no_longer_holds_is_lost_and_what_is_new_is_not() {
        let held = |images: &[&str]| {
            let images = images.iter().map(|image| (*image).to_owned()).collect();
            BTreeMap::from([("node".to_owned(), images)])
        };
        assert_eq!(lost(&held(&["a", "b"]), &held(&["b", "c"])), ["a on node"]);
        assert!(lost(&held(&["a"]), &held(&["a", "b"])).is_empty());
        assert_eq!(lost(&held(&["a"]), &BTreeMap::new()), ["a on node"]);
    }

    #[test]
    fn a_fault_that_is_measured_again_keeps_its_row() {
        let other = Seen { fault: "other".to_owned(), ..good() };
        let again = Seen { converged: 5.0, ..good() };
        assert_eq!(merged(vec![good(), other.clone()], std::slice::from_ref(&again)), [again, other]);
    }
}
