//! Debian's registry: open, with a password, with tokens.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use drop_devtools::certs::Authority;
use drop_devtools::sources::{Access, Registry, free_address};
use drop_discovery::Credentials;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{asked, failure, images, secret};

async fn list(address: SocketAddr, more: Value, credentials: &Credentials) -> drop_discovery::Answer {
    let mut block = json!({ "url": format!("http://{address}") });
    block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked(&json!({ "type": "registry", "registry": block }), credentials).await
}

/// The tags in the order in which the registry tells them.
fn told(address: SocketAddr, repository: &str) -> Vec<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /v2/{repository}/tags/list HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    serde_json::from_value(body["tags"].clone()).unwrap()
}

#[tokio::test]
async fn tags_by_the_thousand_are_listed_filtered_and_the_last_kept() {
    let state = tempfile::tempdir().unwrap();
    let registry = Registry::start(state.path(), &Access::Anonymous, None).unwrap();
    let address = registry.address();
    for number in 0..3000 {
        registry.tag("team/app", &format!("v{number}")).unwrap();
        if number < 10 {
            registry.tag("team/app", &format!("dev-{number}")).unwrap();
        }
    }
    registry.tag("other", "1").unwrap();
    let none = Credentials::default();
    let all = list(address, json!({ "repositories": ["team/app"] }), &none).await;
    let distinct: BTreeSet<_> = images(&all).into_iter().collect();
    assert_eq!(distinct.len(), 3010);

    let order: Vec<String> =
        told(address, "team/app").into_iter().filter(|tag| tag.starts_with('v')).collect();
    let few = json!({ "repositories": ["team/app", "other"], "tagFilter": "^v[0-9]+$", "topX": 3 });
    let mut last: Vec<String> = (1..=3)
        .map(|score| format!("{address}/team/app:{} {score}", order[order.len() - 4 + score]))
        .collect();
    last.sort();
    assert_eq!(images(&list(address, few, &none).await), last);

    let answer = list(address, json!({ "repositories": ["other", "gone"] }), &none).await;
    assert_eq!(failure(&answer), ("NotFound", "1 of 2 repositories failed: not found: gone"));
    assert_eq!(answer.images[0].image, format!("{address}/other:1"));
    let answer = list(address, json!({ "repositories": ["gone"] }), &none).await;
    assert_eq!(failure(&answer), ("NotFound", "not found: gone"));
}

#[tokio::test]
async fn a_registry_with_passwords_wants_the_right_one() {
    let state = tempfile::tempdir().unwrap();
    let access = Access::Login { username: "user".to_owned(), password: "pass".to_owned() };
    let registry = Registry::start(state.path(), &access, None).unwrap();
    registry.tag("app", "1").unwrap();
    let repositories = json!({ "repositories": ["app"] });
    let right = secret(&[("username", b"user".to_vec()), ("password", b"pass\n".to_vec())]);
    let answer = list(registry.address(), repositories.clone(), &right).await;
    assert_eq!(images(&answer), [format!("{}/app:1 1", registry.address())]);
    let header =
        secret(&[("headers.Authorization", format!("Basic {}", STANDARD.encode("user:pass")).into_bytes())]);
    assert_eq!(images(&list(registry.address(), repositories.clone(), &header).await).len(), 1);
    let wrong = secret(&[("username", b"user".to_vec()), ("password", b"no".to_vec())]);
    for credentials in [wrong, Credentials::default()] {
        let answer = list(registry.address(), repositories.clone(), &credentials).await;
        assert_eq!(failure(&answer), ("Unauthorized", "unauthorized: check the credentials in secretRef"));
    }
}

