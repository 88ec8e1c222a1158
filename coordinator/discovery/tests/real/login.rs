//! Every key of a Secret, alone and together, at a Prometheus with passwords, TLS and client certificates.

use std::path::Path;
use std::process::Command;

use drop_devtools::certs::Authority;
use drop_devtools::command;
use drop_devtools::sources::{Prometheus, Sample};
use drop_discovery::{Answer, Credentials};
use jiff::Timestamp;
use serde_json::json;

use super::{asked, failure, images, secret};

fn sample() -> Sample {
    Sample {
        series: "runs{image=\"r.io/a:1\"}".to_owned(),
        time: Timestamp::now().as_second() - 1,
        value: "7".to_owned(),
    }
}

async fn query(url: &str, credentials: &Credentials) -> Answer {
    let source = json!({ "type": "prometheus", "prometheus": { "endpoint": url, "query": "runs" } });
    asked(&source, credentials).await
}

fn file(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// A user of the web configuration, its password hashed as Prometheus wants it.
fn user() -> String {
    let hashed = command::output(Command::new("htpasswd").args(["-nbB", "user", "right-one"])).unwrap();
    format!("basic_auth_users:\n  user: {}\n", hashed.trim().split_once(':').unwrap().1)
}

#[tokio::test]
async fn passwords_are_checked() {
    let state = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(state.path(), &[sample()], &[], Some(&user())).unwrap();
    let url = format!("http://{}", prometheus.address());
    let login = |password: &str| secret(&[("username", b"user".to_vec()), ("password", password.into())]);
    assert_eq!(images(&query(&url, &login("right-one")).await), ["r.io/a:1 7"]);
    let header = secret(&[("headers.Authorization", b"Basic dXNlcjpyaWdodC1vbmU=".to_vec())]);
    assert_eq!(images(&query(&url, &header).await), ["r.io/a:1 7"]);
    for credentials in [login("wrong-one"), secret(&[("token", b"t".to_vec())]), Credentials::default()] {
        assert_eq!(failure(&query(&url, &credentials).await).0, "Unauthorized");
    }
}

#[tokio::test]
async fn mutual_tls_needs_authority_certificate_and_key_and_goes_with_a_password() {
    let state = tempfile::tempdir().unwrap();
    let authority = Authority::open(&state.path().join("ca")).unwrap();
    let server = authority.server("server", "/CN=server", &["IP:127.0.0.1".to_owned()]).unwrap();
    let client = authority.client("client", "drop", "test").unwrap();
    let web = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {}\n{}",
        server.certificate.display(),
        server.key.display(),
        authority.certificate().display(),
        user()
    );
    let prometheus = Prometheus::start(state.path(), &[sample()], &[], Some(&web)).unwrap();
    let url = format!("https://{}", prometheus.address());
    let (ca, certificate, key) =
        (file(&authority.certificate()), file(&client.certificate), file(&client.key));
    let who = [("ca.crt", ca.clone()), ("tls.crt", certificate), ("tls.key", key)];
    let login = [("username", b"user".to_vec()), ("password", b"right-one".to_vec())];
    let all: Vec<_> = who.iter().chain(&login).cloned().collect();
    assert_eq!(images(&query(&url, &secret(&all)).await), ["r.io/a:1 7"]);

    assert_eq!(failure(&query(&url, &secret(&who)).await).0, "Unauthorized");
    let answer = query(&url, &secret(&[("ca.crt", ca.clone())])).await;
    assert_eq!(
        failure(&answer),
        (
            "TLSError",
            format!(
                "{} does not accept the client certificate: check tls.crt and tls.key of the Secret",
                prometheus.address()
            )
            .as_str()
        )
    );
    let answer = query(&url, &Credentials::default()).await;
    assert!(failure(&answer).1.contains("signed by nobody trusted"), "{answer:?}");

    // Trust in somebody else, and a key that belongs to another certificate.
    let other = Authority::open(&state.path().join("other")).unwrap();
    let answer = query(&url, &secret(&[("ca.crt", file(&other.certificate()))])).await;
    assert_eq!(failure(&answer).0, "TLSError");
    let wrong = other.client("client", "drop", "test").unwrap();
    let mixed =
        [("ca.crt", ca.clone()), ("tls.crt", file(&client.certificate)), ("tls.key", file(&wrong.key))];
    let answer = query(&url, &secret(&mixed)).await;
    assert_eq!(failure(&answer).0, "SecretInvalid");
    let stranger = [("ca.crt", ca), ("tls.crt", file(&wrong.certificate)), ("tls.key", file(&wrong.key))];
    assert_eq!(failure(&query(&url, &secret(&stranger)).await).0, "TLSError");
}

#[tokio::test]
async fn a_certificate_for_other_names_is_told() {
    let state = tempfile::tempdir().unwrap();
    let authority = Authority::open(&state.path().join("ca")).unwrap();
    let pair = authority.server("server", "/CN=server", &["DNS:elsewhere.example.com".to_owned()]).unwrap();
    let web = format!(
        "tls_server_config:\n  cert_file: {}\n  key_file: {}\n",
        pair.certificate.display(),
        pair.key.display()
    );
    let prometheus = Prometheus::start(state.path(), &[], &[], Some(&web)).unwrap();
    let answer = query(
        &format!("https://{}", prometheus.address()),
        &secret(&[("ca.crt", file(&authority.certificate()))]),
    )
    .await;
    assert_eq!(
        failure(&answer),
        ("TLSError", format!("the certificate of {} is for other names", prometheus.address()).as_str())
    );
}
