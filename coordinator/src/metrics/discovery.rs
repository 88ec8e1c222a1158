//! Metrics of DiscoveryPolicies. Series of policies and sources that are gone disappear.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use drop_discovery::policy::word;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::discover::sync::Seen;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ByType {
    policy: String,
    source_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct BySource {
    policy: String,
    source_type: &'static str,
    endpoint: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPolicy {
    policy: String,
}

type Latency = Family<ByType, Histogram, fn() -> Histogram>;

/// All of them.
pub struct Discovery {
    images: Family<ByType, Gauge>,
    health: Family<BySource, Gauge>,
    latency: Latency,
    last_sync: Family<ByPolicy, Gauge>,
    shown: Mutex<BTreeMap<String, BTreeSet<BySource>>>,
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").finish_non_exhaustive()
    }
}

fn seconds() -> Histogram {
    // The usual buckets up to 10 s, and what a slow query may take beyond.
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0])
}

impl Discovery {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let images = Family::default();
        registry.register(
            "discovery_images_found",
            "Images that the sources of a type named in the latest sync, before they were merged and cut",
            Clone::clone(&images),
        );
        let health = Family::default();
        registry.register(
            "discovery_source_health",
            "1 if the source answered all it was asked in the latest sync",
            Clone::clone(&health),
        );
        let latency: Latency = Family::new_with_constructor(seconds as fn() -> Histogram);
        registry.register(
            "discovery_source_latency_seconds",
            "Time that a source took to answer all it was asked",
            Clone::clone(&latency),
        );
        let last_sync = Family::default();
        registry.register(
            "discovery_last_sync_timestamp_seconds",
            "When the sources of a policy were last asked, as Unix time",
            Clone::clone(&last_sync),
        );
        Self { images, health, latency, last_sync, shown: Mutex::default() }
    }

    /// The sources of `policy` were asked.
    pub fn synced(&self, policy: &str, seen: &[Seen], now: Timestamp) {
        let mut images: BTreeMap<ByType, usize> = BTreeMap::new();
        let mut health: BTreeMap<BySource, bool> = BTreeMap::new();
        for source in seen {
            let by_type = ByType { policy: policy.to_owned(), source_type: word(source.kind) };
            self.latency.get_or_create(&by_type).observe(source.took.as_secs_f64());
            let by_source = BySource {
                policy: policy.to_owned(),
                source_type: word(source.kind),
                endpoint: source.endpoint.clone(),
            };
            *images.entry(by_type).or_default() += source.images;
            // Two queries to one endpoint share a series.
            *health.entry(by_source).or_insert(true) &= source.healthy;
        }
        let mut shown = self.shown();
        let before = shown.insert(policy.to_owned(), health.keys().cloned().collect()).unwrap_or_default();
        for gone in before.iter().filter(|source| !health.contains_key(source)) {
            self.remove(gone, images.keys().all(|kind| kind.source_type != gone.source_type));
        }
        for (by_type, count) in &images {
            self.images.get_or_create(by_type).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        for (by_source, healthy) in &health {
            self.health.get_or_create(by_source).set(i64::from(*healthy));
        }
        self.last_sync.get_or_create(&ByPolicy { policy: policy.to_owned() }).set(now.as_second());
    }

    /// The policy is gone.
    pub fn forget(&self, policy: &str) {
        for source in self.shown().remove(policy).unwrap_or_default() {
            self.remove(&source, true);
        }
        self.last_sync.remove(&ByPolicy { policy: policy.to_owned() });
    }

    /// Nobody asks any more: leadership has ended.
    pub fn clear(&self) {
        self.shown().clear();
        self.images.clear();
        self.health.clear();
        self.latency.clear();
        self.last_sync.clear();
    }

    fn remove(&self, source: &BySource, whole_type: bool) {
        self.health.remove(source);
        if whole_type {
            let by_type = ByType { policy: source.policy.clone(), source_type: source.source_type };
            self.images.remove(&by_type);
            self.latency.remove(&by_type);
        }
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<String, BTreeSet<BySource>>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use drop_crds::SourceType;
    use jiff::Timestamp;

    use crate::discover::sync::Seen;
    use crate::metrics::Metrics;

    fn seen(kind: SourceType, endpoint: &str, healthy: bool, images: usize) -> Seen {
        Seen { kind, endpoint: endpoint.to_owned(), healthy, images, took: Duration::from_millis(20) }
    }

    #[test]
    fn every_source_shows_and_disappears_with_its_policy() {
        use SourceType::{Prometheus, Registry};
        let metrics = Metrics::new();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let all = [
            seen(Prometheus, "http://p", true, 3),
            seen(Prometheus, "http://p", false, 0),
            seen(Registry, "http://r", true, 2),
        ];
        metrics.discovery().synced("popular", &all, now);
        let text = metrics.encode().unwrap();
        for line in [
            "drop_discovery_images_found{policy=\"popular\",source_type=\"prometheus\"} 3",
            "drop_discovery_images_found{policy=\"popular\",source_type=\"registry\"} 2",
            "drop_discovery_source_health{policy=\"popular\",source_type=\"prometheus\",endpoint=\"http://p\"} 0",
            "drop_discovery_source_health{policy=\"popular\",source_type=\"registry\",endpoint=\"http://r\"} 1",
            "drop_discovery_source_latency_seconds_count{policy=\"popular\",source_type=\"prometheus\"} 2",
            "drop_discovery_last_sync_timestamp_seconds{policy=\"popular\"} 1700000000",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }

        metrics.discovery().synced("popular", &all[..1], now);
        let text = metrics.encode().unwrap();
        assert!(!text.contains("registry"), "a source that the spec no longer lists leaves nothing\n{text}");
        assert!(text.contains("endpoint=\"http://p\"} 1"));

        metrics.discovery().forget("popular");
        assert!(!metrics.encode().unwrap().contains("popular"));
    }
}
