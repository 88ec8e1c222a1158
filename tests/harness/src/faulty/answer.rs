//! What a door answers: the registry's own answer, or what its fault makes of it.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::access::NODE_HEADER;
use super::{Fault, Kind, Shared, body};

const TOKEN: &str = "let-me-in";

#[derive(Clone)]
struct Served {
    shared: Arc<Shared>,
    client: Client<HttpConnector, Body>,
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let router = Router::new().fallback(answer).with_state(Served { shared, client });
    let Ok(tcp) = tokio::net::TcpListener::from_std(listener) else { return };
    // Ends only with an error, of which the test hears by what nodes say.
    let _ = match tls {
        None => axum::serve(tcp, router).await,
        Some(tls) => axum::serve(TlsListener { tcp, tls }, router).await,
    };
}

/// Accepts connections that speak TLS.
pub(crate) struct TlsListener {
    /// Where they come in.
    pub(crate) tcp: tokio::net::TcpListener,
    /// The certificate they are shown.
    pub(crate) tls: TlsAcceptor,
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // Whoever does not like the certificate goes away: on to the next.
            if let Ok((stream, address)) = self.tcp.accept().await
                && let Ok(stream) = self.tls.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

async fn answer(State(served): State<Served>, request: Request) -> Response {
    let (kind, repository) = subject(request.uri().path());
    served.shared.note(kind, &repository);
    let node = request.headers().get(NODE_HEADER).and_then(|name| name.to_str().ok()).map(str::to_owned);
    let entry = served.shared.log.begin(node, kind, request.uri().path());
    if kind == Kind::Token {
        return json!({ "token": TOKEN, "expires_in": 60 }).to_string().into_response();
    }
    let fault = served.shared.fault(&repository);
    match &fault {
        Some(Fault::Status(status, retry_after)) => return turned_away(*status, *retry_after),
        Some(Fault::Token(realm)) if !brings_token(request.headers()) => {
            let challenge = format!(r#"Bearer realm="{realm}",service="door",scope="repository:x:pull""#);
            return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response();
        }
        _ => {}
    }
    let wants_body = request.method() != Method::HEAD;
    match pass_on(&served, request).await {
        Ok(answer) if kind == Kind::Blob && wants_body => {
            body::spoil(answer, fault.as_ref(), served.shared, entry)
        }
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// What a path is about: `/v2/<repository>/manifests/<tag>` and the like.
fn subject(path: &str) -> (Kind, String) {
    if path == "/token" {
        return (Kind::Token, String::new());
    }
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    for (part, kind) in [("/manifests/", Kind::Manifest), ("/blobs/", Kind::Blob)] {
        if let Some((repository, _)) = path.rsplit_once(part) {
            return (kind, repository.to_owned());
        }
    }
    (Kind::Other, String::new())
}

fn brings_token(headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|value| value == &format!("Bearer {TOKEN}"))
}

fn turned_away(status: u16, retry_after: Option<u32>) -> Response {
    let code = match status {
        401 => "UNAUTHORIZED",
        403 => "DENIED",
        429 => "TOOMANYREQUESTS",
        _ => "UNKNOWN",
    };
    let body = json!({ "errors": [{ "code": code, "message": "as the test wants it" }] }).to_string();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = (status, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::UNAUTHORIZED
        && let Ok(challenge) = r#"Basic realm="door""#.parse()
    {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    answer
}

async fn pass_on(served: &Served, mut request: Request) -> anyhow::Result<Response> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("http://{}{path}", served.shared.registry).parse::<Uri>()?;
    for hop in [header::HOST, header::AUTHORIZATION, HeaderName::from_static(NODE_HEADER)] {
        request.headers_mut().remove(hop);
    }
    Ok(served.client.request(request).await?.map(Body::new))
}
