//! Servers that are slow, endless or hostile cost bounded time and memory.

use std::io::Write as _;
use std::time::{Duration, Instant};

use drop_discovery::Credentials;
use serde_json::json;

use crate::server::{Server, failure, list, query, say};

/// Far more than the limit of the tests.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test]
async fn silence_ends_in_time() {
    let server = Server::start(|_, _| std::thread::sleep(Duration::from_secs(60)));
    let began = Instant::now();
    let (reason, message) = failure(&query(&server.url()).await);
    assert_eq!((reason, message), ("Timeout", format!("{} did not answer in time", server.address)));
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn a_body_that_trickles_ends_in_time() {
    let server = Server::start(|_, stream| {
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
        while sent.is_ok() {
            // The pace of the body.
            std::thread::sleep(Duration::from_millis(20));
            sent = stream.write_all(b" ");
        }
    });
    let began = Instant::now();
    let (reason, message) = failure(&query(&server.url()).await);
    assert_eq!(
        (reason, message),
        ("Timeout", format!("{} did not finish its answer in time", server.address))
    );
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn an_endless_body_is_left() {
    let server = Server::start(|_, stream| {
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n[");
        while sent.is_ok() {
            sent = stream.write_all(&[b' '; 4096]);
        }
    });
    for answer in [
        query(&server.url()).await,
        list(json!({ "url": server.url(), "repositories": ["a"] }), &Credentials::default()).await,
    ] {
        let (reason, message) = failure(&answer);
        assert_eq!(
            (reason, message.as_str()),
            ("InvalidResponse", "the answer is longer than 1 MiB: ask for less")
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let server = Server::start(|_, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"status\":\"success\"");
    });
    let (reason, message) = failure(&query(&server.url()).await);
    assert_eq!((reason, message), ("InvalidResponse", format!("the answer of {} broke off", server.address)));
}

#[tokio::test]
async fn deep_nesting_and_nonsense_are_refused() {
    for body in ["[".repeat(50_000), "\u{0}".repeat(100), "{\"data\":".repeat(5000)] {
        let server = Server::saying(200, "", body);
        assert_eq!(failure(&query(&server.url()).await).0, "InvalidResponse");
    }
}

#[tokio::test]
async fn redirects_end() {
    let server = Server::start(|request, stream| {
        let location = format!("Location: {}x\r\n", request.target);
        say(stream, 302, &location, "");
    });
    assert_eq!(failure(&query(&server.url()).await), ("InvalidResponse", "more than 3 redirects".to_owned()));
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn pages_end() {
    let server = Server::start(|request, stream| {
        let link = format!("Link: <{}x>; rel=\"next\"\r\n", request.target);
        say(stream, 200, &link, r#"{"tags":["1"]}"#);
    });
    let answer = list(json!({ "url": server.url(), "repositories": ["a"] }), &Credentials::default()).await;
    assert_eq!(failure(&answer).1, "the tags of a go on without end");
    assert_eq!(server.asked().len(), 10);
}
