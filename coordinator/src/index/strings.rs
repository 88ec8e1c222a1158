//! One copy of each string that thousands of rows hold.
//!
//! The report of every node names the same uids, references and digests, and every status the same nodes. Kept once,
//! they take a fraction of the memory; and what is compared again in each pass stays in the processor's cache.

use std::collections::HashSet;
use std::sync::Arc;

use drop_planner::CachedImage;
use drop_protocol::NodeLease;

/// The fewest strings that are worth looking for those that nobody holds any more.
const PRUNE_FROM: usize = 16_384;

/// Every string that is shared.
#[derive(Debug)]
pub struct Strings {
    known: HashSet<Arc<str>>,
    prune_at: usize,
}

impl Default for Strings {
    fn default() -> Self {
        Self { known: HashSet::new(), prune_at: PRUNE_FROM }
    }
}

impl Strings {
    /// Lets the report of a node share its strings.
    pub fn share_report(&mut self, lease: &mut NodeLease) {
        let Some(report) = &mut lease.report else { return };
        let images = std::mem::take(&mut report.images);
        report.images = images
            .into_iter()
            .map(|(mut uid, mut entry)| {
                self.share(&mut uid);
                self.share(&mut entry.reference);
                entry.digest.iter_mut().for_each(|digest| self.share(digest));
                (uid, entry)
            })
            .collect();
        self.prune();
    }

    /// Lets the status of a CachedImage share the names of nodes.
    pub fn share_status(&mut self, image: &mut CachedImage) {
        image.status.cached_nodes.iter_mut().for_each(|node| self.share(node));
        self.prune();
    }

    fn share(&mut self, string: &mut Arc<str>) {
        match self.known.get(string) {
            Some(known) => *string = Arc::clone(known),
            None => drop(self.known.insert(Arc::clone(string))),
        }
    }

    /// Forgets what nobody holds any more, whenever there is twice as much as last time.
    fn prune(&mut self) {
        if self.known.len() >= self.prune_at {
            self.known.retain(|string| Arc::strong_count(string) > 1);
            self.prune_at = (self.known.len() * 2).max(PRUNE_FROM);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use drop_planner::CachedImage;
    use drop_protocol::{NodeLease, Report, ReportEntry};

    use super::{PRUNE_FROM, Strings};

    fn lease(node: &str, digest: &str) -> NodeLease {
        let mut lease = NodeLease::create("drop-system", node, "node-uid", Duration::from_secs(60));
        lease.metadata.uid = Some("u".to_owned());
        lease.metadata.resource_version = Some("1".to_owned());
        let mut lease = NodeLease::decode(&lease).unwrap();
        let entry = ReportEntry {
            reference: "host/app:1".into(),
            digest: Some(digest.into()),
            ..ReportEntry::default()
        };
        lease.report = Some(Report { images: [("uid".into(), entry)].into(), ..Report::empty("pod") });
        lease
    }

    #[test]
    fn reports_of_two_nodes_share_what_they_both_say() {
        let mut strings = Strings::default();
        let (mut one, mut two) = (lease("n1", "sha256:a"), lease("n2", "sha256:a"));
        let before = one.clone();
        strings.share_report(&mut one);
        strings.share_report(&mut two);
        assert_eq!(one, before, "only where it lies has changed");
        let (one, two) = (one.report.unwrap().images, two.report.unwrap().images);
        let ((uid, entry), (other_uid, other)) = (one.iter().next().unwrap(), two.iter().next().unwrap());
        assert!(Arc::ptr_eq(uid, other_uid));
        assert!(Arc::ptr_eq(&entry.reference, &other.reference));
        assert!(Arc::ptr_eq(entry.digest.as_ref().unwrap(), other.digest.as_ref().unwrap()));
    }

    #[test]
    fn what_nobody_holds_any_more_is_forgotten() {
        let mut strings = Strings::default();
        for n in 0..PRUNE_FROM * 3 {
            strings.share_report(&mut lease("n1", &format!("sha256:{n}")));
        }
        assert!(strings.known.len() < PRUNE_FROM + 3, "{}", strings.known.len());
        let mut image = CachedImage::default();
        image.status.cached_nodes = vec!["n1".into()];
        strings.share_status(&mut image);
        assert!(strings.known.contains("n1"));
    }
}
