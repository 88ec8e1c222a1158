//! The token server of a private registry: hands out signed tokens for a password or for an identity token.
//!
//! No token server is among Debian's packages. It speaks what distribution's documentation prescribes: GET with Basic
//! authentication, and POST as OAuth2 does with `password` and `refresh_token`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

/// Longest request that is read.
const LONGEST: u64 = 64 * 1024;

/// A running token server. Its thread ends with the process.
pub struct TokenServer {
    url: String,
    issuer: Arc<Issuer>,
}

/// Whom the server knows and what they may pull.
#[derive(Debug, Clone)]
pub struct User {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
    /// What stands for a login.
    pub identity_token: String,
    /// A token for a repository that begins so lets its bearer pull.
    pub may_pull: String,
}

struct Issuer {
    user: User,
    key: PathBuf,
    certificate: PathBuf,
    /// The certificate as tokens carry it.
    chain: String,
}

impl TokenServer {
    /// Starts a server that knows `user`, in this thread's network. `place` is for its key.
    ///
    /// # Errors
    /// If openssl can't make a key, or nothing can listen.
    pub fn start(place: &Path, user: User) -> Result<Self> {
        let (key, certificate) = (place.join("token.key"), place.join("token.crt"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .context("openssl")?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let pem = std::fs::read_to_string(&certificate)?;
        let chain = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}/token", listener.local_addr()?);
        let issuer = Arc::new(Issuer { user, key, certificate, chain });
        let serving = Arc::clone(&issuer);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away, or asks for nonsense, gets no answer.
                let _ = serving.answer(stream);
            }
        });
        Ok(Self { url, issuer })
    }

    /// Where tokens are asked for.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the key that signs them.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        &self.issuer.certificate
    }
}

impl Issuer {
    fn answer(&self, mut stream: TcpStream) -> Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?.take(LONGEST));
        let (mut request, mut header, mut login, mut length) =
            (String::new(), String::new(), String::new(), 0);
        reader.read_line(&mut request)?;
        while reader.read_line(&mut header)? > 2 {
            let (name, value) = header.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "authorization" => value.trim().clone_into(&mut login),
                "content-length" => length = value.trim().parse()?,
                _ => {}
            }
            header.clear();
        }
        let mut form = String::new();
        reader.take(length).read_to_string(&mut form)?;
        let query = request.split([' ', '?']).nth(2).unwrap_or_default();
        let parameters = if length > 0 { &form } else { query };
        let parameter = |wanted: &str| {
            let mut pairs = parameters.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == wanted).map(|(_, value)| unescape(value)).unwrap_or_default()
        };
        let user = &self.user;
        let basic = format!("Basic {}", STANDARD.encode(format!("{}:{}", user.name, user.password)));
        let known = match parameter("grant_type").as_str() {
            "refresh_token" => parameter("refresh_token") == user.identity_token,
            "password" => parameter("username") == user.name && parameter("password") == user.password,
            _ => login == basic,
        };
        let (status, body) = match known {
            true => ("200 OK", self.token(&parameter("scope"))?),
            false => ("401 Unauthorized", r#"{"details": "incorrect username or password"}"#.to_owned()),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close");
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        Ok(())
    }

    /// The answer with a token for `scope`, such as `repository:team/app:pull`.
    fn token(&self, scope: &str) -> Result<String> {
        let repository = scope.split(':').nth(1).unwrap_or_default();
        let granted = repository.starts_with(&self.user.may_pull);
        let actions: &[&str] = if granted { &["pull"] } else { &[] };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.chain]});
        let claims = json!({
            "iss": "test", "sub": self.user.name, "aud": "test",
            "exp": now + 300, "nbf": now - 10, "iat": now, "jti": now.to_string(),
            "access": [{"type": "repository", "name": repository, "actions": actions}],
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let unsigned = format!("{}.{}", part(&header), part(&claims));
        let token = format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(self.sign(&unsigned)?));
        Ok(json!({"token": token, "access_token": token, "expires_in": 300}).to_string())
    }

    fn sign(&self, text: &str) -> Result<Vec<u8>> {
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(&self.key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        openssl.stdin.take().context("no input")?.write_all(text.as_bytes())?;
        Ok(openssl.wait_with_output()?.stdout)
    }
}

/// Takes `%3A` and the like out of a query.
fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().replace('+', " ");
    for part in parts {
        let byte = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        plain.push(char::from(byte.unwrap_or(b'?')));
        plain.push_str(&part.get(2..).unwrap_or_default().replace('+', " "));
    }
    plain
}
