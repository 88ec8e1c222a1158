//! Which logins a registry is offered for one image: what its pull Secrets hold, in the order in which the kubelet
//! would offer it. The agent pulls by these rules and the coordinator asks registries by them, so that both are known
//! to a registry as the same users. Nothing of a login is ever logged, stored or put into an error.
//!
//! | module | subject |
//! |---|---|
//! | [`place`] | which images a key such as `*.registry.test/team` is for |
//! | [`keyring`] | logins in the order in which the kubelet would offer them |
//! | [`docker_config`] | the logins in a Secret |
//!
//! All of it is pure: reading Secrets and talking to registries is the programs' business.

use drop_protocol::reference::Reference;
use secrecy::SecretString;

pub mod docker_config;
pub mod keyring;
pub mod place;

use docker_config::{Entry, Invalid, SecretData, Useless};
use keyring::Keyring;

/// One of the two ways in which registries know their users. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub enum Login {
    /// A user and their password.
    Password {
        /// Name of the user.
        username: String,
        /// Their password.
        password: SecretString,
    },
    /// A token that stands for a login.
    IdentityToken(SecretString),
}

/// What pull Secrets hold for one image. Each is told by its name.
#[derive(Debug)]
pub struct Found<E> {
    /// Secret and login, in the order in which they are tried.
    pub usable: Vec<(String, Login)>,
    /// Secrets whose entry for the image is of no use.
    pub useless: Vec<(String, Useless)>,
    /// Secrets that can't be used at all.
    pub unusable: Vec<(String, E)>,
}

impl<E: From<Invalid>> Found<E> {
    /// Finds what `secrets`, in the order of `imagePullSecrets`, hold for `image`.
    pub fn new(
        image: &Reference,
        secrets: impl IntoIterator<Item = (String, Result<SecretData, E>)>,
    ) -> Self {
        let mut found = Self { usable: Vec::new(), useless: Vec::new(), unusable: Vec::new() };
        let mut ring = Keyring::default();
        for (name, data) in secrets {
            match data.and_then(|data| docker_config::entries(&data).map_err(E::from)) {
                Ok(entries) => {
                    for (key, entry) in entries {
                        ring.add(&key, (name.clone(), entry));
                    }
                }
                Err(error) => found.unusable.push((name, error)),
            }
        }
        for (secret, entry) in ring.lookup(image) {
            match entry {
                Entry::Useless(why) => found.useless.push((secret, why)),
                Entry::Logins(logins) => {
                    found.usable.extend(logins.into_iter().map(|login| (secret.clone(), login)));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use drop_protocol::reference::Reference;
    use secrecy::SecretSlice;

    use super::{Found, Invalid, Login, SecretData, Useless};

    #[derive(Debug, PartialEq, Eq)]
    enum Unusable {
        Missing,
        Invalid,
    }

    impl From<Invalid> for Unusable {
        fn from(_: Invalid) -> Self {
            Self::Invalid
        }
    }

    fn secret(json: &str) -> Result<SecretData, Unusable> {
        let content = SecretSlice::from(json.as_bytes().to_vec());
        let data = BTreeMap::from([(".dockerconfigjson".to_owned(), content)]);
        Ok(SecretData { kind: "kubernetes.io/dockerconfigjson".to_owned(), data })
    }

    fn find(
        image: &str,
        secrets: impl IntoIterator<Item = (&'static str, Result<SecretData, Unusable>)>,
    ) -> Found<Unusable> {
        let secrets = secrets.into_iter().map(|(name, secret)| (name.to_owned(), secret));
        Found::new(&Reference::parse(image).unwrap(), secrets)
    }

    /// Secret and user of each login.
    fn offered(found: &Found<Unusable>) -> Vec<(&str, &str)> {
        fn user(login: &Login) -> &str {
            match login {
                Login::Password { username, .. } => username,
                Login::IdentityToken(_) => "",
            }
        }
        found.usable.iter().map(|(secret, login)| (secret.as_str(), user(login))).collect()
    }

    #[test]
    fn several_secrets_are_tried_in_their_order_and_narrow_entries_first() {
        let both = r#"{"auths": {"h.test:5000": {"username": "1"}, "other.test": {"username": "2"}}}"#;
        let found = find(
            "h.test:5000/team/app:v1",
            [
                ("a", secret(both)),
                ("b", secret(r#"{"auths": {"h.test:5000/team": {"username": "3"}}}"#)),
                ("c", secret(r#"{"auths": {"https://h.test:5000": {"username": "4"}}}"#)),
            ],
        );
        assert_eq!(offered(&found), [("b", "3"), ("a", "1"), ("c", "4")]);
    }

    #[test]
    fn a_secret_that_cannot_be_used_keeps_no_other_from_it() {
        let found = find(
            "h.test/app",
            [
                ("absent", Err(Unusable::Missing)),
                ("broken", secret("hunter2")),
                ("good", secret(r#"{"auths": {"h.test": {"username": "u"}}}"#)),
                ("helper", secret(r#"{"auths": {"h.test": {}}}"#)),
            ],
        );
        assert_eq!(offered(&found), [("good", "u")]);
        assert_eq!(found.useless, [("helper".to_owned(), Useless::Empty)]);
        let unusable = [("absent", Unusable::Missing), ("broken", Unusable::Invalid)];
        assert_eq!(found.unusable, unusable.map(|(name, why)| (name.to_owned(), why)));
    }
}
