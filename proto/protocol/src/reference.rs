//! Image references, normalised the way containerd does, for comparing.
//!
//! Users write `nginx`; containerd keeps `docker.io/library/nginx:latest`. What a user reads back is always what they
//! wrote; only comparisons use the normalised form.

use crate::failure::cut;

/// Host of references that name none.
const DEFAULT_HOST: &str = "docker.io";
/// Its older name, still accepted.
const LEGACY_HOST: &str = "index.docker.io";
/// Repository prefix of single-word names on the default host.
const OFFICIAL: &str = "library/";

/// Longest host with its port and longest repository path, in bytes: limits of registries and runtimes.
const MAX_PART: usize = 255;

/// Why a reference is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there, or nothing between two separators.
    #[error("image reference {0:?} has an empty part")]
    EmptyPart(String),
    /// What stands before the first slash is no host.
    #[error(
        "image reference {0:?}: a host is up to 255 letters, digits, '.' and '-', with a port behind ':'"
    )]
    Host(String),
    /// A repository part that registries refuse.
    #[error(
        "image reference {0:?}: repository names are up to 255 lowercase letters and digits, separated by '.', '_', '-' or '/'"
    )]
    Repository(String),
    /// A tag that registries refuse.
    #[error(
        "image reference {0:?}: a tag is up to 128 letters, digits, '_', '.' and '-', and starts with none of the last two"
    )]
    Tag(String),
    /// A digest that is none.
    #[error(
        "image reference {0:?}: a digest is sha256: and 64, or sha512: and 128, lowercase hexadecimal digits"
    )]
    Digest(String),
}

/// An image reference, taken apart and normalised.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Registry host with its port, such as `docker.io` or `registry.example:5000`.
    pub host: String,
    /// Repository path on that host, such as `library/nginx`.
    pub repository: String,
    /// Tag; `latest` if the reference names neither tag nor digest.
    pub tag: Option<String>,
    /// Manifest digest.
    pub digest: Option<String>,
}

impl Reference {
    /// Takes a reference apart.
    ///
    /// # Errors
    /// If a part is missing or holds characters that registries refuse.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let (name, tag, digest) = split(text);
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (DEFAULT_HOST, name),
        };
        let host = if host == LEGACY_HOST { DEFAULT_HOST } else { host };
        let quoted = || cut(text, MAX_PART).to_owned();
        if path.split('/').any(str::is_empty) {
            return Err(ReferenceError::EmptyPart(quoted()));
        }
        if !is_host(host) {
            return Err(ReferenceError::Host(quoted()));
        }
        let official = host == DEFAULT_HOST && !path.contains('/');
        let repository = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if repository.len() > MAX_PART || !path.split('/').all(is_path_component) {
            return Err(ReferenceError::Repository(quoted()));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(quoted()));
        }
        if digest.is_some_and(|digest| !is_pinning_digest(digest)) {
            return Err(ReferenceError::Digest(quoted()));
        }
        let tag = tag.or_else(|| digest.is_none().then_some("latest"));
        Ok(Self {
            host: host.to_owned(),
            repository,
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        // As containerd names it: beside a digest, a tag says nothing.
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// Name, tag and digest of a reference as it is written, sound or not.
#[must_use]
pub fn split(reference: &str) -> (&str, Option<&str>, Option<&str>) {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    // A colon belongs to a tag only behind the last slash; before it, it belongs to the port.
    match name.rfind(':') {
        Some(colon) if !name[colon..].contains('/') => (&name[..colon], Some(&name[colon + 1..]), digest),
        _ => (name, None, digest),
    }
}

/// The form in which containerd knows `reference`.
///
/// # Errors
/// If it is not an image reference.
pub fn normalise(reference: &str) -> Result<String, ReferenceError> {
    Reference::parse(reference).map(|parsed| parsed.to_string())
}

/// The registry host (with port) that `reference` is pulled from; the whole text if it can't be read.
#[must_use]
pub fn registry_host(reference: &str) -> String {
    Reference::parse(reference).map_or_else(|_| reference.to_owned(), |parsed| parsed.host)
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        // A colon inside of brackets belongs to an address.
        Some((_, behind)) if behind.ends_with(']') => (host, ""),
        Some((name, port)) => (name, port),
        None => (host, ""),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_named = match address {
        Some(address) => address.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.')),
        None => name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')),
    };
    host.len() <= MAX_PART && !name.is_empty() && is_named && port.chars().all(|c| c.is_ascii_digit())
}

fn is_path_component(part: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    alphanumeric(part.chars().next())
        && alphanumeric(part.chars().next_back())
        && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'))
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= 128
        && tag.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && tag.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn is_pinning_digest(digest: &str) -> bool {
    let is_hex = |hex: &str, length: usize| {
        hex.len() == length && hex.chars().all(|c| c.is_ascii_digit() || matches!(c, 'a'..='f'))
    };
    match digest.split_once(':') {
        Some(("sha256", hex)) => is_hex(hex, 64),
        Some(("sha512", hex)) => is_hex(hex, 128),
        _ => false,
    }
}

/// Whether `text` may be what a runtime or registry calls a digest, of whatever algorithm: the OCI's grammar, within 255 bytes.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() <= MAX_PART
        && text.split_once(':').is_some_and(|(algorithm, encoded)| {
            let mut parts = algorithm.split(['+', '.', '_', '-']);
            parts.all(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
            }) && !encoded.is_empty()
                && encoded.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '=' | '_' | '-'))
        })
}
