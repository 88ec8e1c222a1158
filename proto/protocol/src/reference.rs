//! Image references, normalised the way containerd does, for comparing.
//!
//! Users write `nginx`; containerd keeps `docker.io/library/nginx:latest`. What a user reads back is always what they
//! wrote; only comparisons use the normalised form.

/// Host of references that name none.
const DEFAULT_HOST: &str = "docker.io";
/// Its older name, still accepted.
const LEGACY_HOST: &str = "index.docker.io";
/// Repository prefix of single-word names on the default host.
const OFFICIAL: &str = "library/";

/// Why a reference is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing there, or nothing between two separators.
    #[error("image reference {0:?} has an empty part")]
    EmptyPart(String),
    /// A repository part that registries refuse.
    #[error(
        "image reference {0:?}: repository names are lowercase letters and digits, separated by '.', '_', '-' or '/'"
    )]
    Repository(String),
    /// A tag that registries refuse.
    #[error(
        "image reference {0:?}: a tag is up to 128 letters, digits, '_', '.' and '-', and starts with none of the last two"
    )]
    Tag(String),
    /// A digest that is none.
    #[error("image reference {0:?}: a digest is sha256: and 64 lowercase hexadecimal digits")]
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
        if host.is_empty() || path.split('/').any(str::is_empty) {
            return Err(ReferenceError::EmptyPart(text.to_owned()));
        }
        if !path.split('/').all(is_path_component) {
            return Err(ReferenceError::Repository(text.to_owned()));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(text.to_owned()));
        }
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(ReferenceError::Digest(text.to_owned()));
        }
        let official = host == DEFAULT_HOST && !path.contains('/');
        let tag = tag.or_else(|| digest.is_none().then_some("latest"));
        Ok(Self {
            host: host.to_owned(),
            repository: if official { format!("{OFFICIAL}{path}") } else { path.to_owned() },
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

fn is_digest(digest: &str) -> bool {
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.chars().all(|c| c.is_ascii_digit() || matches!(c, 'a'..='f'))
    })
}
