//! Why a pull failed, and whom that concerns.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::names::FAILURE_TEXT_MAX_BYTES;

/// Nobody waits longer than a day because a registry, or a node in its name, says so; in seconds.
pub const RETRY_AFTER_MOST: u32 = 24 * 60 * 60;

/// Whom a failure holds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureScope {
    /// The image everywhere: it does not exist, or may not be read.
    Image,
    /// The image on nodes of this architecture.
    Platform,
    /// Everything from this registry host.
    Registry,
    /// This node alone.
    Node,
}

/// What went wrong. The names are those of `status.conditions[].reason` and of metrics labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FailureReason {
    /// The registry has no such repository, tag or digest.
    NotFound,
    /// The registry wants (other) credentials.
    Unauthorized,
    /// The registry refuses these credentials.
    Forbidden,
    /// A Secret that imagePullSecrets names does not exist.
    SecretNotFound,
    /// A Secret that imagePullSecrets names holds no registry logins: wrong type, key or content.
    InvalidSecret,
    /// A Secret that imagePullSecrets names could not be read by the agent.
    SecretUnreadable,
    /// A credential provider plugin of the node failed, and without it the registry refuses.
    CredentialProviderFailed,
    /// The reference or the image is malformed.
    InvalidImage,
    /// The image has no manifest for this architecture.
    NoMatchingPlatform,
    /// The registry limits the rate of requests (429).
    TooManyRequests,
    /// The registry failed (5xx).
    ServerError,
    /// The registry's name does not resolve.
    DNSError,
    /// Nothing listens at the registry's address.
    ConnectionRefused,
    /// The registry did not answer in time.
    Timeout,
    /// TLS could not be agreed on with the registry.
    TLSError,
    /// The node's disk is full or broken.
    DiskError,
    /// containerd failed or went away.
    RuntimeError,
    /// The pull made no progress for too long and was ended.
    Stuck,
    /// Anything else.
    ErrImagePull,
}

/// The latest failed attempt of one pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "wire::Failure", into = "wire::Failure")]
pub struct Failure {
    /// Whom it concerns.
    pub scope: FailureScope,
    /// What went wrong.
    pub reason: FailureReason,
    /// Short and human, names the host or image; never a raw RPC dump. Below 256 bytes.
    pub message: String,
    /// Failed attempts in a row, this one included.
    pub attempts: u32,
    /// When, on the node's clock.
    pub at: Timestamp,
    /// What the registry's `Retry-After` asked for, in seconds; at most [`RETRY_AFTER_MOST`].
    pub retry_after_seconds: Option<u32>,
}

mod classify;
mod wire;

pub use classify::{Classified, classify};

impl FailureReason {
    /// The name under which users and metrics see it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::SecretNotFound => "SecretNotFound",
            Self::InvalidSecret => "InvalidSecret",
            Self::SecretUnreadable => "SecretUnreadable",
            Self::CredentialProviderFailed => "CredentialProviderFailed",
            Self::InvalidImage => "InvalidImage",
            Self::NoMatchingPlatform => "NoMatchingPlatform",
            Self::TooManyRequests => "TooManyRequests",
            Self::ServerError => "ServerError",
            Self::DNSError => "DNSError",
            Self::ConnectionRefused => "ConnectionRefused",
            Self::Timeout => "Timeout",
            Self::TLSError => "TLSError",
            Self::DiskError => "DiskError",
            Self::RuntimeError => "RuntimeError",
            Self::Stuck => "Stuck",
            Self::ErrImagePull => "ErrImagePull",
        }
    }
}

impl std::fmt::Display for FailureReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `text` as it may stand in a status, an event or a log: nothing in it ends a line, controls a terminal or turns the
/// direction of writing.
#[must_use]
pub fn one_line(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_odd(c) { ' ' } else { c }).collect()
}

/// The message of a failure as it is told: on one line, below [`FAILURE_TEXT_MAX_BYTES`].
#[must_use]
pub fn short(message: &str) -> String {
    // Blanks are no longer than what they stand for.
    one_line(cut(message, FAILURE_TEXT_MAX_BYTES - 1))
}

/// Cuts `text` to at most `limit` bytes, at a character's border.
#[must_use]
pub fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
