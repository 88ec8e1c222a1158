//! Answers, headers, Secrets and specs as nobody should send them: no panic, bounded, in words that name what is wrong. Servers
//! that misbehave on the wire are in `asking`.
#![allow(clippy::unwrap_used, clippy::panic)] // all of this is test code

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use drop_crds::{DiscoveryPolicySpec, DiscoveryPolicyStatus};
use drop_discovery::answer::{Scored, reference};
use drop_discovery::failure::quote;
use drop_discovery::rank::{MAX_BYTES, Named, rank};
use drop_discovery::registry::{challenge, link, page};
use drop_discovery::schedule::{Schedule, seed};
use drop_discovery::status::{Standing, conclude, standing};
use drop_discovery::template::Template;
use drop_discovery::{Answer, Credentials, Failure, Policy, Reason, prometheus};
use drop_hostile::cases;
use drop_hostile::json::{any_json, damaged_json, nested};
use drop_hostile::text::{any_bytes, any_text, damaged_bytes, texts_like};
use drop_protocol::{Monotonic, Now};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use url::Url;

const SOON: Duration = Duration::from_secs(20);

fn matrix() -> Value {
    json!({ "status": "success", "warnings": ["slow"], "data": { "resultType": "matrix", "result": [
        { "metric": { "image": "r.io/a:1", "pod": "p" }, "values": [[1_700_000_000.1, "1.5"], [1_700_000_060, "NaN"], [3, "+Inf"]] },
        { "metric": { "image": "nginx" }, "value": [1, "-2"] },
        { "metric": {}, "histogram": [1, {}] },
    ] } })
}

fn spec() -> Value {
    json!({ "imageFilter": "^r", "syncInterval": "30m", "maxImages": 5, "sources": [
        { "type": "prometheus", "prometheus": { "endpoint": "http://p:9090/x", "query": "up", "lookback": "168h", "step": "5m" } },
        { "type": "registry", "registry": { "url": "https://r.io", "repositories": ["a/b"], "tagFilter": "^v", "topX": 3,
          "imageTemplate": "{{ .Registry -}} /{{.Repository}}:{{.Tag}}" } },
    ] })
}

