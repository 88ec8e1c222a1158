//! Secrets, plugins' answers, the kubelet's file, flags and a runtime's lists as nobody should write them: no panic, bounded, no
//! secret in any error.
#![allow(clippy::unwrap_used, clippy::panic)] // all of this is test code

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::{Duration, Instant};

use clap::Parser as _;
use drop_agent::credentials::Logins;
use drop_agent::credentials::provider::{config, protocol};
use drop_agent::inventory;
use drop_agent::settings::Settings;
use drop_credentials::docker_config::{SecretData, entries};
use drop_credentials::keyring::Keyring;
use drop_credentials::place::Place;
use drop_cri::Image;
use drop_hostile::cases;
use drop_hostile::json::{damaged_json, each_replaced};
use drop_hostile::text::{any_bytes, any_text, damaged_bytes, texts_like};
use drop_protocol::reference::Reference;
use proptest::prelude::*;
use secrecy::SecretSlice;
use serde_json::{Value, json};

const V1: &str = "credentialprovider.kubelet.k8s.io/v1";
const SOON: Duration = Duration::from_secs(20);

fn docker_config() -> Value {
    json!({ "auths": {
        "https://registry.test:5000/v2/": { "username": "u", "password": "hunter2", "auth": "dTpodW50ZXIy", "email": "e" },
        "*.test/team": { "identitytoken": "hunter2" }, "docker.io": { "registrytoken": "hunter2" }, "h": null,
    } })
}

fn response() -> Value {
    json!({
        "apiVersion": V1, "kind": "CredentialProviderResponse", "cacheKeyType": "Registry", "cacheDuration": "6h0m0s",
        "auth": { "*.test": { "username": "u", "password": "hunter2" } },
    })
}

fn provider_config() -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [{
            "name": "plugin", "matchImages": ["*.test", "registry.test:5000/team"], "defaultCacheDuration": "12h",
            "apiVersion": V1, "args": ["get"], "env": [{ "name": "KEY", "value": "hunter2" }],
        }],
    })
}

fn secret(kind: &str, content: Vec<u8>) -> SecretData {
    let key = format!(".{kind}");
    SecretData {
        kind: format!("kubernetes.io/{kind}"),
        data: BTreeMap::from([(key, SecretSlice::from(content))]),
    }
}

