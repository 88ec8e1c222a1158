use std::collections::BTreeSet;
use std::time::Duration;

use drop_crds::SourceType;
use drop_planner::{Issue, IssueKind, WithdrawReason};
use drop_protocol::{
    Epoch, Evictions, Failure, FailureReason, FailureScope, Grant, GrantId, GrantOutcome, GrantedImage,
    Holder, ImagePullPolicy, Monotonic, NodeLease, Outcome, Report, ReportEntry, grant,
};
use jiff::Timestamp;

use super::{ImageState, Metrics, Snapshot, WriteKind, WriteOutcome};
use crate::discover::sync::Seen;

const README: &str = include_str!("../../README.md");

fn lease() -> NodeLease {
    let mut lease = NodeLease::create("drop-system", "node-1", "node-uid", Duration::from_secs(60));
    lease.metadata.uid = Some("lease-uid".to_owned());
    lease.metadata.resource_version = Some("1".to_owned());
    NodeLease::decode(&lease).unwrap()
}

fn issue() -> Issue {
    let epoch = Epoch { lease: "leader".to_owned(), transitions: 1 };
    let image = GrantedImage {
        name: "app".to_owned(),
        uid: "app-uid".to_owned(),
        reference: "registry/app:1".to_owned(),
        pull_policy: ImagePullPolicy::Always,
        refresh: false,
        secrets: vec![],
    };
    Issue {
        node: "node-1".to_owned(),
        lease_uid: "lease-uid".to_owned(),
        resource_version: 1,
        grant: Grant {
            version: grant::VERSION,
            id: GrantId::new(&epoch, 1),
            epoch,
            policy: String::new(),
            issued_at: Timestamp::UNIX_EPOCH,
            withdrawn: None,
            images: vec![image],
        },
        duration: Duration::from_secs(60),
        due_since: vec![Monotonic::from_start(Duration::from_secs(100))],
        kind: IssueKind::New,
    }
}

fn state(name: &str) -> ImageState {
    ImageState {
        name: name.to_owned(),
        image: format!("registry/{name}"),
        targeted: 3,
        cached: 1,
        consecutive_failures: 4,
    }
}

/// A node's Lease through one grant, seen by `metrics` version after version.
struct Story<'m> {
    metrics: &'m Metrics,
    lease: NodeLease,
    seconds: u64,
}

impl Story<'_> {
    fn then(&mut self, change: impl FnOnce(&mut NodeLease)) {
        let before = self.lease.clone();
        change(&mut self.lease);
        self.lease.resource_version += 1;
        self.seconds += 1;
        let now = Monotonic::from_start(Duration::from_secs(self.seconds));
        self.metrics.lease_seen(Some(&before), &self.lease, now);
        // What was overtaken on its way counts no second time.
        self.metrics.lease_seen(Some(&self.lease), &before, now);
        self.metrics.lease_seen(Some(&self.lease), &self.lease, now);
    }

    fn entry(&mut self, change: impl FnOnce(&mut ReportEntry)) {
        self.then(|lease| {
            let report = lease.report.get_or_insert_with(|| Report::empty("pod"));
            let entry = report.images.entry("app-uid".into()).or_default();
            entry.reference = "registry/app:1".into();
            change(entry);
        });
    }
}

