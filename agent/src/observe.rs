//! Health and metrics of one agent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use drop_agent_step::{PullError, Pulled, WriteKind, WriteResult};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// How a pull ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PullLabels {
    /// `Pulled`, `Cancelled`, or the reason of the failure.
    result: &'static str,
}

impl PullLabels {
    const fn of(result: &Result<Pulled, PullError>) -> Self {
        let result = match result {
            Ok(_) => "Pulled",
            Err(PullError::Failed(why)) => why.reason.as_str(),
            Err(PullError::Cancelled) => "Cancelled",
        };
        Self { result }
    }
}

/// What was written to the node Lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    result: &'static str,
}

/// What one agent shows of itself. Shared with the HTTP pages.
#[derive(Debug)]
pub struct Observed {
    lease_heard: AtomicBool,
    catalog_heard: AtomicBool,
    runtime_answers: AtomicBool,
    registry: Registry,
    grant_to_pull: Histogram,
    pull_duration: Family<PullLabels, Histogram, fn() -> Histogram>,
    pulled_bytes: Counter,
    pulls: Family<PullLabels, Counter>,
    writes: Family<WriteLabels, Counter>,
    grant_held: Gauge,
    images_present: Gauge,
    disk_free: Gauge,
}

impl Default for Observed {
    fn default() -> Self {
        Self::new()
    }
}

