//! The JSON that the annotations of a node Lease hold.
//!
//! Unknown fields are ignored and absent ones have defaults, so neighbouring releases understand each other. A format
//! that an older release must not act on gets a higher `version`, which that release refuses by name.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why an annotation can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the expected shape.
    #[error("not readable: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a release whose format this one does not know.
    #[error("format version {found} is newer than {known}; upgrade Drop on this side")]
    Version {
        /// The version found.
        found: u64,
        /// The highest version known here.
        known: u32,
    },
}

/// The part of every format that says how to read the rest.
#[derive(serde::Deserialize)]
struct Versioned {
    version: u64,
}

pub(crate) fn decode<T: DeserializeOwned>(text: &str, known: u32) -> Result<T, DecodeError> {
    let Versioned { version } = serde_json::from_str(text)?;
    if version > u64::from(known) {
        return Err(DecodeError::Version { found: version, known });
    }
    Ok(serde_json::from_str(text)?)
}

/// Encodes a value made of strings, numbers and maps with string keys: such a value always has a JSON form.
pub(crate) fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
