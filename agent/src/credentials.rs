//! What pull Secrets say to a registry. Nothing of it is ever logged, stored or put into an error.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drop_cri::{Credentials, images::Secret};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::parts::SecretError;

/// Host of docker.io's registry, as containerd connects to it.
const DOCKER_REGISTRY: &str = "registry-1.docker.io";

/// The JSON in a Secret of type `kubernetes.io/dockerconfigjson`.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Login>,
}

/// One registry's entry.
#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Option<SecretString>,
    /// base64 of `username:password`.
    #[serde(default)]
    auth: Option<SecretString>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<SecretString>,
}

/// The logins for `host` in the JSON of a docker configuration, in the order of their keys.
///
/// # Errors
/// If it is not such JSON. The error never quotes it.
pub fn for_host(config: &[u8], host: &str) -> Result<Vec<Credentials>, SecretError> {
    let config: DockerConfig = serde_json::from_slice(config).map_err(|_| {
        SecretError::Malformed("its .dockerconfigjson is not JSON of the form {\"auths\": …}")
    })?;
    let server_address = server_address(host);
    Ok(config
        .auths
        .into_iter()
        .filter(|(key, _)| host_of(key) == canonical(host))
        .filter_map(|(_, login)| login.secret())
        .map(|secret| Credentials { server_address: server_address.clone(), secret })
        .collect())
}

impl Login {
    fn secret(self) -> Option<Secret> {
        if let Some(token) = self.identity_token.filter(|token| !token.expose_secret().is_empty()) {
            return Some(Secret::IdentityToken(token));
        }
        if let Some(password) = self.password.filter(|_| !self.username.is_empty()) {
            return Some(Secret::Password { username: self.username, password });
        }
        let decoded = STANDARD.decode(self.auth?.expose_secret().trim()).ok()?;
        let decoded = SecretString::from(String::from_utf8(decoded).ok()?);
        let (username, password) = decoded.expose_secret().split_once(':')?;
        Some(Secret::Password { username: username.to_owned(), password: password.into() })
    }
}

/// The host in a key such as `registry:5000`, `https://index.docker.io/v1/` or `host/team`.
fn host_of(key: &str) -> &str {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    canonical(key.split('/').next().unwrap_or(key))
}

/// One name for all of docker.io's.
fn canonical(host: &str) -> &str {
    match host {
        "docker.io" | "index.docker.io" | DOCKER_REGISTRY => "docker.io",
        other => other,
    }
}

/// The runtime shows credentials only to the host in this URL.
fn server_address(host: &str) -> String {
    let host = if canonical(host) == "docker.io" { DOCKER_REGISTRY } else { host };
    format!("https://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(config: &str, host: &str) -> Vec<(String, String, String)> {
        for_host(config.as_bytes(), host)
            .unwrap()
            .into_iter()
            .map(|credentials| match credentials.secret {
                Secret::Password { username, password } => {
                    (credentials.server_address, username, password.expose_secret().to_owned())
                }
                Secret::IdentityToken(token) => {
                    (credentials.server_address, String::new(), token.expose_secret().to_owned())
                }
            })
            .collect()
    }

    fn found(address: &str, user: &str, secret: &str) -> Vec<(String, String, String)> {
        vec![(address.to_owned(), user.to_owned(), secret.to_owned())]
    }

    #[test]
    fn a_login_is_for_its_host_and_port_alone() {
        let config = r#"{"auths": {"registry.test:5000": {"username": "u", "password": "p"}}}"#;
        assert_eq!(login(config, "registry.test:5000"), found("https://registry.test:5000", "u", "p"));
        assert_eq!(login(config, "registry.test"), []);
        assert_eq!(login(config, "registry.test:5001"), []);
    }

    #[test]
    fn docker_hub_goes_by_all_its_names() {
        let config = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpwOnE="}}}"#;
        assert_eq!(login(config, "docker.io"), found("https://registry-1.docker.io", "u", "p:q"));
    }

    #[test]
    fn an_identity_token_goes_before_a_password() {
        let config = r#"{"auths": {"h.test": {"username": "u", "password": "p", "identitytoken": "t"}}}"#;
        assert_eq!(login(config, "h.test"), found("https://h.test", "", "t"));
    }

    #[test]
    fn what_is_malformed_is_told_without_being_quoted() {
        let error = for_host(br#"{"auths": "hunter2"}"#, "h.test").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert_eq!(login(r#"{"auths": {"h.test": {"auth": "no base64"}}}"#, "h.test"), []);
    }

    #[test]
    fn no_secret_is_shown_by_debug() {
        let config = br#"{"auths": {"h.test": {"username": "u", "password": "hunter2"}}}"#;
        let shown = format!("{:?}", for_host(config, "h.test").unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
