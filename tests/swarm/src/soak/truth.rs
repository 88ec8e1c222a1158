//! Who pulls when, by the modelled runtimes themselves, held against what the policies allow. Pure: times come in.
//!
//! | checked | how |
//! |---|---|
//! | only holders of grants pull | each pull is of an image of the grant that its node's Lease shows |
//! | no more nodes than `maxConcurrentNodes` | whenever a pull begins: those that pull under its policy, against the cap when the latest of them was issued |
//! | starts `minDelayBetweenPulls` apart | the issue times of grants under which something was pulled on different nodes |
//!
//! A policy that was edited counts with its old values for [`LAG`] longer: nobody hears of an edit at once.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::GrantId;
use jiff::Timestamp;

/// So long after an edit was answered its old values may still be acted on.
const LAG: Duration = Duration::from_secs(10);
/// Issue times are taken when a pass begins, of which two may stand closer together by the resolution of the clock.
const RESOLUTION: Duration = Duration::from_millis(2);
/// So many past values and starts of a policy are remembered.
const REMEMBERED: usize = 64;
/// So many violations are told in full.
const TOLD: usize = 20;

/// The grant that a node pulls under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Its id.
    pub(super) id: GrantId,
    /// Its PullPolicy.
    pub(super) policy: String,
    /// When it was issued.
    pub(super) issued: Timestamp,
}

/// Values of a policy, and how long they may be acted on.
#[derive(Debug, Clone, Copy)]
struct Values {
    from: Timestamp,
    until: Option<Timestamp>,
    cap: usize,
    delay: Duration,
}

#[derive(Debug, Default)]
struct Pacing {
    values: Vec<Values>,
    /// Nodes that pull now, and when their grant was issued.
    pulling: BTreeMap<String, Timestamp>,
    /// Grants under which something was pulled: issue time, id, node.
    starts: Vec<(Timestamp, GrantId, String)>,
}

/// What all runtimes did, and what of it was not allowed.
#[derive(Debug, Default)]
pub(super) struct Truth {
    policies: BTreeMap<String, Pacing>,
    /// In words, the first of them.
    pub(super) violations: Vec<String>,
    /// How many there were.
    pub(super) violated: usize,
    /// Grants under which something was pulled.
    pub(super) grants: usize,
    /// How many of these followed so soon that the delay mattered: within twice the delay.
    pub(super) paced: usize,
    /// How often a pull began while its policy was full.
    pub(super) full: usize,
}

impl Truth {
    /// A policy was written with these values: sent at `sent`, answered at `answered`.
    pub(super) fn policy_written(
        &mut self,
        policy: &str,
        cap: usize,
        delay: Duration,
        sent: Timestamp,
        answered: Timestamp,
    ) {
        let values = &mut self.policies.entry(policy.to_owned()).or_default().values;
        if let Some(before) = values.last_mut() {
            before.until = Some(answered + LAG);
        }
        values.push(Values { from: sent, until: None, cap, delay });
        forget(values);
    }

    /// `node` begins a pull under `grant`; `None`: its Lease shows none that holds the image.
    pub(super) fn began(&mut self, node: &str, grant: Option<&Held>) {
        let Some(grant) = grant else {
            return self.violated(format!("{node} pulls without a grant"));
        };
        let pacing = self.policies.entry(grant.policy.clone()).or_default();
        pacing.pulling.insert(node.to_owned(), grant.issued);
        let (pulling, latest) = (pacing.pulling.len(), pacing.pulling.values().max().copied());
        let cap = latest.map_or(0, |at| pacing.at(at).map(|values| values.cap).max().unwrap_or(0));
        let started = pacing.starts.iter().any(|(_, id, _)| *id == grant.id);
        let gap = if started { None } else { pacing.start(node, grant) };
        if pulling >= cap {
            self.full += 1;
        }
        if pulling > cap {
            self.violated(format!("{}: {pulling} nodes pull, {cap} may", grant.policy));
        }
        self.grants += usize::from(!started);
        if let Some((gap, delay, other)) = gap {
            self.paced += usize::from(gap < delay * 2);
            if gap + RESOLUTION < delay {
                let policy = &grant.policy;
                self.violated(format!("{policy}: {other} and {node} start {gap:?} apart, not {delay:?}"));
            }
        }
    }

    /// The pull of `node` under this policy has ended, one way or another.
    pub(super) fn ended(&mut self, node: &str, policy: &str) {
        if let Some(pacing) = self.policies.get_mut(policy) {
            pacing.pulling.remove(node);
        }
    }

