//! Discovery against Debian's Prometheus, VictoriaMetrics and docker-registry. `README.md` says how to run it.
#![cfg(feature = "real-parts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of this is test code

#[path = "real/login.rs"]
mod login;
#[path = "real/metrics.rs"]
mod metrics;
#[path = "real/registry.rs"]
mod registry;

use drop_discovery::ask::ask;
use drop_discovery::http::Limits;
use drop_discovery::{Answer, Credentials, Policy};
use jiff::Timestamp;
use serde_json::{Value, json};

async fn asked(source: &Value, credentials: &Credentials) -> Answer {
    let spec = serde_json::from_value(json!({ "sources": [source] })).unwrap();
    let policy = Policy::read(&spec).unwrap();
    ask(&policy.sources[0], credentials, Limits::default(), Timestamp::now()).await
}

fn secret(data: &[(&str, Vec<u8>)]) -> Credentials {
    let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    Credentials::read("creds", data).unwrap()
}

fn images(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.failure, None);
    let mut images: Vec<_> = answer.images.iter().map(|i| format!("{} {}", i.image, i.score)).collect();
    images.sort();
    images
}

fn failure(answer: &Answer) -> (&'static str, &str) {
    let failure = answer.failure.as_ref().expect("nothing failed");
    (failure.reason.as_str(), &failure.message)
}
