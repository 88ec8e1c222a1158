//! What can go wrong with a source: a reason that tools can read, and words for people.

use std::error::Error;
use std::fmt;
use std::io;

/// Text of others is quoted up to this many characters.
const MAX_QUOTE: usize = 200;

/// Why a source did not answer. The names are those of the conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The host name does not resolve.
    DnsError,
    /// Nobody listens there.
    ConnectionRefused,
    /// No answer in time.
    Timeout,
    /// Credentials are missing or wrong (401).
    Unauthorized,
    /// The credentials do not allow it (403).
    Forbidden,
    /// There is no such thing (404).
    NotFound,
    /// Too many requests (429).
    TooManyRequests,
    /// The server's own trouble (5xx).
    ServerError,
    /// Certificates or protocol of an encrypted connection.
    TlsError,
    /// The server refuses the query.
    QueryRefused,
    /// An answer that means nothing here, or too much of it.
    InvalidResponse,
    /// The Secret does not exist.
    SecretNotFound,
    /// The Secret can't be used as it is.
    SecretInvalid,
    /// Anything else.
    SyncFailed,
}

impl Reason {
    /// The word in a condition.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DnsError => "DNSError",
            Self::ConnectionRefused => "ConnectionRefused",
            Self::Timeout => "Timeout",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::TooManyRequests => "TooManyRequests",
            Self::ServerError => "ServerError",
            Self::TlsError => "TLSError",
            Self::QueryRefused => "QueryRefused",
            Self::InvalidResponse => "InvalidResponse",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretInvalid => "SecretInvalid",
            Self::SyncFailed => "SyncFailed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For tools.
    pub reason: Reason,
    /// For people: what is wrong and what to do. Does not name the source; whoever shows it does.
    pub message: String,
}

impl Failure {
    /// A failure in these words.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// What an HTTP status other than success means. `what` is what was asked for.
    #[must_use]
    pub fn status(status: u16, what: &str) -> Self {
        let (reason, message) = match status {
            401 => (Reason::Unauthorized, "unauthorized: check the credentials in secretRef".to_owned()),
            403 => (Reason::Forbidden, format!("forbidden: the credentials do not allow to read {what}")),
            404 => (Reason::NotFound, format!("not found: {what}")),
            407 => (
                Reason::SyncFailed,
                "the proxy wants credentials: check HTTPS_PROXY and HTTP_PROXY".to_owned(),
            ),
            408 | 504 => (Reason::Timeout, format!("the server gave up waiting (HTTP {status})")),
            429 => (Reason::TooManyRequests, "too many requests: the server asks for patience".to_owned()),
            500.. => (Reason::ServerError, format!("the server has trouble of its own (HTTP {status})")),
            _ => (Reason::SyncFailed, format!("unexpected answer (HTTP {status}) for {what}")),
        };
        Self { reason, message }
    }

    /// What became of a request that got no answer from `host`.
    #[must_use]
    pub fn request(error: &reqwest::Error, host: &str) -> Self {
        if error.is_timeout() {
            return Self::new(Reason::Timeout, format!("{host} did not answer in time"));
        }
        let causes: Vec<&(dyn Error + 'static)> = causes(error).collect();
        for cause in &causes {
            if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
                return Self::tls(tls, host);
            }
            match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => {
                    return Self::new(Reason::ConnectionRefused, format!("{host} refuses connections"));
                }
                Some(io::ErrorKind::UnexpectedEof) if error.is_connect() => {
                    return Self::new(
                        Reason::TlsError,
                        format!(
                            "{host} closed the connection while encryption was set up: is it http:// there?"
                        ),
                    );
                }
                Some(io::ErrorKind::TimedOut) => {
                    return Self::new(Reason::Timeout, format!("{host} did not answer in time"));
                }
                _ => {}
            }
        }
        let text = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
        // The resolver's error has no type of its own.
        if causes.iter().any(|cause| cause.to_string().starts_with("dns error")) {
            return Self::new(Reason::DnsError, format!("the name {host} does not resolve"));
        }
        Self::new(Reason::SyncFailed, format!("no answer from {host}: {}", quote(&text)))
    }

    fn tls(error: &rustls::Error, host: &str) -> Self {
        use rustls::CertificateError as Bad;
        let message = match error {
            rustls::Error::InvalidCertificate(bad) => match bad {
                Bad::UnknownIssuer => format!(
                    "the certificate of {host} is signed by nobody trusted: put the authority into ca.crt of the Secret"
                ),
                Bad::Expired | Bad::ExpiredContext { .. } => format!("the certificate of {host} has expired"),
                Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                    format!("the certificate of {host} is not valid yet")
                }
                Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                    format!("the certificate of {host} is for other names")
                }
                other => format!("the certificate of {host} is not accepted: {}", quote(&other.to_string())),
            },
            rustls::Error::AlertReceived(
                rustls::AlertDescription::CertificateRequired
                | rustls::AlertDescription::BadCertificate
                | rustls::AlertDescription::UnknownCA
                | rustls::AlertDescription::CertificateUnknown
                | rustls::AlertDescription::AccessDenied,
            ) => format!(
                "{host} does not accept the client certificate: check tls.crt and tls.key of the Secret"
            ),
            rustls::Error::InvalidMessage(_) => format!("{host} does not speak TLS: is it http:// there?"),
            other => format!("no encrypted connection to {host}: {}", quote(&other.to_string())),
        };
        Self::new(Reason::TlsError, message)
    }
}

/// An error and what it was caused by. What an `io::Error` wraps is a cause too, though not by its own account.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
        Some(error)
    })
}

/// Somebody else's text, fit for a condition: one line, bounded.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut quoted: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_QUOTE)
        .collect::<String>()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    if text.chars().nth(MAX_QUOTE).is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_becomes_one_bounded_line() {
        assert_eq!(quote("a\n b\u{0}\u{1b}[31m"), "a b [31m");
        assert_eq!(quote(&"ä".repeat(1000)).chars().count(), MAX_QUOTE + 1);
    }
}
