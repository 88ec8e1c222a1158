//! What an image's pull Secrets hold for its registry: the logins that agents would offer, in the same order. They are
//! read when they are needed; nothing of them is ever logged or kept.

use drop_credentials::docker_config::{Invalid, SecretData};
use drop_credentials::{Found, Login};
use drop_discovery::{Credentials, credentials};
use drop_protocol::reference::Reference;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use tracing::debug;

/// Why a Secret can't be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    /// The API server does not show it.
    #[error("cannot be read: {0}")]
    Unread(#[from] kube::Error),
    /// It holds no registry logins.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// What to ask a registry with.
#[derive(Debug)]
pub enum Logins {
    /// These, one after the other; as anybody if there are none.
    Offer(Vec<Credentials>),
    /// Agents pull nothing either: the Secret of this name can't be used, and no other has a login.
    Nothing(String),
}

/// The logins that the Secrets called `names` hold for `image`.
pub async fn of(secrets: &Api<Secret>, names: &[String], image: &Reference) -> Logins {
    let mut read = Vec::with_capacity(names.len());
    for name in names {
        let secret = secrets.get(name).await;
        read.push((name.clone(), secret.map(SecretData::from).map_err(Unusable::from)));
    }
    choose(image, read)
}

fn choose(image: &Reference, secrets: Vec<(String, Result<SecretData, Unusable>)>) -> Logins {
    let Found { usable, unusable, .. } = Found::new(image, secrets);
    for (secret, why) in &unusable {
        debug!(secret, "Secret {secret} {why}");
    }
    if usable.is_empty()
        && let Some((secret, _)) = unusable.into_iter().next()
    {
        return Logins::Nothing(secret);
    }
    Logins::Offer(usable.into_iter().filter_map(|(_, login)| password(login)).collect())
}

/// User and password. A token that stands for a login is left to agents: it is worth something to few registries only.
fn password(login: Login) -> Option<Credentials> {
    match login {
        Login::Password { username, password } => {
            Some(Credentials::of_login(credentials::Login { username, password }))
        }
        Login::IdentityToken(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;

    use super::{Invalid, Logins, Reference, Unusable, choose};

    fn secret(json: &str) -> Secret {
        let data = Some([(".dockerconfigjson".to_owned(), ByteString(json.as_bytes().to_vec()))].into());
        let type_ = Some("kubernetes.io/dockerconfigjson".to_owned());
        Secret { data, type_, ..Secret::default() }
    }

    /// Users of the logins that are offered, or the Secret that is in the way.
    fn users(image: &str, secrets: &[&str]) -> Result<Vec<String>, String> {
        let read = secrets.iter().enumerate().map(|(number, json)| {
            let unusable = || Err(Unusable::Invalid(Invalid::MissingKey("any")));
            (number.to_string(), if json.is_empty() { unusable() } else { Ok(secret(json).into()) })
        });
        match choose(&Reference::parse(image).unwrap(), read.collect()) {
            Logins::Offer(logins) => {
                Ok(logins.into_iter().filter_map(|login| Some(login.login?.username)).collect())
            }
            Logins::Nothing(secret) => Err(secret),
        }
    }

    #[test]
    fn the_logins_of_all_secrets_are_offered_in_the_order_of_agents() {
        let narrow =
            r#"{"auths": {"h.test:5000": {"auth": "dTpw"}, "h.test:5000/team": {"username": "team"}}}"#;
        let other = r#"{"auths": {"other.test": {"username": "other"}}}"#;
        assert_eq!(users("h.test:5000/team/app:1", &["", other, narrow]).unwrap(), ["team", "u"]);
        assert_eq!(users("h.test:5000/app:1", &[narrow]).unwrap(), ["u"]);
    }

    #[test]
    fn without_a_login_the_registry_is_asked_as_anybody_unless_a_secret_is_amiss() {
        let token = r#"{"auths": {"h.test": {"identitytoken": "t"}}}"#;
        for secrets in [&[][..], &["{}"], &[token]] {
            assert!(users("h.test/app:1", secrets).unwrap().is_empty());
        }
        assert_eq!(users("h.test/app:1", &["{}", ""]).unwrap_err(), "1");
    }
}
