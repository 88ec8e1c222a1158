//! What a Secret says about a source: how to log in, whom to trust, who we are. Nothing here can be printed.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::failure::{Failure, Reason};

/// Keys that begin so name a request header.
const HEADERS: &str = "headers.";

/// Headers that belong to the connection, not to the user.
const NOT_TO_BE_SET: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "proxy-authorization"];

/// Shorter secrets are not looked for in what servers say: they would be found everywhere.
const SHORTEST_REDACTED: usize = 4;

/// Credentials of one source.
#[derive(Debug, Default)]
pub struct Credentials {
    /// User and password. They win over a token.
    pub login: Option<Login>,
    /// A token that is sent as it is.
    pub token: Option<SecretString>,
    /// Further headers; they win over anything else.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Authorities that are trusted instead of the system's, PEM.
    pub authorities: Option<Vec<u8>>,
    /// Authorities that are trusted beside the others, PEM.
    pub extra_authorities: Option<Vec<u8>>,
    /// Certificate and key of the client, PEM.
    pub identity: Option<Identity>,
    hidden: Vec<SecretString>,
}

/// User and password.
#[derive(Debug)]
pub struct Login {
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

/// A client certificate, PEM.
#[derive(Debug)]
pub struct Identity {
    /// The certificate and those that it is signed by.
    pub certificates: Vec<u8>,
    /// Its key.
    pub key: SecretSlice<u8>,
}

impl Credentials {
    /// A user with a password.
    #[must_use]
    pub fn of_login(login: Login) -> Self {
        let mut credentials = Self::default();
        credentials.hide(login.password.expose_secret());
        credentials.login = Some(login);
        credentials
    }

    /// Reads the data of the Secret called `name`. Keys that mean nothing here are left alone, empty ones count as unset.
    ///
    /// # Errors
    /// If a key can't be used, or lacks its other half.
    pub fn read(name: &str, data: BTreeMap<String, Vec<u8>>) -> Result<Self, Failure> {
        let invalid = |what: String| Failure::new(Reason::SecretInvalid, format!("Secret {name}: {what}"));
        let text = |key: &str, value: Vec<u8>| {
            let text = String::from_utf8(value).map_err(|_| invalid(format!("{key} is not text")))?;
            // Files end with a line break, which is no part of a password.
            Ok::<_, Failure>(text.trim_end_matches(['\r', '\n']).to_owned())
        };
        let mut credentials = Self::default();
        let (mut username, mut password, mut certificates, mut key) = (None, None, None, None);
        for (entry, value) in data {
            if value.is_empty() {
                continue;
            }
            match entry.as_str() {
                "token" => {
                    let token = SecretString::from(text(&entry, value)?);
                    credentials.hide(token.expose_secret());
                    credentials.token = Some(token);
                }
                "username" => username = Some(text(&entry, value)?),
                "password" => password = Some(SecretString::from(text(&entry, value)?)),
                "ca.crt" => credentials.authorities = Some(value),
                "tls.crt" => certificates = Some(value),
                "tls.key" => key = Some(SecretSlice::from(value)),
                _ => {
                    let Some(header) = entry.strip_prefix(HEADERS) else { continue };
                    let value = text(&entry, value)?;
                    let header = HeaderName::from_bytes(header.as_bytes())
                        .ok()
                        .filter(|header| !NOT_TO_BE_SET.contains(&header.as_str()))
                        .ok_or_else(|| invalid(format!("{entry} names no header that can be set")))?;
                    credentials.hide(&value);
                    let value = sensitive(&value)
                        .ok_or_else(|| invalid(format!("the value of {entry} does not fit into a header")))?;
                    credentials.headers.push((header, value));
                }
            }
        }
        credentials.login = match (username, password) {
            (Some(username), Some(password)) => {
                credentials.hide(password.expose_secret());
                Some(Login { username, password })
            }
            (None, None) => None,
            (Some(_), None) => return Err(invalid("username is there and password is missing".to_owned())),
            (None, Some(_)) => return Err(invalid("password is there and username is missing".to_owned())),
        };
        credentials.identity = match (certificates, key) {
            (Some(certificates), Some(key)) => Some(Identity { certificates, key }),
            (None, None) => None,
            (Some(_), None) => return Err(invalid("tls.crt is there and tls.key is missing".to_owned())),
            (None, Some(_)) => return Err(invalid("tls.key is there and tls.crt is missing".to_owned())),
        };
        if credentials.login.is_none() && credentials.token.is_some() && credentials.bearer().is_none() {
            return Err(invalid("token does not fit into a header".to_owned()));
        }
        Ok(credentials)
    }

