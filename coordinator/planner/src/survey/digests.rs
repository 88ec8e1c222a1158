//! Which digests targets hold for a reference, which of them is the newest, and who lags behind.
//!
//! Newer is what the coordinator saw later for the first time, never what a node's clock says.

use std::time::Duration;

use drop_protocol::ImagePullPolicy;

use super::pairs::Judge;
use super::{Need, Survey};
use crate::memory::reported::Columns;
use crate::wake::Wake;

/// The digests that targets hold, newest first, with how many hold each.
#[derive(Debug, Default)]
pub(crate) struct Digests<'w> {
    pub(crate) held: Vec<(&'w str, u32)>,
}

impl<'w> Digests<'w> {
    pub(crate) fn newest(&self) -> Option<&'w str> {
        self.held.first().map(|(digest, _)| *digest)
    }
}

/// Counts the digests of one image, by number: nodes hold the same few.
#[derive(Debug, Default)]
pub(super) struct Count(Vec<(u32, u32)>);

impl Count {
    pub(super) fn add(&mut self, digest: u32) {
        match self.0.iter_mut().find(|(held, _)| *held == digest) {
            Some((_, nodes)) => *nodes += 1,
            None => self.0.push((digest, 1)),
        }
    }

    pub(super) fn finish(self, columns: &Columns) -> Digests<'_> {
        let named = self.0.into_iter().filter_map(|(digest, nodes)| Some((columns.digest(digest)?, nodes)));
        let mut held: Vec<_> = named.collect();
        held.sort_unstable();
        Digests { held }
    }
}

impl Survey<'_> {
    /// Orders digests by age, and lets nodes that lag behind ask the registry once for each newly seen digest.
    pub(super) fn catch_up(&mut self, wake: &Wake) {
        for ix in 0..self.images.len() {
            let Some(facts) = self.images.get_mut(ix) else { continue };
            let memory = self.memory.images.get(&facts.image.uid);
            let age = |digest: &str| memory.and_then(|memory| memory.age_of(digest));
            // Those that nobody got from the registry are the oldest; of these, what most nodes hold comes first.
            facts.digests.held.sort_by_key(|(digest, nodes)| std::cmp::Reverse((age(digest), *nodes)));
            let said = facts.check.answer();
            if said.is_none() && facts.digests.held.len() < 2 {
                continue;
            }
            // One node alone must not make others ask again, whatever it claims: two that were asked have got it from the
            // registry. Its own word may.
            let asked = |node: usize| {
                let pairs = self.nodes.get(node).and_then(|node| node.pairs);
                let pulled = pairs.and_then(|pairs| pairs.get(facts.image.uid.as_str())?.pulled);
                pulled.is_some_and(|pulled| pulled.counts)
            };
            let confirmed_by_two = |digest: &str| {
                let confirmed = facts.pairs.iter().filter(|pair| pair.cached && pair.reported.confirmed);
                let confirmed = confirmed.filter(|pair| asked(pair.node));
                let held = confirmed.filter_map(|pair| self.memory.columns.digest(pair.reported.digest()?));
                held.filter(|held| *held == digest).take(2).count() == 2
            };
            let held =
                facts.digests.held.iter().find(|(digest, nodes)| *nodes > 1 && confirmed_by_two(digest));
            let counting = held
                .map(|(digest, _)| *digest)
                .into_iter()
                .chain(said.map(|said| said.check.digest.as_str()));
            let newest = counting.filter_map(|digest| Some((age(digest)?, digest))).max();
            let Some(((place, newest_seen), newest)) = newest else { continue };
            if facts.digests.held.iter().all(|(digest, _)| *digest == newest) {
                continue;
            }
            let said_at = said.filter(|said| said.check.digest == newest).map(|said| said.at);
            let Some(pacing) = self.pacings.all.get(facts.pacing) else { continue };
            let follows = match facts.image.pull_policy {
                ImagePullPolicy::Always => true,
                ImagePullPolicy::IfNotPresent => pacing.repull.is_some(),
                ImagePullPolicy::Never => false,
            };
            if !follows || facts.image.problem.is_some() || facts.pinned {
                continue;
            }
            for pair in facts.pairs.iter_mut().filter(|pair| pair.cached && pair.need == Need::Nothing) {
                let Some(node) = self.nodes.get(pair.node) else { continue };
                let held = pair.reported.digest().and_then(|digest| self.memory.columns.digest(digest));
                let lags = held.is_some_and(|held| age(held).is_none_or(|(older, _)| older < place));
                let pulled = node.pairs.and_then(|pairs| pairs.get(facts.image.uid.as_str())?.pulled);
                let since = match pulled {
                    Some(pulled) => (pulled.tick <= newest_seen).then_some(pulled.at),
                    // It holds what the registry said before.
                    None => said_at,
                };
                let Some(since) = since.filter(|_| lags) else { continue };
                let judge = Judge {
                    image: facts.image,
                    pinned: facts.pinned,
                    secrets_pending: facts.secrets_pending,
                    pacing,
                    node,
                    reported: pair.reported,
                    listed: None,
                    check: &facts.check,
                    answer_within: Duration::ZERO,
                    latest: 0,
                    now: self.now,
                    wake,
                };
                pair.need = judge.once_possible(since, true);
            }
        }
    }
}
