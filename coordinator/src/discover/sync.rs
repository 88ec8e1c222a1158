//! One sync: reads the Secrets that the sources name, asks all sources, and works out the new status.
//!
//! Secrets are read anew for each sync and forgotten with it; they are never listed or watched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use drop_crds::{DiscoveryPolicyStatus, SourceType};
use drop_discovery::ask::ask;
use drop_discovery::http::Limits;
use drop_discovery::{Answer, Credentials, Failure, Policy, Reason, Source, status};
use futures::StreamExt as _;
use futures::stream::iter;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;

use super::policies::Job;
use crate::api::{Answer as Attempt, REQUEST_TIMEOUT, attempt};

/// So many sources of one policy are asked at a time.
const CONCURRENT_SOURCES: usize = 4;

/// Where Secrets are read and how much sources may cost.
#[derive(Clone)]
pub struct Means {
    /// Secrets of Drop's namespace.
    pub secrets: Api<Secret>,
    /// Its name, for messages.
    pub namespace: String,
    /// What sources may cost.
    pub limits: Limits,
}

/// What a sync came to.
#[derive(Debug)]
pub struct Synced {
    /// The job.
    pub job: Job,
    /// The status that follows from it.
    pub status: DiscoveryPolicyStatus,
    /// How each source did.
    pub seen: Vec<Seen>,
}

/// How one source did.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its type.
    pub kind: SourceType,
    /// Its URL, as it may be shown.
    pub endpoint: String,
    /// Whether it answered all it was asked.
    pub healthy: bool,
    /// How many images it named.
    pub images: usize,
    /// How long it took.
    pub took: Duration,
}

/// Makes one sync. `now` is what ranges end at and what the status is dated.
pub async fn sync(means: Means, job: Job, now: Timestamp) -> Synced {
    let policy = match &job.policy {
        Ok(policy) => policy.clone(),
        Err(problem) => {
            let sources = job.row.spec.as_ref().map_or(0, |spec| spec.sources.len());
            let status = status::invalid(&job.row.status, job.row.generation, sources, problem.clone(), now);
            return Synced { job, status, seen: Vec::new() };
        }
    };
    let questions: Vec<_> = policy.sources.iter().map(|source| ask_one(&means, source, now)).collect();
    let (answers, seen): (Vec<Answer>, Vec<Seen>) =
        iter(questions).buffered(CONCURRENT_SOURCES).unzip().await;
    conclude(job, policy, answers, seen, now).await
}

/// Ranking what may be a hundred thousand tags takes a while: on a thread of its own, so that it holds up nobody.
async fn conclude(job: Job, policy: Policy, answers: Vec<Answer>, seen: Vec<Seen>, now: Timestamp) -> Synced {
    let (old, generation) = (job.row.status.clone(), job.row.generation);
    let work = move || status::conclude(&old, generation, &policy, &answers, now);
    // The work does not panic; if its thread is gone, so is this process.
    let status = tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| job.row.status.clone());
    Synced { job, status, seen }
}

async fn ask_one(means: &Means, source: &Source, now: Timestamp) -> (Answer, Seen) {
    let began = Instant::now();
    let answer = match credentials(means, source).await {
        Ok(credentials) => ask(source, &credentials, means.limits, now).await,
        Err(failure) => Answer::failed(failure),
    };
    let seen = Seen {
        kind: source.kind,
        endpoint: source.endpoint.clone(),
        healthy: answer.failure.is_none(),
        images: answer.images.len(),
        took: began.elapsed(),
    };
    (answer, seen)
}

async fn credentials(means: &Means, source: &Source) -> Result<Credentials, Failure> {
    let Some(name) = &source.secret else { return Ok(Credentials::default()) };
    let secret = match attempt(REQUEST_TIMEOUT, means.secrets.get(name)).await {
        Attempt::Applied(secret) => secret,
        Attempt::Refused { code: 404, .. } => {
            let message = format!("Secret {name} does not exist in namespace {}", means.namespace);
            return Err(Failure::new(Reason::SecretNotFound, message));
        }
        Attempt::Refused { message, .. } | Attempt::Unknown { message } => {
            return Err(Failure::new(Reason::SyncFailed, format!("Secret {name} cannot be read: {message}")));
        }
    };
    let data: BTreeMap<String, Vec<u8>> =
        secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    Credentials::read(name, data)
}
