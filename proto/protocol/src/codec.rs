//! The JSON that the annotations of a node Lease hold.
//!
//! Unknown fields are ignored and absent ones have defaults, so neighbouring releases understand each other. A format
//! that an older release must not act on gets a higher `version`, which that release refuses by name.
//!
//! Whoever wrote an annotation may mean harm: what is read is bounded, and an error names the field in a few words.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::failure::cut;
use crate::names::ANNOTATION_LIMIT;

/// What an error quotes of the path to a field, and of what is wrong with it, in bytes.
const QUOTED: usize = 200;

/// Why an annotation can't be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or not of the expected shape.
    #[error("not readable: {field}: {problem}")]
    Malformed {
        /// Path of the field, such as `images.5f0c.failure.attempts`; `.` is the whole.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Longer than any annotation: it is not even looked at.
    #[error("{found} bytes long: an annotation has {ANNOTATION_LIMIT} at most")]
    TooLong {
        /// How long, in bytes.
        found: usize,
    },
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
    if text.len() > ANNOTATION_LIMIT {
        return Err(DecodeError::TooLong { found: text.len() });
    }
    let Versioned { version } = parse(text)?;
    if version > u64::from(known) {
        return Err(DecodeError::Version { found: version, known });
    }
    parse(text)
}

/// Keeping track of the path costs time, so it is asked for only once something is wrong.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|error| {
        let mut again = serde_json::Deserializer::from_str(text);
        let (field, error) = match serde_path_to_error::deserialize::<_, T>(&mut again) {
            Err(located) => (located.path().to_string(), located.into_inner()),
            // What stands behind the value.
            Ok(_) => (".".to_owned(), error),
        };
        DecodeError::Malformed { field: quoted(&field), problem: quoted(&error.to_string()) }
    })
}

fn quoted(text: &str) -> String {
    crate::failure::one_line(cut(text, QUOTED))
}

/// Encodes a value made of strings, numbers and maps with string keys: such a value always has a JSON form.
pub(crate) fn encode<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
