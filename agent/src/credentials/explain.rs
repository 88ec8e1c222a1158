//! What is said when no login helps: the Secret, the registry and the cure, by name.

use drop_protocol::failure::{Classified, cut};
use drop_protocol::{FailureReason, FailureScope, names};

use super::Logins;
use crate::parts::SecretError;

/// Whether the registry refused for want of a better login.
#[must_use]
pub const fn is_denial(reason: FailureReason) -> bool {
    matches!(reason, FailureReason::Unauthorized | FailureReason::Forbidden)
}

/// The failure of a pull from `host` for which a Secret can't be used and no other has a login.
#[must_use]
pub fn unusable(logins: &Logins, host: &str) -> Option<Classified> {
    let (secret, error) = logins.unusable.first()?;
    let (scope, reason) = match error {
        SecretError::Missing => (FailureScope::Image, FailureReason::SecretNotFound),
        SecretError::Invalid(_) => (FailureScope::Image, FailureReason::InvalidSecret),
        SecretError::Denied => (FailureScope::Image, FailureReason::SecretUnreadable),
        // The API server failed this node, not the image.
        SecretError::Unknown(_) => (FailureScope::Node, FailureReason::SecretUnreadable),
    };
    let message = short(&format!("Secret {secret} for {host} {error}; check imagePullSecrets"));
    Some(Classified { scope, reason, message, retry_after_seconds: None })
}

/// The failure of a pull from `host` that was refused while a credential provider failed.
fn provider_failed(logins: &Logins, host: &str) -> Option<Classified> {
    let (name, error) = logins.failed.first()?;
    Some(Classified {
        // Its program and what it asks belong to the node.
        scope: FailureScope::Node,
        reason: FailureReason::CredentialProviderFailed,
        message: short(&format!("credential provider {name} for {host} {error}")),
        retry_after_seconds: None,
    })
}

/// Adds to the refusal of `reference` by `host` which Secrets were of what use.
#[must_use]
pub fn denied(refusal: Classified, logins: &Logins, reference: &str, host: &str) -> Classified {
    if let Some(why) = unusable(logins, host).or_else(|| provider_failed(logins, host)) {
        return why;
    }
    let mut tried: Vec<String> = logins.usable.iter().map(|login| login.source.to_string()).collect();
    tried.dedup();
    let (tried, all) = (tried.join(", "), logins.secrets.join(", "));
    let word = if refusal.reason == FailureReason::Forbidden { "forbidden" } else { "unauthorized" };
    let message = match logins.useless.first() {
        _ if tried.is_empty() && logins.secrets.is_empty() => return refusal,
        _ if !tried.is_empty() => format!("{word}: {host} refuses the login in {tried} for {reference}"),
        Some((secret, why)) => {
            format!(
                "{word}: {host} wants credentials for {reference}; Secret {secret} has an entry for it {why}"
            )
        }
        None => {
            format!("{word}: {host} wants credentials for {reference}; no entry for it in Secret {all}")
        }
    };
    Classified { message: short(&message), ..refusal }
}

fn short(message: &str) -> String {
    cut(message, names::FAILURE_TEXT_MAX_BYTES - 1).to_owned()
}

#[cfg(test)]
mod tests {
    use drop_protocol::failure::classify;

    use super::super::provider::ProviderError;
    use super::super::provider::exec::ExecError;
    use super::super::tests::{logins, secret};
    use super::*;

    const IMAGE: &str = "h.test/team/app:v1";
    const LOGIN: &str = r#"{"auths": {"h.test": {"username": "u", "password": "hunter2"}}}"#;

    fn told(logins: &Logins, status: &str) -> (FailureReason, String) {
        let told = denied(classify(2, status, IMAGE), logins, IMAGE, "h.test");
        (told.reason, told.message)
    }

    #[test]
    fn a_refusal_names_the_secret_the_registry_and_what_is_wrong() {
        let refused = "401 Unauthorized";
        let helper = r#"{"auths": {"h.test": {}}}"#;
        for (secrets, status, reason, expected) in [
            (vec![], refused, FailureReason::Unauthorized, "check imagePullSecrets"),
            (
                vec![("a", secret(LOGIN))],
                refused,
                FailureReason::Unauthorized,
                "h.test refuses the login in Secret a for",
            ),
            (
                vec![("a", secret(LOGIN))],
                "403 Forbidden",
                FailureReason::Forbidden,
                "forbidden: h.test refuses the login in Secret a for",
            ),
            (
                vec![("a", secret("{}")), ("b", secret("{}"))],
                refused,
                FailureReason::Unauthorized,
                "no entry for it in Secret a, b",
            ),
            (
                vec![("a", secret(helper))],
                refused,
                FailureReason::Unauthorized,
                "Secret a has an entry for it without a login",
            ),
            (
                vec![("a", Err(SecretError::Missing)), ("b", secret(LOGIN))],
                refused,
                FailureReason::SecretNotFound,
                "Secret a for h.test does not exist",
            ),
            (
                vec![("a", secret("hunter2"))],
                refused,
                FailureReason::InvalidSecret,
                "Secret a for h.test holds no docker configuration",
            ),
            (
                vec![("a", Err(SecretError::Denied))],
                refused,
                FailureReason::SecretUnreadable,
                "Secret a for h.test may not be read",
            ),
        ] {
            let (told, message) = told(&logins(IMAGE, secrets), status);
            assert_eq!(told, reason, "{message}");
            assert!(message.contains(expected) && message.contains("h.test"), "{message}");
            assert!(!message.contains("hunter2") && message.len() < 256, "{message}");
        }
    }

    #[test]
    fn an_api_server_that_does_not_answer_is_no_fault_of_the_image() {
        let logins = logins(IMAGE, [("a", Err(SecretError::Unknown("no answer".to_owned())))]);
        assert_eq!(unusable(&logins, "h.test").unwrap().scope, FailureScope::Node);
    }

    #[test]
    fn a_credential_provider_that_failed_is_named_if_nothing_else_opens_the_registry() {
        let failed = vec![("ecr".to_owned(), ProviderError::from(ExecError::Timeout))];
        let (reason, message) = told(&Logins { failed, ..Logins::default() }, "401 Unauthorized");
        assert_eq!(reason, FailureReason::CredentialProviderFailed);
        assert_eq!(message, "credential provider ecr for h.test did not answer within 60 s");
    }

    #[test]
    fn long_names_are_cut() {
        let long = "a".repeat(253);
        let logins = Logins { secrets: vec![long.clone(), long], ..Logins::default() };
        assert!(told(&logins, "401 Unauthorized").1.len() < 256);
    }
}
