//! Questions to registries: which digest does a tag stand for? One HEAD on behalf of every node that holds the image.
//!
//! ```text
//!  plan ─► Checker ─► Secrets ─► HEAD …/manifests/<tag> ─► Noted::CheckSettled ─► Memory
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`ask`] | one question, with the logins that there are |
//! | [`logins`] | what pull Secrets say about a registry |
//!
//! Questions run beside the plan loop, and nothing waits for them. What an answer means is the planner's business.

pub mod ask;
pub mod logins;

use std::sync::Arc;
use std::time::Duration;

use drop_planner::{Check, CheckOutcome};
use drop_protocol::reference::{Reference, ReferenceError};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use crate::clock::Clock;
use crate::execute::{Note, Noted};
use crate::metrics::Metrics;
use ask::{Means, Told};
use logins::Logins;

/// A question takes no longer than this, reading Secrets and logging in included.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks registries for as long as one term lasts; dropped, it drops its questions.
pub struct Checker {
    secrets: Api<Secret>,
    means: Arc<Means>,
    clock: Clock,
    metrics: Arc<Metrics>,
    notes: mpsc::UnboundedSender<Note>,
    under_way: JoinSet<()>,
}

impl Checker {
    /// Reads pull Secrets by `secrets`, and notes what registries said in `notes`.
    #[must_use]
    pub fn new(
        secrets: Api<Secret>,
        means: Arc<Means>,
        clock: Clock,
        metrics: Arc<Metrics>,
        notes: mpsc::UnboundedSender<Note>,
    ) -> Self {
        Self { secrets, means, clock, metrics, notes, under_way: JoinSet::new() }
    }

    /// Asks; exactly one [`Noted::CheckSettled`] follows.
    pub fn ask(&mut self, check: Check) {
        while self.under_way.try_join_next().is_some() {}
        let (secrets, means) = (self.secrets.clone(), Arc::clone(&self.means));
        let (clock, metrics, notes) = (self.clock, Arc::clone(&self.metrics), self.notes.clone());
        self.under_way.spawn(async move {
            let asking = async {
                match Reference::parse(&check.reference) {
                    Ok(image) => {
                        match logins::of(&secrets, &check.secrets, &image).await {
                            Logins::Offer(logins) => ask::digest(&means, &image, logins).await,
                            Logins::Nothing(secret) => Told::without_login(&secret),
                        }
                    }
                    Err(error) => Told::unreadable(&error),
                }
            };
            let told = tokio::time::timeout(TIMEOUT, asking).await.unwrap_or_else(|_| Told::timed_out());
            metrics.check(told.word);
            let Told { outcome, word, why } = told;
            debug!(image = %check.image, reference = %check.reference, ?outcome, word, why, "asked the registry");
            let Check { uid, reference, .. } = check;
            // Nobody listens any more once the term has ended.
            let _ = notes.send(Note { at: clock.now(), what: Noted::CheckSettled { uid, reference, outcome } });
        });
    }
}

impl Told {
    fn unreadable(error: &ReferenceError) -> Self {
        Self { outcome: CheckOutcome::Unknown, word: "InvalidReference", why: error.to_string() }
    }

    fn without_login(secret: &str) -> Self {
        let why = format!("Secret {secret} cannot be used");
        Self { outcome: CheckOutcome::Unknown, word: "SecretUnusable", why }
    }

    fn timed_out() -> Self {
        let outcome = CheckOutcome::Unavailable { retry_after: None };
        Self { outcome, word: "Timeout", why: format!("no answer within {TIMEOUT:?}") }
    }
}
