//! HTTP requests with limits, so that a slow, endless or hostile server costs a bounded time and memory.
//!
//! Redirects are followed here and not by the library: credentials of any kind, further headers and the client
//! certificate included, go to the server that the user named and to no other.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::redirect::Policy;
use reqwest::{Method, StatusCode};
use rustls::ClientConfig;
use url::{Origin, Url};

use crate::credentials::Credentials;
use crate::failure::{Failure, Reason};

mod body;
mod tls;

pub use body::{Body, Reader};

/// How we introduce ourselves.
const USER_AGENT: &str = concat!("drop-coordinator/", env!("CARGO_PKG_VERSION"));

/// What a server may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time to connect.
    pub connect: Duration,
    /// Time for one request, up to the last byte of its answer.
    pub request: Duration,
    /// Time for everything that one source is asked.
    pub source: Duration,
    /// Bytes of an answer to a query.
    pub query_bytes: u64,
    /// Bytes of any other answer.
    pub page_bytes: u64,
    /// Redirects in a row.
    pub redirects: usize,
    /// Pages of one list.
    pub pages: usize,
    /// Repositories of one registry that are listed at a time.
    pub concurrent: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(60),
            source: Duration::from_secs(300),
            query_bytes: 64 << 20,
            page_bytes: 4 << 20,
            redirects: 5,
            pages: 1000,
            concurrent: 4,
        }
    }
}

/// A client for one server, the one that the credentials are for.
pub struct Http {
    home: Origin,
    /// With the client certificate.
    own: reqwest::Client,
    /// Without anything that tells who we are.
    foreign: reqwest::Client,
    headers: HeaderMap,
    limits: Limits,
}

/// An answer, of whatever status.
#[derive(Debug)]
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// What was asked in the end, redirects followed.
    pub url: Url,
    /// The rest.
    pub body: Body,
}

impl Http {
    /// A client for the server of `home`.
    ///
    /// # Errors
    /// If the certificates or keys of `credentials` can't be used.
    pub fn new(home: &Url, credentials: &Credentials, limits: Limits) -> Result<Self, Failure> {
        let authorities = credentials.authorities.as_deref();
        let extra = credentials.extra_authorities.as_deref();
        let tls = tls::config(authorities, extra, None)?;
        let foreign = client(tls.clone(), limits)?;
        let own = match &credentials.identity {
            Some(identity) => client(tls::config(authorities, extra, Some(identity))?, limits)?,
            None => foreign.clone(),
        };
        Ok(Self {
            home: home.origin(),
            own,
            foreign,
            headers: credentials.headers.iter().cloned().collect(),
            limits,
        })
    }

    /// What answers may cost.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Asks for `url`. `authorization` is for its server alone, and the headers of the credentials for home.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(
        &self,
        method: &Method,
        url: Url,
        extra: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response, Failure> {
        let first = url.origin();
        // Whoever has left the first server does not come back to it with credentials.
        let mut left = false;
        let mut url = url;
        for _ in 0..=self.limits.redirects {
            left |= url.origin() != first;
            let home = !left && first == self.home;
            let client = if home { &self.own } else { &self.foreign };
            let mut headers = extra.clone();
            if let Some(authorization) = authorization.filter(|_| !left) {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            if home {
                headers.extend(self.headers.clone());
            }
            let request = client.request(method.clone(), url.clone()).headers(headers);
            let response = request.send().await.map_err(|error| Failure::request(&error, &host(&url)))?;
            let Some(next) = redirect(&response, &url)? else {
                let (status, headers) = (response.status(), response.headers().clone());
                let body = Body::new(response, host(&url));
                return Ok(Response { status, headers, url, body });
            };
            url = next;
        }
        Err(Failure::new(Reason::InvalidResponse, format!("more than {} redirects", self.limits.redirects)))
    }

    /// Asks for `url` by GET.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn get(&self, url: Url, authorization: Option<&HeaderValue>) -> Result<Response, Failure> {
        self.send(&Method::GET, url, &HeaderMap::new(), authorization).await
    }
}

/// Where an answer leads on to, if anywhere.
fn redirect(response: &reqwest::Response, from: &Url) -> Result<Option<Url>, Failure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let bad = |what: &str| Failure::new(Reason::InvalidResponse, format!("a redirect {what}"));
    let target = response.headers().get(LOCATION).ok_or_else(|| bad("without target"))?;
    let target = target.to_str().map_err(|_| bad("with an unreadable target"))?;
    let url = from.join(target).map_err(|_| bad("to something that is not a URL"))?;
    match (from.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => Ok(Some(url)),
        ("https", "http") => Err(bad("from https to http, which is not followed")),
        _ => Err(bad("to something other than http and https")),
    }
}

fn client(tls: Arc<ClientConfig>, limits: Limits) -> Result<reqwest::Client, Failure> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(limits.connect)
        .timeout(limits.request)
        .build()
        .map_err(|error| Failure::new(Reason::SyncFailed, format!("no HTTP client can be made: {error}")))
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
