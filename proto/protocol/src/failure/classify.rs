//! Tells from what a container runtime says why a pull failed.
//!
//! CRI has no error codes of its own for pulls: containerd answers `Unknown` or `NotFound` with a text that wraps the
//! registry client's errors. The texts matched here are those that containerd 1.6 to 2.3 were seen to send; what
//! matches none is [`FailureReason::ErrImagePull`] on this node alone, which never holds up others.

use super::{FailureReason, FailureScope, RETRY_AFTER_MOST, cut, short};
use crate::reference::{Reference, registry_host};

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
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const UNAVAILABLE: i32 = 14;
}

/// First match wins: the more exact texts stand first, since one error wraps several.
const TEXTS: &[(&[&str], FailureReason)] = &[
    // This program's own words for a socket that nobody answers at: containerd, written in Go, ends no error like this.
    (&["(os error"], FailureReason::RuntimeError),
    (&["no space left on device", "disk quota exceeded"], FailureReason::DiskError),
    (&["read-only file system", "input/output error"], FailureReason::DiskError),
    (&["no match for platform", "no matching manifest"], FailureReason::NoMatchingPlatform),
    (&["429 too many requests", "toomanyrequests", "status 429"], FailureReason::TooManyRequests),
    (
        // A name server out of reach says "connection refused" or "i/o timeout", too, but only after a lookup.
        &["dial tcp: lookup ", "no such host", "server misbehaving", "temporary failure in name resolution"],
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
    (&["unexpected commit digest", "unexpected commit size"], FailureReason::InvalidImage),
    // Whoever cancels a pull by not waiting for it hears no answer: this was containerd, for which nothing came.
    (&["context canceled"], FailureReason::Stuck),
    (&["transport is closing", "transport error", "error reading from server"], FailureReason::RuntimeError),
    // Whoever was asked closed the connection in the middle of its answer.
    (&[": eof"], FailureReason::ServerError),
];

/// Classifies the answer to a PullImage of `reference`: gRPC status `code` and its `text`.
#[must_use]
pub fn classify(code: i32, text: &str, reference: &str) -> Classified {
    let lower = without_names(text, reference).to_lowercase();
    let by_text =
        TEXTS.iter().find(|(needles, _)| needles.iter().any(|n| lower.contains(n))).map(|(_, r)| *r);
    let reason = by_text.unwrap_or(match code {
        code::UNAVAILABLE => FailureReason::RuntimeError,
        code::CANCELLED => FailureReason::Stuck,
        code::DEADLINE_EXCEEDED => FailureReason::Timeout,
        code::RESOURCE_EXHAUSTED => FailureReason::DiskError,
        _ => FailureReason::ErrImagePull,
    });
    let host = registry_host(reference);
    let message = message(reason, text, reference, &host);
    Classified {
        scope: scope(reason),
        reason,
        message: short(&message),
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
        FailureReason::InvalidImage if text.contains("unexpected commit ") => {
            format!("invalid image {reference}: what {host} sends of it is not what its digest says")
        }
        FailureReason::InvalidImage => format!("invalid image {reference}: {}", last_part(text)),
        FailureReason::NoMatchingPlatform => {
            format!(
                "{reference} has no image for this node's architecture; leave such nodes out by nodeSelector"
            )
        }
        FailureReason::TooManyRequests => {
            format!("{} limits the rate of requests (429); it is asked again later", server(text, host))
        }
        FailureReason::ServerError => format!("{} failed: {}", server(text, host), last_part(text)),
        FailureReason::DNSError => {
            format!("the name of {} does not resolve; check it, and the node's DNS", server(text, host))
        }
        FailureReason::ConnectionRefused => {
            format!("{} refuses the connection; check its name and port", server(text, host))
        }
        FailureReason::Timeout => {
            format!("{} did not answer in time; check the node's way to it", server(text, host))
        }
        FailureReason::TLSError => format!("TLS with {} failed: {}", server(text, host), last_part(text)),
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

/// The text without what registries and users named: `team/certificate-exporter` tells nothing of certificates.
fn without_names(text: &str, reference: &str) -> String {
    let mut rest = text.replace(reference, "");
    if let Ok(parsed) = Reference::parse(reference) {
        rest = rest.replace(&parsed.to_string(), "").replace(&parsed.repository, "");
    }
    rest
}

/// The server that failed: the registry, or whoever else was asked in its place, such as its token server or a mirror.
fn server(text: &str, host: &str) -> String {
    match asked(text).filter(|asked| *asked != host && *asked != "registry-1.docker.io") {
        None => format!("registry {host}"),
        Some(other) => format!("{other} (for registry {host})"),
    }
}

/// The host in the URL of the request that failed, as Go's client and containerd print it.
fn asked(text: &str) -> Option<&str> {
    let before = ["Get \"http", "Head \"http", "Post \"http", "request to http"];
    let (_, url) =
        before.iter().filter_map(|before| text.rsplit_once(before)).min_by_key(|(_, url)| url.len())?;
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '"', ' ']).next()?;
    authority.rsplit('@').next().filter(|host| !host.is_empty())
}

/// What wrapped Go errors end with to say of which kind they are; the cause stands before.
const KINDS: &[&str] =
    &["failed precondition", "unknown", "unavailable", "invalid argument", "internal error"];

/// The innermost cause: wrapped Go errors put it behind the last `": "`.
fn last_part(text: &str) -> &str {
    let mut line = text.lines().next().unwrap_or_default().trim();
    while let Some((cause, kind)) = line.rsplit_once(": ")
        && KINDS.contains(&kind)
    {
        line = cause;
    }
    let cause = line.rsplit(": ").next().unwrap_or(line);
    if cause.is_empty() { "no reason given" } else { cut(cause, 120) }
}

/// What a registry asks to wait, in seconds: `Retry-After: 120`, or a duration in Go's words in the text of its error,
/// such as `retry-after: 645.8ms`.
fn retry_after(lower: &str) -> Option<u32> {
    let (_, after) = lower.split_once("retry-after")?;
    let text = after.trim_start_matches([':', '=', ' ', '"']);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
    let seconds: f64 = number.trim_end_matches('.').parse().ok()?;
    let seconds = match unit {
        "" | "s" | "sec" | "seconds" => seconds,
        "m" => seconds * 60.0,
        "h" => seconds * 3600.0,
        // Less than a second is no time to wait for.
        _ => 0.0,
    };
    // Saturates; what is fractional is waited out.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some((seconds.ceil() as u32).min(RETRY_AFTER_MOST))
}
