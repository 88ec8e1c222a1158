//! Asks one source, within its limits, and puts what goes wrong into an answer: asking never fails.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::StreamExt as _;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::header::{HeaderMap, LINK};

use crate::answer::{Answer, Scored, reference};
use crate::credentials::Credentials;
use crate::failure::{Failure, Reason};
use crate::http::{Http, Limits, Reader};
use crate::policy::{Question, Source};
use crate::prometheus::{self, Query};
use crate::registry::{self, Client, Listing, MAX_TAGS, Tags, link};

/// A message names this many repositories.
const NAMED: usize = 3;

/// Asks `source` with `credentials`; `now` is the end of a range.
pub async fn ask(source: &Source, credentials: &Credentials, limits: Limits, now: Timestamp) -> Answer {
    let asking = async {
        match &source.question {
            Question::Prometheus(query) => ask_prometheus(query, credentials, limits, now).await,
            Question::Registry(listing) => ask_registry(listing, credentials, limits).await,
        }
    };
    let answer = match tokio::time::timeout(limits.source, asking).await {
        Ok(answer) => answer.unwrap_or_else(Answer::failed),
        Err(_) => Answer::failed(Failure::new(
            Reason::Timeout,
            format!("not everything was answered within {} s", limits.source.as_secs()),
        )),
    };
    redacted(answer, credentials)
}

/// Servers may repeat what they were sent.
fn redacted(answer: Answer, credentials: &Credentials) -> Answer {
    Answer {
        notes: answer.notes.iter().map(|note| credentials.redact(note)).collect(),
        failure: answer
            .failure
            .map(|failure| Failure { message: credentials.redact(&failure.message), ..failure }),
        ..answer
    }
}

async fn ask_prometheus(
    query: &Query,
    credentials: &Credentials,
    limits: Limits,
    now: Timestamp,
) -> Result<Answer, Failure> {
    let http = Http::new(&query.endpoint, credentials, limits)?;
    let response = http.get(query.url(now), credentials.authorization().as_ref()).await?;
    let status = response.status.as_u16();
    response.body.parse(limits.query_bytes, move |body| prometheus::read(status, body)).await?
}

async fn ask_registry(
    listing: &Listing,
    credentials: &Credentials,
    limits: Limits,
) -> Result<Answer, Failure> {
    let client = Client::new(&registry::api(&listing.base), credentials, limits)?;
    let kept = AtomicUsize::new(0);
    // A repository that is listed twice is asked once.
    let repositories: BTreeSet<&str> = listing.repositories.iter().map(String::as_str).collect();
    let questions: Vec<_> = repositories
        .into_iter()
        .map(async |repository| (repository.to_owned(), tags(&client, listing, repository, &kept).await))
        .collect();
    let listed = futures::stream::iter(questions).buffered(limits.concurrent).collect().await;
    let listing = listing.clone();
    apart(move || conclude(&listing, listed)).await?
}

/// All tags of a repository that the listing keeps; `kept` counts those of all repositories.
async fn tags(
    client: &Client<'_>,
    listing: &Listing,
    repository: &str,
    kept: &AtomicUsize,
) -> Result<Tags, Failure> {
    let mut tags = Tags::new(listing);
    let mut url = listing.first_page(repository);
    for _ in 0..client.limits().pages {
        let response = client.send(&Method::GET, url, repository, &HeaderMap::new()).await?;
        if !response.status.is_success() {
            return Err(Failure::status(response.status.as_u16(), repository));
        }
        let links = response.headers.get_all(LINK).iter().filter_map(|header| header.to_str().ok());
        let next = link::next(&response.url, links)?;
        let before = tags.len();
        let read = move |body: Reader| {
            tags.add(registry::page(body)?);
            Ok::<_, Failure>(tags)
        };
        tags = response.body.parse(client.limits().page_bytes, read).await??;
        let more = tags.len().saturating_sub(before);
        if kept.fetch_add(more, Ordering::Relaxed).saturating_add(more) > MAX_TAGS {
            return Err(Failure::new(
                Reason::InvalidResponse,
                format!("more than {MAX_TAGS} tags: narrow them with tagFilter or topX"),
            ));
        }
        match next {
            Some(next) => url = next,
            None => return Ok(tags),
        }
    }
    Err(Failure::new(Reason::InvalidResponse, format!("the tags of {repository} go on without end")))
}

/// Does work that takes a while on a thread of its own.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::new(Reason::SyncFailed, "reading the answer was broken off"))
}

/// One answer out of those for each repository. The last tag of every repository gets the best score, whatever the
/// number of its tags, so that a repository with many does not push out the others.
fn conclude(listing: &Listing, listed: Vec<(String, Result<Tags, Failure>)>) -> Result<Answer, Failure> {
    let host = listing.host();
    let total = listed.len();
    let longest = listed.iter().filter_map(|(_, tags)| tags.as_ref().ok()).map(Tags::len).max();
    let best = i64::try_from(listing.top.or(longest).unwrap_or_default()).unwrap_or(i64::MAX);
    let (mut images, mut failed, mut keep, mut skipped) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (repository, tags) in listed {
        let tags = match tags {
            Ok(tags) => tags,
            Err(failure) => {
                keep.push(listing.template.shape(&host, &repository));
                failed.push((repository, failure));
                continue;
            }
        };
        for (distance, tag) in tags.from_last() {
            let image = listing.template.render(&host, &repository, &tag);
            if reference(&image).is_none() {
                skipped += 1;
                continue;
            }
            images.push(Scored {
                image,
                score: best.saturating_sub(i64::try_from(distance).unwrap_or(i64::MAX)),
            });
        }
    }
    let Some((_, first)) = failed.first() else {
        let notes = if skipped > 0 {
            vec![format!("{skipped} tags that make no image reference by imageTemplate skipped")]
        } else {
            Vec::new()
        };
        return Ok(Answer { images, notes, ..Answer::default() });
    };
    let reason = first.reason;
    let same = failed.iter().all(|(_, failure)| failure == first);
    if failed.len() == total && (same || total == 1) {
        return Err(first.clone());
    }
    let said: Vec<String> = failed
        .iter()
        .take(NAMED)
        .map(|(repository, failure)| {
            if failure.message.contains(repository.as_str()) {
                failure.message.clone()
            } else {
                format!("{repository}: {}", failure.message)
            }
        })
        .collect();
    let more = if failed.len() > NAMED { ", …" } else { "" };
    let message = format!("{} of {total} repositories failed: {}{more}", failed.len(), said.join(", "));
    let failure = Failure::new(reason, message);
    if failed.len() == total {
        return Err(failure);
    }
    Ok(Answer { images, notes: Vec::new(), failure: Some(failure), keep })
}
