//! Annotations, catalogs, references and failure texts as nobody should write them: no panic, bounded, an error that names the
//! field, and what is sound comes out as it went in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use drop_hostile::cases;
use drop_hostile::json::{any_json, damaged_json, each_replaced, nested};
use drop_hostile::text::{any_bytes, any_text, damaged_text, texts_like};
use drop_protocol::catalog::{ANSWER_WITHIN_MOST, GENERATION_MOST};
use drop_protocol::failure::{RETRY_AFTER_MOST, classify};
use drop_protocol::names::{ANNOTATION_LIMIT, FAILURE_TEXT_MAX_BYTES, GRANT_ANNOTATION, REPORT_ANNOTATION};
use drop_protocol::reference::{Reference, is_digest, normalise, registry_host, split};
use drop_protocol::{Catalog, Grant, Holder, NodeLease, Report};
use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;
use serde_json::{Value, json};

const GRANT: &str = include_str!("../golden/grant.json");
const WITHDRAWN: &str = include_str!("../golden/grant-withdrawn.json");
const REPORT: &str = include_str!("../golden/report.json");
/// Nothing that is read here takes longer, on any machine.
const SOON: Duration = Duration::from_secs(20);

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn catalog() -> BTreeMap<String, String> {
    serde_json::from_str(include_str!("../golden/catalog.json")).unwrap()
}

/// What people read of a text that a node wrote.
fn is_fit_to_read(text: &str) -> bool {
    text.len() < FAILURE_TEXT_MAX_BYTES && !text.chars().any(|c| c.is_control() || c == '\u{202e}')
}

/// A report that was read keeps what statuses rely on, and is read again as it is written.
fn is_tame(report: &Report) {
    for entry in report.images.values() {
        assert!(entry.digest.as_ref().is_none_or(|digest| is_digest(digest)), "{:?}", entry.digest);
        if let Some(failure) = &entry.failure {
            assert!(is_fit_to_read(&failure.message), "{:?}", failure.message);
            assert!(failure.retry_after_seconds.is_none_or(|seconds| seconds <= RETRY_AFTER_MOST));
        }
    }
    assert_eq!(&Report::decode(&report.encode()).unwrap(), report);
}

/// An error is short and on one line, whatever it is about.
fn is_short(error: &str) {
    assert!(error.len() < 600 && !error.contains('\n'), "{error:?}");
}

