//! Proxies of the environment. Each test runs itself again as a process with an environment of its own.

use std::process::Command;

use crate::server::{ONE_IMAGE, Server, images, query};

/// Asks `url` in a process with this environment; tells whether it got [`ONE_IMAGE`].
fn found(url: &str, environment: &[(&str, &str)]) -> bool {
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["proxies::in_this_environment", "--exact", "--ignored"]).env("ASK", url);
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ] {
        again.env_remove(name);
    }
    again.envs(environment.iter().copied()).output().unwrap().status.success()
}

#[tokio::test]
#[ignore = "the other tests run it"]
async fn in_this_environment() {
    assert_eq!(images(&query(&std::env::var("ASK").unwrap()).await), [("a:1".to_owned(), 7)]);
}

#[test]
fn a_proxy_is_asked_for_what_lies_outside() {
    let proxy = Server::saying(200, "", ONE_IMAGE);
    assert!(found("http://prometheus.invalid:9090", &[("HTTP_PROXY", &proxy.url())]));
    assert!(proxy.asked()[0].target.starts_with("http://prometheus.invalid:9090/api/v1/query?"));
}

#[test]
fn encrypted_connections_go_through_a_tunnel() {
    let proxy = Server::saying(403, "", "");
    assert!(!found("https://prometheus.invalid", &[("HTTPS_PROXY", &proxy.url())]));
    assert_eq!(proxy.asked()[0].target, "prometheus.invalid:443");
}

#[test]
fn a_range_of_addresses_is_asked_without_proxy() {
    let (proxy, server) = (Server::saying(503, "", ""), Server::saying(200, "", ONE_IMAGE));
    let with = |no_proxy: &str| found(&server.url(), &[("HTTP_PROXY", &proxy.url()), ("NO_PROXY", no_proxy)]);
    assert!(with("example.com,127.0.0.0/8"));
    assert!(proxy.asked().is_empty());
    assert!(!with("10.0.0.0/8"));
    assert_eq!(proxy.asked().len(), 1);
}
