//! Golden files hold the formats still: what one release writes, its neighbours must read.
//!
//! A changed golden file is a changed protocol. Add fields, never rename or repurpose one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_protocol::grant::{self, GrantedImage};
use drop_protocol::names::{ANNOTATION_LIMIT, GRANT_MAX_BYTES, GRANT_MAX_IMAGES, REPORT_MAX_BYTES};
use drop_protocol::report::GrantOutcome;
use drop_protocol::{
    Catalog, Epoch, Evictions, Failure, FailureReason, FailureScope, Grant, GrantId, ImagePullPolicy,
    LowDisk, Outcome, Report, ReportEntry, Withdrawal,
};

fn at(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

fn digest(c: char) -> String {
    format!("sha256:{}", String::from(c).repeat(64))
}

fn sample_grant() -> Grant {
    let epoch = Epoch { lease: "0d7f9c1e-5b7e-4c39-9c0b-7a4b7d4f7a11".into(), transitions: 7 };
    Grant {
        version: grant::VERSION,
        id: GrantId::new(&epoch, 42),
        epoch,
        policy: "conservative".into(),
        issued_at: at("2026-03-01T10:00:00.25Z"),
        withdrawn: None,
        images: vec![
            GrantedImage {
                name: "nginx".into(),
                uid: "5f0c".into(),
                reference: "docker.io/library/nginx:1.29".into(),
                pull_policy: ImagePullPolicy::Always,
                refresh: false,
                secrets: vec![],
            },
            GrantedImage {
                name: "team-app".into(),
                uid: "77aa".into(),
                reference: format!("registry.example:5000/team/app@{}", digest('a')),
                pull_policy: ImagePullPolicy::IfNotPresent,
                refresh: true,
                secrets: vec!["team-pull".into()],
            },
        ],
    }
}

fn withdrawn_grant() -> Grant {
    let withdrawal = Withdrawal { reason: "image edited".into(), unwanted: vec!["5f0c".into()] };
    Grant { withdrawn: Some(withdrawal), ..sample_grant() }
}

fn sample_report() -> Report {
    let present = ReportEntry {
        reference: "docker.io/library/nginx:1.29".into(),
        digest: Some(digest('b').into()),
        pulled_at: Some(at("2026-03-01T10:00:03Z")),
        ..ReportEntry::default()
    };
    let failed = ReportEntry {
        reference: "ghcr.io/team/missing:v1".into(),
        failure: Some(Box::new(Failure {
            scope: FailureScope::Image,
            reason: FailureReason::NotFound,
            message: "not found: ghcr.io/team/missing:v1 does not exist; check image and tag".into(),
            attempts: 3,
            at: at("2026-03-01T10:00:04Z"),
            retry_after_seconds: Some(30),
        })),
        evictions: Some(Box::new(Evictions { count: 1, at: at("2026-02-28T00:00:00Z") })),
        ..ReportEntry::default()
    };
    Report {
        grant: Some(GrantOutcome {
            id: GrantId::from("0d7f9c1e.7.42"),
            outcome: Outcome::Finished,
            reason: String::new(),
        }),
        catalog: 12,
        low_disk: Some(LowDisk { free_percent: 17, wanted_percent: 20 }),
        left_out: 2,
        images: BTreeMap::from([("5f0c".into(), present), ("91bd".into(), failed)]),
        ..Report::empty("3c1f-agent-pod")
    }
}

fn sample_catalog() -> Catalog {
    Catalog {
        generation: 12,
        answer_within: Duration::from_millis(2015),
        wanted: BTreeMap::from([
            ("docker.io/library/nginx:1.29".to_owned(), BTreeSet::from(["5f0c".to_owned()])),
            ("ghcr.io/team/missing:v1".to_owned(), BTreeSet::from(["91bd".to_owned(), "a0".to_owned()])),
        ]),
    }
}

/// Compares with `tests/golden/<name>`; `UPDATE_GOLDEN=1` writes it instead.
fn golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(text, expected, "{path} is what other releases read and write");
}

fn pretty(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    serde_json::to_string_pretty(&value).unwrap() + "\n"
}

#[test]
fn a_grant_is_written_as_ever_and_read_back() {
    golden("grant.json", &pretty(&sample_grant().encode()));
    assert_eq!(Grant::decode(&sample_grant().encode()).unwrap(), sample_grant());
}

#[test]
fn a_withdrawn_grant_is_written_as_ever_and_read_back() {
    golden("grant-withdrawn.json", &pretty(&withdrawn_grant().encode()));
    assert_eq!(Grant::decode(&withdrawn_grant().encode()).unwrap(), withdrawn_grant());
}

#[test]
fn a_report_is_written_as_ever_and_read_back() {
    golden("report.json", &pretty(&sample_report().encode()));
    assert_eq!(Report::decode(&sample_report().encode()).unwrap(), sample_report());
}