/// Makes every metric move once.
fn moved() -> Metrics {
    let metrics = Metrics::new();
    metrics.planned(Duration::from_millis(3));
    metrics.executed(true);
    metrics.write(WriteKind::Issue, WriteOutcome::Applied);
    metrics.check("Digest");
    metrics.leads(Some(7));
    metrics.withdrawn(WithdrawReason::Expired);
    let issue = issue();
    metrics.issue_sent(&issue);
    let mut story = Story { metrics: &metrics, lease: lease(), seconds: 110 };
    story.then(|lease| lease.grant = Some(issue.grant.clone()));
    story.then(|lease| {
        lease.holder = Some(Holder { process: "p".to_owned(), grant: issue.grant.id.clone() });
    });
    story.then(|_| {});
    story.entry(|entry| {
        entry.failure = Some(Box::new(Failure {
            scope: FailureScope::Node,
            reason: FailureReason::DiskError,
            message: "disk".to_owned(),
            attempts: 1,
            at: Timestamp::UNIX_EPOCH,
            retry_after_seconds: None,
        }));
    });
    story.entry(|entry| {
        entry.failure = None;
        entry.pulled_at = Some(Timestamp::UNIX_EPOCH);
    });
    story.then(|lease| {
        let outcome =
            GrantOutcome { id: issue.grant.id.clone(), outcome: Outcome::Finished, reason: String::new() };
        lease.report.as_mut().unwrap().grant = Some(outcome);
        lease.holder = None;
    });
    story.entry(|entry| entry.evictions = Some(Box::new(Evictions { count: 1, at: Timestamp::UNIX_EPOCH })));
    metrics.snapshot(Snapshot {
        objects: vec![("nodes", 3)],
        due: 2,
        waiting: vec![("WaitingForSlot".to_owned(), 2)],
        active_pulls: 1,
        live_grants: 2,
        images: vec![state("app")],
    });
    let seen = Seen {
        kind: SourceType::Prometheus,
        endpoint: "http://p".to_owned(),
        healthy: true,
        images: 3,
        took: Duration::from_millis(20),
    };
    metrics.discovery().synced("popular", &[seen], Timestamp::UNIX_EPOCH);
    metrics
}

#[test]
fn everything_that_happens_shows_in_a_scrape() {
    let text = moved().encode().unwrap();
    for line in [
        "drop_reconcile_total{controller=\"coordinator\",result=\"success\"} 1",
        "drop_plan_duration_seconds_count 1",
        "drop_writes_total{kind=\"Issue\",outcome=\"Applied\"} 1",
        "drop_registry_checks_total{outcome=\"Digest\"} 1",
        "drop_leader 1",
        "drop_leader_transitions 7",
        "drop_active_pulls 1",
        "drop_live_grants 2",
        "drop_grants_issued_total 1",
        "drop_grants_taken_total 1",
        "drop_grants_ended_total{outcome=\"Finished\"} 1",
        "drop_grants_withdrawn_total{reason=\"Expired\"} 1",
        "drop_due_to_cached_seconds_count 1",
        "drop_due_to_cached_seconds_sum 15.0",
        "drop_snapshot_objects{kind=\"nodes\"} 3",
        "drop_due_pairs 2",
        "drop_waiting_pairs{reason=\"WaitingForSlot\"} 2",
        "drop_nodes_targeted{cachedimage=\"app\"} 3",
        "drop_nodes_cached{cachedimage=\"app\"} 1",
        "drop_consecutive_failures{cachedimage=\"app\",image=\"registry/app\"} 4",
        "drop_images_cached_total{image=\"registry/app\"} 1",
        "drop_pull_errors_total{image=\"registry/app\"} 1",
        "drop_evictions_total{image=\"registry/app\"} 1",
        "drop_images_without_series 0",
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
        .map(|word| word.trim_end_matches("_total"))
        .collect();
    let text = moved().encode().unwrap();
    let shown: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(documented, shown);
    // One that has nothing to show but its type was never moved here.
    for name in shown {
        let has_value =
            |line: &&str| line.strip_prefix(name).is_some_and(|rest| !rest.starts_with("_bucket"));
        assert!(text.lines().any(|line| has_value(&line)), "{name}");
    }
}

#[test]
fn an_image_that_is_gone_leaves_no_series_behind() {
    let metrics = moved();
    assert!(metrics.encode().unwrap().contains("registry/app"));
    metrics.snapshot(Snapshot::default());
    let text = metrics.encode().unwrap();
    assert!(!text.contains("app\""), "{text}");
}

#[test]
fn the_number_of_series_has_a_bound() {
    let metrics = Metrics::new();
    let images = (0..2500).map(|n| state(&format!("app-{n:04}"))).collect();
    metrics.snapshot(Snapshot { images, ..Snapshot::default() });
    let text = metrics.encode().unwrap();
    assert_eq!(text.matches("drop_nodes_cached{").count(), 2000);
    assert!(text.contains("drop_images_without_series 500"), "{text}");
}