/// One line, and a short one.
fn is_told(failure: &Failure) {
    let message = &failure.message;
    assert!(!message.is_empty() && message.len() < 2000, "{message}");
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

fn read_prometheus(status: u16, body: &[u8]) {
    match prometheus::read(status, body) {
        Ok(answer) => {
            for Scored { image, .. } in &answer.images {
                let reference = reference(image).unwrap();
                assert!(reference.host.len() <= 255 && !image.contains(char::is_whitespace), "{image:?}");
            }
            assert!(
                answer.notes.len() <= 8 && answer.notes.iter().all(|note| note.chars().count() < 400),
                "{:?}",
                answer.notes
            );
        }
        Err(failure) => is_told(&failure),
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn any_body_is_an_answer_or_a_failure(status in any::<u16>(), bytes in any_bytes(), json in any_json()) {
        for status in [200, status] {
            read_prometheus(status, &bytes);
            read_prometheus(status, json.to_string().as_bytes());
        }
        for body in [bytes, json.to_string().into_bytes()] {
            if let Err(failure) = page(&body[..]) {
                is_told(&failure);
            }
        }
    }

    #[test]
    fn a_damaged_body_too(
        bytes in damaged_bytes(vec![matrix().to_string(), r#"{"name":"a","tags":["1","2"]}"#.to_owned()]), odd in damaged_json(matrix()),
    ) {
        read_prometheus(200, &bytes);
        read_prometheus(200, odd.to_string().as_bytes());
        let _ = page(&bytes[..]);
    }

    #[test]
    fn no_link_leads_to_another_server(header in texts_like(&[
        "</v2/app/tags/list?last=b&n=2>; rel=\"next\"", "<https://r.io/x>; title=\"a, b\"; rel=prev, <y>;rel=next",
    ])) {
        let current = Url::parse("https://r.io/v2/app/tags/list?n=2").unwrap();
        match link::next(&current, [header.as_str()]) {
            Ok(Some(next)) => prop_assert!(next.as_str().starts_with("https://r.io/") && next != current, "{next}"),
            Ok(None) => {}
            Err(failure) => is_told(&failure),
        }
    }

    #[test]
    fn any_challenge_is_understood_or_left_out(header in texts_like(&[
        r#"Bearer realm="https://auth.io/token",service="registry, main",scope="repository:team/app:pull,push""#,
        r#"Negotiate, Basic realm="a \"b\", c""#,
    ])) {
        let found = challenge::parse(&header);
        prop_assert!(found.len() <= header.len());
    }

    #[test]
    fn any_text_is_a_template_or_an_error(text in texts_like(&["{{.Registry}}/{{- .Repository -}}:{{ .Tag }}-x"]), tag in any_text()) {
        match Template::parse(&text) {
            Ok(template) => {
                let shape = template.shape("r.io", "team/app");
                let rendered = template.render("r.io", "team/app", &tag);
                prop_assert!(rendered.len() <= text.len() * (tag.len() + 8));
                prop_assert!(tag.contains('\0') || text.contains('\0') || shape.fits(&rendered), "{shape:?} {rendered:?}");
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn any_secret_is_credentials_or_an_error_without_them(
        token in any_bytes(), password in any_bytes(), header in texts_like(&["headers.X-Scope-OrgID"]), value in any_bytes(),
    ) {
        let mut secret: Vec<u8> = b"hunter2".to_vec();
        secret.extend(&password);
        let data = BTreeMap::from([
            ("token".to_owned(), [b"hunter2", &token[..]].concat()), ("username".to_owned(), b"u".to_vec()),
            ("password".to_owned(), secret), (header, value),
        ]);
        let read = Credentials::read("creds", data);
        let shown = format!("{read:?}");
        prop_assert!(!shown.contains("hunter2"));
        if let Err(failure) = read {
            prop_assert!(failure.message.starts_with("Secret creds: "), "{failure}");
        }
    }

    #[test]
    fn any_spec_is_a_policy_or_told_by_its_fields(odd in damaged_json(spec()), json in any_json()) {
        for spec in [odd, json] {
            let Ok(spec) = serde_json::from_value::<DiscoveryPolicySpec>(spec) else { continue };
            if let Err(problems) = Policy::read(&spec) {
                prop_assert!(problems.iter().all(|problem| problem.field.starts_with("spec")), "{problems:?}");
            }
        }
    }

    #[test]
    fn any_stored_status_and_any_answers_make_a_status_that_fits(
        stored in damaged_json(json!({
            "discoveredImages": [{ "image": "r.io/a:1", "score": 5, "source": "prometheus http://p:9090/x, registry https://r.io" }],
            "imageCount": 1, "sourceCount": 2, "lastSyncTime": "2026-01-01T00:00:00Z",
            "conditions": [{ "type": "Ready", "status": "True", "reason": "Synced", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        })),
        images in prop::collection::vec((any_text(), any::<i64>()), 0..20), generation in any::<i64>(), now in any::<i32>(),
    ) {
        let Ok(old) = serde_json::from_value::<DiscoveryPolicyStatus>(stored) else { return Ok(()) };
        let policy = Policy::read(&serde_json::from_value(spec()).unwrap()).unwrap();
        let images = images.into_iter().map(|(image, score)| Scored { image, score }).collect();
        let answers = [Answer { images, ..Answer::default() }, Answer::failed(Failure::new(Reason::Timeout, "late"))];
        let now = Timestamp::from_second(now.into()).unwrap();
        let status = conclude(&old, generation, &policy, &answers, now);
        prop_assert!(serde_json::to_vec(&status.discovered_images).unwrap().len() <= MAX_BYTES + 4096);
        prop_assert!(status.discovered_images.len() <= 5);
        let _ = standing(&old, generation);
    }

    #[test]
    fn no_clock_and_no_interval_upset_a_schedule(
        uid in any_text(), seconds in any::<u64>(), wall in -377_705_023_201_i64..253_402_207_200, monotonic in any::<u64>(),
        ends in prop::collection::vec(any::<bool>(), 0..80),
    ) {
        let now = Now {
            monotonic: Monotonic::from_start(Duration::from_secs(monotonic)), wall: Timestamp::from_second(wall).unwrap(),
        };
        let interval = Duration::from_secs(seconds);
        for standing in [Standing::Outdated, Standing::Failing, Standing::Settled] {
            let mut schedule = Schedule::new(seed(&uid), interval, standing, now);
            for well in &ends {
                schedule.finished(*well, now);
                prop_assert!(schedule.due() >= now.monotonic);
            }
        }
    }

    #[test]
    fn what_others_say_is_quoted_on_one_line(text in any_text()) {
        let quoted = quote(&text);
        prop_assert!(quoted.chars().count() <= 201 && !quoted.chars().any(char::is_control));
    }
}

#[test]
fn huge_and_deep_answers_end_in_no_time() {
    let started = Instant::now();
    let deep = json!({ "status": "success", "data": { "resultType": "vector", "result": [{ "metric": { "x": nested(120) }, "value": [1, "2"] }] } });
    for body in [
        "[".repeat(8 << 20),
        format!("{{\"status\":{}", "[".repeat(4 << 20)),
        "{\"data\":".repeat(1 << 20),
        deep.to_string(),
    ] {
        read_prometheus(200, body.as_bytes());
        let _ = page(body.as_bytes());
    }
    let series: Vec<Value> = (0..30_000)
        .map(|n| json!({ "metric": { "image": format!("r.io/a:{n}") }, "value": [1, "1"] }))
        .collect();
    let body =
        json!({ "status": "success", "data": { "resultType": "vector", "result": series } }).to_string();
    assert!(prometheus::read(200, body.as_bytes()).unwrap_err().message.contains("more than 20000 images"));
    let header = "Bearer a=\"".to_owned() + &"\\\"".repeat(1 << 20);
    assert!(challenge::parse(&header).is_empty());
    let links = "<a>;rel=prev,".repeat(1 << 17);
    let current = Url::parse("https://r.io/").unwrap();
    assert_eq!(link::next(&current, [links.as_str()]), Ok(None));
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn labels_that_only_look_like_references_are_skipped_and_counted() {
    let labels = [
        "r.io/аpp:1",
        "evil\u{202e}.io/app:1",
        "r io.x/app",
        "r.io:port/app",
        "http://r.io/app",
        "r.io/app:1\n",
        "r.io/a\u{0}pp",
    ];
    let series: Vec<Value> =
        labels.iter().map(|image| json!({ "metric": { "image": image }, "value": [1, "1"] })).collect();
    let body =
        json!({ "status": "success", "data": { "resultType": "vector", "result": series } }).to_string();
    let answer = prometheus::read(200, body.as_bytes()).unwrap();
    assert_eq!(answer.images, []);
    assert!(answer.notes[0].starts_with("7 series whose image is no reference"), "{:?}", answer.notes);
}

#[test]
fn a_list_of_any_size_is_cut_to_what_a_status_holds() {
    let names: Vec<String> = (0..100_000).map(|n| format!("r.io/app:{n}")).collect();
    let all = names.iter().map(|image| Named { image, score: i64::MAX, source: "p" });
    let ranked = rank(all, None, usize::MAX);
    assert!(serde_json::to_vec(&ranked.images).unwrap().len() <= MAX_BYTES && ranked.left_out > 0);
}
