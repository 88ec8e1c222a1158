//! Which logins a registry is offered for one image. Nothing of them is ever logged, stored or put into an error.
//!
//! | module | subject |
//! |---|---|
//! | [`place`] | which images a key such as `*.registry.test/team` is for |
//! | [`keyring`] | logins in the order in which the kubelet would offer them |
//! | [`docker_config`] | the logins in a Secret |
//! | [`provider`] | logins from the node's credential provider plugins |
//! | [`explain`] | what is said when no login helps |
//!
//! All of it is pure but [`provider`], which runs programs: who reads the Secrets is [`crate::pull`].

use drop_cri::Credentials;
use drop_cri::images::Secret;
use drop_protocol::reference::Reference;

use crate::parts::SecretError;

pub mod docker_config;
pub mod explain;
pub mod keyring;
pub mod place;
pub mod provider;

use docker_config::{Entry, SecretData, Useless};
use keyring::Keyring;
use provider::{Provided, ProviderError};

/// Host of docker.io's registry, as containerd connects to it.
const DOCKER_REGISTRY: &str = "registry-1.docker.io";

/// A login and where it stands.
#[derive(Debug, Clone)]
pub struct Login {
    /// What the registry is shown.
    pub credentials: Credentials,
    /// Where it stands.
    pub source: Source,
}

/// Where a login stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In the Secret of this name.
    Secret(String),
    /// In the answer of this plugin.
    Provider(String),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "Secret {name}"),
            Self::Provider(name) => write!(f, "credential provider {name}"),
        }
    }
}

/// What the Secrets of one grant, and the node's credential providers, hold for one image.
#[derive(Debug, Default)]
pub struct Logins {
    /// The logins for this image, in the order in which they are tried.
    pub usable: Vec<Login>,
    /// Secrets whose entry for this image is of no use.
    pub useless: Vec<(String, Useless)>,
    /// Secrets that can't be used at all.
    pub unusable: Vec<(String, SecretError)>,
    /// Credential providers that should have given a login and failed.
    pub failed: Vec<(String, ProviderError)>,
    /// All Secrets that the grant names.
    pub secrets: Vec<String>,
}

impl Logins {
    /// Finds what `secrets`, in their order, hold for `image`.
    pub fn find(
        image: &Reference,
        secrets: impl IntoIterator<Item = (String, Result<SecretData, SecretError>)>,
    ) -> Self {
        let mut logins = Self::default();
        let mut ring = Keyring::default();
        for (name, data) in secrets {
            logins.secrets.push(name.clone());
            match data.and_then(|data| docker_config::entries(&data).map_err(SecretError::from)) {
                Ok(entries) => {
                    for (key, entry) in entries {
                        ring.add(&key, (name.clone(), entry));
                    }
                }
                Err(error) => logins.unusable.push((name, error)),
            }
        }
        let server_address = server_address(&image.host);
        for (secret, entry) in ring.lookup(image) {
            match entry {
                Entry::Useless(why) => logins.useless.push((secret, why)),
                Entry::Logins(found) => logins.usable.extend(found.into_iter().map(|login| Login {
                    credentials: Credentials { server_address: server_address.clone(), secret: login },
                    source: Source::Secret(secret.clone()),
                })),
            }
        }
        logins
    }

    /// Adds, behind the Secrets', what credential providers gave for `image`.
    pub fn add_provided(
        &mut self,
        image: &Reference,
        (provided, failed): (Vec<Provided>, Vec<(String, ProviderError)>),
    ) {
        let server_address = server_address(&image.host);
        self.usable.extend(provided.into_iter().map(|Provided { provider, username, password }| Login {
            credentials: Credentials {
                server_address: server_address.clone(),
                secret: Secret::Password { username, password },
            },
            source: Source::Provider(provider),
        }));
        self.failed = failed;
    }
}

/// The runtime shows credentials only to the host in this URL.
fn server_address(host: &str) -> String {
    let host = if host == "docker.io" { DOCKER_REGISTRY } else { host };
    format!("https://{host}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use secrecy::SecretSlice;

    use super::*;

    pub(super) fn secret(json: &str) -> Result<SecretData, SecretError> {
        let content = SecretSlice::from(json.as_bytes().to_vec());
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), content)]);
        Ok(SecretData { kind: "kubernetes.io/dockerconfigjson".to_owned(), data })
    }

    pub(super) fn logins(
        image: &str,
        secrets: impl IntoIterator<Item = (&'static str, Result<SecretData, SecretError>)>,
    ) -> Logins {
        let secrets = secrets.into_iter().map(|(name, secret)| (name.to_owned(), secret));
        Logins::find(&Reference::parse(image).unwrap(), secrets)
    }

    /// Secret, server and user of each login.
    fn offered(logins: &Logins) -> Vec<(&str, &str, &str)> {
        logins
            .usable
            .iter()
            .map(|login| {
                let user = match &login.credentials.secret {
                    Secret::Password { username, .. } => username.as_str(),
                    Secret::IdentityToken(_) => "",
                };
                let Source::Secret(secret) = &login.source else { unreachable!() };
                (secret.as_str(), login.credentials.server_address.as_str(), user)
            })
            .collect()
    }

    #[test]
    fn several_secrets_are_tried_in_their_order_and_narrow_entries_first() {
        let found = logins(
            "h.test:5000/team/app:v1",
            [
                (
                    "a",
                    secret(
                        r#"{"auths": {"h.test:5000": {"username": "1"}, "other.test": {"username": "2"}}}"#,
                    ),
                ),
                ("b", secret(r#"{"auths": {"h.test:5000/team": {"username": "3"}}}"#)),
                ("c", secret(r#"{"auths": {"https://h.test:5000": {"username": "4"}}}"#)),
            ],
        );
        let address = "https://h.test:5000";
        assert_eq!(offered(&found), [("b", address, "3"), ("a", address, "1"), ("c", address, "4")]);
    }

    #[test]
    fn a_login_for_docker_hub_is_shown_to_its_registry() {
        let login = secret(r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#);
        assert_eq!(offered(&logins("nginx", [("a", login)])), [("a", "https://registry-1.docker.io", "u")]);
    }

    #[test]
    fn a_secret_that_cannot_be_used_keeps_no_other_from_it() {
        let found = logins(
            "h.test/app",
            [
                ("absent", Err(SecretError::Missing)),
                ("broken", secret("hunter2")),
                ("good", secret(r#"{"auths": {"h.test": {"username": "u"}}}"#)),
                ("helper", secret(r#"{"auths": {"h.test": {}}}"#)),
            ],
        );
        assert_eq!(offered(&found), [("good", "https://h.test", "u")]);
        assert_eq!(found.useless, [("helper".to_owned(), Useless::Empty)]);
        let unusable: Vec<&str> = found.unusable.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(unusable, ["absent", "broken"]);
    }
}
