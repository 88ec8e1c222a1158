//! Texts as containerd sends them, and what users are told.

use drop_protocol::failure::{FailureReason as R, FailureScope as S, classify};
use drop_protocol::names::FAILURE_TEXT_MAX_BYTES;
use proptest::prelude::*;

const CANCELLED: i32 = 1;
const UNKNOWN: i32 = 2;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const RESOURCE_EXHAUSTED: i32 = 8;
const UNAVAILABLE: i32 = 14;

#[test]
fn containerds_words_are_understood() {
    let image = "registry.example:5000/team/app:v1";
    for (code, text, reason, scope) in [
        (
            NOT_FOUND,
            r#"rpc error: code = NotFound desc = failed to pull and unpack image "registry.example:5000/team/app:v1": failed to resolve reference "registry.example:5000/team/app:v1": registry.example:5000/team/app:v1: not found"#,
            R::NotFound,
            S::Image,
        ),
        (
            UNKNOWN,
            r#"failed to pull and unpack image: failed to resolve reference: unexpected status from HEAD request to https://registry.example:5000/v2/team/app/manifests/v1: 401 Unauthorized"#,
            R::Unauthorized,
            S::Image,
        ),
        (
            UNKNOWN,
            r#"failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://auth.example/token: 403 Forbidden"#,
            R::Forbidden,
            S::Image,
        ),
        (
            UNKNOWN,
            r#"failed to pull and unpack image: no match for platform in manifest: not found"#,
            R::NoMatchingPlatform,
            S::Platform,
        ),
        (
            UNKNOWN,
            r#"failed to copy: httpReadSeeker: failed open: unexpected status code https://x/v2/: 429 Too Many Requests - Server message: toomanyrequests"#,
            R::TooManyRequests,
            S::Registry,
        ),
        (
            UNKNOWN,
            r#"failed to do request: Head "https://registry.example:5000/v2/": dial tcp: lookup registry.example on 10.0.0.10:53: no such host"#,
            R::DNSError,
            S::Registry,
        ),
        (
            UNKNOWN,
            r#"failed to do request: Head "https://registry.example:5000/v2/": dial tcp 10.0.0.1:5000: connect: connection refused"#,
            R::ConnectionRefused,
            S::Registry,
        ),
        (
            UNKNOWN,
            r#"failed to do request: Head "https://registry.example:5000/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority"#,
            R::TLSError,
            S::Registry,
        ),
        (
            UNKNOWN,
            r#"unexpected status from HEAD request to https://x/v2/app/manifests/v1: 503 Service Unavailable"#,
            R::ServerError,
            S::Registry,
        ),
        (
            UNKNOWN,
            r#"failed to copy: write /var/lib/containerd/io.containerd.content.v1.content/ingest/x/data: no space left on device"#,
            R::DiskError,
            S::Node,
        ),
        (UNAVAILABLE, r#"error reading from server: EOF"#, R::RuntimeError, S::Node),
        (
            UNAVAILABLE,
            r#"PullImage: transport error: Connection refused (os error 111)"#,
            R::RuntimeError,
            S::Node,
        ),
        (
            UNKNOWN,
            r#"failed to do request: Head "https://registry.example:5000/v2/": dial tcp: lookup registry.example on 10.0.0.10:53: dial udp 10.0.0.10:53: connect: network is unreachable"#,
            R::DNSError,
            S::Registry,
        ),
        (
            UNKNOWN,
            r#"failed to copy: failed commit on ref "layer-sha256:aa": unexpected commit digest sha256:bb, expected sha256:aa: failed precondition"#,
            R::InvalidImage,
            S::Image,
        ),
        (
            UNKNOWN,
            r#"failed to copy: httpReadSeeker: failed open: failed to do request: Get "https://registry.example:5000/v2/team/app/blobs/sha256:aa": EOF"#,
            R::ServerError,
            S::Registry,
        ),
        (CANCELLED, r#"failed to pull and unpack image: context canceled"#, R::Stuck, S::Node),
        (UNKNOWN, r#"something nobody has seen before"#, R::ErrImagePull, S::Node),
    ] {
        let found = classify(code, text, image);
        assert_eq!((found.reason, found.scope), (reason, scope), "{text}");
    }
}

#[test]
fn messages_name_host_or_image_and_the_cure() {
    let image = "registry.example:5000/team/app:v1";
    let unauthorized = classify(UNKNOWN, "401 Unauthorized", image).message;
    assert!(unauthorized.contains("registry.example:5000") && unauthorized.contains("imagePullSecrets"));
    assert!(classify(NOT_FOUND, "not found", image).message.contains(image));
}

#[test]
fn names_of_images_say_nothing_about_the_failure() {
    for name in ["certificate-exporter", "forbidden-planet", "unsupported", "timeout"] {
        let image = format!("registry.example:5000/team/{name}:1");
        let text = format!(r#"failed to resolve reference "{image}": {image}: not found"#);
        assert_eq!(classify(NOT_FOUND, &text, &image).reason, R::NotFound, "{text}");
    }
}

#[test]
fn who_was_asked_in_the_place_of_the_registry_is_named_beside_it() {
    let refused = |url: &str| {
        let text = format!(
            r#"failed to fetch anonymous token: Get "{url}": dial tcp 10.0.0.9:443: connect: connection refused"#
        );
        classify(UNKNOWN, &text, "registry.example/app:1").message
    };
    let message = refused("https://somebody:hunter2@auth.example:8443/token?scope=x");
    assert!(message.contains("auth.example:8443") && message.contains("registry.example"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    let message = refused("https://registry.example/v2/");
    assert!(message.starts_with("registry registry.example refuses the connection"), "{message}");
}

#[test]
fn what_is_wrong_with_an_image_is_told_and_not_of_which_kind_the_error_is() {
    let told = |text: &str| classify(UNKNOWN, text, "registry.example/app:1").message;
    let message = told("failed to unmarshal: unexpected media type text/html: failed precondition");
    assert!(message.ends_with(": unexpected media type text/html"), "{message}");
    let message =
        told("failed commit: unexpected commit digest sha256:b, expected sha256:a: failed precondition");
    assert!(message.ends_with("what registry.example sends of it is not what its digest says"), "{message}");
}

#[test]
fn retry_after_is_read() {
    for (text, seconds) in [
        ("429 Too Many Requests; Retry-After: 120", 120),
        ("toomanyrequests: retry-after: 645.882µs, allowed: 44000/minute", 0),
        ("toomanyrequests: retry-after: 1.2s, allowed: 44000/minute", 2),
        ("toomanyrequests: retry-after: 2m", 120),
        ("toomanyrequests: retry-after: 1.5h", 5400),
    ] {
        assert_eq!(classify(UNKNOWN, text, "nginx").retry_after_seconds, Some(seconds), "{text}");
    }
}

#[test]
fn where_the_text_says_nothing_the_status_code_speaks() {
    for (code, reason) in [
        (UNAVAILABLE, R::RuntimeError),
        (CANCELLED, R::Stuck),
        (DEADLINE_EXCEEDED, R::Timeout),
        (RESOURCE_EXHAUSTED, R::DiskError),
        (UNKNOWN, R::ErrImagePull),
    ] {
        assert_eq!(classify(code, "it went wrong", "nginx").reason, reason, "code {code}");
    }
}

#[test]
fn docker_hub_is_called_by_its_name_whichever_of_its_hosts_was_asked() {
    let text = |host: &str| format!(r#"failed: Head "https://{host}/v2/library/nginx": i/o timeout"#);
    let message = classify(UNKNOWN, &text("registry-1.docker.io"), "nginx").message;
    assert!(message.starts_with("registry docker.io did not answer"), "{message}");
    let message = classify(UNKNOWN, &text("auth.docker.io"), "nginx").message;
    assert!(message.starts_with("auth.docker.io (for registry docker.io) did not answer"), "{message}");
}

#[test]
fn a_long_name_leaves_a_message_just_short_enough_for_a_report() {
    let image = format!("registry.example/{}:1", "a".repeat(400));
    assert_eq!(classify(NOT_FOUND, "not found", &image).message.len(), FAILURE_TEXT_MAX_BYTES - 1);
}

#[test]
fn reasons_are_called_by_one_name_everywhere() {
    assert_eq!(R::TooManyRequests.to_string(), "TooManyRequests");
    assert_eq!(R::TooManyRequests.as_str(), "TooManyRequests");
}

proptest! {
    #[test]
    fn any_text_gives_a_short_message_of_one_line(text in "\\PC{0,2000}", image in "\\PC{0,400}") {
        let found = classify(UNKNOWN, &text, &image);
        prop_assert!(found.message.len() < 256);
        prop_assert!(!found.message.contains('\n'));
        prop_assert!(!found.message.contains("rpc error"));
    }
}