fn secret_not_found() -> Failure {
    Failure {
        scope: FailureScope::Image,
        reason: FailureReason::SecretNotFound,
        message: "Secret team-pull for ghcr.io does not exist".into(),
        attempts: 1,
        at: at("2026-03-01T10:00:04Z"),
        retry_after_seconds: None,
    }
}

#[test]
fn a_reason_that_the_first_release_does_not_know_stands_beside_one_that_it_knows() {
    let written = serde_json::to_string(&secret_not_found()).unwrap();
    golden("failure-exact-reason.json", &pretty(&written));
    assert_eq!(serde_json::from_str::<Failure>(&written).unwrap(), secret_not_found());
}

#[test]
fn reasons_of_a_later_release_are_read_as_the_closest_known() {
    let written = serde_json::to_string(&secret_not_found()).unwrap();
    let later = written.replace("SecretNotFound", "SecretOnHoliday");
    assert_eq!(serde_json::from_str::<Failure>(&later).unwrap().reason, FailureReason::Unauthorized);
    let later = later.replace("Unauthorized", "OnHoliday");
    assert_eq!(serde_json::from_str::<Failure>(&later).unwrap().reason, FailureReason::ErrImagePull);
}

#[test]
fn a_catalog_is_written_as_ever_and_read_back() {
    let data = sample_catalog().encode();
    golden("catalog.json", &(serde_json::to_string_pretty(&data).unwrap() + "\n"));
    assert_eq!(Catalog::decode(&data).unwrap(), sample_catalog());
    assert!(data.keys().all(|key| Catalog::has_key(key)) && !Catalog::has_key("note"));
}

#[test]
fn fields_of_a_later_release_are_ignored() {
    let mut value: serde_json::Value = serde_json::from_str(&sample_grant().encode()).unwrap();
    value["bandwidth"] = "10M".into();
    value["images"][0]["snapshotter"] = "stargz".into();
    assert_eq!(Grant::decode(&value.to_string()).unwrap(), sample_grant());
}

#[test]
fn a_format_of_a_later_release_is_refused_by_its_version() {
    let later = sample_grant().encode().replace("\"version\":1", "\"version\":2");
    let error = Grant::decode(&later).unwrap_err().to_string();
    assert!(error.contains("version 2") && error.contains("upgrade Drop"), "{error}");
}

#[test]
fn a_damaged_catalog_names_the_line() {
    let mut data = sample_catalog().encode();
    data.get_mut("wanted").unwrap().push_str("no-uid\n");
    assert!(Catalog::decode(&data).unwrap_err().to_string().contains("line 3"));
}

#[test]
fn a_report_of_nothing_spends_no_byte_on_it() {
    let report = Report::empty("pod-1");
    assert_eq!(report.encode(), r#"{"version":1,"agent":"pod-1","catalog":0,"images":{}}"#);
    assert_eq!(Report::decode(&report.encode()).unwrap(), report);
}

#[test]
fn a_full_grant_and_the_report_of_five_hundred_images_fit_into_one_lease() {
    let name = "n".repeat(200);
    let image = GrantedImage {
        name: name.clone(),
        uid: "0d7f9c1e-5b7e-4c39-9c0b-7a4b7d4f7a11".into(),
        reference: format!("registry.example:5000/{name}:v1"),
        secrets: vec!["team-pull".into()],
        ..sample_grant().images[0].clone()
    };
    let grant = Grant { images: vec![image; GRANT_MAX_IMAGES], ..sample_grant() };
    assert!(grant.encode().len() <= GRANT_MAX_BYTES);
    let mut report = sample_report();
    let entry = report.images["5f0c"].clone();
    report.images = (0..500).map(|n| (format!("uid-{n}").into(), entry.clone())).collect();
    assert!(report.encode().len() < REPORT_MAX_BYTES);
    assert!(grant.encode().len() + report.encode().len() < ANNOTATION_LIMIT);
}

#[test]
fn a_grants_id_names_leader_lease_leadership_and_sequence() {
    let grant = sample_grant();
    assert_eq!(grant.id.as_str(), "0d7f9c1e.7.42");
    assert_eq!(grant.id.to_string(), grant.id.as_str());
}

#[test]
fn an_image_that_is_there_needs_the_registry_under_always_or_when_a_refresh_is_due() {
    for (pull_policy, refresh, asks) in [
        (ImagePullPolicy::Always, false, true),
        (ImagePullPolicy::Always, true, true),
        (ImagePullPolicy::IfNotPresent, false, false),
        (ImagePullPolicy::IfNotPresent, true, true),
    ] {
        let image = GrantedImage { pull_policy, refresh, ..sample_grant().images[0].clone() };
        assert_eq!(image.asks_registry_when_present(), asks, "{pull_policy:?}, refresh {refresh}");
    }
}
