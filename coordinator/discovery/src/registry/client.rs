//! Requests to a registry, with whatever login it asks for: none, user and password, or a token of its token server.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, StatusCode};
use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::challenge::{self, Challenge};
use crate::credentials::{Credentials, bearer};
use crate::failure::{Failure, Reason, quote};
use crate::http::{Http, Limits, Response};

/// A client for one registry. What it learns about logging in lives as long as the client.
pub struct Client<'a> {
    http: Http,
    credentials: &'a Credentials,
    /// The registry's own scheme: a token server must not be less protected.
    encrypted: bool,
    /// What was accepted, by scope.
    logins: Mutex<HashMap<String, HeaderValue>>,
}

#[derive(Deserialize)]
struct Granted {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
}

impl<'a> Client<'a> {
    /// A client for the registry at `base`.
    ///
    /// # Errors
    /// If the certificates or keys of `credentials` can't be used.
    pub fn new(base: &Url, credentials: &'a Credentials, limits: Limits) -> Result<Self, Failure> {
        let http = Http::new(base, credentials, limits)?;
        Ok(Self { http, credentials, encrypted: base.scheme() == "https", logins: Mutex::default() })
    }

    /// What answers may cost.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.http.limits()
    }

    /// Asks for something of `repository`, logging in if the registry wants that. Any status but 401 is an answer.
    ///
    /// # Errors
    /// If there is no answer or no login that the registry accepts.
    pub async fn send(
        &self,
        method: &Method,
        url: Url,
        repository: &str,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        let scope = format!("repository:{repository}:pull");
        let known = self.logins().get(&scope).cloned();
        // A token of the user's own is never exchanged; a login waits until it is asked for.
        let login = if self.credentials.login.is_none() { self.credentials.bearer() } else { None }.or(known);
        let response = self.http.send(method, url.clone(), headers, login.as_ref()).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(login) = self.log_in(&response.headers, &scope).await? else {
            return Err(Failure::status(401, repository));
        };
        self.logins().insert(scope, login.clone());
        let response = self.http.send(method, url, headers, Some(&login)).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            return Err(Failure::status(401, repository));
        }
        Ok(response)
    }

    /// Answers the challenges of a registry, if there is a way.
    async fn log_in(&self, headers: &HeaderMap, scope: &str) -> Result<Option<HeaderValue>, Failure> {
        let challenges = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|header| header.to_str().ok());
        for challenge in challenges.flat_map(challenge::parse) {
            match challenge {
                Challenge::Basic => {
                    if let Some(login) = self.credentials.basic() {
                        return Ok(Some(login));
                    }
                }
                // The user's own token was refused: one for everybody would show less than was asked for.
                Challenge::Bearer { .. }
                    if self.credentials.login.is_none() && self.credentials.token.is_some() => {}
                Challenge::Bearer { realm, service, scope: wanted } => {
                    let scope = wanted.as_deref().unwrap_or(scope);
                    return self.token(&realm, service.as_deref(), scope).await.map(Some);
                }
            }
        }
        Ok(None)
    }

    async fn token(&self, realm: &str, service: Option<&str>, scope: &str) -> Result<HeaderValue, Failure> {
        let bad = |what: String| {
            Failure::new(Reason::InvalidResponse, format!("the registry's token server {what}"))
        };
        let mut url = Url::parse(realm).map_err(|_| bad(format!("is not a URL: {}", quote(realm))))?;
        if !matches!(url.scheme(), "http" | "https") || (self.encrypted && url.scheme() != "https") {
            return Err(bad(format!("is not asked without encryption: {}", quote(realm))));
        }
        let host = url.host_str().unwrap_or_default().to_owned();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = service {
                query.append_pair("service", service);
            }
            for scope in scope.split_whitespace() {
                query.append_pair("scope", scope);
            }
        }
        let response = self.http.get(url, self.credentials.basic().as_ref()).await?;
        if !response.status.is_success() {
            let failure = Failure::status(response.status.as_u16(), "tokens");
            return Err(Failure { message: format!("token server {host}: {}", failure.message), ..failure });
        }
        let body = response.body.bytes(self.limits().page_bytes).await?;
        let granted: Granted =
            serde_json::from_slice(&body).map_err(|_| bad("did not answer with a token".to_owned()))?;
        let token = granted.token.or(granted.access_token);
        token.and_then(|token| bearer(&token)).ok_or_else(|| bad("did not answer with a token".to_owned()))
    }

    fn logins(&self) -> MutexGuard<'_, HashMap<String, HeaderValue>> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
