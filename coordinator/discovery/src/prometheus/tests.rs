use proptest::prelude::*;
use serde_json::json;

use super::*;

fn query(endpoint: &str, lookback: Option<u64>) -> Query {
    Query {
        endpoint: Url::parse(endpoint).unwrap(),
        query: "count(up{a=\"b\"}) by (image)".to_owned(),
        lookback: lookback.map(Duration::from_secs),
        step: "5m".to_owned(),
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

#[test]
fn a_base_path_and_its_parameters_are_kept() {
    let url = query("https://mimir.example.com/prometheus/?dedup=true", None).url(now());
    assert_eq!(
        url.as_str(),
        "https://mimir.example.com/prometheus/api/v1/query?dedup=true&query=count%28up%7Ba%3D%22b%22%7D%29+by+%28image%29"
    );
}

#[test]
fn lookback_asks_for_a_range_until_now() {
    let url = query("http://p:9090", Some(3600)).url(now());
    assert_eq!(url.path(), "/api/v1/query_range");
    let parameters: Vec<_> = url.query_pairs().skip(1).map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(parameters, ["start=1699996400", "end=1700000000", "step=5m"]);
}

fn vector(series: &[(&str, &str)]) -> String {
    let result: Vec<_> = series
        .iter()
        .map(|(image, value)| json!({ "metric": { "image": image }, "value": [1_700_000_000.1, value] }))
        .collect();
    json!({ "status": "success", "data": { "resultType": "vector", "result": result } }).to_string()
}

fn scores(body: &str) -> Vec<(String, i64)> {
    let answer = read(200, body.as_bytes()).unwrap();
    answer.images.into_iter().map(|found| (found.image, found.score)).collect()
}

fn refused(status: u16, body: &[u8]) -> (Reason, String) {
    let failure = read(status, body).unwrap_err();
    (failure.reason, failure.message)
}

#[test]
fn values_become_scores_truncated_and_held_at_the_ends() {
    let found = scores(&vector(&[
        ("a:1", "7.9"),
        ("b:1", "-7.9"),
        ("c:1", "+Inf"),
        ("d:1", "-Inf"),
        ("e:1", "1e300"),
    ]));
    let values: Vec<_> = found.iter().map(|(_, score)| *score).collect();
    assert_eq!(values, [7, -7, i64::MAX, i64::MIN, i64::MAX]);
}

#[test]
fn series_of_one_image_are_added_up_however_it_is_written() {
    let body = vector(&[("nginx", "1.5"), ("docker.io/library/nginx:latest", "2.5"), ("nginx:1", "1")]);
    assert_eq!(scores(&body), [("nginx:1".to_owned(), 1), ("docker.io/library/nginx:latest".to_owned(), 4)]);
}

#[test]
fn samples_of_a_range_are_summed_and_those_that_are_no_number_left_out() {
    let body = json!({ "status": "success", "data": { "resultType": "matrix", "result": [
        { "metric": { "image": "a:1" }, "values": [[1, "1.5"], [2, "NaN"], [3, "2.5"]] },
        { "metric": { "image": "b:1" }, "values": [[1, "NaN"]] },
        { "metric": { "image": "c:1" }, "histograms": [[1, {}]] },
    ] } });
    let answer = read(200, body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.images, [Scored { image: "a:1".to_owned(), score: 4 }]);
    assert_eq!(answer.notes, ["2 series without a number skipped"]);
}

#[test]
fn series_without_a_usable_image_are_skipped_and_counted() {
    let mut body = vector(&[
        ("ok:1", "1"),
        ("", "1"),
        ("sha256:AB", "1"),
        ("Not/A Reference", "1"),
        (&"p".repeat(256), "1"),
    ])
    .into_bytes();
    let at = body.windows(4).position(|w| w == b"Not/").unwrap();
    body[at] = 0xff;
    let answer = read(200, &body[..]).unwrap();
    assert_eq!(answer.images.len(), 1, "{:?}", answer.images);
    assert_eq!(
        answer.notes,
        [
            "1 series without label image skipped",
            "3 series whose image is no reference (such as \"sha256:AB\") skipped"
        ]
    );
}

#[test]
fn warnings_and_partial_answers_are_told() {
    let body = r#"{"status":"success","isPartial":true,"warnings":["a\nb","c","d","e"],"data":{"resultType":"vector","result":[]}}"#;
    let answer = read(200, body.as_bytes()).unwrap();
    assert_eq!(answer.notes, ["the answer is partial", "warning: a b", "warning: c", "warning: d"]);
}

#[test]
fn other_types_of_result_are_refused() {
    for kind in ["scalar", "string"] {
        let body =
            format!(r#"{{"status":"success","data":{{"resultType":"{kind}","result":[1700000000.1,"7"]}}}}"#);
        let (reason, message) = refused(200, body.as_bytes());
        assert_eq!(reason, Reason::InvalidResponse);
        assert!(message.contains(&format!("results in a {kind}")), "{message}");
    }
}

#[test]
fn a_refused_query_is_told_in_the_words_of_the_server() {
    let body = br#"{"status":"error","errorType":"bad_data","error":"1:3: parse error: unexpected end"}"#;
    assert_eq!(
        refused(400, body),
        (Reason::QueryRefused, "the query is refused: 1:3: parse error: unexpected end".to_owned())
    );
    assert_eq!(refused(503, br#"{"status":"error","errorType":"timeout","error":"x"}"#).0, Reason::Timeout);
    assert_eq!(
        refused(500, br#"{"status":"error","errorType":"internal","error":"x"}"#).0,
        Reason::ServerError
    );
    assert_eq!(refused(401, b"nope").0, Reason::Unauthorized);
    assert_eq!(refused(404, b"<html>").0, Reason::NotFound);
    assert_eq!(refused(502, b"<html>").0, Reason::ServerError);
}

#[test]
fn what_is_no_answer_of_prometheus_is_said_so() {
    for body in [&b"<html>"[..], b"{}", b"[]", b"null", b"", br#"{"status":"success"}"#] {
        assert_eq!(refused(200, body).0, Reason::InvalidResponse, "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn an_answer_with_too_many_images_is_refused() {
    let names: Vec<String> = (0..=MAX_IMAGES).map(|n| format!("a{n}:1")).collect();
    let series: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert!(refused(200, vector(&series).as_bytes()).1.contains("topk"));
    assert_eq!(scores(&vector(&series[1..])).len(), MAX_IMAGES);
}

proptest! {
    #[test]
    fn any_numbers_add_up(values in prop::collection::vec(any::<i32>(), 1..50)) {
        let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
        let series: Vec<_> = texts.iter().map(|text| ("a:1", text.as_str())).collect();
        let sum: i64 = values.iter().map(|value| i64::from(*value)).sum();
        prop_assert_eq!(scores(&vector(&series)), [("a:1".to_owned(), sum)]);
    }

    #[test]
    fn no_body_upsets_it(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(status, &body[..]);
    }

    #[test]
    fn no_damage_to_an_answer_upsets_it(at in 0usize..150, byte in any::<u8>()) {
        let mut body = vector(&[("a:1", "1"), ("b:2", "2")]).into_bytes();
        let at = at % body.len();
        body[at] = byte;
        let _ = read(200, &body[..]);
    }
}
