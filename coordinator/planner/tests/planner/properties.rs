//! What holds in every world, whatever happens in whatever order.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_planner::CheckOutcome;
use drop_planner::memory::WriteOutcome;
use drop_planner::plan::{Issue, IssueKind};
use drop_protocol::Monotonic;
use drop_protocol::failure::{FailureReason, FailureScope};
use proptest::prelude::*;

use crate::rig::{Rig, SECOND};

const NODES: [&str; 4] = ["a", "b", "c", "d"];
const IMAGES: [&str; 4] = ["one", "two", "three", "four"];
const POLICIES: [&str; 2] = ["p", "q"];
const DELAY: Duration = Duration::from_secs(4);

#[derive(Debug, Clone)]
enum Event {
    Wait(u64),
    Plan,
    /// Plan; issues end like this: applied or not, and known or not.
    Flaky(bool, bool),
    Take(usize),
    Renew(usize),
    Finish(usize),
    Pulled(usize, usize),
    Failed(usize, usize, usize),
    Evicted(usize, usize),
    /// The node holds the image without having confirmed it.
    Present(usize, usize),
    /// From now on the registry says something else of the image, or nothing.
    Registry(usize, usize),
    DeleteLease(usize),
    AgentReady(usize, bool),
    Replace(usize),
    Cap(usize, u32),
    Image(usize, usize, i32),
    DeleteImage(usize),
    Elect,
}

fn event() -> impl Strategy<Value = Event> {
    let (n, i) = (0..NODES.len(), 0..IMAGES.len());
    prop_oneof![
        6 => (50..15_000_u64).prop_map(Event::Wait),
        10 => Just(Event::Plan),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(applied, known)| Event::Flaky(applied, known)),
        6 => n.clone().prop_map(Event::Take),
        3 => n.clone().prop_map(Event::Renew),
        5 => n.clone().prop_map(Event::Finish),
        4 => (n.clone(), i.clone()).prop_map(|(n, i)| Event::Pulled(n, i)),
        2 => (n.clone(), i.clone(), 0..4_usize).prop_map(|(n, i, s)| Event::Failed(n, i, s)),
        1 => (n.clone(), i.clone()).prop_map(|(n, i)| Event::Evicted(n, i)),
        3 => (n.clone(), i.clone()).prop_map(|(n, i)| Event::Present(n, i)),
        2 => (i.clone(), 0..6_usize).prop_map(|(i, answer)| Event::Registry(i, answer)),
        1 => n.clone().prop_map(Event::DeleteLease),
        1 => (n.clone(), any::<bool>()).prop_map(|(n, r)| Event::AgentReady(n, r)),
        1 => n.prop_map(Event::Replace),
        1 => (0..POLICIES.len(), 1..4_u32).prop_map(|(p, c)| Event::Cap(p, c)),
        2 => (i.clone(), 0..POLICIES.len(), -1..2_i32).prop_map(|(i, p, r)| Event::Image(i, p, r)),
        1 => i.prop_map(Event::DeleteImage),
        1 => Just(Event::Elect),
    ]
}

/// A rig that checks every issue against the truth of the server.
struct Checked {
    rig: Rig,
    caps: BTreeMap<&'static str, u32>,
    /// Slots of deleted Leases: policy and until when.
    ghosts: Vec<(String, Monotonic)>,
    /// Issues that nobody withdrew before they were taken: policy, node with its uid, grant, when.
    starts: Vec<(String, String, String, Monotonic)>,
    elections: i32,
    replaced: u32,
    digests: u32,
}

impl Checked {
    fn new() -> Self {
        let mut rig = Rig::new();
        rig.world.checks = true;
        let mut caps = BTreeMap::new();
        for node in NODES {
            rig.node(node, |_| {});
        }
        for policy in POLICIES {
            rig.policy(policy, 2, DELAY);
            caps.insert(policy, 2);
        }
        for (n, image) in IMAGES.iter().enumerate() {
            rig.image(image, |image| image.policy = Some(POLICIES[n % 2].to_owned()));
        }
        let (ghosts, starts) = (Vec::new(), Vec::new());
        Self { rig, caps, ghosts, starts, elections: 1, replaced: 0, digests: 0 }
    }

    fn live(&self, policy: &str, but: &str) -> usize {
        let now = self.rig.now.monotonic;
        let leases = self.rig.world.cluster.leases.values();
        let shown = leases
            .filter(|lease| lease.node != but)
            .filter_map(|lease| lease.live_grant())
            .filter(|grant| grant.policy == policy);
        let ghosts = self.ghosts.iter().filter(|(of, until)| of == policy && *until > now);
        shown.count() + ghosts.count()
    }

