//! Who is in line for a slot of each policy, and in which order.

use drop_protocol::Monotonic;

use crate::survey::{Need, Survey};

/// One node in line under one pacing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Number of the node; nodes are numbered by name.
    pub(super) node: usize,
    /// It let its last grant pass.
    not_answering: bool,
    /// All its due pairs have failed before or are cached already: none of them holds up a pair that was never tried.
    again: bool,
    /// The lowest priority value among its due pairs; among those never tried, if there are any.
    pub(super) priority: i32,
    /// Since when these wait.
    since: Monotonic,
}

impl Candidate {
    /// Priority counts among pairs that were never tried, on nodes that answer. Behind them everybody gets a turn,
    /// whoever waited longest first, or one that is due again soon after each failure would take all turns.
    pub(super) fn order(&self) -> (bool, i32, Monotonic, usize) {
        let had_a_turn = self.again || self.not_answering;
        let priority = if had_a_turn { 0 } else { self.priority };
        (had_a_turn, priority, self.since, self.node)
    }
}

/// The line of one pacing; the first comes last.
#[derive(Debug, Default)]
pub(super) struct Queue(Vec<Candidate>);

/// Numbers of the images in the order in which they are pulled.
pub(crate) fn pulling_order(survey: &Survey<'_>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..survey.images.len()).collect();
    // Numbers follow names, and the sort keeps their order.
    order.sort_by_key(|ix| survey.images.get(*ix).map(|facts| facts.image.priority));
    order
}

/// The lines of all pacings, by number of the pacing.
pub(super) fn queues(survey: &Survey<'_>, order: &[usize]) -> Vec<Queue> {
    let mut lines: Vec<Vec<Option<Candidate>>> = Vec::new();
    lines.resize_with(survey.pacings.all.len(), Vec::new);
    for ix in order {
        let Some(facts) = survey.images.get(*ix) else { continue };
        let Some(line) = lines.get_mut(facts.pacing) else { continue };
        for pair in facts.pairs.iter() {
            let Need::Due { since, refresh } = pair.need else { continue };
            let Some(node) = survey.nodes.get(pair.node).filter(|node| !node.busy) else { continue };
            let failed = || node.entry(&facts.image.uid, pair.reported).is_some_and(|e| e.failure.is_some());
            let again = refresh || pair.reported.eventful && failed();
            if line.is_empty() {
                line.resize(survey.nodes.len(), None);
            }
            let Some(place) = line.get_mut(pair.node) else { continue };
            let since = since.max(node.served_at.unwrap_or_default());
            let candidate = place.get_or_insert_with(|| Candidate {
                node: pair.node,
                not_answering: node.unanswered.is_some(),
                again,
                priority: facts.image.priority,
                since,
            });
            if candidate.again && !again {
                (candidate.again, candidate.priority, candidate.since) = (false, facts.image.priority, since);
            } else if candidate.again == again && facts.image.priority == candidate.priority {
                candidate.since = candidate.since.min(since);
            }
        }
    }
    lines
        .into_iter()
        .map(|line| {
            let mut waiting: Vec<Candidate> = line.into_iter().flatten().collect();
            waiting.sort_by_key(|candidate| std::cmp::Reverse(candidate.order()));
            Queue(waiting)
        })
        .collect()
}

impl Queue {
    /// The next in line and its place.
    pub(super) fn first(&self) -> Option<(usize, &Candidate)> {
        self.0.iter().enumerate().next_back()
    }

    pub(super) fn remove(&mut self, place: usize) -> Candidate {
        self.0.remove(place)
    }

    /// The node has got a grant.
    pub(super) fn forget_node(&mut self, node: usize) {
        self.0.retain(|candidate| candidate.node != node);
    }

    /// How many answering nodes wait.
    pub(super) fn answering(&self) -> usize {
        self.0.iter().filter(|candidate| !candidate.not_answering).count()
    }

    /// The lowest priority value of a pair never tried that another answering node still waits for once all `free`
    /// slots are given out: the grant of the candidate at `place` goes no further.
    pub(super) fn limit(&self, place: usize, free: u32) -> Option<i32> {
        let others = usize::try_from(free).unwrap_or(usize::MAX).saturating_sub(1);
        self.0
            .iter()
            .enumerate()
            .rev()
            .filter(|(other, candidate)| *other != place && !candidate.not_answering && !candidate.again)
            .nth(others)
            .map(|(_, candidate)| candidate.priority)
    }
}
