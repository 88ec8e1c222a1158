//! A server that says what a test wants, and remembers what it was asked.
#![allow(unreachable_pub)] // a module of tests

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drop_discovery::ask::ask;
use drop_discovery::http::Limits;
use drop_discovery::{Answer, Credentials, Policy};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query.
    pub target: String,
    /// Headers, names in lower case.
    pub headers: BTreeMap<String, String>,
}

pub struct Server {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Answers each request by `answer`, which writes to the connection what it likes.
    pub fn start(answer: impl Fn(&Request, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, record) = (Arc::new(answer), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, record) = (Arc::clone(&answer), Arc::clone(&record));
                std::thread::spawn(move || serve(stream, &*answer, &record));
            }
        });
        Self { address, asked }
    }

    /// Answers every request with this status, headers and body.
    pub fn saying(status: u16, headers: &'static str, body: impl Into<String>) -> Self {
        let body = body.into();
        Self::start(move |_, stream| say(stream, status, headers, &body))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, answer: &dyn Fn(&Request, &mut TcpStream), record: &Mutex<Vec<Request>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = lines
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let request = Request { target, headers };
    record.lock().unwrap().push(request.clone());
    answer(&request, &mut stream);
}

/// A whole answer.
pub fn say(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let head = format!(
        "HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    // The client may have left.
    let _ = stream.write_all(head.as_bytes());
}

/// Limits that a test can wait for.
pub fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(2),
        request: Duration::from_millis(600),
        source: Duration::from_secs(20),
        query_bytes: 64 << 10,
        page_bytes: 64 << 10,
        redirects: 3,
        pages: 10,
        concurrent: 2,
    }
}

pub fn secret(data: &[(&str, &str)]) -> Credentials {
    let data = data.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
    Credentials::read("creds", data).unwrap()
}

pub async fn query_with(endpoint: &str, credentials: &Credentials) -> Answer {
    let source = json!({ "type": "prometheus", "prometheus": { "endpoint": endpoint, "query": "up" } });
    asked(&source, credentials).await
}

pub async fn query(endpoint: &str) -> Answer {
    query_with(endpoint, &Credentials::default()).await
}

pub async fn list(registry: Value, credentials: &Credentials) -> Answer {
    asked(&json!({ "type": "registry", "registry": registry }), credentials).await
}

async fn asked(source: &Value, credentials: &Credentials) -> Answer {
    let spec = serde_json::from_value(json!({ "sources": [source] })).unwrap();
    let policy = Policy::read(&spec).unwrap();
    ask(&policy.sources[0], credentials, limits(), Timestamp::now()).await
}

/// Reason and message of a failure.
pub fn failure(answer: &Answer) -> (&'static str, String) {
    let failure = answer.failure.clone().expect("nothing failed");
    (failure.reason.as_str(), failure.message)
}

pub fn images(answer: &Answer) -> Vec<(String, i64)> {
    let mut images: Vec<_> = answer.images.iter().map(|i| (i.image.clone(), i.score)).collect();
    images.sort();
    images
}

/// An answer of Prometheus that names one image.
pub const ONE_IMAGE: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"image":"a:1"},"value":[1,"7"]}]}}"#;