    fn check_issue(&mut self, issue: &Issue) {
        let (policy, now) = (issue.grant.policy.clone(), self.rig.now.monotonic);
        let others = self.live(&policy, &issue.node);
        let cap = self.caps[policy.as_str()];
        assert!(others < cap as usize, "{issue:?} beside {others} live grants, cap {cap}");
        assert!(issue.grant.images.len() <= 64 && !issue.grant.images.is_empty());
        let known = issue.kind == IssueKind::New;
        assert_eq!(issue.due_since.len(), if known { issue.grant.images.len() } else { 0 });
        assert!(issue.due_since.iter().all(|since| *since <= now), "{issue:?}");
        let node = self.rig.world.cluster.nodes[&issue.node].uid.clone();
        for (of, other, _, at) in &self.starts {
            let apart = *of != policy || *other == node || now.since(*at) >= DELAY;
            assert!(apart, "{issue:?} only {:?} after {other}", now.since(*at));
        }
        self.starts.retain(|(_, _, grant, _)| grant != issue.grant.id.as_str());
        self.starts.push((policy, node, issue.grant.id.to_string(), now));
    }

    fn plan(&mut self, outcome: (bool, bool)) {
        let mut plan = self.rig.plan();
        let issues = std::mem::take(&mut plan.issues);
        for withdraw in &plan.withdrawals {
            let lease = &self.rig.world.cluster.leases[&withdraw.node];
            if lease.holder.is_none()
                && let Some(grant) = &withdraw.grant
            {
                self.starts.retain(|(_, _, start, _)| start != grant.as_str());
            }
        }
        self.rig.apply(&plan);
        for policy in issues {
            for issue in policy.issues {
                self.issue(&issue, outcome);
                if outcome != (true, true) {
                    break;
                }
            }
        }
    }

    fn issue(&mut self, issue: &Issue, (applied, known): (bool, bool)) {
        self.rig.world.memory.issue_sent(issue);
        if applied {
            if issue.kind != IssueKind::Repeat {
                self.check_issue(issue);
            } else if issue.grant.withdrawn.is_none() {
                let others = self.live(&issue.grant.policy, &issue.node);
                assert!(others < self.most(&issue.grant.policy), "{issue:?}");
                self.starts.push((
                    issue.grant.policy.clone(),
                    self.rig.world.cluster.nodes[&issue.node].uid.clone(),
                    issue.grant.id.to_string(),
                    self.rig.now.monotonic,
                ));
            }
            self.rig.commit_issue(issue);
        }
        let outcome = match (applied, known) {
            (_, false) => WriteOutcome::Unknown,
            (true, true) => WriteOutcome::Applied,
            (false, true) => WriteOutcome::Refused,
        };
        let (grant, now) = (issue.grant.id.clone(), self.rig.now);
        self.rig.world.memory.issue_settled(&issue.node, &grant, outcome, now);
    }

    /// The cap may have been lowered while an issue was under way.
    fn most(&self, _policy: &str) -> usize {
        3
    }

    fn happen(&mut self, event: &Event) {
        let has_lease = |rig: &Rig, n: usize| rig.world.cluster.leases.contains_key(NODES[n]);
        match *event {
            Event::Wait(milliseconds) => self.rig.advance(Duration::from_millis(milliseconds)),
            Event::Plan => self.plan((true, true)),
            Event::Flaky(applied, known) => self.plan((applied, known)),
            Event::Take(n) => {
                let lease = self.rig.world.cluster.leases.get(NODES[n]);
                let epoch = &self.rig.world.leadership.as_ref().unwrap().epoch;
                // An agent takes only what the present leader issued, unless it has taken it before.
                if lease
                    .is_some_and(|l| l.live_grant().is_some_and(|g| l.holder.is_some() || g.epoch == *epoch))
                {
                    self.rig.take(NODES[n]);
                }
            }
            Event::Renew(n) if has_lease(&self.rig, n) => self.rig.renew(NODES[n]),
            Event::Finish(n)
                if self.rig.grant(NODES[n]).is_some()
                    && self.rig.world.cluster.leases[NODES[n]].holder.is_some() =>
            {
                self.rig.finish(NODES[n]);
            }
            Event::Pulled(n, i) if has_lease(&self.rig, n) && self.has_image(i) => {
                self.digests += 1;
                let digest = format!("sha256:{}", self.digests / 5);
                self.rig.pulled(NODES[n], IMAGES[i], &digest);
            }
            Event::Failed(n, i, scope) if has_lease(&self.rig, n) && self.has_image(i) => {
                let (scope, reason) = [
                    (FailureScope::Image, FailureReason::NotFound),
                    (FailureScope::Platform, FailureReason::NoMatchingPlatform),
                    (FailureScope::Registry, FailureReason::ServerError),
                    (FailureScope::Node, FailureReason::DiskError),
                ][scope];
                self.rig.failed(NODES[n], IMAGES[i], scope, reason);
            }
            Event::Evicted(n, i) if has_lease(&self.rig, n) && self.has_image(i) => {
                self.rig.evicted(NODES[n], IMAGES[i]);
            }
            Event::Present(n, i) if has_lease(&self.rig, n) && self.has_image(i) => {
                let digest = format!("sha256:{}", self.digests / 5);
                self.rig.entry(NODES[n], IMAGES[i], |entry| {
                    entry.digest = Some(digest.into());
                    entry.pulled_at = None;
                });
            }
            Event::Registry(i, answer) if self.has_image(i) => {
                let outcome = match answer {
                    0 => CheckOutcome::Unknown,
                    1 => CheckOutcome::Unavailable { retry_after: None },
                    2 => CheckOutcome::Unavailable { retry_after: Some(100 * SECOND) },
                    _ => CheckOutcome::Digest(format!("sha256:{}", self.digests / 5)),
                };
                self.rig.registry_says(IMAGES[i], outcome);
            }
            Event::DeleteLease(n) => self.delete_lease(NODES[n]),
            Event::AgentReady(n, ready) => self.rig.agent_ready(NODES[n], ready),
            Event::Replace(n) => {
                self.replaced += 1;
                let uid = format!("replaced-{}", self.replaced);
                self.delete_lease(NODES[n]);
                self.rig.node(NODES[n], |node| node.uid = uid);
            }
            Event::Cap(p, cap) => {
                self.rig.policy(POLICIES[p], cap, DELAY);
                self.caps.insert(POLICIES[p], cap);
            }
            Event::Image(i, p, priority) => self.rig.image(IMAGES[i], |image| {
                image.policy = Some(POLICIES[p].to_owned());
                image.priority = priority;
            }),
            Event::DeleteImage(i) => self.rig.delete_image(IMAGES[i]),
            Event::Elect => {
                // What the old leader saw deleted, it tells nobody: nodes without a Lease stand for it.
                self.elections += 1;
                self.rig.elect(self.elections);
            }
            _ => {}
        }
    }

