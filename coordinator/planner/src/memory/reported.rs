//! What every node's Lease says of every CachedImage, in a few bytes a pair: a plan looks at all pairs, and reports and
//! grants are large.
//!
//! Follows from the cluster alone. A row is made anew when its Lease changes, all rows when what images are about does.

use std::collections::BTreeMap;
use std::sync::Arc;

use drop_protocol::{Grant, NodeLease, Report};

use crate::cluster::Cluster;
use crate::walk::Walk;

/// So many digests that no row names any more are put up with.
const STALE_DIGESTS: usize = 1024;

/// What a node's Lease says of one CachedImage. What is about another reference than the present one counts as nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reported {
    /// Number of the digest; 0 if the image is not there.
    digest: u32,
    /// There is an entry.
    pub(crate) known: bool,
    /// The node has confirmed the reference against the registry.
    pub(crate) confirmed: bool,
    /// The entry tells of a failure or an eviction.
    pub(crate) eventful: bool,
    /// The grant in the Lease names it.
    pub(crate) granted: bool,
}

impl Reported {
    pub(crate) const fn is_present(self) -> bool {
        self.digest != 0
    }

    /// Number of the digest, if the image is there.
    pub(crate) fn digest(self) -> Option<u32> {
        (self.digest != 0).then_some(self.digest)
    }
}

/// What the places in a row and the numbers of digests stand for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    /// Uid and reference of each CachedImage, in the order of names: one place in each row.
    images: Vec<(Arc<str>, Arc<str>)>,
    /// Places in the order of uids, which is that of reports.
    by_uid: Vec<usize>,
    /// Digests by number less one.
    digests: Vec<Arc<str>>,
    numbers: BTreeMap<Arc<str>, u32>,
    /// How many digests there were when all rows had last been made.
    digests_then: usize,
}

impl Columns {
    /// Brings the columns up to date; returns whether all rows have to be made anew.
    pub(super) fn observe(&mut self, cluster: &Cluster) -> bool {
        let same = self.images.len() == cluster.images.len()
            && self
                .images
                .iter()
                .zip(cluster.images.values())
                .all(|((uid, reference), image)| **uid == *image.uid && **reference == *image.reference);
        if same && self.digests.len() <= 2 * self.digests_then + STALE_DIGESTS {
            return false;
        }
        self.images = cluster
            .images
            .values()
            .map(|image| (image.uid.as_str().into(), image.reference.as_str().into()))
            .collect();
        self.by_uid = (0..self.images.len()).collect();
        self.by_uid.sort_by(|a, b| self.images.get(*a).cmp(&self.images.get(*b)));
        self.digests.clear();
        self.numbers.clear();
        true
    }

    /// All rows have been made.
    pub(super) fn made(&mut self) {
        self.digests_then = self.digests.len();
    }

    /// The row of a Lease.
    pub(super) fn row(&mut self, lease: &NodeLease) -> Box<[Reported]> {
        let mut row = vec![Reported::default(); self.images.len()].into_boxed_slice();
        if let Some(report) = &lease.report {
            self.enter_report(report, &mut row);
        }
        if let Some(grant) = &lease.grant {
            self.enter_grant(grant, &mut row);
        }
        row
    }

    fn enter_report(&mut self, report: &Report, row: &mut [Reported]) {
        let mut entries = Walk::new(&report.images);
        for &place in &self.by_uid {
            let (Some((uid, reference)), Some(reported)) = (self.images.get(place), row.get_mut(place))
            else {
                continue;
            };
            let Some(entry) = entries.at(uid).filter(|entry| entry.reference == *reference) else { continue };
            *reported = Reported {
                digest: number(&mut self.digests, &mut self.numbers, entry.digest.as_ref()),
                known: true,
                confirmed: entry.pulled_at.is_some(),
                eventful: entry.failure.is_some() || entry.evictions.is_some(),
                granted: false,
            };
        }
    }

    fn enter_grant(&self, grant: &Grant, row: &mut [Reported]) {
        let image = |place: &usize| self.images.get(*place);
        for granted in &grant.images {
            let uid = Some(granted.uid.as_str());
            let found = self.by_uid.binary_search_by(|place| image(place).map(|(uid, _)| &**uid).cmp(&uid));
            let Some(place) = found.ok().and_then(|found| self.by_uid.get(found)) else { continue };
            if let Some(reported) = row.get_mut(*place)
                && image(place).is_some_and(|(_, reference)| **reference == *granted.reference)
            {
                reported.granted = true;
            }
        }
    }

