//! Debian's docker-registry as a private one: with passwords of its own, or behind a token server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::token_server::TokenServer;

/// A registry that wants a login; ends when dropped. It listens on 127.0.0.1, which containerd asks over plain http.
pub struct PrivateRegistry {
    address: String,
    process: Child,
}

/// Whom a registry trusts.
#[derive(Clone, Copy)]
pub enum Access<'a> {
    /// A user with a password (htpasswd).
    Password(&'a str, &'a str),
    /// Whoever has a token of this server.
    Token(&'a TokenServer),
}

impl PrivateRegistry {
    /// Starts a registry of the images below `storage`, in this thread's network. `place` is for its configuration.
    ///
    /// # Errors
    /// If docker-registry or htpasswd is not installed, or the registry does not answer.
    pub fn start(storage: &Path, place: &Path, access: Access<'_>) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let auth = match access {
            Access::Password(user, password) => {
                let made = Command::new("htpasswd")
                    .args(["-nbB", user, password])
                    .output()
                    .context("htpasswd of Debian's apache2-utils")?;
                ensure!(made.status.success(), "htpasswd: {}", String::from_utf8_lossy(&made.stderr));
                let file = place.join("htpasswd");
                std::fs::write(&file, made.stdout)?;
                format!("htpasswd:\n    realm: test\n    path: {}", file.display())
            }
            Access::Token(server) => format!(
                "token:\n    realm: {}\n    service: test\n    issuer: test\n    rootcertbundle: {}",
                server.url(),
                server.certificate().display()
            ),
        };
        let config = place.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n  maintenance:\n    uploadpurging:\n      enabled: false\n    readonly:\n      \
             enabled: true\nhttp:\n  addr: {address}\nauth:\n  {auth}\n",
            storage.display()
        );
        std::fs::write(&config, text)?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry of Debian")?;
        let registry = Self { address, process };
        let started = Instant::now();
        while !registry.asks_for_a_login() {
            if started.elapsed() > Duration::from_secs(10) {
                bail!("the registry at {} does not ask for a login", registry.address);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }

    /// Host and port.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    fn asks_for_a_login(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(&self.address)?;
            stream.write_all(b"GET /v2/ HTTP/1.0\r\nHost: registry\r\n\r\n")?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.contains(" 401 "))
    }
}

impl Drop for PrivateRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
