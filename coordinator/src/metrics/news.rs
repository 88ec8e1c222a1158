//! What is new in a node's report.

use drop_protocol::{NodeLease, ReportEntry};

/// One CachedImage of which a report says something new.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News<'a> {
    /// Uid of the CachedImage.
    pub(super) uid: &'a str,
    /// Its image without tag and digest.
    pub(super) image: &'a str,
    /// The node has pulled or confirmed it.
    pub(super) pulled: bool,
    /// An attempt has failed.
    pub(super) failed: bool,
    /// It has gone without Drop's doing.
    pub(super) evicted: bool,
}

/// What the report of `after` says that the one of `before` did not.
pub(super) fn news<'a>(before: &'a NodeLease, after: &'a NodeLease) -> impl Iterator<Item = News<'a>> {
    let attempts = |entry: &ReportEntry| entry.failure.as_ref().map_or(0, |failure| failure.attempts);
    let evictions = |entry: &ReportEntry| entry.evictions.as_ref().map_or(0, |evictions| evictions.count);
    after.report.iter().flat_map(|report| &report.images).filter_map(move |(uid, entry)| {
        let known = before.report.as_ref().and_then(|report| report.images.get(uid));
        let known = known.filter(|known| known.reference == entry.reference);
        let news = News {
            uid,
            image: repository(&entry.reference),
            pulled: entry.pulled_at.is_some() && entry.pulled_at != known.and_then(|known| known.pulled_at),
            failed: attempts(entry) > known.map_or(0, attempts),
            evicted: evictions(entry) > known.map_or(0, evictions),
        };
        (news.pulled || news.failed || news.evicted).then_some(news)
    })
}

/// A reference without tag and digest: `spec.image`.
pub(super) fn repository(reference: &str) -> &str {
    let name = reference.split_once('@').map_or(reference, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::repository;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(repository("nginx:1.25"), "nginx");
        assert_eq!(repository("host:5000/app"), "host:5000/app");
        assert_eq!(repository("host:5000/app:v1"), "host:5000/app");
        assert_eq!(repository("host/app@sha256:00"), "host/app");
    }
}