/// Reads it in both forms, and finds logins in it; what is shown of any of that holds no secret.
fn read_secret(content: &[u8]) {
    let image = Reference::parse("registry.test:5000/team/app:v1").unwrap();
    for kind in ["dockerconfigjson", "dockercfg"] {
        let data = secret(kind, content.to_vec());
        let read = entries(&data);
        let logins = Logins::find(&image, [("s".to_owned(), Ok(data))]);
        let shown = format!("{:?} {:?}", read.as_ref().err(), logins.unusable);
        assert!(!shown.contains("hunter2") && shown.len() < 600, "{shown}");
        if let Err(error) = read {
            assert!(error.to_string().contains(&format!(".{kind}")), "{error}");
        }
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn any_content_of_a_secret_is_logins_or_an_error(bytes in any_bytes(), odd in damaged_json(docker_config())) {
        read_secret(&bytes);
        read_secret(odd.to_string().as_bytes());
    }

    #[test]
    fn a_damaged_secret_too(bytes in damaged_bytes(vec![docker_config().to_string()])) {
        read_secret(&bytes);
    }

    #[test]
    fn any_answer_of_a_plugin_is_one_or_an_error(
        bytes in any_bytes(), damaged in damaged_bytes(vec![response().to_string()]), odd in damaged_json(response()),
    ) {
        for answer in [bytes, damaged, odd.to_string().into_bytes()] {
            if let Err(error) = protocol::response(&answer, V1) {
                let error = error.to_string();
                prop_assert!(error.starts_with("its answer") || error.contains("of its answer"), "{error}");
                prop_assert!(!error.contains("hunter2"));
            }
        }
    }

    #[test]
    fn any_file_of_the_kubelet_is_read_or_refused(
        text in texts_like(&[&provider_config().to_string(), "providers: [&a {name: x}, *a]"]), odd in damaged_json(provider_config()),
    ) {
        for text in [text, odd.to_string()] {
            if let Err(error) = config::parse(&text) {
                prop_assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
            }
        }
    }

    #[test]
    fn any_key_is_a_place_or_none(key in texts_like(&["https://index.docker.io/v1/", "*.a.*.test:5000/team", "[fd00::1]:5000"]), host in any_text()) {
        let mut ring = Keyring::default();
        ring.add(&key, ());
        let image = Reference { host, repository: "team/app".to_owned(), tag: None, digest: None };
        let _ = ring.lookup(&image);
        if let Some(place) = Place::of_login(&key) {
            prop_assert!(place.order().len() <= key.len());
        }
    }

    #[test]
    fn whatever_a_runtime_lists_has_a_digest_or_is_left_to_its_store(
        id in any_text(), tags in prop::collection::vec(texts_like(&["host:5000/app:1"]), 0..4),
        digests in prop::collection::vec(texts_like(&["host:5000/app@sha256:aa"]), 0..4),
    ) {
        let names = tags.len() + digests.iter().filter(|name| name.contains('@')).count();
        let entries = inventory::entries(&[Image { id, tags, digests, size: u64::MAX }]);
        prop_assert!(entries.len() <= names);
    }

    #[test]
    fn any_flags_are_settings_or_an_error(
        flags in prop::collection::vec(any_bytes(), 0..4),
        (flag, value) in (prop::sample::select(vec![
            "--min-free-percent", "--shutdown-grace-seconds", "--listen", "--log-format", "--log-level", "--cri-socket", "--node-name",
        ]), texts_like(&["20", "0.0.0.0:8080", "json"])),
    ) {
        let flags = flags.into_iter().map(OsString::from_vec);
        let _ = Settings::try_parse_from([OsString::from("drop-agent")].into_iter().chain(flags));
        let named = ["drop-agent", "--node-name", "n", flag, &value];
        if let Err(error) = Settings::try_parse_from(named) {
            // clap names the flag, or shows what it can't make anything of.
            prop_assert!(error.to_string().starts_with("error: "), "{error}");
        }
    }
}

#[test]
fn the_kubelets_file_is_refused_by_its_field() {
    for (field, damaged) in each_replaced(&provider_config(), &json!({ "an": ["odd", "thing"] })) {
        let error = match config::parse(&damaged.to_string()) {
            Err(error) => error,
            Ok(_) => panic!("{field}: an object went for it"),
        };
        assert!(!error.is_empty() && !error.contains("hunter2"), "{field}: {error}");
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_is_refused() {
    let started = Instant::now();
    let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (n, name) in "bcdefghij".chars().enumerate() {
        let before = "abcdefghi".chars().nth(n).unwrap();
        bomb += &format!("{name}: &{name} [{}]\n", vec![format!("*{before}"); 9].join(", "));
    }
    for text in [bomb, "[".repeat(200_000), "a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(config::parse(&text).is_err());
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn a_secret_of_a_megabyte_is_read_in_no_time() {
    let started = Instant::now();
    let many: BTreeMap<String, Value> =
        (0..20_000).map(|n| (format!("h{n}.test/{}", "*".repeat(20)), json!({ "auth": "dTpw" }))).collect();
    read_secret(json!({ "auths": many }).to_string().as_bytes());
    read_secret("[".repeat(1 << 20).as_bytes());
    read_secret(format!("{{\"auths\":{{\"{}\":{{}}}}}}", "*a".repeat(500_000)).as_bytes());
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn durations_at_their_ends_are_refused_or_saturate() {
    for text in ["9223372036854775807s", "99999999999999999999h", "-1h", "NaN", "1e9s", "P9999999999999Y", ""]
    {
        let mut answer = response();
        answer["cacheDuration"] = json!(text);
        if let Ok(read) = protocol::response(answer.to_string().as_bytes(), V1) {
            let kept_until = drop_protocol::Monotonic::default().after(read.cache_for.unwrap());
            assert!(kept_until.since_start() > Duration::from_secs(1), "{text}");
        }
    }
}
