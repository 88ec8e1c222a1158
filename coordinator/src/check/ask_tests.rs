//! Questions to a registry that answers as a test says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use drop_discovery::Credentials;
use drop_discovery::credentials::Login;
use drop_planner::CheckOutcome;
use drop_protocol::reference::Reference;

use super::{DIGEST, Means, Told, digest};

/// A registry that answers by `answer`: path and `Authorization` in.
struct Registry {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    async fn new(answer: impl Fn(&str, &str) -> Response + Clone + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let serve = async move |request: Request| {
            let path = request.uri().path().to_owned();
            let login = request.headers().get(AUTHORIZATION).map_or("", |login| login.to_str().unwrap());
            log.lock().unwrap().push(format!("{} {path} {login}", request.method()).trim_end().to_owned());
            answer(&path, login)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(serve)).await });
        Self { host, asked }
    }

    async fn ask(&self, logins: Vec<Credentials>) -> Told {
        let means = Means { plain_http: [self.host.clone()].into(), ..Means::default() };
        digest(&means, &Reference::parse(&format!("{}/team/app:1", self.host)).unwrap(), logins).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

const HEAD: &str = "HEAD /v2/team/app/manifests/1";

fn one() -> String {
    format!("sha256:{}", "1".repeat(64))
}

fn manifest() -> Response {
    [(DIGEST, one())].into_response()
}

fn login(username: &str) -> Credentials {
    Credentials::of_login(Login { username: username.to_owned(), password: "p".to_owned().into() })
}

fn told_digest(told: &Told) -> bool {
    told.outcome == CheckOutcome::Digest(one())
}

#[tokio::test]
async fn one_head_tells_the_digest() {
    let registry = Registry::new(|_, _| manifest()).await;
    assert!(told_digest(&registry.ask(Vec::new()).await));
    assert_eq!(registry.asked(), [HEAD]);
}

#[tokio::test]
async fn a_token_is_fetched_where_the_registry_wants_one() {
    let realm = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&realm);
    let registry = Registry::new(move |path, login| match (path, login) {
        ("/token", "Basic dTpw") => r#"{"token": "t"}"#.into_response(),
        (_, "Bearer t") => manifest(),
        _ => (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, told.lock().unwrap().clone())]).into_response(),
    })
    .await;
    *realm.lock().unwrap() = format!("Bearer realm=\"http://{}/token\",service=\"s\"", registry.host);
    assert!(told_digest(&registry.ask(vec![login("u")]).await));
    assert_eq!(registry.asked(), [HEAD, "GET /token Basic dTpw", &format!("{HEAD} Bearer t")]);
}

#[tokio::test]
async fn logins_are_tried_until_one_is_accepted() {
    let registry = Registry::new(|_, login| match login {
        "Basic dTpw" => manifest(),
        _ => (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Basic realm=\"r\"")]).into_response(),
    })
    .await;
    assert!(told_digest(&registry.ask(vec![login("wrong"), login("u"), login("never")]).await));
    let told = registry.ask(vec![login("wrong")]).await;
    assert_eq!((told.outcome, told.word), (CheckOutcome::Unknown, "Unauthorized"));
}

#[tokio::test]
async fn a_registry_that_limits_the_rate_says_until_when() {
    let registry =
        Registry::new(|_, _| (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "7")]).into_response()).await;
    let told = registry.ask(vec![login("u"), login("v")]).await;
    let retry_after = Some(Duration::from_secs(7));
    assert_eq!((told.outcome, told.word), (CheckOutcome::Unavailable { retry_after }, "TooManyRequests"));
    assert_eq!(registry.asked().len(), 1);
}

#[tokio::test]
async fn an_answer_without_a_digest_tells_nothing() {
    for answer in [StatusCode::NOT_FOUND, StatusCode::OK] {
        let registry = Registry::new(move |_, _| answer.into_response()).await;
        assert_eq!(registry.ask(Vec::new()).await.outcome, CheckOutcome::Unknown, "{answer}");
    }
    let registry = Registry::new(|_, _| [(DIGEST, "sha256:short")].into_response()).await;
    assert_eq!(registry.ask(Vec::new()).await.outcome, CheckOutcome::Unknown);
}

#[tokio::test]
async fn a_registry_that_nobody_can_reach_or_that_fails_is_unavailable() {
    let failing = Registry::new(|_, _| StatusCode::BAD_GATEWAY.into_response()).await;
    let unavailable = CheckOutcome::Unavailable { retry_after: None };
    assert_eq!(failing.ask(Vec::new()).await.outcome, unavailable);
    let silent = Registry { host: "127.0.0.1:1".to_owned(), asked: Arc::default() };
    let told = silent.ask(Vec::new()).await;
    assert_eq!((told.outcome, told.word), (unavailable, "ConnectionRefused"));
}
