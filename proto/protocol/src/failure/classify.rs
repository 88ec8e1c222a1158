//! Tells from what a container runtime says why a pull failed.
//!
//! CRI has no error codes of its own for pulls: containerd answers `Unknown` or `NotFound` with a text that wraps the
//! registry client's errors. The texts matched here are those that containerd 1.6 to 2.3 were seen to send; what
//! matches none is [`FailureReason::ErrImagePull`] on this node alone, which never holds up others.

use super::{FailureReason, FailureScope, cut};
use crate::names::FAILURE_TEXT_MAX_BYTES;
use crate::reference::registry_host;

/// What a failed pull turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classified {
    /// Whom it concerns.
    pub scope: FailureScope,
    /// What went wrong.
    pub reason: FailureReason,
    /// Short text for people; names the image or the host. Below 256 bytes.
    pub message: String,
    /// What the registry asked to wait, in seconds.
    pub retry_after_seconds: Option<u32>,
}

/// gRPC status codes that say something by themselves.
mod code {
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const UNAVAILABLE: i32 = 14;
}

/// First match wins: the more exact texts stand first, since one error wraps several.
const TEXTS: &[(&[&str], FailureReason)] = &[
    (&["no space left on device", "disk quota exceeded"], FailureReason::DiskError),
    (&["read-only file system", "input/output error"], FailureReason::DiskError),
    (&["no match for platform", "no matching manifest"], FailureReason::NoMatchingPlatform),
    (&["429 too many requests", "toomanyrequests", "status 429"], FailureReason::TooManyRequests),
    (
        &["no such host", "server misbehaving", "temporary failure in name resolution"],
        FailureReason::DNSError,
    ),
    (&["connection refused"], FailureReason::ConnectionRefused),
    (&["x509:", "tls:", "certificate", "server gave http response to https client"], FailureReason::TLSError),
    (
        &["500 internal server", "502 bad gateway", "503 service unavailable", "504 gateway"],
        FailureReason::ServerError,
    ),
    (&["unexpected status: 5", "status code 5", "unexpected status 5"], FailureReason::ServerError),
    (
        &["connection reset", "unexpected eof", "no route to host", "network is unreachable"],
        FailureReason::ServerError,
    ),
    (&["i/o timeout", "deadline exceeded", "timeout exceeded", "client.timeout"], FailureReason::Timeout),
    (&["401 unauthorized", "unauthorized", "authentication required"], FailureReason::Unauthorized),
    (&["no basic auth credentials", "authorization failed"], FailureReason::Unauthorized),
    (&["403 forbidden", "forbidden", "denied"], FailureReason::Forbidden),
    (&["not found", "manifest unknown", "name unknown", "does not exist"], FailureReason::NotFound),
    (
        &["invalid reference", "parse image name", "invalid checksum", "unsupported"],
        FailureReason::InvalidImage,
    ),
    (
        &["mismatched", "failed to unmarshal", "invalid manifest", "unexpected media type"],
        FailureReason::InvalidImage,
    ),
    (&["transport is closing", "transport error", "error reading from server"], FailureReason::RuntimeError),
];

/// Classifies the answer to a PullImage of `reference`: gRPC status `code` and its `text`.
#[must_use]
pub fn classify(code: i32, text: &str, reference: &str) -> Classified {
    let lower = text.to_lowercase();
    let by_text =
        TEXTS.iter().find(|(needles, _)| needles.iter().any(|n| lower.contains(n))).map(|(_, r)| *r);
    let reason = by_text.unwrap_or(match code {
        code::UNAVAILABLE => FailureReason::RuntimeError,
        code::DEADLINE_EXCEEDED => FailureReason::Timeout,
        code::RESOURCE_EXHAUSTED => FailureReason::DiskError,
        _ => FailureReason::ErrImagePull,
    });
    let host = registry_host(reference);
    let message = message(reason, text, reference, &host);
    Classified {
        scope: scope(reason),
        reason,
        message: cut(&message, FAILURE_TEXT_MAX_BYTES - 1).to_owned(),
        retry_after_seconds: retry_after(&lower),
    }
}

const fn scope(reason: FailureReason) -> FailureScope {
    match reason {
        FailureReason::NotFound
        | FailureReason::Unauthorized
        | FailureReason::Forbidden
        | FailureReason::SecretNotFound
        | FailureReason::InvalidSecret
        | FailureReason::InvalidImage => FailureScope::Image,
        FailureReason::NoMatchingPlatform => FailureScope::Platform,
        FailureReason::TooManyRequests
        | FailureReason::ServerError
        | FailureReason::DNSError
        | FailureReason::ConnectionRefused
        | FailureReason::Timeout
        | FailureReason::TLSError => FailureScope::Registry,
        FailureReason::DiskError
        | FailureReason::RuntimeError
        | FailureReason::SecretUnreadable
        | FailureReason::CredentialProviderFailed
        | FailureReason::Stuck
        | FailureReason::ErrImagePull => FailureScope::Node,
    }
}

fn message(reason: FailureReason, text: &str, reference: &str, host: &str) -> String {
    match reason {
        FailureReason::NotFound => format!("not found: {reference} does not exist; check image and tag"),
        FailureReason::Unauthorized => {
            format!("unauthorized: {host} wants credentials for {reference}; check imagePullSecrets")
        }
        FailureReason::Forbidden => {
            format!("forbidden: {host} refuses {reference}; check the rights of imagePullSecrets")
        }
        FailureReason::InvalidImage => format!("invalid image {reference}: {}", last_part(text)),
        FailureReason::NoMatchingPlatform => {
            format!(
                "{reference} has no image for this node's architecture; leave such nodes out by nodeSelector"
            )
        }
        FailureReason::TooManyRequests => {
            format!("{host} limits the rate of requests (429); it is asked again later")
        }
        FailureReason::ServerError => format!("registry {host} failed: {}", last_part(text)),
        FailureReason::DNSError => {
            format!("the name of registry {host} does not resolve; check it, and the node's DNS")
        }
        FailureReason::ConnectionRefused => {
            format!("registry {host} refuses the connection; check its name and port")
        }
        FailureReason::Timeout => {
            format!("registry {host} did not answer in time; check the node's way to it")
        }
        FailureReason::TLSError => format!("TLS with registry {host} failed: {}", last_part(text)),
        FailureReason::DiskError => format!("disk of the node: {}", last_part(text)),
        FailureReason::RuntimeError => format!("container runtime: {}", last_part(text)),
        FailureReason::Stuck => format!("the pull of {reference} made no progress and was ended"),
        FailureReason::SecretNotFound
        | FailureReason::InvalidSecret
        | FailureReason::SecretUnreadable
        | FailureReason::CredentialProviderFailed
        | FailureReason::ErrImagePull => format!("pull of {reference} failed: {}", last_part(text)),
    }
}

/// The innermost cause: wrapped Go errors put it behind the last `": "`.
fn last_part(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default().trim();
    let cause = line.rsplit(": ").next().unwrap_or(line);
    if cause.is_empty() { "no reason given" } else { cut(cause, 120) }
}

/// `Retry-After` as the registry client prints it, in seconds.
fn retry_after(lower: &str) -> Option<u32> {
    let (_, after) = lower.split_once("retry-after")?;
    let digits = after.trim_start_matches([':', '=', ' ', '"']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}