    fn has_image(&self, i: usize) -> bool {
        self.rig.world.cluster.images.contains_key(IMAGES[i])
    }

    /// Somebody deletes a Lease; the coordinator hears of it at once.
    fn delete_lease(&mut self, node: &str) {
        let Some(lease) = self.rig.world.cluster.leases.remove(node) else { return };
        if let Some(grant) = lease.live_grant() {
            let until = self.rig.now.monotonic.after(lease.duration);
            self.ghosts.push((grant.policy.clone(), until));
        }
        self.rig.plan();
    }
}

fn world(events: &[Event]) -> Checked {
    let mut checked = Checked::new();
    for event in events {
        checked.happen(event);
    }
    checked
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn no_cap_is_exceeded_and_no_delay_cut_short(events in prop::collection::vec(event(), 1..120)) {
        world(&events);
    }

    /// The rig looks at every status that is written; here one is due at every step.
    #[test]
    fn ready_failing_pulling_and_waiting_add_up_at_every_moment(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut checked = Checked::new();
        for event in &events {
            checked.happen(event);
            checked.rig.forget_statuses();
            checked.rig.advance(3 * SECOND);
            checked.plan((true, true));
            let written = checked.rig.statuses.split_off(0);
            prop_assert_eq!(written.len(), checked.rig.world.cluster.images.len());
            for write in &written {
                let status = &write.status;
                let held = |node: &&str| checked.rig.holds(node, &write.image);
                let held = NODES.iter().filter(|node| held(node)).count();
                prop_assert!(u32::try_from(held).unwrap() >= status.nodes_ready, "{:?}", status);
                prop_assert_eq!(status.nodes_targeted, 4, "{:?}", status);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn every_pair_is_pulled_once_faults_stop(events in prop::collection::vec(event(), 1..80)) {
        let mut rig = world(&events).rig;
        for node in NODES {
            rig.agent_ready(node, true);
        }
        rig.run_with(1500 * SECOND, Rig::eager);
        for (name, image) in &rig.world.cluster.images {
            prop_assert_eq!(image.status.ready.as_str(), "4/4", "{}: {:?}", name, image.status);
        }
        prop_assert!(rig.plan().is_empty());
    }

    #[test]
    fn until_the_wake_up_nothing_changes(
        events in prop::collection::vec(event(), 1..80),
        part in 0.0..1.0_f64,
    ) {
        let mut rig = world(&events).rig;
        // An executor that has done all there is to do now.
        for _ in 0..20 {
            if rig.step().is_empty() {
                break;
            }
        }
        let before = rig.plan();
        prop_assert!(before.is_empty(), "{}", before);
        let ahead = before.wake_at.map_or(100 * 3600 * SECOND, |at| at.since(rig.now.monotonic));
        prop_assert!(!ahead.is_zero(), "a wake-up lies ahead");
        rig.advance(ahead.mul_f64(part).min(ahead.saturating_sub(Duration::from_millis(1))));
        let between = rig.plan();
        prop_assert!(between.is_empty(), "{}", between);
        prop_assert_eq!(between.waiting.counts(), before.waiting.counts());
        prop_assert_eq!(between.wake_at, before.wake_at);
    }
}
