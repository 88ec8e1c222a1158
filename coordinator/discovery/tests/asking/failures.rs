//! Each class of failure, produced for real, with its reason and its words.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::server::{Server, failure, list, query, query_with, secret};
use drop_discovery::Credentials;
use serde_json::json;

#[tokio::test]
async fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = query(&format!("http://{address}")).await;
    assert_eq!(failure(&answer), ("ConnectionRefused", format!("{address} refuses connections")));
    assert!(answer.is_silent());
}

#[tokio::test]
async fn a_name_does_not_resolve() {
    // Reserved for this by RFC 6761.
    let answer = query("http://prometheus.invalid:9090").await;
    assert_eq!(
        failure(&answer),
        ("DNSError", "the name prometheus.invalid:9090 does not resolve".to_owned())
    );
}

#[tokio::test]
async fn statuses_are_told_apart() {
    for (status, reason, words) in [
        (401, "Unauthorized", "unauthorized: check the credentials in secretRef"),
        (403, "Forbidden", "forbidden: the credentials do not allow to read"),
        (404, "NotFound", "not found: the query API; check the path of endpoint"),
        (429, "TooManyRequests", "too many requests"),
        (500, "ServerError", "the server has trouble of its own (HTTP 500)"),
        (503, "ServerError", "the server has trouble of its own (HTTP 503)"),
        (504, "Timeout", "the server gave up waiting"),
        (418, "SyncFailed", "unexpected answer (HTTP 418)"),
    ] {
        let server = Server::saying(status, "", "no");
        let (found, message) = failure(&query(&server.url()).await);
        assert_eq!(found, reason, "{status}");
        assert!(message.starts_with(words), "{message}");
    }
}

#[tokio::test]
async fn plain_http_where_tls_was_expected() {
    for (says, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "does not speak TLS: is it http:// there?"),
        (b"", "closed the connection while encryption was set up: is it http:// there?"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            // All of the greeting, or the connection would be reset.
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(says).unwrap();
        });
        let answer = query(&format!("https://{address}")).await;
        assert_eq!(failure(&answer), ("TLSError", format!("{address} {words}")));
    }
}

#[tokio::test]
async fn a_registry_without_any_of_the_repositories() {
    let server = Server::saying(404, "", "{}");
    let registry = json!({ "url": server.url(), "repositories": ["gone"] });
    assert_eq!(
        failure(&list(registry, &Credentials::default()).await),
        ("NotFound", "not found: gone".to_owned())
    );
}

#[tokio::test]
async fn what_a_server_repeats_of_credentials_is_not_told() {
    let server = Server::start(|request, stream| {
        let body =
            json!({ "status": "error", "errorType": "bad_data", "error": request.headers["authorization"] });
        crate::server::say(stream, 400, "", &body.to_string());
    });
    let (_, message) = failure(&query_with(&server.url(), &secret(&[("token", "s3cr3t-token")])).await);
    assert_eq!(message, "the query is refused: Bearer ***");
}