    /// Notes something that must not be.
    pub(super) fn violated(&mut self, what: String) {
        self.violated += 1;
        if self.violations.len() < TOLD {
            self.violations.push(what);
        }
    }
}

impl Pacing {
    /// All values that may have been acted on at this time.
    fn at(&self, time: Timestamp) -> impl Iterator<Item = &Values> {
        self.values
            .iter()
            .filter(move |values| values.from <= time && values.until.is_none_or(|until| time <= until))
    }

    /// Notes a start; tells the smallest gap to one of another node, with the delay that had to be kept.
    fn start(&mut self, node: &str, grant: &Held) -> Option<(Duration, Duration, String)> {
        let gap = |at: Timestamp| at.duration_since(grant.issued).unsigned_abs();
        let nearest = self
            .starts
            .iter()
            .filter(|(_, _, other)| other != node)
            .min_by_key(|(at, _, _)| gap(*at))
            .map(|(at, _, other)| (*at, other.clone()));
        self.starts.push((grant.issued, grant.id.clone(), node.to_owned()));
        forget(&mut self.starts);
        let (at, other) = nearest?;
        // The later of the two had to wait.
        let delay = self.at(at.max(grant.issued)).map(|values| values.delay).min()?;
        Some((gap(at), delay, other))
    }
}

fn forget<T>(list: &mut Vec<T>) {
    if list.len() > REMEMBERED {
        list.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(100);

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_000_000 + milliseconds).unwrap()
    }

    fn held(id: &str, issued: i64) -> Held {
        Held { id: GrantId::from(id), policy: "p".to_owned(), issued: at(issued) }
    }

    fn truth() -> Truth {
        let mut truth = Truth::default();
        truth.policy_written("p", 2, DELAY, at(0), at(1));
        truth
    }

    #[test]
    fn nodes_within_cap_and_delay_are_no_violation() {
        let mut truth = truth();
        truth.began("a", Some(&held("1", 10)));
        truth.began("b", Some(&held("2", 110)));
        truth.ended("a", "p");
        truth.began("c", Some(&held("3", 210)));
        assert_eq!(truth.violations, Vec::<String>::new());
        assert_eq!((truth.grants, truth.paced, truth.full), (3, 2, 2));
    }

    #[test]
    fn one_node_more_than_the_cap_is_a_violation() {
        let mut truth = truth();
        for (node, id, issued) in [("a", "1", 0), ("b", "2", 100), ("c", "3", 200)] {
            truth.began(node, Some(&held(id, issued)));
        }
        assert_eq!(truth.violations, ["p: 3 nodes pull, 2 may"]);
    }

    #[test]
    fn starts_of_two_nodes_too_close_together_are_a_violation() {
        let mut truth = truth();
        // The pull of the later one begins first.
        truth.began("b", Some(&held("2", 150)));
        truth.began("a", Some(&held("1", 100)));
        assert_eq!(truth.violations, ["p: b and a start 50ms apart, not 100ms"]);
    }

    #[test]
    fn one_node_may_start_again_at_once_and_pull_on_under_its_grant() {
        let mut truth = truth();
        truth.began("a", Some(&held("1", 100)));
        truth.ended("a", "p");
        truth.began("a", Some(&held("1", 100)));
        truth.ended("a", "p");
        truth.began("a", Some(&held("2", 120)));
        assert_eq!(truth.violated, 0);
        assert_eq!(truth.grants, 2);
    }

    #[test]
    fn a_pull_without_a_grant_is_a_violation() {
        let mut truth = truth();
        truth.began("a", None);
        assert_eq!(truth.violations, ["a pulls without a grant"]);
    }

    #[test]
    fn a_lowered_cap_lets_running_grants_finish_and_holds_for_later_ones() {
        let mut truth = truth();
        truth.began("a", Some(&held("1", 100)));
        truth.policy_written("p", 1, DELAY, at(150), at(160));
        // Issued before anybody had to know.
        truth.began("b", Some(&held("2", 200)));
        assert_eq!(truth.violated, 0);
        truth.ended("b", "p");
        truth.began("c", Some(&held("3", 20_000)));
        assert_eq!(truth.violations, ["p: 2 nodes pull, 1 may"]);
    }

    #[test]
    fn violations_beyond_the_first_are_counted() {
        let mut truth = truth();
        for _ in 0..TOLD * 2 {
            truth.began("a", None);
        }
        assert_eq!((truth.violations.len(), truth.violated), (TOLD, TOLD * 2));
    }
}
