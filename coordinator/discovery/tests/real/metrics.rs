//! Prometheus and VictoriaMetrics with real series.

use std::net::SocketAddr;

use drop_devtools::sources::{Prometheus, Sample, VictoriaMetrics};
use drop_discovery::Credentials;
use jiff::Timestamp;
use serde_json::json;

use super::{asked, failure, images};

/// Two images over the last ten minutes: `a` in two series of 1 and 2.5, `b` of 3; and what is no image.
fn samples() -> Vec<Sample> {
    let now = Timestamp::now().as_second();
    let minutes = (0..=10).map(|minute| now - 2 - minute * 60);
    let values = [
        ("runs{image=\"r.io/a:1\",node=\"1\"}", "1"),
        ("runs{image=\"r.io/a:1\",node=\"2\"}", "2.5"),
        ("runs{image=\"r.io/b:1\"}", "3"),
        ("runs{other=\"x\"}", "9"),
        ("runs{image=\"not an image\"}", "9"),
        ("odd{image=\"r.io/nan:1\"}", "NaN"),
        ("odd{image=\"r.io/inf:1\"}", "+Inf"),
        ("odd{image=\"r.io/minus:1\"}", "-7.9"),
    ];
    let each = minutes.flat_map(|time| {
        values.map(|(series, value)| Sample { series: series.to_owned(), time, value: value.to_owned() })
    });
    let mut all: Vec<Sample> = each.collect();
    all.sort_by_key(|sample| sample.time);
    all
}

async fn query(address: SocketAddr, path: &str, more: serde_json::Value) -> drop_discovery::Answer {
    let mut block = json!({ "endpoint": format!("http://{address}{path}") });
    block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked(&json!({ "type": "prometheus", "prometheus": block }), &Credentials::default()).await
}

/// What holds for everything that speaks the API.
async fn speaks_the_api(address: SocketAddr, path: &str) {
    let now = query(address, path, json!({ "query": "runs" })).await;
    assert_eq!(images(&now), ["r.io/a:1 3", "r.io/b:1 3"]);
    assert_eq!(
        now.notes,
        [
            "1 series without label image skipped",
            "1 series whose image is no reference (such as \"not an image\") skipped"
        ]
    );
    let summed = query(address, path, json!({ "query": "sum(runs) by (image) * 10" })).await;
    assert_eq!(images(&summed), ["r.io/a:1 35", "r.io/b:1 30"]);

    // Five minutes in steps of one: six values of each series.
    let range = query(address, path, json!({ "query": "runs", "lookback": "5m", "step": "1m" })).await;
    assert_eq!(images(&range), ["r.io/a:1 21", "r.io/b:1 18"]);

    let (reason, message) = {
        let answer = query(address, path, json!({ "query": "runs{" })).await;
        let (reason, message) = failure(&answer);
        (reason, message.to_owned())
    };
    assert_eq!(reason, "QueryRefused");
    assert!(message.starts_with("the query is refused: "), "{message}");
}

#[tokio::test]
async fn prometheus_is_asked_for_values_now_and_over_time() {
    let state = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(state.path(), &samples(), &[], None).unwrap();
    let address = prometheus.address();
    speaks_the_api(address, "").await;

    let odd = query(address, "", json!({ "query": "odd" })).await;
    assert_eq!(images(&odd), [format!("r.io/inf:1 {}", i64::MAX), "r.io/minus:1 -7".to_owned()]);
    assert_eq!(odd.notes, ["1 series without a number skipped"]);
    let odd = query(address, "", json!({ "query": "odd", "lookback": "5m", "step": "1m" })).await;
    assert_eq!(images(&odd), [format!("r.io/inf:1 {}", i64::MAX), "r.io/minus:1 -47".to_owned()]);

    for (expression, kind) in [("7", "scalar"), ("\"text\"", "string")] {
        let answer = query(address, "", json!({ "query": expression })).await;
        let (reason, message) = failure(&answer);
        assert_eq!(reason, "InvalidResponse");
        assert!(message.starts_with(&format!("the query results in a {kind}")), "{message}");
    }

    let answer = query(address, "", json!({ "query": "runs", "lookback": "720h", "step": "1s" })).await;
    let (reason, message) = failure(&answer);
    assert_eq!(reason, "QueryRefused");
    assert!(message.contains("exceeded maximum resolution of 11,000 points"), "{message}");

    let answer = query(address, "/elsewhere", json!({ "query": "runs" })).await;
    assert_eq!(failure(&answer), ("NotFound", "not found: the query API; check the path of endpoint"));
}

#[tokio::test]
async fn a_base_path_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let prometheus =
        Prometheus::start(state.path(), &samples(), &["--web.route-prefix=/prometheus"], None).unwrap();
    for path in ["/prometheus", "/prometheus/"] {
        let answer = query(prometheus.address(), path, json!({ "query": "runs" })).await;
        assert_eq!(images(&answer), ["r.io/a:1 3", "r.io/b:1 3"]);
    }
}

#[tokio::test]
async fn victoria_metrics_is_asked_the_same_way() {
    let state = tempfile::tempdir().unwrap();
    let server = VictoriaMetrics::start(state.path(), &samples()).unwrap();
    speaks_the_api(server.address(), "").await;
    speaks_the_api(server.address(), "/prometheus").await;
}
