//! What the agent says at its start of credential providers that it can't use.
#![allow(clippy::unwrap_used)] // all of this is test code

use std::path::Path;
use std::process::Command;

/// What the agent says before it ends; `arguments` name files in `place`.
fn said(place: &Path, arguments: &[&str]) -> String {
    let arguments = arguments.iter().map(|argument| argument.replace("PLACE", place.to_str().unwrap()));
    let ended = Command::new(env!("CARGO_BIN_EXE_drop-agent"))
        .args(["--node-name", "node"])
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

#[test]
fn a_configuration_that_cannot_be_used_ends_the_agent_and_is_named_by_file_and_field() {
    let place = tempfile::tempdir().unwrap();
    let both =
        ["--image-credential-provider-config=PLACE/config.yaml", "--image-credential-provider-bin-dir=PLACE"];
    assert!(said(place.path(), &both).contains("config.yaml: No such file"));
    let config = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n  - name: plugin\n";
    std::fs::write(place.path().join("config.yaml"), config).unwrap();
    let told = said(place.path(), &both);
    assert!(told.contains("config.yaml: providers[0].apiVersion"), "{told}");
}

#[test]
fn one_of_the_two_flags_is_not_enough() {
    let told = said(Path::new("/"), &["--image-credential-provider-config=PLACE"]);
    assert!(told.contains("--image-credential-provider-bin-dir"), "{told}");
}
