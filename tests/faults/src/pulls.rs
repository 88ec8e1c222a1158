//! What the registry's log tells of pulls: who pulled what from when until when, how many nodes at once, and what was
//! fetched more often than it had to be. Pure, and it knows nothing of grants: Drop's own books are not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_harness::faulty::Kind;
use drop_harness::faulty::access::Access;

/// Requests of a node for one image that follow each other more closely than this are one pull: containerd asks for one
/// thing after another, and unpacks in between.
const PAUSE: Duration = Duration::from_secs(1);

/// One node pulling one image, on the clock of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pull {
    /// The node.
    pub(crate) node: String,
    /// Repository of the image.
    pub(crate) repository: String,
    /// First request.
    pub(crate) began: Duration,
    /// End of the last answer.
    pub(crate) ended: Duration,
}

/// The pulls in a log that was read at `now`, in the order in which they began. Requests of nobody in particular, such
/// as the coordinator's, are none.
pub(crate) fn pulls(log: &[Access], now: Duration) -> Vec<Pull> {
    let mut requests: Vec<Pull> = log
        .iter()
        .filter(|access| matches!(access.kind, Kind::Manifest | Kind::Blob))
        .filter_map(|access| {
            let node = access.node.clone()?;
            let (repository, began) = (access.repository.clone(), access.began);
            Some(Pull { node, repository, began, ended: access.ended.unwrap_or(now) })
        })
        .collect();
    requests.sort_by_key(|request| request.began);
    let mut pulls: Vec<Pull> = Vec::new();
    for request in requests {
        let same = |pull: &&mut Pull| {
            pull.node == request.node
                && pull.repository == request.repository
                && request.began <= pull.ended + PAUSE
        };
        match pulls.iter_mut().rev().find(same) {
            Some(pull) => pull.ended = pull.ended.max(request.ended),
            None => pulls.push(request),
        }
    }
    pulls
}

/// The most nodes that were pulling at any instant.
pub(crate) fn most_at_once(pulls: &[Pull]) -> usize {
    // It can only rise when a pull begins.
    let at = |instant: Duration| {
        let running = pulls.iter().filter(|pull| pull.began <= instant && instant < pull.ended);
        running.map(|pull| &pull.node).collect::<BTreeSet<_>>().len()
    };
    pulls.iter().map(|pull| at(pull.began)).max().unwrap_or(0)
}

/// How often each node fetched an image again: the most requests for any one of its layers, less the one that it needs.
pub(crate) fn repeated(log: &[Access]) -> BTreeMap<(String, String), usize> {
    let mut layers: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    for access in log.iter().filter(|access| access.layer) {
        if let Some(node) = &access.node {
            *layers.entry((node, &access.repository, &access.name)).or_default() += 1;
        }
    }
    let mut repeated = BTreeMap::new();
    for ((node, repository, _), count) in layers {
        let most: &mut usize = repeated.entry((node.to_owned(), repository.to_owned())).or_default();
        *most = (*most).max(count - 1);
    }
    repeated.retain(|_, count| *count > 0);
    repeated
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(node: &str, name: &str, began: u64, ended: impl Into<Option<u64>>) -> Access {
        Access {
            node: Some(node.to_owned()),
            kind: Kind::Blob,
            repository: "image".to_owned(),
            name: name.to_owned(),
            layer: true,
            began: Duration::from_millis(began),
            ended: ended.into().map(Duration::from_millis),
        }
    }

    fn most(log: &[Access]) -> usize {
        most_at_once(&pulls(log, Duration::from_secs(60)))
    }

    #[test]
    fn nodes_that_overlap_are_counted_once_each() {
        let two_layers_at_once = [access("a", "1", 0, 5000), access("a", "2", 0, 5000)];
        assert_eq!(most(&two_layers_at_once), 1);
        let with_another = [two_layers_at_once.as_slice(), &[access("b", "1", 4000, 6000)]].concat();
        assert_eq!(most(&with_another), 2);
        let and_a_third = [with_another.as_slice(), &[access("c", "1", 4999, 9000)]].concat();
        assert_eq!(most(&and_a_third), 3);
    }

    #[test]
    fn a_node_that_begins_when_another_has_ended_is_not_at_the_same_time() {
        assert_eq!(most(&[access("a", "1", 0, 5000), access("b", "1", 5000, 9000)]), 1);
    }

    #[test]
    fn a_node_goes_on_pulling_between_two_layers() {
        let log = [access("a", "1", 0, 1000), access("b", "1", 1200, 1300), access("a", "2", 1500, 3000)];
        assert_eq!(most(&log), 2);
    }

    #[test]
    fn an_answer_that_is_still_being_sent_counts_until_now() {
        assert_eq!(most(&[access("a", "1", 0, None), access("b", "1", 59_000, None)]), 2);
    }

    #[test]
    fn a_pull_that_is_begun_anew_is_another() {
        let log = [access("a", "1", 0, 1000), access("a", "1", 9000, 9500)];
        assert_eq!(pulls(&log, Duration::from_secs(60)).len(), 2);
        assert_eq!(most(&[log.as_slice(), &[access("b", "1", 4000, 5000)]].concat()), 1);
    }

    #[test]
    fn a_layer_that_is_fetched_again_is_a_repeated_pull() {
        let once = [access("a", "1", 0, 10), access("a", "2", 0, 10), access("b", "1", 0, 10)];
        assert!(repeated(&once).is_empty());
        let again = [once.as_slice(), &[access("a", "1", 20, 30), access("a", "2", 20, 30)]].concat();
        assert_eq!(repeated(&again), [(("a".to_owned(), "image".to_owned()), 1)].into());
    }

    #[test]
    fn manifests_alone_repeat_no_pull_and_strangers_pull_nothing() {
        let mut manifest = access("a", "latest", 0, 10);
        manifest.kind = Kind::Manifest;
        manifest.layer = false;
        assert!(repeated(&[manifest.clone(), manifest.clone()]).is_empty());
        manifest.node = None;
        assert_eq!(most(&[manifest]), 0);
    }
}
