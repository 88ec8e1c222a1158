//! Which digests targets hold for a reference, which of them is the newest, and who lags behind.
//!
//! Newer is what the coordinator saw later for the first time, never what a node's clock says.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_protocol::ImagePullPolicy;

use super::pairs::Judge;
use super::{Need, Pair, Survey};
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

fn count<'w>(pairs: &[Pair<'w>]) -> Vec<(&'w str, u32)> {
    let mut held: BTreeMap<&'w str, u32> = BTreeMap::new();
    let mut run: Option<(&'w str, u32)> = None;
    for pair in pairs.iter().filter(|pair| pair.cached) {
        let Some(digest) = pair.entry.and_then(|entry| entry.digest.as_deref()) else { continue };
        match &mut run {
            Some((current, nodes)) if *current == digest => *nodes += 1,
            _ => {
                if let Some((digest, nodes)) = run.replace((digest, 1)) {
                    *held.entry(digest).or_default() += nodes;
                }
            }
        }
    }
    if let Some((digest, nodes)) = run {
        *held.entry(digest).or_default() += nodes;
    }
    held.into_iter().collect()
}

impl Survey<'_> {
    /// Counts digests, and lets nodes that lag behind ask the registry once for each newly seen digest.
    pub(super) fn catch_up(&mut self, wake: &Wake) {
        for ix in 0..self.images.len() {
            let Some(facts) = self.images.get_mut(ix) else { continue };
            let memory = self.memory.images.get(&facts.image.uid);
            let age = |digest: &str| memory.and_then(|memory| memory.age_of(digest));
            let mut held = count(&facts.pairs);
            held.sort_by_key(|(digest, _)| std::cmp::Reverse(age(digest)));
            facts.digests.held = held;
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
            if !follows || facts.image.problem.is_some() || facts.image.reference.contains('@') {
                continue;
            }
            for pair in facts.pairs.iter_mut().filter(|pair| pair.cached && pair.need == Need::Nothing) {
                let Some(node) = self.nodes.get(pair.node) else { continue };
                let held = pair.entry.and_then(|entry| entry.digest.as_deref());
                let lags = held.is_some_and(|held| age(held).is_none_or(|(older, _)| older < place));
                let pulled = node.pairs.and_then(|pairs| pairs.get(&facts.image.uid)?.pulled);
                let Some(pulled) = pulled.filter(|pulled| lags && pulled.tick <= newest_seen) else {
                    continue;
                };
                let judge = Judge {
                    image: facts.image,
                    secrets_pending: facts.secrets_pending,
                    pacing,
                    node,
                    entry: pair.entry,
                    seen: node.pairs.and_then(|pairs| pairs.get(&facts.image.uid)),
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