fn read_both(text: &str) {
    match Grant::decode(text) {
        Ok(grant) => {
            assert_eq!(Grant::decode(&grant.encode()).unwrap(), grant);
            let holder = Holder { process: "agent".to_owned(), grant: grant.id };
            assert_eq!(
                Holder::decode(&holder.encode()),
                Some(holder),
                "what is taken must be seen to be taken"
            );
        }
        Err(error) => is_short(&error.to_string()),
    }
    match Report::decode(text) {
        Ok(report) => is_tame(&report),
        Err(error) => is_short(&error.to_string()),
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn any_text_is_an_annotation_or_an_error(text in any_text()) {
        read_both(&text);
    }

    #[test]
    fn any_bytes_and_any_json_are_too(bytes in any_bytes(), json in any_json()) {
        read_both(&String::from_utf8_lossy(&bytes));
        read_both(&json.to_string());
    }

    #[test]
    fn a_damaged_annotation_is_one_or_an_error(text in damaged_text(&[GRANT, WITHDRAWN, REPORT])) {
        read_both(&text);
    }

    #[test]
    fn a_grant_with_odd_parts_is_one_or_an_error(json in damaged_json(value(WITHDRAWN))) {
        read_both(&json.to_string());
    }

    #[test]
    fn a_report_with_odd_parts_is_tame_or_an_error(json in damaged_json(value(REPORT))) {
        read_both(&json.to_string());
    }

    #[test]
    fn a_lease_is_read_whatever_its_parts_are(
        grant in texts_like(&[GRANT]), report in texts_like(&[REPORT]), holder in any_text(), seconds in any::<i32>(),
    ) {
        let mut lease = NodeLease::create("drop-system", "node-1", "n1", Duration::from_secs(60));
        lease.metadata.uid = Some("lease-uid".to_owned());
        lease.metadata.resource_version = Some("7".to_owned());
        let annotations = [(GRANT_ANNOTATION.to_owned(), grant), (REPORT_ANNOTATION.to_owned(), report)];
        lease.metadata.annotations = Some(annotations.into());
        let spec = lease.spec.as_mut().unwrap();
        spec.holder_identity = Some(holder.clone());
        spec.lease_duration_seconds = Some(seconds);
        let read = NodeLease::decode(&lease).unwrap();
        prop_assert!((5..=600).contains(&read.duration.as_secs()), "{:?}", read.duration);
        prop_assert!((60..=600).contains(&read.lapses_after().as_secs()));
        prop_assert!(read.grant.is_some() != read.grant_error.is_some());
        prop_assert!(read.report.is_some() != read.report_error.is_some());
        prop_assert_eq!(read.holder.map(|holder| holder.encode()), Holder::decode(&holder).map(|_| holder));
        // Every write goes on naming this version of this object.
        let _ = NodeLease::decode(&lease).unwrap().remove_grant_patch();
    }

    #[test]
    fn any_data_is_a_catalog_or_an_error(
        generation in texts_like(&["12"]), within in texts_like(&["2015"]), wanted in texts_like(&[&catalog()["wanted"]]),
    ) {
        let data = BTreeMap::from([
            ("generation".to_owned(), generation), ("answerWithinMilliseconds".to_owned(), within), ("wanted".to_owned(), wanted),
        ]);
        match Catalog::decode(&data) {
            Ok(catalog) => {
                prop_assert!(catalog.generation <= GENERATION_MOST && catalog.answer_within <= ANSWER_WITHIN_MOST);
            }
            Err(error) => prop_assert!(error.to_string().starts_with("catalog: data."), "{error}"),
        }
    }

    #[test]
    fn a_catalog_of_sound_lines_is_read_back(
        generation in 0..=GENERATION_MOST, within in 0..3_600_000_u64,
        lines in prop::collection::btree_map("[^ \r\n]{1,40}", prop::collection::btree_set("[^,\r\n]{1,8}", 1..4), 0..8),
    ) {
        let answer_within = Duration::from_millis(within);
        let catalog = Catalog { generation, answer_within, wanted: lines };
        prop_assert_eq!(Catalog::decode(&catalog.encode()).unwrap(), catalog);
    }

    #[test]
    fn any_text_is_a_reference_or_an_error(text in texts_like(&[
        "nginx", "registry.example:5000/team/app:v1", "[fd00::1]:5000/app",
        "host.example/app@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ])) {
        let (name, tag, digest) = split(&text);
        prop_assert!(name.len() + tag.map_or(0, str::len) + digest.map_or(0, str::len) <= text.len());
        prop_assert!(!registry_host(&text).is_empty() || text.is_empty());
        match Reference::parse(&text) {
            Ok(reference) => {
                let shown = reference.to_string();
                prop_assert!(shown.is_ascii() && !shown.chars().any(|c| c.is_control() || c == ' '), "{shown:?}");
                prop_assert!(shown.len() < 1000);
                prop_assert_eq!(normalise(&shown).unwrap(), shown);
            }
            Err(error) => {
                let error = error.to_string();
                prop_assert!(error.starts_with("image reference ") && error.len() < 3000, "{error}");
            }
        }
    }

    #[test]
    fn whatever_a_runtime_says_is_told_in_a_few_words(
        code in any::<i32>(), image in texts_like(&["registry.example/app:1"]),
        text in texts_like(&[
            "failed to do request: Head \"https://u:hunter2@registry.example/v2/\": dial tcp 10.0.0.1:443: connect: connection refused",
            "toomanyrequests: retry-after: 1.2s, allowed: 44000/minute",
            "unexpected status: 503 Service Unavailable; Retry-After: 120",
        ]),
    ) {
        let found = classify(code, &text, &image);
        prop_assert!(is_fit_to_read(&found.message), "{:?}", found.message);
        prop_assert!(found.retry_after_seconds.is_none_or(|seconds| seconds <= RETRY_AFTER_MOST));
    }
}

#[test]
fn an_error_names_the_field() {
    for (sound, read) in [
        (WITHDRAWN, &(|text: &str| Grant::decode(text).map(drop)) as &dyn Fn(&str) -> _),
        (REPORT, &|text: &str| Report::decode(text).map(drop)),
    ] {
        let mut named = BTreeSet::new();
        for (field, damaged) in each_replaced(&value(sound), &json!({ "an": ["odd", "thing"] })) {
            let Err(error) = read(&damaged.to_string()) else { panic!("{field}: an object went for it") };
            let error = error.to_string();
            assert!(error.contains(&field), "{field}: {error}");
            named.insert(field);
        }
        assert!(named.len() > 10, "{named:?}");
    }
}

#[test]
fn what_is_no_digest_is_refused_by_its_field() {
    let sha = "a".repeat(64);
    for digest in [
        "",
        "sha256",
        "sha256:",
        "latest",
        ":aa",
        "sha256:a/b",
        "sha256:a\n",
        &"x".repeat(130_000),
        "SHA256:aa",
    ] {
        let mut report = value(REPORT);
        report["images"]["5f0c"]["digest"] = json!(digest);
        let error = Report::decode(&report.to_string()).unwrap_err().to_string();
        assert!(error.contains("images.5f0c.digest: is not a digest"), "{digest}: {error}");
    }
    for digest in [
        format!("sha256:{sha}"),
        format!("sha512:{sha}{sha}"),
        "multihash+base58:QmRZxt2b1FVZPNqd".to_owned(),
    ] {
        assert!(is_digest(&digest), "{digest}");
    }
}

#[test]
fn what_a_node_says_of_a_failure_is_short_and_on_one_line() {
    let mut report = value(REPORT);
    let failure = &mut report["images"]["91bd"]["failure"];
    failure["message"] = json!(format!("a\r\nb\u{1b}[31m\u{202e}{}", "ü".repeat(60_000)));
    failure["retryAfterSeconds"] = json!(u32::MAX);
    failure["attempts"] = json!(u32::MAX);
    let report = Report::decode(&report.to_string()).unwrap();
    let failure = report.images["91bd"].failure.as_ref().unwrap();
    assert!(
        failure.message.starts_with("a  b [31m ") && is_fit_to_read(&failure.message),
        "{:?}",
        failure.message
    );
    assert_eq!((failure.retry_after_seconds, failure.attempts), (Some(RETRY_AFTER_MOST), u32::MAX));
    is_tame(&report);
}

#[test]
fn huge_and_deep_annotations_are_refused_in_no_time() {
    let started = Instant::now();
    let many: BTreeMap<String, Value> =
        (0..100_000).map(|n| (n.to_string(), json!({ "reference": "" }))).collect();
    let many = json!({ "version": 1, "agent": "a", "catalog": 1, "images": many }).to_string();
    let long = format!("{{\"version\":1,\"agent\":\"{}\"}}", "a".repeat(20 << 20));
    for text in [&many, &long, &"[".repeat(50 << 20)] {
        let error = Report::decode(text).unwrap_err().to_string();
        assert!(error.contains("bytes long") && error.contains(&ANNOTATION_LIMIT.to_string()), "{error}");
        assert!(Grant::decode(text).is_err());
    }
    // As long as an annotation can be.
    let longest = Report::decode(&" ".repeat(ANNOTATION_LIMIT)).unwrap_err().to_string();
    assert!(!longest.contains("bytes long"), "{longest}");
    let deep = |inner: &str| format!("{{\"version\":1,\"odd\":{}{inner}", "[".repeat(200_000));
    for text in [deep(""), deep(&"]".repeat(60_000)), "{\"a\":".repeat(50_000)] {
        assert!(Report::decode(&text).is_err() && Grant::decode(&text).is_err());
    }
    let odd = json!({ "version": 1, "agent": "a", "catalog": 1, "later": nested(100), "images": {} });
    assert!(Report::decode(&odd.to_string()).is_ok(), "an unknown field may be anything");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn of_a_key_that_stands_twice_none_counts() {
    for text in [
        r#"{"version":1,"version":2,"agent":"a","catalog":1}"#,
        r#"{"version":1,"agent":"a","agent":"b","catalog":1}"#,
        r#"{"version":1,"agent":"a","catalog":1,"images":{"u":{"reference":"a","reference":"b"}}}"#,
    ] {
        assert!(Report::decode(text).unwrap_err().to_string().contains("duplicate field"), "{text}");
    }
}

#[test]
fn numbers_out_of_range_are_refused_by_their_field() {
    for (field, number) in [
        ("catalog", "-1"),
        ("catalog", "18446744073709551616"),
        ("catalog", "1e3"),
        ("leftOut", "4294967296"),
        ("version", "18446744073709551615"),
        ("version", "-1"),
    ] {
        let text = format!("{{\"version\":1,\"agent\":\"a\",\"catalog\":1,\"{field}\":{number}}}");
        let text = if field == "leftOut" { text } else { text.replacen(&format!("\"{field}\":1,"), "", 1) };
        let text = text.replace("\"catalog\":1,\"catalog\"", "\"catalog\"");
        let error = Report::decode(&text).unwrap_err().to_string();
        assert!(error.contains(field), "{field} {number}: {error}");
    }
}

#[test]
fn a_catalog_with_numbers_that_no_coordinator_writes_is_refused() {
    for (key, number) in [
        ("generation", u64::MAX.to_string()),
        ("generation", (u64::MAX / 2 + 1).to_string()),
        ("generation", "-1".to_owned()),
        ("generation", "18446744073709551616".to_owned()),
        ("answerWithinMilliseconds", "3600001".to_owned()),
        ("answerWithinMilliseconds", "NaN".to_owned()),
    ] {
        let mut data = catalog();
        data.insert(key.to_owned(), number.clone());
        let error = Catalog::decode(&data).unwrap_err().to_string();
        assert!(error.contains(&format!("data.{key}")), "{number}: {error}");
    }
    let (half, hour) = (u64::MAX / 2, 3_600_000);
    let highest = [("generation", half), ("answerWithinMilliseconds", hour)];
    let highest = highest.map(|(key, number)| (key.to_owned(), number.to_string()));
    let read = Catalog::decode(&BTreeMap::from(highest)).unwrap();
    assert_eq!(
        (read.generation, read.answer_within),
        (half, Duration::from_millis(hour)),
        "the highest are read"
    );
}

#[test]
fn an_object_without_a_name_or_with_an_odd_version_is_no_lease() {
    let decode = |metadata: Value| {
        let lease: Lease = serde_json::from_value(json!({ "metadata": metadata })).unwrap();
        NodeLease::decode(&lease).map(drop).map_err(|error| error.to_string())
    };
    assert!(decode(json!({})).unwrap_err().contains("metadata.name"));
    assert!(decode(json!({ "name": "a" })).unwrap_err().contains("metadata.uid"));
    assert!(decode(json!({ "name": "a", "uid": "u" })).unwrap_err().contains("metadata.resourceVersion"));
    for version in ["", "-1", "0x1", "99999999999999999999", "1.0"] {
        let error = decode(json!({ "name": "a", "uid": "u", "resourceVersion": version })).unwrap_err();
        assert!(error.contains("Lease a: resourceVersion"), "{error}");
    }
}
