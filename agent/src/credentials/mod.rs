//! Which logins a registry is offered for one image. Nothing of them is ever logged, stored or put into an error.
//!
//! | module | subject |
//! |---|---|
//! | [`drop_credentials`] | the logins in Secrets, in the order in which the kubelet would offer them |
//! | [`provider`] | logins from the node's credential provider plugins |
//! | [`explain`] | what is said when no login helps |
//!
//! All of it is pure but [`provider`], which runs programs: who reads the Secrets is [`crate::pull`].

use drop_credentials::Found;
use drop_credentials::docker_config::{SecretData, Useless};
use drop_cri::Credentials;
use drop_cri::images::Secret;
use drop_protocol::reference::Reference;

use crate::parts::SecretError;

pub mod explain;
pub mod provider;

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
        let mut names = Vec::new();
        let named = secrets.into_iter().inspect(|(name, _)| names.push(name.clone()));
        let Found { usable, useless, unusable } = Found::new(image, named);
        let server_address = server_address(&image.host);
        let usable = usable.into_iter().map(|(secret, login)| Login {
            credentials: Credentials { server_address: server_address.clone(), secret: shown(login) },
            source: Source::Secret(secret),
        });
        Self { usable: usable.collect(), useless, unusable, failed: Vec::new(), secrets: names }
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

/// A login as the runtime takes it.
fn shown(login: drop_credentials::Login) -> Secret {
    match login {
        drop_credentials::Login::Password { username, password } => Secret::Password { username, password },
        drop_credentials::Login::IdentityToken(token) => Secret::IdentityToken(token),
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

    #[test]
    fn logins_are_shown_to_the_registry_of_the_image_alone() {
        let both = r#"{"auths": {"h.test:5000": {"username": "u", "identitytoken": "t", "password": "p"}}}"#;
        let found = logins("h.test:5000/app", [("absent", Err(SecretError::Missing)), ("a", secret(both))]);
        let shown: Vec<_> = found.usable.iter().map(|login| &login.credentials).collect();
        assert!(matches!(shown[0].secret, Secret::IdentityToken(_)));
        assert!(matches!(&shown[1].secret, Secret::Password { username, .. } if username == "u"));
        assert!(shown.iter().all(|shown| shown.server_address == "https://h.test:5000"));
        assert_eq!(found.usable[0].source, Source::Secret("a".to_owned()));
        assert_eq!(found.secrets, ["absent", "a"]);
        assert_eq!(found.unusable, [("absent".to_owned(), SecretError::Missing)]);
    }

    #[test]
    fn a_login_for_docker_hub_is_shown_to_its_registry() {
        let login = secret(r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#);
        let found = logins("nginx", [("a", login)]);
        assert_eq!(found.usable[0].credentials.server_address, "https://registry-1.docker.io");
    }
}
