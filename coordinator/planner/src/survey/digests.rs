//! Which digests targets hold for a reference, which of them is the newest, and who lags behind.
//!
//! Newer is what the coordinator saw later for the first time, never what a node's clock says.

use std::time::Duration;

use drop_protocol::ImagePullPolicy;

use super::pairs::Judge;
use super::{Need, Survey};
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

/// Counts the digests of one image while its pairs are surveyed: nodes hold the same few, mostly the same as the node
/// before.
#[derive(Debug, Default)]
pub(super) struct Count<'w> {
    held: Vec<(&'w str, u32)>,
    last: usize,
}

impl<'w> Count<'w> {
    pub(super) fn add(&mut self, digest: &'w str) {
        let is_last = self.held.get(self.last).is_some_and(|(held, _)| same(held, digest));
        if !is_last {
            let found = self.held.iter().position(|(held, _)| same(held, digest));
            self.last = found.unwrap_or_else(|| {
                self.held.push((digest, 0));
                self.held.len() - 1
            });
        }
        if let Some((_, nodes)) = self.held.get_mut(self.last) {
            *nodes += 1;
        }
    }

    pub(super) fn finish(mut self) -> Digests<'w> {
        self.held.sort_unstable();
        Digests { held: self.held }
    }
}

/// Strings that are shared are the same without a look at them.
fn same(a: &str, b: &str) -> bool {
    std::ptr::eq(a, b) || a == b
}

impl Survey<'_> {
    /// Orders digests by age, and lets nodes that lag behind ask the registry once for each newly seen digest.
    pub(super) fn catch_up(&mut self, wake: &Wake) {
        for ix in 0..self.images.len() {
            let Some(facts) = self.images.get_mut(ix) else { continue };
            let memory = self.memory.images.get(&facts.image.uid);
            let age = |digest: &str| memory.and_then(|memory| memory.age_of(digest));
            facts.digests.held.sort_by_key(|(digest, _)| std::cmp::Reverse(age(digest)));
            if facts.digests.held.len() < 2 {
                continue;
            }
            // One node alone must not make others ask again.
            let newest = facts.digests.held.iter().find(|(_, nodes)| *nodes > 1);
            let Some((newest, _)) = newest.copied() else { continue };
            let Some((place, newest_seen)) = age(newest) else { continue };
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
                let held = pair.entry.and_then(|entry| entry.digest.as_deref());
                let lags = held.is_some_and(|held| age(held).is_none_or(|(older, _)| older < place));
                let pulled = node.pairs.and_then(|pairs| pairs.get(facts.image.uid.as_str())?.pulled);
                let Some(pulled) = pulled.filter(|pulled| lags && pulled.tick <= newest_seen) else {
                    continue;
                };
                let judge = Judge {
                    image: facts.image,
                    pinned: facts.pinned,
                    secrets_pending: facts.secrets_pending,
                    pacing,
                    node,
                    entry: pair.entry,
                    listed: None,
                    answer_within: Duration::ZERO,
                    now: self.now,
                    wake,
                };
                pair.need = judge.once_possible(pulled.at, true);
            }
        }
    }
}
