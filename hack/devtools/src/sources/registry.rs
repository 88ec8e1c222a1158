//! docker-registry with tags in it.

use super::{Error, Server, directory, reserve};
use crate::{command, files, packages};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may read.
#[derive(Debug, Clone)]
pub enum Access {
    /// Everybody.
    Anonymous,
    /// A user with a password.
    Login {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// Whoever brings a token that a certificate's key has signed.
    Token {
        /// URL of the token server.
        realm: String,
        /// The service in the token.
        service: String,
        /// The certificate.
        certificate: PathBuf,
    },
}

/// Debian's docker-registry.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    data: PathBuf,
}

impl Registry {
    /// Starts it. `tls` is a certificate and its key.
    pub fn start(state: &Path, access: &Access, tls: Option<(&Path, &Path)>) -> Result<Self, Error> {
        packages::ensure(&["docker-registry", "apache2-utils"])?;
        let data = directory(state, "registry")?;
        let address = reserve("docker-registry")?;
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {address}\n",
            data.display()
        );
        if let Some((certificate, key)) = tls {
            config.push_str(&format!(
                "  tls: {{certificate: {}, key: {}}}\n",
                certificate.display(),
                key.display()
            ));
        }
        match access {
            Access::Anonymous => {}
            Access::Login { username, password } => {
                let file = state.join("htpasswd");
                let line = command::output(Command::new("htpasswd").args(["-nbB", username, password]))?;
                files::write(&file, line)?;
                config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display()));
            }
            Access::Token { realm, service, certificate } => config.push_str(&format!(
                "auth: {{token: {{realm: \"{realm}\", service: \"{service}\", issuer: test, rootcertbundle: {}}}}}\n",
                certificate.display()
            )),
        }
        let file = state.join("registry.yml");
        files::write(&file, config)?;
        let mut registry = Command::new("docker-registry");
        registry.arg("serve").arg(&file).env("OTEL_TRACES_EXPORTER", "none");
        Ok(Self { server: Server::start(registry, address, state)?, data })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Adds a tag, as the registry keeps it; a list of tags needs no more.
    pub fn tag(&self, repository: &str, tag: &str) -> Result<(), Error> {
        let tags = "docker/registry/v2/repositories";
        files::create_dir(&self.data.join(tags).join(repository).join("_manifests/tags").join(tag))?;
        Ok(())
    }
}
