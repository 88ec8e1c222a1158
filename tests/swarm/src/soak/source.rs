//! What DiscoveryPolicies ask: a server that answers queries as Prometheus does, with what it was told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::wanted::{self, Source};

/// A server. It ends when dropped.
pub(super) struct Server {
    /// Its base URL.
    pub(super) url: String,
    answers: Arc<Mutex<BTreeMap<String, Source>>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts it on a port of its own.
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let answers: Arc<Mutex<BTreeMap<String, Source>>> = Arc::default();
        let known = Arc::clone(&answers);
        let router = axum::Router::new().fallback(async move |uri: Uri| answer(&held(&known), &uri));
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the source of images has ended: {error}");
            }
        });
        Ok(Self { url, answers, task })
    }

    /// From now on the query of this number is answered so.
    pub(super) fn tell(&self, number: usize, source: &Source) {
        held(&self.answers).insert(wanted::source_name(number), source.clone());
    }
}

fn held(answers: &Mutex<BTreeMap<String, Source>>) -> MutexGuard<'_, BTreeMap<String, Source>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(answers: &BTreeMap<String, Source>, uri: &Uri) -> (StatusCode, String) {
    let query = uri.query().unwrap_or_default();
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("query=")).unwrap_or_default();
    match answers.get(asked) {
        Some(source) if !source.down => (StatusCode::OK, vector(source).to_string()),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded".to_owned()),
        None => (StatusCode::NOT_FOUND, format!("nobody knows {asked}")),
    }
}

/// The answer to an instant query.
fn vector(source: &Source) -> Value {
    let result: Vec<Value> = source
        .apps
        .iter()
        .map(|app| {
            let image = wanted::reference(*app, 1);
            json!({ "metric": { "image": image }, "value": [1_700_000_000, "1"] })
        })
        .collect();
    json!({ "status": "success", "data": { "resultType": "vector", "result": result } })
}
