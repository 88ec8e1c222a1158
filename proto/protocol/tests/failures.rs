//! Texts as containerd sends them, and what users are told.

use drop_protocol::failure::{FailureReason as R, FailureScope as S, classify};
use proptest::prelude::*;

const UNKNOWN: i32 = 2;
const NOT_FOUND: i32 = 5;
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
fn retry_after_is_read() {
    let found = classify(UNKNOWN, "429 Too Many Requests; Retry-After: 120", "nginx");
    assert_eq!(found.retry_after_seconds, Some(120));
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
