//! Invariant 4: once a coordinator has seen that something is no longer wanted, it is not pulled again.
//!
//! A grant that is out can't be called back in no time, so there are three checks: no issue of what its coordinator
//! knows to be unwanted (beside the other checks of issues), no start by an agent that has heard of the withdrawal, and,
//! once the network is healthy, no start later than it takes to mark the grant and to tell the agent.

use std::collections::BTreeSet;
use std::time::Duration;

use drop_protocol::GrantedImage;

use super::Start;
use crate::runtime::PullKey;
use crate::simulation::Simulation;

/// How soon a withdrawal reaches the agent while nothing is wrong.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Faults have no after-effects later than this.
const SETTLED: Duration = Duration::from_secs(60);

impl Simulation {
    /// A coordinator has heard of something: what does it know to be unwanted now?
    pub fn checker_sees_view(&mut self, index: usize) {
        let Some(process) = self.coordinators[index].process.as_ref().filter(|process| process.plans())
        else {
            return;
        };
        let wanted: BTreeSet<(&str, &str)> =
            process.world.cluster.images.values().map(|i| (i.uid.as_str(), i.reference.as_str())).collect();
        let now = self.now;
        for key in &self.checker.wanted_before {
            if !wanted.contains(&(key.0.as_str(), key.1.as_str())) {
                self.checker.unwanted.entry(key.clone()).or_insert(now);
            }
        }
        for (uid, reference) in wanted {
            let key = (uid.to_owned(), reference.to_owned());
            self.checker.unwanted.remove(&key);
            self.checker.wanted_before.insert(key);
        }
    }

    /// An agent starts a pull.
    pub fn checker_sees_start(&mut self, machine: usize, key: PullKey, image: &GrantedImage) {
        let Some(agent) = self.machines[machine].agent.as_ref() else { return };
        let grant = agent.grant.clone();
        let heard = grant.is_some() && agent.withdrawn == grant;
        let name = self.machines[machine].name.clone();
        if heard {
            let what =
                format!("{name} starts {} though it has heard that {grant:?} is withdrawn", image.reference);
            self.report(4, what);
        }
        let about = (image.uid.clone(), image.reference.clone());
        if let (Some(calm), Some(seen)) = (self.checker.calm_since, self.checker.unwanted.get(&about))
            && *seen > calm + SETTLED
            && self.now > *seen + TOLD_WITHIN
        {
            let what = format!("{name} starts {}, unwanted since {seen:?}", image.reference);
            self.report(4, what);
        }
        self.checker.starts.insert((machine, key), Start { reference: image.reference.clone(), grant });
    }

    /// A pull has begun in the runtime.
    pub fn checker_sees_pull(&mut self, machine: usize, key: PullKey) {
        if self.trace.on() {
            let reference = self.checker.reference_of(machine, key);
            let text = format!("{:9} pulls {reference:?}", self.machines[machine].name);
            self.tell(&text);
        }
    }
}
