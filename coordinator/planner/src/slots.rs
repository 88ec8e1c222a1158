//! How many slots of each policy are taken.

use std::collections::BTreeMap;

use crate::survey::Survey;

/// Slots that live grants, issues under way and ghosts occupy.
#[derive(Debug, Default)]
pub(crate) struct Slots<'w> {
    by_policy: BTreeMap<&'w str, u32>,
    /// Taken from every policy: nobody knows which one it is.
    of_every: u32,
}

impl<'w> Slots<'w> {
    pub(crate) fn count(survey: &Survey<'w>) -> Self {
        let (mut slots, memory) = (Self::default(), survey.memory);
        for live in survey.granted.iter().filter_map(|granted| granted.seen.live.as_ref()) {
            slots.add(live.policy.as_deref());
        }
        for under_way in memory.writes.unsettled.values() {
            // A restamp goes over a live grant of its own node, which counts already.
            let replaces = memory.leases.seen.get(&under_way.issue.node).is_some_and(|s| s.live.is_some());
            if !replaces {
                slots.add(Some(&under_way.issue.grant.policy));
            }
        }
        for ghost in &memory.leases.ghosts {
            slots.add(ghost.policy.as_deref());
        }
        slots
    }

    fn add(&mut self, policy: Option<&'w str>) {
        match policy {
            Some(policy) => self.take(policy),
            None => self.of_every += 1,
        }
    }

    /// Takes one more.
    pub(crate) fn take(&mut self, policy: &'w str) {
        *self.by_policy.entry(policy).or_default() += 1;
    }

    pub(crate) fn taken(&self, policy: &str) -> u32 {
        self.by_policy.get(policy).copied().unwrap_or_default().saturating_add(self.of_every)
    }
}
