//! An agent that the kernel would not end when its grant is over does not start.
#![allow(clippy::unwrap_used)] // all of this is test code

use std::process::Command;

/// What the agent says as the first process of a namespace, or not.
fn said(namespaces: &[&str]) -> String {
    let agent = env!("CARGO_BIN_EXE_drop-agent");
    let mut unshare = Command::new("unshare");
    unshare.args(namespaces).args(["--", agent, "--node-name", "node"]).env_clear();
    let ended = unshare.output().unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

#[test]
fn the_first_process_of_a_namespace_names_the_cure() {
    // Without a namespace of users only root could make one of processes.
    let users = ["--user", "--map-root-user"];
    let first = said(&[users.as_slice(), &["--pid", "--fork"]].concat());
    assert!(first.contains("shareProcessNamespace: true"), "{first}");
    // Any other process goes on until it finds no API server.
    let other = said(&users);
    assert!(!other.contains("shareProcessNamespace"), "{other}");
}
