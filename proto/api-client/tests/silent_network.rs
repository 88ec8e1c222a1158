//! A network that drops all packets from one moment on and tells nobody, in a network namespace of its own. As root.
#![allow(clippy::unwrap_used, clippy::panic)] // all of this is test code

use std::process::Command;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, WatchParams};
use kube::{Api, Client, Config};
use nix::sched::{CloneFlags, unshare};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Twice as long as it takes, and far less than a watch or the kernel's own patience lasts.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs `test` in a network of its own, with a client of a server that the test plays.
fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce(TcpListener, Client) -> F) {
    // Concerns this test's thread, and what it starts.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    run("ip link set lo up");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::new(format!("http://{}", server.local_addr().unwrap()).parse().unwrap());
        config.default_retry = false;
        let client = drop_api_client::connect(config).unwrap();
        test(server, client).await;
    });
}

fn fall_silent() {
    run("iptables -w -I INPUT -j DROP");
}

fn run(command: &str) {
    let (program, arguments) = command.split_once(' ').unwrap();
    assert!(Command::new(program).args(arguments.split(' ')).status().unwrap().success(), "{command}");
}

/// Reads one request, which has no body, and answers `answer`.
async fn answer(connection: &mut TcpStream, answer: &str) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(connection.read_u8().await.unwrap());
    }
    connection.write_all(answer.as_bytes()).await.unwrap();
}

#[test]
fn a_quiet_watch_ends() {
    in_own_network(|server, client| async move {
        let played = tokio::spawn(async move {
            let mut connection = server.accept().await.unwrap().0;
            let event = r#"{"type":"ADDED","object":{"metadata":{"name":"a"}}}"#;
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            answer(&mut connection, &format!("{head}{:x}\r\n{event}\n\r\n", event.len() + 1)).await;
            connection
        });
        let maps: Api<ConfigMap> = Api::namespaced(client, "drop");
        let mut watch = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
        watch.try_next().await.unwrap().unwrap();
        let _open = played.await.unwrap();
        fall_silent();
        let next = timeout(PATIENCE, watch.next()).await.unwrap_or_else(|_| panic!("the watch waits still"));
        assert!(!matches!(next, Some(Ok(_))), "{next:?}");
    });
}

#[test]
fn a_request_that_nobody_acknowledges_fails() {
    in_own_network(|server, client| async move {
        let played = tokio::spawn(async move {
            let mut connection = server.accept().await.unwrap().0;
            let list = r#"{"metadata":{},"items":[]}"#;
            let head = "HTTP/1.1 200 OK\r\nContent-Length:";
            answer(&mut connection, &format!("{head} {}\r\n\r\n{list}", list.len())).await;
            connection
        });
        let maps: Api<ConfigMap> = Api::namespaced(client, "drop");
        maps.list(&ListParams::default()).await.unwrap();
        let _open = played.await.unwrap();
        fall_silent();
        let asked = timeout(PATIENCE, maps.list(&ListParams::default())).await;
        asked.unwrap_or_else(|_| panic!("the request waits still")).unwrap_err();
    });
}
