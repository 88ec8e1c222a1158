//! The Prometheus HTTP API, as far as discovery needs it: a query becomes a URL, an answer becomes scores.
//!
//! An answer is read as a stream and added up on the way: a week of samples of a thousand images takes tens of
//! megabytes on the wire and a few kilobytes here.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use jiff::Timestamp;
use url::Url;

use crate::answer::{Answer, Scored, reference};
use crate::failure::{Failure, Reason, quote};

mod wire;

/// One answer may name this many images.
pub const MAX_IMAGES: usize = 20_000;

/// A query, as a source asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Base URL. Its path and its own parameters are kept.
    pub endpoint: Url,
    /// PromQL.
    pub query: String,
    /// With it, values are summed over this time until now.
    pub lookback: Option<Duration>,
    /// Distance of the values, in Prometheus' syntax.
    pub step: String,
}

impl Query {
    /// The URL to ask at this moment.
    #[must_use]
    pub fn url(&self, now: Timestamp) -> Url {
        let mut url = self.endpoint.clone();
        let path = url.path().trim_end_matches('/').to_owned();
        let range = if self.lookback.is_some() { "query_range" } else { "query" };
        url.set_path(&format!("{path}/api/v1/{range}"));
        {
            let mut parameters = url.query_pairs_mut();
            parameters.append_pair("query", &self.query);
            if let Some(lookback) = self.lookback {
                let end = now.as_second();
                let start = end.saturating_sub(i64::try_from(lookback.as_secs()).unwrap_or(i64::MAX));
                parameters
                    .append_pair("start", &start.to_string())
                    .append_pair("end", &end.to_string())
                    .append_pair("step", &self.step);
            }
        }
        url
    }
}

/// Reads an answer. `status` is that of HTTP.
///
/// # Errors
/// If it says that something went wrong, or can't be read as an answer.
pub fn read(status: u16, body: impl Read) -> Result<Answer, Failure> {
    let envelope = serde_json::from_reader::<_, wire::Envelope>(std::io::BufReader::new(body));
    let succeeded = (200..300).contains(&status);
    let envelope = match envelope {
        Ok(envelope) => envelope,
        // What stands in the way of Prometheus seldom answers in JSON.
        Err(_) if !succeeded => {
            return Err(Failure::status(status, "the query API; check the path of endpoint"));
        }
        Err(error) => return Err(unreadable(&error)),
    };
    if !succeeded || envelope.status.as_deref() != Some("success") {
        return Err(refusal(status, succeeded, &envelope));
    }
    let Some(data) = envelope.data else {
        return Err(Failure::new(
            Reason::InvalidResponse,
            "the answer holds no data: is this a Prometheus API?",
        ));
    };
    match data.result_type.as_deref() {
        Some("vector" | "matrix") => {}
        Some(other) => {
            return Err(Failure::new(
                Reason::InvalidResponse,
                format!(
                    "the query results in a {}, which carries no label image: write a query such as count(…) by (image)",
                    quote(other)
                ),
            ));
        }
        None => return Err(Failure::new(Reason::InvalidResponse, "the answer does not tell its resultType")),
    }
    let mut notes = data.result.notes();
    if envelope.is_partial {
        notes.push("the answer is partial".to_owned());
    }
    notes.extend(envelope.warnings.0.iter().map(|warning| format!("warning: {}", quote(warning))));
    Ok(Answer { images: data.result.scores(), notes, ..Answer::default() })
}

fn unreadable(error: &serde_json::Error) -> Failure {
    let message = match error.classify() {
        serde_json::error::Category::Io => format!("the answer broke off: {}", quote(&error.to_string())),
        _ if error.to_string().starts_with(wire::TOO_MANY) => format!(
            "the answer names more than {MAX_IMAGES} images: narrow the query, for example with topk()"
        ),
        _ => format!("the answer is not what a Prometheus API says: {}", quote(&error.to_string())),
    };
    Failure::new(Reason::InvalidResponse, message)
}

fn refusal(status: u16, succeeded: bool, envelope: &wire::Envelope) -> Failure {
    let said = quote(envelope.error.as_deref().unwrap_or("no reason given"));
    let (reason, message) = match (status, envelope.error_type.as_deref()) {
        (401 | 403 | 404 | 429, _) => {
            return Failure::status(status, "the query API; check the path of endpoint");
        }
        (_, Some("bad_data")) | (400 | 422, _) => {
            (Reason::QueryRefused, format!("the query is refused: {said}"))
        }
        (_, Some("timeout" | "canceled")) => (Reason::Timeout, format!("the query took too long: {said}")),
        (_, Some("not_found")) => (Reason::NotFound, said),
        _ if succeeded && envelope.status.is_none() => {
            (Reason::InvalidResponse, "the answer is JSON, but not of a Prometheus API".to_owned())
        }
        _ => (Reason::ServerError, format!("the query failed: {said}")),
    };
    Failure::new(reason, message)
}

/// Series of one answer, added up by image.
#[derive(Debug, Default)]
struct Tally {
    /// By normalised reference: as it is written, and the sum.
    images: BTreeMap<String, (String, f64)>,
    without_label: usize,
    without_number: usize,
    not_references: usize,
    example: Option<String>,
}

impl Tally {
    fn add(&mut self, series: wire::Series) -> Result<(), wire::TooMany> {
        let Some(label) = series.image.filter(|label| !label.is_empty()) else {
            self.without_label += 1;
            return Ok(());
        };
        let Some(sum) = series.sum else {
            self.without_number += 1;
            return Ok(());
        };
        let text = String::from_utf8_lossy(&label);
        let Some(reference) = reference(&text) else {
            self.not_references += 1;
            self.example.get_or_insert_with(|| quote(&text));
            return Ok(());
        };
        let known = self.images.len();
        match self.images.entry(reference.to_string()) {
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let (written, total) = entry.get_mut();
                *total += sum;
                if *text < **written {
                    *written = text.into_owned();
                }
            }
            std::collections::btree_map::Entry::Vacant(_) if known >= MAX_IMAGES => {
                return Err(wire::TooMany);
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert((text.into_owned(), sum));
            }
        }
        Ok(())
    }

    fn scores(self) -> Vec<Scored> {
        self.images.into_values().map(|(image, sum)| Scored { image, score: score(sum) }).collect()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |count: usize, what: &str| {
            if count > 0 {
                notes.push(format!("{count} series {what} skipped"));
            }
        };
        note(self.without_label, "without label image");
        note(self.without_number, "without a number");
        if let Some(example) = &self.example {
            note(self.not_references, &format!("whose image is no reference (such as {example:?})"));
        }
        notes
    }
}

/// A score from a value: truncated, and held at the ends of what a score can be. `+Inf - Inf` counts as nothing.
#[allow(clippy::cast_possible_truncation)] // saturates, and NaN is 0: just what is wanted
fn score(value: f64) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests;