    /// The number of this digest, if a node reports it.
    pub(crate) fn number_of(&self, digest: &str) -> Option<u32> {
        self.numbers.get(digest).copied()
    }

    /// The digest of this number.
    pub(crate) fn digest(&self, number: u32) -> Option<&str> {
        let place = usize::try_from(number).ok()?.checked_sub(1)?;
        self.digests.get(place).map(AsRef::as_ref)
    }
}

fn number(
    digests: &mut Vec<Arc<str>>,
    numbers: &mut BTreeMap<Arc<str>, u32>,
    digest: Option<&Arc<str>>,
) -> u32 {
    let Some(digest) = digest else { return 0 };
    if let Some(number) = numbers.get(digest) {
        return *number;
    }
    digests.push(Arc::clone(digest));
    let number = u32::try_from(digests.len()).unwrap_or(u32::MAX);
    numbers.insert(Arc::clone(digest), number);
    number
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use drop_protocol::{NodeLease, Report, ReportEntry};

    use super::{Columns, STALE_DIGESTS};
    use crate::cluster::{CachedImage, Cluster};

    fn cluster(images: &[(&str, &str)]) -> Cluster {
        let image = |(name, uid): &(&str, &str)| {
            let (name, uid) = ((*name).to_owned(), (*uid).to_owned());
            let reference = format!("{name}:1");
            (name.clone(), Arc::new(CachedImage { name, uid, reference, ..CachedImage::default() }))
        };
        Cluster { images: images.iter().map(image).collect(), ..Cluster::default() }
    }

    fn lease(entries: &[(&str, &str, &str)]) -> NodeLease {
        let mut lease = NodeLease::create("drop-system", "node-1", "node-uid", Duration::from_secs(60));
        lease.metadata.uid = Some("lease-uid".to_owned());
        lease.metadata.resource_version = Some("9".to_owned());
        let mut report = Report::empty("agent");
        for (uid, reference, digest) in entries {
            let digest = Some(Arc::from(*digest));
            let entry = ReportEntry { reference: Arc::from(*reference), digest, ..ReportEntry::default() };
            report.images.insert(Arc::from(*uid), entry);
        }
        NodeLease { report: Some(report), ..NodeLease::decode(&lease).unwrap() }
    }

    #[test]
    fn a_row_follows_the_names_of_images_whatever_their_uids() {
        let mut columns = Columns::default();
        assert!(columns.observe(&cluster(&[("a", "9"), ("b", "1"), ("c", "5")])));
        let row =
            columns.row(&lease(&[("1", "b:1", "sha256:b"), ("7", "x:1", "x"), ("9", "a:1", "sha256:a")]));
        let digests: Vec<_> = row.iter().map(|r| r.digest().and_then(|d| columns.digest(d))).collect();
        assert_eq!(digests, [Some("sha256:a"), Some("sha256:b"), None]);
    }

    #[test]
    fn an_entry_about_another_reference_counts_as_none() {
        let mut columns = Columns::default();
        columns.observe(&cluster(&[("a", "1")]));
        let row = columns.row(&lease(&[("1", "a:2", "sha256:a")]));
        assert!(!row[0].known && !row[0].is_present());
    }

    #[test]
    fn rows_are_made_anew_when_an_image_changes_or_stale_digests_pile_up() {
        let (mut columns, one) = (Columns::default(), cluster(&[("a", "1")]));
        assert!(columns.observe(&one));
        columns.made();
        assert!(!columns.observe(&one));
        assert!(columns.observe(&cluster(&[("a", "2")])), "another object of that name");
        columns.made();
        for n in 0..STALE_DIGESTS {
            columns.row(&lease(&[("2", "a:1", &format!("sha256:{n}"))]));
        }
        assert!(!columns.observe(&cluster(&[("a", "2")])));
        columns.row(&lease(&[("2", "a:1", "sha256:one too many")]));
        assert!(columns.observe(&cluster(&[("a", "2")])));
        assert!(columns.digests.is_empty());
        // Of those that rows name, there may be as many again.
        for n in 0..10 {
            columns.row(&lease(&[("2", "a:1", &format!("sha256:{n}"))]));
        }
        columns.made();
        for n in 10..STALE_DIGESTS + 20 {
            columns.row(&lease(&[("2", "a:1", &format!("sha256:{n}"))]));
        }
        assert!(!columns.observe(&cluster(&[("a", "2")])));
    }
}
