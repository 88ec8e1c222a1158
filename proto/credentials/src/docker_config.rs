//! The logins in a Secret: `kubernetes.io/dockerconfigjson`, and the older `kubernetes.io/dockercfg`.
//!
//! What is wrong with a Secret is told by names of fields; nothing of its content gets into an error.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use k8s_openapi::api::core::v1::Secret;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Deserialize;

use crate::Login;

/// Reads `auth` with its padding or without, as the kubelet does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A Secret as the API server shows it. Its `Debug` shows no content.
#[derive(Debug)]
pub struct SecretData {
    /// Its type.
    pub kind: String,
    /// Its keys with their content.
    pub data: BTreeMap<String, SecretSlice<u8>>,
}

impl From<Secret> for SecretData {
    fn from(secret: Secret) -> Self {
        let data = secret.data.unwrap_or_default().into_iter();
        Self {
            kind: secret.type_.unwrap_or_default(),
            data: data.map(|(key, content)| (key, content.0.into())).collect(),
        }
    }
}

/// Why a Secret holds no logins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is of another type.
    #[error("is of type {0}, not kubernetes.io/dockerconfigjson")]
    Type(String),
    /// The key that its type prescribes is not there.
    #[error("has no key {0}")]
    MissingKey(&'static str),
    /// What stands under that key is something else.
    #[error("holds no docker configuration: {0} is not JSON of the form {1}")]
    Malformed(&'static str, &'static str),
}

/// What stands under one key of a docker configuration.
#[derive(Debug)]
pub enum Entry {
    /// Logins, the better one first.
    Logins(Vec<Login>),
    /// Nothing that a container runtime can use.
    Useless(Useless),
}

/// Why an entry is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Useless {
    /// Docker writes such entries when a credential helper keeps the login.
    #[error("without a login (a credential helper may keep it)")]
    Empty,
    /// `auth` can't be read.
    #[error("whose auth is not base64 of username:password")]
    Auth,
    /// A kind of token that containerd does not pass on.
    #[error("with only a registrytoken, which containerd ignores")]
    RegistryToken,
}

/// The JSON in a Secret of type `kubernetes.io/dockerconfigjson`.
#[derive(Deserialize)]
struct DockerConfig {
    auths: Option<Entries>,
}

type Entries = BTreeMap<String, Option<Written>>;

/// One registry's entry.
#[derive(Deserialize, Default)]
struct Written {
    username: Option<String>,
    password: Option<SecretString>,
    /// base64 of `username:password`.
    auth: Option<SecretString>,
    #[serde(rename = "identitytoken")]
    identity_token: Option<SecretString>,
    #[serde(rename = "registrytoken")]
    registry_token: Option<SecretString>,
}