impl Observed {
    /// An agent that has not begun.
    #[must_use]
    pub fn new() -> Self {
        let mut observed = Self {
            lease_heard: AtomicBool::new(false),
            catalog_heard: AtomicBool::new(false),
            runtime_answers: AtomicBool::new(false),
            registry: Registry::default(),
            // 5 ms to 10 s: the target is 100 ms.
            grant_to_pull: Histogram::new([
                0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 10.0,
            ]),
            // A quarter of a second to 17 minutes.
            pull_duration: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.25, 2.0, 13))
            }),
            pulled_bytes: Counter::default(),
            pulls: Family::default(),
            writes: Family::default(),
            grant_held: Gauge::default(),
            images_present: Gauge::default(),
            disk_free: Gauge::default(),
        };
        observed.register();
        observed
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register_with_unit(
            "drop_agent_grant_to_pull",
            "From the issue of a grant to its first PullImage, by two machines' wall clocks",
            Unit::Seconds,
            self.grant_to_pull.clone(),
        );
        registry.register_with_unit(
            "drop_pull_duration",
            "From PullImage sent to its answer, by how it ended",
            Unit::Seconds,
            self.pull_duration.clone(),
        );
        registry.register_with_unit(
            "drop_agent_pulled",
            "Sizes of the images that pulls brought or changed, as the runtime states them, with layers that were there",
            Unit::Bytes,
            self.pulled_bytes.clone(),
        );
        registry.register("drop_agent_pulls", "Pulls that ended, by how they ended", self.pulls.clone());
        registry.register(
            "drop_agent_lease_writes",
            "Writes to the node Lease, by what for and how they ended",
            self.writes.clone(),
        );
        registry.register(
            "drop_agent_grant_held",
            "1 while this agent works on a grant",
            self.grant_held.clone(),
        );
        registry.register(
            "drop_agent_images_present",
            "Image references that the container runtime holds, wanted or not",
            self.images_present.clone(),
        );
        registry.register(
            "drop_agent_image_filesystem_free_percent",
            "Free space of the image file system",
            self.disk_free.clone(),
        );
    }

    /// The metrics in OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut encoded = String::new();
        // Writing to a String fails never.
        let _ = text::encode(&mut encoded, &self.registry);
        encoded
    }

    /// What is still missing before this agent can act on a grant; empty: nothing.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        [
            (&self.lease_heard, "the API server has not told of this node's Lease"),
            (&self.catalog_heard, "the API server has not told of the catalog"),
            (&self.runtime_answers, "the container runtime does not list its images"),
        ]
        .into_iter()
        .filter(|(heard, _)| !heard.load(Ordering::Relaxed))
        .map(|(_, what)| what)
        .collect()
    }

    pub(crate) fn lease_heard(&self) {
        self.lease_heard.store(true, Ordering::Relaxed);
    }

    pub(crate) fn catalog_heard(&self) {
        self.catalog_heard.store(true, Ordering::Relaxed);
    }

    pub(crate) fn runtime_answered(&self, images: Option<usize>) {
        self.runtime_answers.store(images.is_some(), Ordering::Relaxed);
        if let Some(images) = images {
            self.images_present.set(i64::try_from(images).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn disk_free(&self, percent: u8) {
        self.disk_free.set(i64::from(percent));
    }

    pub(crate) fn grant_held(&self, held: bool) {
        self.grant_held.set(i64::from(held));
    }

    pub(crate) fn grant_to_pull(&self, seconds: f64) {
        self.grant_to_pull.observe(seconds);
    }

    pub(crate) fn pull_took(&self, result: &Result<Pulled, PullError>, time: Duration) {
        self.pull_duration.get_or_create(&PullLabels::of(result)).observe(time.as_secs_f64());
    }

    pub(crate) fn pulled_bytes(&self, size: u64) {
        self.pulled_bytes.inc_by(size);
    }

    pub(crate) fn pull_ended(&self, result: &Result<Pulled, PullError>) {
        self.pulls.get_or_create(&PullLabels::of(result)).inc();
    }

    pub(crate) fn wrote(&self, kind: WriteKind, result: &WriteResult) {
        let kind = match kind {
            WriteKind::Take => "take",
            WriteKind::Renew => "renew",
            WriteKind::Refuse => "refuse",
            WriteKind::Finish => "finish",
            WriteKind::Report => "report",
        };
        let result = match result {
            WriteResult::Applied(_) => "applied",
            WriteResult::Conflict => "conflict",
            WriteResult::Gone => "gone",
            WriteResult::Unknown(_) => "unknown",
        };
        self.writes.get_or_create(&WriteLabels { kind, result }).inc();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use drop_agent_step::{PullError, Pulled, WriteKind, WriteResult};

    use super::Observed;

    const README: &str = include_str!("../README.md");

    /// Makes every metric move once.
    fn moved() -> String {
        let observed = Observed::new();
        observed.grant_held(true);
        observed.runtime_answered(Some(12));
        observed.disk_free(40);
        observed.grant_to_pull(0.06);
        for result in [Ok(Pulled { digest: None }), Err(PullError::Cancelled)] {
            observed.pull_took(&result, Duration::from_secs(3));
            observed.pull_ended(&result);
        }
        observed.pulled_bytes(1000);
        observed.wrote(WriteKind::Take, &WriteResult::Conflict);
        observed.encode()
    }

    #[test]
    fn everything_that_happens_shows_in_a_scrape() {
        let text = moved();
        for line in [
            "drop_agent_grant_to_pull_seconds_count 1",
            "drop_pull_duration_seconds_sum{result=\"Pulled\"} 3.0",
            "drop_pull_duration_seconds_count{result=\"Cancelled\"} 1",
            "drop_agent_pulls_total{result=\"Pulled\"} 1",
            "drop_agent_pulls_total{result=\"Cancelled\"} 1",
            "drop_agent_pulled_bytes_total 1000",
            "drop_agent_lease_writes_total{kind=\"take\",result=\"conflict\"} 1",
            "drop_agent_grant_held 1",
            "drop_agent_images_present 12",
            "drop_agent_image_filesystem_free_percent 40",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn the_readme_tells_of_every_metric_and_of_no_other() {
        let (_, section) = README.split_once("\n## Metrics\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let documented: BTreeSet<&str> = section
            .split('`')
            .filter(|word| word.starts_with("drop_"))
            .map(|word| word.split('{').next().unwrap().trim_end_matches("_total"))
            .collect();
        let text = moved();
        let shown: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        assert_eq!(documented, shown);
    }
}
