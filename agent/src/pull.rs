//! One pull, from its Secrets to its digest.

use std::sync::Arc;

use drop_agent_step::{PullError, Pulled};
use drop_cri::Credentials;
use drop_protocol::failure::{Classified, classify, cut};
use drop_protocol::reference::{Reference, registry_host};
use drop_protocol::{FailureReason, FailureScope, GrantedImage, Now, names};
use jiff::Timestamp;
use tracing::{info, warn};

use crate::credentials::{Login, Logins, explain};
use crate::observe::Observed;
use crate::parts::Parts;

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
    let host = registry_host(&image.reference);
    let logins = logins(parts, image).await?;
    if logins.usable.is_empty()
        && let Some(unusable) = explain::unusable(&logins, &host)
    {
        return Err(PullError::Failed(unusable));
    }
    let started = parts.clock.now();
    if let Some(issued_at) = issued_at {
        observed.grant_to_pull(seconds_since(issued_at, started));
    }
    let offered = offer(parts, &image.reference, &logins).await;
    let took = parts.clock.now().monotonic.since(started.monotonic);
    let result = match offered {
        Ok(()) => {
            let digest = parts.runtime.digest_of(&image.reference).await.ok().flatten();
            Ok(Pulled { digest })
        }
        Err(why) if explain::is_denial(why.reason) => {
            Err(PullError::Failed(explain::denied(why, &logins, &image.reference, &host)))
        }
        Err(why) => Err(PullError::Failed(why)),
    };
    observed.pull_took(&result, took);
    result
}

/// Pulls with one login after another until the registry is content; without any if there are none.
async fn offer(parts: &Parts, reference: &str, logins: &Logins) -> Result<(), Classified> {
    let credentials = |login: &Login| Some(login.credentials.clone());
    let pull = async |credentials: Option<Credentials>| match parts.runtime.pull(reference, credentials).await
    {
        Ok(()) => Ok(()),
        Err(error) => Err(classify(error.code(), &error.to_string(), reference)),
    };
    let mut offered = logins.usable.iter().map(credentials);
    let mut result = pull(offered.next().flatten()).await;
    for credentials in offered {
        let Err(before) = result else { break };
        // Some registries deny that there is what a login may not see.
        if !explain::is_denial(before.reason) && before.reason != FailureReason::NotFound {
            return Err(before);
        }
        result = match pull(credentials).await {
            // "Not found" was said to a login that the registry knows.
            Err(why) if explain::is_denial(why.reason) => Err(before),
            other => other,
        };
    }
    result
}

/// What the Secrets that the grant names, and the node's credential providers, hold for the image.
async fn logins(parts: &Parts, image: &GrantedImage) -> Result<Logins, PullError> {
    let reference = Reference::parse(&image.reference).map_err(|error| {
        PullError::Failed(Classified {
            scope: FailureScope::Image,
            reason: FailureReason::InvalidImage,
            message: cut(&error.to_string(), names::FAILURE_TEXT_MAX_BYTES - 1).to_owned(),
            retry_after_seconds: None,
        })
    })?;
    let mut secrets = Vec::with_capacity(image.secrets.len());
    for name in &image.secrets {
        let secret = parts.api.secret(name).await;
        if let Err(error) = &secret {
            warn!(image = image.reference, secret = name, "Secret {name} {error}");
        }
        secrets.push((name.clone(), secret));
    }
    let mut logins = Logins::find(&reference, secrets);
    let provided = parts.providers.logins(&reference, parts.clock.now().monotonic).await;
    for (name, error) in &provided.1 {
        warn!(image = image.reference, provider = name, "credential provider {name} {error}");
    }
    logins.add_provided(&reference, provided);
    Ok(logins)
}

/// Both are wall clocks, of two machines in the worst case: never less than nothing.
fn seconds_since(earlier: Timestamp, now: Now) -> f64 {
    now.wall.duration_since(earlier).as_secs_f64().max(0.0)
}