    /// What to send to a server that takes credentials without asking for them.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        self.basic().or_else(|| self.bearer())
    }

    /// User and password as a header.
    #[must_use]
    pub fn basic(&self) -> Option<HeaderValue> {
        let Login { username, password } = self.login.as_ref()?;
        let login = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        sensitive(&format!("Basic {login}"))
    }

    /// The token as a header.
    #[must_use]
    pub fn bearer(&self) -> Option<HeaderValue> {
        bearer(self.token.as_ref()?)
    }

    /// `text` without anything secret that a server may have put into it.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        let hidden = self.hidden.iter().map(ExposeSecret::expose_secret);
        hidden.fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    fn hide(&mut self, secret: &str) {
        for form in [secret.to_owned(), STANDARD.encode(secret)] {
            if form.len() >= SHORTEST_REDACTED {
                self.hidden.push(form.into());
            }
        }
    }
}

/// A token as a header.
#[must_use]
pub fn bearer(token: &SecretString) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose_secret()))
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &[(&str, &str)]) -> Result<Credentials, String> {
        let data = data.iter().map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
        Credentials::read("creds", data).map_err(|failure| failure.message)
    }

    fn authorization(data: &[(&str, &str)]) -> Option<String> {
        Some(read(data).unwrap().authorization()?.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_login_wins_over_a_token() {
        assert_eq!(authorization(&[("token", "abcd\n")]).as_deref(), Some("Bearer abcd"));
        let login = [("token", "abcd"), ("username", "u"), ("password", "p\n")];
        assert_eq!(authorization(&login).as_deref(), Some("Basic dTpw"));
        assert_eq!(authorization(&[]), None);
    }

    #[test]
    fn half_of_a_pair_is_told_by_its_missing_key() {
        for (have, missing) in [
            ("username", "password"),
            ("password", "username"),
            ("tls.crt", "tls.key"),
            ("tls.key", "tls.crt"),
        ] {
            let message = read(&[(have, "x")]).unwrap_err();
            assert_eq!(message, format!("Secret creds: {have} is there and {missing} is missing"));
        }
    }

    #[test]
    fn headers_of_the_connection_cannot_be_set() {
        let set = read(&[("headers.X-Scope-OrgID", "team")]).unwrap();
        assert_eq!(set.headers[0].0.as_str(), "x-scope-orgid");
        for key in ["headers.Host", "headers.content-length", "headers.", "headers.a b"] {
            assert!(read(&[(key, "x")]).unwrap_err().contains(key));
        }
        assert!(read(&[("headers.A", "x\ny")]).unwrap_err().contains("headers.A"));
    }

    #[test]
    fn what_is_secret_is_neither_printed_nor_quoted() {
        let data = [
            ("username", "user"),
            ("password", "hunter22"),
            ("token", "tok-en-1"),
            ("headers.X-Key", "head-er-1"),
            ("tls.crt", "c"),
            ("tls.key", "key-key-1"),
        ];
        let credentials = read(&data).unwrap();
        let printed = format!("{credentials:?}");
        let quoted = credentials.redact("no: hunter22, aHVudGVyMjI=, tok-en-1 and head-er-1");
        for secret in ["hunter22", "aHVudGVyMjI=", "tok-en-1", "head-er-1", "key-key-1"] {
            assert!(!printed.contains(secret), "{printed}");
            assert!(!quoted.contains(secret), "{quoted}");
        }
    }
}
