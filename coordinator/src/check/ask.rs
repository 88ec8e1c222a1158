//! One question to a registry: a HEAD of the manifest.

use std::collections::BTreeSet;
use std::time::Duration;

use drop_discovery::http::Limits;
use drop_discovery::registry::{Client, api};
use drop_discovery::{Credentials, Failure, Reason};
use drop_planner::CheckOutcome;
use drop_protocol::reference::Reference;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use url::Url;

/// What a container runtime takes for a manifest: the digest in the answer is of one of these.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// Header with the digest of the manifest.
const DIGEST: &str = "docker-content-digest";

/// How registries are reached.
#[derive(Debug, Default)]
pub struct Means {
    /// Hosts, with their ports, that are spoken to without encryption.
    pub plain_http: BTreeSet<String>,
    /// Authorities, PEM, that are trusted beside the system's.
    pub authorities: Option<Vec<u8>>,
    /// What an answer may cost.
    pub limits: Limits,
}

impl Means {
    /// Whether questions can be asked so.
    ///
    /// # Errors
    /// If the authorities can't be used.
    pub fn verify(&self) -> Result<(), Failure> {
        let credentials = self.with_authorities(Credentials::default());
        let base = Url::parse("https://localhost")
            .map_err(|error| Failure::new(Reason::SyncFailed, error.to_string()))?;
        Client::new(&base, &credentials, self.limits).map(drop)
    }

    fn with_authorities(&self, mut credentials: Credentials) -> Credentials {
        credentials.extra_authorities.clone_from(&self.authorities);
        credentials
    }
}

/// What came of a question.
#[derive(Debug)]
pub struct Told {
    /// As the planner takes it.
    pub outcome: CheckOutcome,
    /// In one word: `Digest`, or why there is none.
    pub word: &'static str,
    /// In words for people who look closer.
    pub why: String,
}

/// Asks which digest `image` stands for, with each of `logins` until one is accepted; without any, as anybody.
pub async fn digest(means: &Means, image: &Reference, logins: Vec<Credentials>) -> Told {
    let (base, manifest) = match place(means, image) {
        Ok(place) => place,
        Err(why) => return unknown("InvalidReference", why),
    };
    let anybody = if logins.is_empty() { Some(Credentials::default()) } else { None };
    let mut told = None;
    for credentials in logins.into_iter().chain(anybody) {
        let credentials = means.with_authorities(credentials);
        let answer =
            one(means, &base, &manifest, &image.repository, &credentials).await.unwrap_or_else(refused);
        let is_refused = matches!(answer.outcome, CheckOutcome::Unknown);
        told = Some(answer);
        if !is_refused {
            break;
        }
    }
    told.unwrap_or_else(|| unknown("Unauthorized", String::new()))
}

/// Base URL of the registry, and URL of the manifest.
fn place(means: &Means, image: &Reference) -> Result<(Url, Url), String> {
    let scheme = if means.plain_http.contains(&image.host) { "http" } else { "https" };
    let base = Url::parse(&format!("{scheme}://{}", image.host))
        .map_err(|error| format!("{:?} is no host: {error}", image.host))?;
    let base = api(&base);
    let version = image.digest.as_ref().or(image.tag.as_ref()).map_or("", String::as_str);
    let mut manifest = base.clone();
    manifest.set_path(&format!("/v2/{}/manifests/{version}", image.repository));
    Ok((base, manifest))
}

async fn one(
    means: &Means,
    base: &Url,
    manifest: &Url,
    repository: &str,
    credentials: &Credentials,
) -> Result<Told, Failure> {
    let client = Client::new(base, credentials, means.limits)?;
    let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(MANIFESTS))]);
    let answer = client.send(&Method::HEAD, manifest.clone(), repository, &headers).await?;
    if answer.status.is_success() {
        let digest = answer.headers.get(DIGEST).and_then(|digest| digest.to_str().ok());
        return Ok(match digest.filter(|digest| is_digest(digest)) {
            Some(digest) => {
                Told { outcome: CheckOutcome::Digest(digest.to_owned()), word: "Digest", why: String::new() }
            }
            None => unknown("NoDigest", "the answer names no digest".to_owned()),
        });
    }
    let failure = Failure::status(answer.status.as_u16(), repository);
    if answer.status == StatusCode::TOO_MANY_REQUESTS || answer.status.is_server_error() {
        let retry_after = retry_after(&answer.headers, Timestamp::now());
        return Ok(unavailable(retry_after, failure));
    }
    Ok(refused(failure))
}

/// A failure that comes without an answer to the question itself.
fn refused(failure: Failure) -> Told {
    match failure.reason {
        Reason::Unauthorized | Reason::Forbidden | Reason::NotFound => {
            unknown(failure.reason.as_str(), failure.message)
        }
        _ => unavailable(None, failure),
    }
}

fn unknown(word: &'static str, why: String) -> Told {
    Told { outcome: CheckOutcome::Unknown, word, why }
}

fn unavailable(retry_after: Option<Duration>, failure: Failure) -> Told {
    Told {
        outcome: CheckOutcome::Unavailable { retry_after },
        word: failure.reason.as_str(),
        why: failure.message,
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
#[path = "ask_tests.rs"]
mod asking;

#[cfg(test)]
mod tests {
    use drop_protocol::reference::Reference;
    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::{Duration, Means, Timestamp, is_digest, place, retry_after};

    #[test]
    fn a_reference_becomes_the_url_of_its_manifest() {
        let means = Means { plain_http: ["10.0.0.1:5000".to_owned()].into(), ..Means::default() };
        for (reference, url) in [
            ("nginx", "https://registry-1.docker.io/v2/library/nginx/manifests/latest"),
            ("ghcr.io/team/app:v1", "https://ghcr.io/v2/team/app/manifests/v1"),
            ("10.0.0.1:5000/app:1", "http://10.0.0.1:5000/v2/app/manifests/1"),
            ("10.0.0.2:5000/app:1", "https://10.0.0.2:5000/v2/app/manifests/1"),
        ] {
            let (_, manifest) = place(&means, &Reference::parse(reference).unwrap()).unwrap();
            assert_eq!(manifest.as_str(), url);
        }
    }

    #[test]
    fn a_registry_may_say_when_in_seconds_or_by_a_date() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let wait = |text: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(text).unwrap())]), now)
        };
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Fri, 15 Jan 2027 08:01:00 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(wait("Fri, 15 Jan 2021 08:01:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn only_a_digest_is_one() {
        assert!(is_digest(&format!("sha256:{}", "0a".repeat(32))));
        for text in ["", "sha256:", "sha256:xyz", &"0".repeat(71)] {
            assert!(!is_digest(text));
        }
    }
}
