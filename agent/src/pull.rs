//! One pull, from its Secrets to its digest.

use std::sync::Arc;

use drop_agent_step::{PullError, Pulled};
use drop_cri::Credentials;
use drop_protocol::failure::{Classified, classify};
use drop_protocol::reference::registry_host;
use drop_protocol::{FailureReason, FailureScope, GrantedImage, Now};
use jiff::Timestamp;
use tracing::{info, warn};

use crate::credentials;
use crate::observe::Observed;
use crate::parts::{Parts, SecretError};

/// Pulls `image`, of which the node held the manifest digest `held` before. `issued_at` is given for the first pull of a
/// grant: when the coordinator wrote it.
///
/// # Errors
/// If a Secret can't be used or the runtime can't pull; classified by whom it concerns.
pub async fn pull(
    parts: Parts,
    observed: Arc<Observed>,
    image: GrantedImage,
    held: Option<String>,
    issued_at: Option<Timestamp>,
) -> Result<Pulled, PullError> {
    let result = attempt(&parts, &observed, &image, issued_at).await;
    match &result {
        Ok(pulled) => {
            let digest = pulled.digest.as_deref().unwrap_or("unknown");
            info!(image = image.reference, digest, "pulled");
            if pulled.digest != held
                && let Some(size) = parts.runtime.size_of(&image.reference).await
            {
                observed.pulled_bytes(size);
            }
        }
        Err(PullError::Failed(why)) => {
            warn!(image = image.reference, reason = %why.reason, "{}", why.message);
        }
        Err(PullError::Cancelled) => {}
    }
    observed.pull_ended(&result);
    result
}

async fn attempt(
    parts: &Parts,
    observed: &Observed,
    image: &GrantedImage,
    issued_at: Option<Timestamp>,
) -> Result<Pulled, PullError> {
    let logins = logins(parts, image).await.map_err(PullError::Failed)?;
    let mut offered: Vec<Option<Credentials>> = logins.into_iter().map(Some).collect();
    if offered.is_empty() {
        offered.push(None);
    }
    let started = parts.clock.now();
    if let Some(issued_at) = issued_at {
        observed.grant_to_pull(seconds_since(issued_at, started));
    }
    let mut failure = None;
    for credentials in offered {
        match parts.runtime.pull(&image.reference, credentials).await {
            Ok(()) => {
                let took = parts.clock.now().monotonic.since(started.monotonic);
                let digest = parts.runtime.digest_of(&image.reference).await.ok().flatten();
                let result = Ok(Pulled { digest });
                observed.pull_took(&result, took);
                return result;
            }
            Err(error) => {
                let why = classify(error.code(), &error.to_string(), &image.reference);
                let denied = matches!(why.reason, FailureReason::Unauthorized | FailureReason::Forbidden);
                failure = Some(why);
                if !denied {
                    break;
                }
            }
        }
    }
    let result = Err(failure.map_or(PullError::Cancelled, PullError::Failed));
    observed.pull_took(&result, parts.clock.now().monotonic.since(started.monotonic));
    result
}

/// The logins for the image's registry in the Secrets that the grant names, in their order.
async fn logins(parts: &Parts, image: &GrantedImage) -> Result<Vec<Credentials>, Classified> {
    let host = registry_host(&image.reference);
    let mut logins = Vec::new();
    for secret in &image.secrets {
        let config = parts.api.registry_logins(secret).await;
        let found = config.and_then(|config| credentials::for_host(&config, &host));
        logins.extend(found.map_err(|error| unusable(secret, &error))?);
    }
    Ok(logins)
}

fn unusable(secret: &str, error: &SecretError) -> Classified {
    let scope = match error {
        // The API server failed this node, not the image.
        SecretError::Unknown(_) => FailureScope::Node,
        SecretError::Denied | SecretError::Missing | SecretError::Malformed(_) => FailureScope::Image,
    };
    Classified {
        scope,
        reason: FailureReason::Unauthorized,
        message: format!("Secret {secret} {error}; check imagePullSecrets"),
        retry_after_seconds: None,
    }
}

/// Both are wall clocks, of two machines in the worst case: never less than nothing.
fn seconds_since(earlier: Timestamp, now: Now) -> f64 {
    now.wall.duration_since(earlier).as_secs_f64().max(0.0)
}
