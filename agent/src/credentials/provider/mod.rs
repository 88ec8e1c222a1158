//! The node's own credential provider plugins, as the kubelet uses them: registries of cloud providers whose passwords
//! are made on the spot and stand in no Secret.
//!
//! | module | subject |
//! |---|---|
//! | [`config`] | the kubelet's file: which plugin for which images |
//! | [`protocol`] | what a plugin is asked and answers |
//! | [`cache`] | answers that are still good |
//! | [`exec`] | running a plugin |

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use drop_credentials::keyring::Keyring;
use drop_protocol::Monotonic;
use drop_protocol::reference::Reference;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

pub mod cache;
pub mod config;
pub mod exec;
pub mod protocol;

use cache::Cache;
use config::{ConfigError, Provider};
use exec::ExecError;
use protocol::{ProtocolError, Response};

/// Why a plugin gave no logins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It could not be run to its end.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// It answered something else.
    #[error("is of no use: {0}")]
    Protocol(#[from] ProtocolError),
}

/// A user and a password from a plugin.
#[derive(Debug, Clone)]
pub struct Provided {
    /// Name of the plugin.
    pub provider: String,
    /// Name of the user.
    pub username: String,
    /// Their password.
    pub password: SecretString,
}

/// All plugins of a node; by default none.
#[derive(Debug, Default)]
pub struct Providers {
    bin_dir: PathBuf,
    /// While one is locked its program runs: whoever else needs it waits for the answer and does not ask again.
    providers: Vec<(Provider, Mutex<Cache>)>,
    timeout: Duration,
}

impl Providers {
    /// Reads the kubelet's configuration at `config` of the programs in `bin_dir`.
    ///
    /// # Errors
    /// If something in it can't be used.
    pub fn load(config: &Path, bin_dir: &Path) -> Result<Self, ConfigError> {
        let providers = config::read(config, bin_dir)?.into_iter();
        Ok(Self {
            bin_dir: bin_dir.to_owned(),
            providers: providers.map(|provider| (provider, Mutex::default())).collect(),
            timeout: exec::TIMEOUT,
        })
    }

    /// Names of the plugins.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().map(|(provider, _)| provider.name.as_str())
    }

    /// Logins for `image` in the kubelet's order, and the plugins that should have given some and failed.
    pub async fn logins(
        &self,
        image: &Reference,
        now: Monotonic,
    ) -> (Vec<Provided>, Vec<(String, ProviderError)>) {
        let (mut ring, mut failed) = (Keyring::default(), Vec::new());
        for (provider, cache) in &self.providers {
            if !provider.images.iter().any(|place| place.holds(image)) {
                continue;
            }
            match self.answer(provider, &mut *cache.lock().await, image, now).await {
                Ok(response) => {
                    for (key, (username, password)) in &response.logins {
                        let (provider, username) = (provider.name.clone(), username.clone());
                        ring.add(key, Provided { provider, username, password: password.clone() });
                    }
                }
                Err(error) => failed.push((provider.name.clone(), error)),
            }
        }
        (ring.lookup(image), failed)
    }

    async fn answer(
        &self,
        provider: &Provider,
        cache: &mut Cache,
        image: &Reference,
        now: Monotonic,
    ) -> Result<Arc<Response>, ProviderError> {
        if let Some(response) = cache.get(image, now) {
            return Ok(response);
        }
        let request =
            protocol::request(&format!("{}/{}", image.host, image.repository), &provider.api_version);
        let answer = exec::ask(&self.bin_dir, provider, &request, self.timeout).await?;
        let response = Arc::new(protocol::response(answer.expose_secret(), &provider.api_version)?);
        cache.put(image, &response, provider.default_cache_duration, now);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const ANSWER: &str = r#"{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
        "cacheKeyType": "Image", "auth": {"*.test": {"username": "wide", "password": "p"}, "h.test/team": {"username": "narrow", "password": "p"}}}"#;

    /// Plugins `first` and `second` for everything of `*.test`, each of which notes its runs.
    fn providers(place: &Path) -> Providers {
        let mut config =
            "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n".to_owned();
        for name in ["first", "second"] {
            let program = place.join(name);
            let script = format!("#!/bin/sh\necho >> {}/runs-of-{name}\necho '{ANSWER}'\n", place.display());
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            config += &format!(
                "  - {{name: {name}, matchImages: ['*.test'], defaultCacheDuration: 1h, apiVersion: credentialprovider.kubelet.k8s.io/v1}}\n"
            );
        }
        std::fs::write(place.join("config.yaml"), config).unwrap();
        Providers::load(&place.join("config.yaml"), place).unwrap()
    }

    #[tokio::test]
    async fn plugins_are_asked_for_their_images_in_the_kubelets_order_and_once_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let providers = providers(place.path());
        let image = |text: &str| Reference::parse(text).unwrap();
        let now = Monotonic::default();
        let (elsewhere, team) = (image("other.example/app"), image("h.test/team/app"));
        let (none, failed) = providers.logins(&elsewhere, now).await;
        assert!(none.is_empty() && failed.is_empty() && !place.path().join("runs-of-first").exists());
        let ((found, failed), _) = tokio::join!(providers.logins(&team, now), providers.logins(&team, now));
        let found: Vec<_> =
            found.iter().map(|login| (login.provider.as_str(), login.username.as_str())).collect();
        let expected = [("first", "narrow"), ("second", "narrow"), ("first", "wide"), ("second", "wide")];
        assert_eq!((found, failed), (expected.to_vec(), Vec::new()));
        for runs in ["runs-of-first", "runs-of-second"] {
            assert_eq!(std::fs::read_to_string(place.path().join(runs)).unwrap(), "\n", "{runs}");
        }
    }
}
