//! Credentials stay with the server that the user named.

use crate::server::{ONE_IMAGE, Server, failure, images, list, query_with, say, secret};
use serde_json::json;

const ALL: [(&str, &str); 3] =
    [("username", "user"), ("password", "password"), ("headers.X-Scope-OrgID", "team")];

#[tokio::test]
async fn nothing_secret_follows_a_redirect_to_another_server() {
    let other = Server::saying(200, "", ONE_IMAGE);
    let target = other.url();
    let first =
        Server::start(move |_, stream| say(stream, 307, &format!("Location: {target}/moved\r\n"), ""));
    let answer = query_with(&first.url(), &secret(&ALL)).await;
    assert_eq!(images(&answer), [("a:1".to_owned(), 7)]);
    let first = &first.asked()[0].headers;
    assert_eq!(first["authorization"], "Basic dXNlcjpwYXNzd29yZA==");
    assert_eq!(first["x-scope-orgid"], "team");
    let other = &other.asked()[0].headers;
    assert!(!other.contains_key("authorization") && !other.contains_key("x-scope-orgid"), "{other:?}");
}

#[tokio::test]
async fn whoever_left_does_not_come_back_with_credentials() {
    let home = Server::start(|request, stream| {
        if request.target == "/end" {
            return say(stream, 200, "", ONE_IMAGE);
        }
        let away = request.target.split("away=").nth(1).unwrap().split('&').next().unwrap().to_owned();
        say(stream, 302, &format!("Location: http://{away}/\r\n"), "");
    });
    let back = format!("{}/end", home.url());
    let away = Server::start(move |_, stream| say(stream, 302, &format!("Location: {back}\r\n"), ""));
    query_with(&format!("{}/?away={}", home.url(), away.address), &secret(&ALL)).await;
    let last = home.asked().last().unwrap().clone();
    assert_eq!(last.target, "/end");
    assert!(!last.headers.contains_key("authorization"));
}

#[tokio::test]
async fn credentials_follow_a_redirect_on_the_same_server() {
    let server = Server::start(|request, stream| {
        if request.target == "/moved" {
            say(stream, 200, "", ONE_IMAGE);
        } else {
            say(stream, 301, "Location: /moved\r\n", "");
        }
    });
    query_with(&server.url(), &secret(&ALL)).await;
    assert!(server.asked()[1].headers.contains_key("authorization"));
    assert!(server.asked()[1].headers.contains_key("x-scope-orgid"));
}

#[tokio::test]
async fn a_page_of_tags_on_another_server_is_not_asked_for() {
    let evil = Server::saying(200, "", "{}");
    let link = format!("Link: <http://localhost:{}/v2/a/tags/list>; rel=\"next\"\r\n", evil.address.port());
    let server = Server::start(move |_, stream| say(stream, 200, &link, r#"{"tags":["1"]}"#));
    let answer = list(json!({ "url": server.url(), "repositories": ["a"] }), &secret(&ALL)).await;
    assert_eq!(failure(&answer).1, "the next page of tags lies on another server");
    assert!(evil.asked().is_empty());
}

#[tokio::test]
async fn a_token_server_gets_the_login_but_no_further_headers() {
    let tokens = Server::saying(200, "", r#"{"access_token":"granted"}"#);
    let challenge = format!(
        "WWW-Authenticate: Bearer realm=\"{}/token?a=b\",service=\"r, main\",scope=\"repository:a:pull,push repository:b:pull\"\r\n",
        tokens.url()
    );
    let registry = Server::start(move |request, stream| match request.headers.get("authorization") {
        Some(login) if login == "Bearer granted" => say(stream, 200, "", r#"{"tags":["1"]}"#),
        _ => say(stream, 401, &challenge, ""),
    });
    let answer = list(json!({ "url": registry.url(), "repositories": ["a"] }), &secret(&ALL)).await;
    assert_eq!(images(&answer).len(), 1, "{answer:?}");
    let asked = &tokens.asked()[0];
    assert_eq!(
        asked.target,
        "/token?a=b&service=r%2C+main&scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Ab%3Apull"
    );
    assert_eq!(asked.headers["authorization"], "Basic dXNlcjpwYXNzd29yZA==");
    assert!(!asked.headers.contains_key("x-scope-orgid"));
    assert!(!registry.asked()[0].headers.contains_key("authorization"), "not before it is asked for");
}

#[tokio::test]
async fn a_token_of_the_user_is_sent_as_it_is_and_never_exchanged() {
    let tokens = Server::saying(200, "", r#"{"token":"other"}"#);
    let challenge = format!("WWW-Authenticate: Bearer realm=\"{}\"\r\n", tokens.url());
    let registry = Server::start(move |_, stream| say(stream, 401, &challenge, ""));
    let answer =
        list(json!({ "url": registry.url(), "repositories": ["a"] }), &secret(&[("token", "mine")])).await;
    assert_eq!(failure(&answer).0, "Unauthorized");
    assert_eq!(registry.asked()[0].headers["authorization"], "Bearer mine");
    assert!(tokens.asked().is_empty());
}
