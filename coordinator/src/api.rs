//! How this program talks to the API server: its two clients, and what an answer to a write means.
//!
//! Writes are attempted once and have a deadline; whoever planned them decides again from what is then known. Watches
//! live for minutes, so their client must not have the read deadline of the writing one.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use kube::api::{PatchParams, PostParams};
use kube::{Client, Config};

use crate::FIELD_MANAGER;

/// Any single request of the executor is given up after this long; its outcome is then unknown.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the server says is kept up to this many bytes.
const MAX_MESSAGE: usize = 300;

/// The oldest Kubernetes that Drop runs on, as (major, minor): its admission policy is stable since then.
const OLDEST: (u32, u32) = (1, 30);

/// The two clients.
#[derive(Clone)]
pub struct Clients {
    /// For lists and watches.
    pub watching: Client,
    /// For everything else: no retries, read deadline.
    pub writing: Client,
    /// Address of the API server, for messages.
    pub server: String,
}

/// Why no client could be made, or why the server is not one to work with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor a service account.
    #[error(
        "no way to reach a Kubernetes API server: run in a Pod with a service account, or set KUBECONFIG ({0})"
    )]
    Config(#[from] kube::config::InferConfigError),
    /// The configuration can't be used.
    #[error("the Kubernetes client cannot be set up: {0}")]
    Client(kube::Error),
    /// The server did not say its version.
    #[error("the Kubernetes API server at {server} does not tell its version: {message}")]
    Version {
        /// Its address.
        server: String,
        /// Why.
        message: String,
    },
    /// The server is too old.
    #[error("Kubernetes {found} is too old: Drop needs {}.{} or newer", OLDEST.0, OLDEST.1)]
    TooOld {
        /// What it says it is.
        found: String,
    },
}

impl Clients {
    /// Makes both clients from the Pod's service account, or from `KUBECONFIG`.
    ///
    /// # Errors
    /// If there is neither, or it can't be used.
    pub async fn infer() -> Result<Self, Error> {
        Self::new(Config::infer().await?)
    }

    /// Makes both clients.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub fn new(config: Config) -> Result<Self, Error> {
        let mut watching = config;
        watching.read_timeout = None;
        let mut writing = watching.clone();
        writing.default_retry = false;
        writing.read_timeout = Some(REQUEST_TIMEOUT);
        writing.reset_reader_on_write = true;
        Ok(Self {
            server: watching.cluster_url.to_string(),
            watching: drop_api_client::connect(watching).map_err(Error::Client)?,
            writing: drop_api_client::connect(writing).map_err(Error::Client)?,
        })
    }

    /// Checks that the server is new enough; returns its version. A server that does not answer is asked again for a
    /// while: it may be starting too.
    ///
    /// # Errors
    /// If it can't be asked or is too old.
    pub async fn check_version(&self) -> Result<String, Error> {
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(Duration::from_secs(5))
            .with_max_times(10);
        let ask = || async {
            match attempt(REQUEST_TIMEOUT, self.writing.apiserver_version()).await {
                Answer::Applied(info) => Ok(info),
                Answer::Refused { message, .. } | Answer::Unknown { message } => {
                    Err(Error::Version { server: self.server.clone(), message })
                }
            }
        };
        let info = ask.retry(patience).notify(|error, _| tracing::warn!(%error, "asking again")).await?;
        if is_supported(&info.major, &info.minor) {
            Ok(info.git_version)
        } else {
            Err(Error::TooOld { found: info.git_version })
        }
    }
}

/// Providers append signs to the minor version (`30+`); a version that can't be read is given the benefit of the doubt.
fn is_supported(major: &str, minor: &str) -> bool {
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok();
    match (number(major), number(minor)) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        _ => true,
    }
}

/// Parameters of a patch: signed, nothing forced.
#[must_use]
pub fn patching() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// Parameters of a creation: signed.
#[must_use]
pub fn creating() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// What an attempt at a request came to.
#[derive(Debug)]
pub enum Answer<T> {
    /// It was applied; the server's answer.
    Applied(T),
    /// It was certainly not applied.
    Refused {
        /// HTTP status.
        code: u16,
        /// What the server says.
        message: String,
    },
    /// It may or may not have been applied, or may yet be.
    Unknown {
        /// What happened.
        message: String,
    },
}

/// Awaits `request` for at most `timeout` and tells what its outcome means.
pub async fn attempt<T>(
    timeout: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Answer<T> {
    match tokio::time::timeout(timeout, request).await {
        Ok(Ok(value)) => Answer::Applied(value),
        Ok(Err(kube::Error::Api(status))) => {
            // A refusal may list a whole schema's worth of complaints.
            let message = status.message[..status.message.floor_char_boundary(MAX_MESSAGE)].to_owned();
            // A server that is overloaded says 429 before it looks at the request. Any 5xx may come from a layer
            // above storage that gave up waiting for it.
            if (400..500).contains(&status.code) {
                Answer::Refused { code: status.code, message }
            } else {
                Answer::Unknown { message }
            }
        }
        Ok(Err(error)) => Answer::Unknown { message: chain(&error) },
        Err(_) => Answer::Unknown { message: format!("no answer within {} s", timeout.as_secs()) },
    }
}

/// An error with its causes on one line: the outermost of a client's errors seldom says what happened.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{Answer, REQUEST_TIMEOUT, attempt, is_supported};

    #[test]
    fn kubernetes_1_30_is_the_oldest() {
        assert!(is_supported("1", "30"));
        assert!(is_supported("1", "31+"));
        assert!(is_supported("2", "0"));
        assert!(!is_supported("1", "29"));
        assert!(!is_supported("1", "29+"));
    }

    async fn answer(code: u16) -> Answer<()> {
        let status = Status { code, ..Status::default() };
        attempt(REQUEST_TIMEOUT, async { Err(kube::Error::Api(Box::new(status))) }).await
    }

    #[tokio::test]
    async fn a_conflict_was_not_applied_and_a_server_error_may_have_been() {
        for code in [400, 403, 404, 409, 422, 429] {
            assert!(matches!(answer(code).await, Answer::Refused { .. }), "{code}");
        }
        for code in [500, 502, 503, 504] {
            assert!(matches!(answer(code).await, Answer::Unknown { .. }), "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_an_unknown_outcome() {
        let answer = attempt(REQUEST_TIMEOUT, std::future::pending::<Result<(), kube::Error>>()).await;
        assert!(matches!(answer, Answer::Unknown { .. }));
    }
}