/// What stands in `secret`, by its keys.
///
/// # Errors
/// If it is not a Secret of logins.
pub fn entries(secret: &SecretData) -> Result<BTreeMap<String, Entry>, Invalid> {
    let under = |key: &'static str| secret.data.get(key).ok_or(Invalid::MissingKey(key));
    let entries = match secret.kind.as_str() {
        "kubernetes.io/dockerconfigjson" => {
            let json = under(".dockerconfigjson")?.expose_secret();
            serde_json::from_slice::<DockerConfig>(json).map(|config| config.auths.unwrap_or_default())
        }
        "kubernetes.io/dockercfg" => serde_json::from_slice(under(".dockercfg")?.expose_secret()),
        other => return Err(Invalid::Type(other.to_owned())),
    };
    // The parser's own error would quote what it does not understand.
    let entries: Entries = entries.map_err(|_| match secret.kind.as_str() {
        "kubernetes.io/dockercfg" => Invalid::Malformed(".dockercfg", r#"{"<registry>": {"auth": …}}"#),
        _ => Invalid::Malformed(".dockerconfigjson", r#"{"auths": {"<registry>": {"auth": …}}}"#),
    })?;
    Ok(entries.into_iter().map(|(key, written)| (key, written.unwrap_or_default().entry())).collect())
}

impl Written {
    fn entry(self) -> Entry {
        let given = |secret: &SecretString| !secret.expose_secret().is_empty();
        let token = self.identity_token.filter(given).map(Login::IdentityToken);
        let password = match self.auth.filter(given) {
            // As in the kubelet, it stands above username and password.
            Some(auth) => match decode(&auth) {
                Some(password) => Some(password),
                None if token.is_none() => return Entry::Useless(Useless::Auth),
                None => None,
            },
            None => self.username.map(|username| (username, self.password.unwrap_or_default())),
        };
        let password = password
            .filter(|(username, _)| !username.is_empty())
            // Beside a token stands a name that means nothing without a password.
            .filter(|(_, password)| token.is_none() || given(password))
            .map(|(username, password)| Login::Password { username, password });
        let logins: Vec<Login> = token.into_iter().chain(password).collect();
        match self.registry_token.filter(given) {
            _ if !logins.is_empty() => Entry::Logins(logins),
            Some(_) => Entry::Useless(Useless::RegistryToken),
            None => Entry::Useless(Useless::Empty),
        }
    }
}

fn decode(auth: &SecretString) -> Option<(String, SecretString)> {
    let bytes = SecretSlice::from(BASE64.decode(auth.expose_secret().trim()).ok()?);
    let (username, password) = std::str::from_utf8(bytes.expose_secret()).ok()?.split_once(':')?;
    Some((username.to_owned(), password.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(kind: &str, key: &str, content: &str) -> SecretData {
        let data = BTreeMap::from([(key.to_owned(), SecretSlice::from(content.as_bytes().to_vec()))]);
        SecretData { kind: format!("kubernetes.io/{kind}"), data }
    }

    fn config(content: &str) -> SecretData {
        secret("dockerconfigjson", ".dockerconfigjson", content)
    }

    /// The entry for `h.test` as text.
    fn shown(login: &str) -> String {
        let secret = config(&format!(r#"{{"auths": {{"h.test": {login}}}}}"#));
        match entries(&secret).unwrap().remove("h.test").unwrap() {
            Entry::Useless(why) => why.to_string(),
            Entry::Logins(logins) => {
                let texts: Vec<String> = logins
                    .iter()
                    .map(|login| match login {
                        Login::Password { username, password } => {
                            format!("{username}:{}", password.expose_secret())
                        }
                        Login::IdentityToken(token) => format!("token {}", token.expose_secret()),
                    })
                    .collect();
                texts.join(", ")
            }
        }
    }

    #[test]
    fn every_form_of_a_login_is_read() {
        for (login, expected) in [
            (r#"{"username": "u", "password": "p"}"#, "u:p"),
            (r#"{"username": "u"}"#, "u:"),
            // u:p:q, with padding and without.
            (r#"{"auth": "dTpwOnE="}"#, "u:p:q"),
            (r#"{"auth": "dTpwOnE"}"#, "u:p:q"),
            (r#"{"auth": " dTpwOnE=\n"}"#, "u:p:q"),
            (r#"{"auth": "dTpwOnE=", "username": "other", "password": "other"}"#, "u:p:q"),
            (r#"{"auth": "", "username": "u", "password": "p", "email": "u@h.test"}"#, "u:p"),
            (r#"{"identitytoken": "t"}"#, "token t"),
            (r#"{"identitytoken": "t", "username": "u", "password": "p"}"#, "token t, u:p"),
            // u: with a token beside it, as Azure's registry writes it.
            (r#"{"identitytoken": "t", "auth": "dTo="}"#, "token t"),
            (r#"{"identitytoken": "", "username": "u", "password": "p"}"#, "u:p"),
            (r#"{"registrytoken": "r", "username": "u", "password": "p"}"#, "u:p"),
        ] {
            assert_eq!(shown(login), expected, "{login}");
        }
    }

    #[test]
    fn an_entry_of_no_use_says_why() {
        for (login, expected) in [
            ("{}", Useless::Empty),
            ("null", Useless::Empty),
            (r#"{"username": null, "password": "p"}"#, Useless::Empty),
            (r#"{"auth": "no base64"}"#, Useless::Auth),
            // Base64 of text without a colon.
            (r#"{"auth": "aHVudGVyMg=="}"#, Useless::Auth),
            (r#"{"registrytoken": "r"}"#, Useless::RegistryToken),
        ] {
            assert_eq!(shown(login), expected.to_string(), "{login}");
        }
    }

    #[test]
    fn the_older_form_is_read() {
        let secret = secret("dockercfg", ".dockercfg", r#"{"h.test": {"auth": "dTpw"}}"#);
        assert!(matches!(entries(&secret).unwrap()["h.test"], Entry::Logins(_)));
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told() {
        for (secret, told) in [
            (secret("tls", ".dockerconfigjson", "{}"), "type kubernetes.io/tls"),
            (secret("dockerconfigjson", "config.json", "{}"), "no key .dockerconfigjson"),
            (secret("dockercfg", ".dockerconfigjson", "{}"), "no key .dockercfg"),
            (config("hunter2"), ".dockerconfigjson is not JSON"),
            (config(r#"{"auths": "hunter2"}"#), r#"{"auths":"#),
            (config(r#"{"auths": {"h.test": "hunter2"}}"#), r#"{"auths":"#),
            (config(r#"{"auths": {"h.test": {"password": ["hunter2"]}}}"#), r#"{"auths":"#),
            (secret("dockercfg", ".dockercfg", r#"["hunter2"]"#), ".dockercfg is not JSON"),
        ] {
            let error = entries(&secret).unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
        }
        for nothing in ["{}", r#"{"auths": null}"#, r#"{"auths": {}, "credsStore": "desktop"}"#] {
            assert!(entries(&config(nothing)).unwrap().is_empty());
        }
    }

    proptest! {
        #[test]
        fn no_content_gets_out(noise in "\\PC{0,8}", at in 0_usize..60) {
            let mut text = r#"{"auths": {"h.test": {"username": "u", "password": "hunter2"}}}"#.to_owned();
            text.insert_str(at, &noise);
            let secret = config(&text);
            let shown = format!("{secret:?} {:?}", entries(&secret));
            prop_assert!(!shown.contains("hunter2"));
        }

        #[test]
        fn any_bytes_are_a_login_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let data = BTreeMap::from([(".dockercfg".to_owned(), SecretSlice::from(bytes))]);
            let _ = entries(&SecretData { kind: "kubernetes.io/dockercfg".to_owned(), data });
        }
    }
}
