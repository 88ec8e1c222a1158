//! References compare as containerd compares them.

use drop_protocol::reference::{Reference, normalise, registry_host, split};
use proptest::prelude::*;

#[test]
fn short_names_mean_what_containerd_takes_them_for() {
    for (written, meant) in [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("team/app", "docker.io/team/app:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx:1", "docker.io/library/nginx:1"),
        ("localhost/app:v1", "localhost/app:v1"),
        ("registry:5000/app", "registry:5000/app:latest"),
        ("registry.example/a/b/c:v1", "registry.example/a/b/c:v1"),
    ] {
        assert_eq!(normalise(written).unwrap(), meant, "{written}");
    }
}

#[test]
fn a_digest_outweighs_a_tag() {
    let digest = format!("sha256:{}", "0f".repeat(32));
    assert_eq!(
        normalise(&format!("nginx:1.29@{digest}")).unwrap(),
        format!("docker.io/library/nginx@{digest}")
    );
}

#[test]
fn the_host_keeps_its_port() {
    assert_eq!(registry_host("registry:5000/app:v1"), "registry:5000");
    assert_eq!(registry_host("nginx"), "docker.io");
}

#[test]
fn what_no_registry_accepts_is_refused_with_the_rule() {
    for (written, rule) in [
        ("", "empty part"),
        ("a//b", "empty part"),
        ("registry.example/", "empty part"),
        ("Team/App", "lowercase"),
        ("app:", "tag"),
        ("app:-v1", "tag"),
        ("app@sha256:12", "digest"),
        ("https://registry.example/app", "empty part"),
    ] {
        let error = normalise(written).unwrap_err().to_string();
        assert!(error.contains(rule), "{written}: {error}");
    }
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in "\\PC{0,300}") {
        let _ = normalise(&text);
    }

    #[test]
    fn normalising_twice_changes_nothing(
        host in "([a-z0-9]{1,8}\\.[a-z]{2,3}(:[0-9]{1,4})?/)?",
        path in "[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,3}",
        tag in "(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,12})?",
    ) {
        let once = normalise(&format!("{host}{path}{tag}")).unwrap();
        prop_assert_eq!(normalise(&once).unwrap(), once.clone());
        prop_assert!(Reference::parse(&once).is_ok());
    }
}

#[test]
fn each_rule_of_a_reference_is_held_to_its_last_character() {
    let longest = format!("app:{}", "v".repeat(128));
    let repository = format!("host.example/{}", "a".repeat(255));
    let digest = |hex: &str| format!("app@sha256:{hex}");
    let hex = "0123456789abcdef".repeat(4);
    let sha512 = format!("app@sha512:{hex}{hex}");
    for sound in [
        "app:_v1",
        "app:V1.2-3",
        "a.b_c-d/0",
        "[fd00::1]/app",
        "[fd00::1]:5000/app",
        &longest,
        &repository,
        &digest(&hex),
        &sha512,
    ] {
        assert!(Reference::parse(sound).is_ok(), "{sound}");
    }
    let (too_long, too_deep) = (format!("{longest}v"), format!("{repository}a"));
    for (unsound, rule) in [
        ("-app", "repository"),
        ("app_", "repository"),
        ("team/app-", "repository"),
        ("a b", "repository"),
        ("a+b", "repository"),
        (too_deep.as_str(), "repository"),
        ("app:.v1", "tag"),
        ("app:v+1", "tag"),
        (too_long.as_str(), "tag"),
        (&digest(&hex[1..]), "digest"),
        (&digest(&hex.replace('0', "g")), "digest"),
        (&digest(&hex.to_uppercase()), "digest"),
    ] {
        let error = Reference::parse(unsound).unwrap_err().to_string();
        assert!(error.contains(rule), "{unsound}: {error}");
    }
}

#[test]
fn the_port_of_a_host_is_no_tag() {
    assert_eq!(split("registry:5000/app"), ("registry:5000/app", None, None));
    assert_eq!(split("registry:5000/app:v1@sha256:0"), ("registry:5000/app", Some("v1"), Some("sha256:0")));
}
