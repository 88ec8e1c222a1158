//! The catalog: every reference that is wanted anywhere, for all agents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The end of [`Catalog::answer_within`], left for answers to arrive.
pub const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// Which references are wanted, and by which CachedImages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// Grows with every change of [`Self::wanted`].
    pub generation: u64,
    /// Agents that hold a newly listed reference answer within this time, each at a moment of its own, the last
    /// [`ANSWER_MARGIN`] before its end.
    pub answer_within: Duration,
    /// Reference as written by the user → uids of the CachedImages that want it.
    pub wanted: BTreeMap<String, BTreeSet<String>>,
}

/// No catalog gets so far: whoever sets a higher generation by hand leaves nothing to count up to.
pub const GENERATION_MOST: u64 = u64::MAX >> 1;
/// Agents are never given longer to answer: silence would mean nothing for as long.
pub const ANSWER_WITHIN_MOST: Duration = Duration::from_secs(60 * 60);

const GENERATION: &str = "generation";
const ANSWER_WITHIN: &str = "answerWithinMilliseconds";
const WANTED: &str = "wanted";

/// Why a catalog ConfigMap can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A key is absent or not a number.
    #[error("catalog: data.{0} is missing or not a number")]
    Number(&'static str),
    /// A number that no coordinator writes.
    #[error("catalog: data.{0} is above {1}")]
    TooHigh(&'static str, u64),
    /// A line is not `<reference> <uid>[,<uid>…]`.
    #[error("catalog: data.wanted line {0} is not `<reference> <uid>[,<uid>…]`")]
    Line(usize),
}

impl Catalog {
    /// Reads the `data` of the catalog ConfigMap.
    ///
    /// # Errors
    /// If a key is missing or out of range, or a line is malformed.
    pub fn decode(data: &BTreeMap<String, String>) -> Result<Self, DecodeError> {
        let number = |key: &'static str, most: u64| {
            let found = data.get(key).and_then(|v| v.trim().parse::<u64>().ok());
            let number = found.ok_or(DecodeError::Number(key))?;
            if number > most { Err(DecodeError::TooHigh(key, most)) } else { Ok(number) }
        };
        let mut wanted = BTreeMap::new();
        for (index, line) in data.get(WANTED).map_or("", String::as_str).lines().enumerate() {
            let (reference, uids) = line.split_once(' ').ok_or(DecodeError::Line(index + 1))?;
            wanted.insert(reference.to_owned(), uids.split(',').map(str::to_owned).collect());
        }
        Ok(Self {
            generation: number(GENERATION, GENERATION_MOST)?,
            answer_within: Duration::from_millis(number(ANSWER_WITHIN, milliseconds(ANSWER_WITHIN_MOST))?),
            wanted,
        })
    }

    /// Whether `key` is one of those that the `data` of a catalog has.
    #[must_use]
    pub fn has_key(key: &str) -> bool {
        [GENERATION, ANSWER_WITHIN, WANTED].contains(&key)
    }

    /// The `data` of the catalog ConfigMap: one line a reference.
    #[must_use]
    pub fn encode(&self) -> BTreeMap<String, String> {
        let mut lines = String::new();
        for (reference, uids) in &self.wanted {
            lines.push_str(reference);
            let mut separator = ' ';
            for uid in uids {
                lines.push(separator);
                lines.push_str(uid);
                separator = ',';
            }
            lines.push('\n');
        }
        BTreeMap::from([
            (GENERATION.to_owned(), self.generation.to_string()),
            (ANSWER_WITHIN.to_owned(), milliseconds(self.answer_within).to_string()),
            (WANTED.to_owned(), lines),
        ])
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