/// A token server: signs what a registry with the same certificate accepts.
struct Tokens {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tokens {
    fn start(certificate: &Path, key: &Path) -> Self {
        let listener = TcpListener::bind(free_address().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (certificate, key, record) = (certificate.to_owned(), key.to_owned(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                record.lock().unwrap().push(head[0].clone());
                let login = format!("authorization: Basic {}", STANDARD.encode("user:pass"));
                let known = head.contains(&login);
                let body = json!({ "token": token(&certificate, &key, known) }).to_string();
                write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
            }
        });
        Self { address, asked }
    }
}

/// Everybody may read `open`; whoever has logged in may read `closed` too.
fn token(certificate: &Path, key: &Path, known: bool) -> String {
    let pem = std::fs::read_to_string(certificate).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let now = Timestamp::now().as_second();
    let access = |name: &str| json!({ "type": "repository", "name": name, "actions": ["pull"] });
    let mut granted = vec![access("open")];
    granted.extend(known.then(|| access("closed")));
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
    let claims = json!({
        "iss": "test", "aud": "test, service", "sub": "", "jti": "1",
        "nbf": now - 60, "iat": now, "exp": now + 300, "access": granted,
    });
    let text = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let mut sign = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    sign.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let signature = sign.wait_with_output().unwrap().stdout;
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A certificate with an RSA key: the registry's library signs tokens with nothing newer.
fn rsa(directory: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = (directory.join("token.crt"), directory.join("token.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (certificate, key)
}

#[tokio::test]
async fn a_registry_with_tokens_gets_one_of_its_token_server() {
    let state = tempfile::tempdir().unwrap();
    let (certificate, key) = rsa(state.path());
    let tokens = Tokens::start(&certificate, &key);
    let realm = format!("http://{}/token", tokens.address);
    let access = Access::Token { realm, service: "test, service".to_owned(), certificate };
    let registry = Registry::start(state.path(), &access, None).unwrap();
    registry.tag("open", "1").unwrap();
    registry.tag("closed", "1").unwrap();
    let (address, none) = (registry.address(), Credentials::default());
    let open = list(address, json!({ "repositories": ["open"] }), &none).await;
    assert_eq!(images(&open), [format!("{address}/open:1 1")]);
    assert_eq!(
        tokens.asked.lock().unwrap()[0],
        "GET /token?service=test%2C+service&scope=repository%3Aopen%3Apull HTTP/1.1"
    );
    let answer = list(address, json!({ "repositories": ["closed"] }), &none).await;
    assert_eq!(failure(&answer).0, "Unauthorized");
    let login = secret(&[("username", b"user".to_vec()), ("password", b"pass".to_vec())]);
    let both = list(address, json!({ "repositories": ["closed", "open"] }), &login).await;
    assert_eq!(images(&both), [format!("{address}/closed:1 1"), format!("{address}/open:1 1")]);
    // The user's own token, as a CI system hands it out.
    let own = secret(&[("token", token(&state.path().join("token.crt"), &key, true).into_bytes())]);
    let before = tokens.asked.lock().unwrap().len();
    assert_eq!(images(&list(address, json!({ "repositories": ["closed"] }), &own).await).len(), 1);
    assert_eq!(tokens.asked.lock().unwrap().len(), before);
}

#[tokio::test]
async fn a_registry_behind_tls_needs_its_authority() {
    let state = tempfile::tempdir().unwrap();
    let authority = Authority::open(&state.path().join("ca")).unwrap();
    let pair = authority.server("registry", "/CN=registry", &["IP:127.0.0.1".to_owned()]).unwrap();
    let registry =
        Registry::start(state.path(), &Access::Anonymous, Some((&pair.certificate, &pair.key))).unwrap();
    registry.tag("app", "1").unwrap();
    let source = json!({ "type": "registry", "registry": { "url": format!("https://{}", registry.address()), "repositories": ["app"] } });
    let trusting = secret(&[("ca.crt", std::fs::read(authority.certificate()).unwrap())]);
    assert_eq!(images(&asked(&source, &trusting).await), [format!("{}/app:1 1", registry.address())]);
    let answer = asked(&source, &Credentials::default()).await;
    let (reason, message) = failure(&answer);
    assert_eq!(reason, "TLSError");
    assert!(message.contains("signed by nobody trusted"), "{message}");
}
