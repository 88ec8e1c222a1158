//! What nodes have to know of a registry before they pull from it: that it speaks plain http, or whose certificates
//! count; and whether its name means anything.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::Result;
use drop_devtools::certs::{Authority, Pair};
use drop_devtools::network::{GATEWAY, SERVICE_ADDRESS};
use drop_devtools::state::{ClusterInfo, NodeInfo};
use drop_devtools::{command, files, mounts};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::access::NODE_HEADER;

/// A certificate of an authority that no node knows.
#[derive(Debug)]
pub struct Certificate {
    /// The authority's own, for those who are to trust it.
    pub authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// One for a server at the address of the doors.
    ///
    /// # Errors
    /// If openssl fails.
    pub fn make(info: &ClusterInfo) -> Result<Self> {
        let authority = Authority::open(&info.state.join("pki-of-doors"))?;
        let pair = authority.server("door", "/CN=door", &[format!("IP:{GATEWAY}")])?;
        Ok(Self::of(&authority, pair))
    }

    /// One that passes for the API server's.
    ///
    /// # Errors
    /// If openssl fails.
    pub fn like_the_api_servers(info: &ClusterInfo) -> Result<Self> {
        let authority = Authority::open(&info.pki())?;
        let names = [format!("IP:{SERVICE_ADDRESS}"), format!("IP:{GATEWAY}"), "DNS:kubernetes".to_owned()];
        let pair = authority.server("api-door", "/CN=kube-apiserver", &names)?;
        Ok(Self::of(&authority, pair))
    }

    fn of(authority: &Authority, pair: Pair) -> Self {
        Self { authority: authority.certificate(), certificate: pair.certificate, key: pair.key }
    }
}

/// A listener's part of TLS with this certificate.
pub(crate) fn acceptor(certificate: &Certificate) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&certificate.certificate)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&certificate.key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// What all nodes know of one registry; they forget it when this is dropped.
#[derive(Debug)]
pub struct Trust {
    directories: Vec<PathBuf>,
}

impl Trust {
    /// The registry at `host` speaks plain http.
    ///
    /// # Errors
    /// If a node's file can't be written.
    pub fn plain(info: &ClusterInfo, host: &str) -> Result<Self> {
        Self::write(info, host, |_| format!("server = \"http://{host}\"\n"))
    }

    /// The same, and every node tells its name with each request, so that the registry's log tells nodes apart.
    ///
    /// # Errors
    /// If a node's file can't be written.
    pub fn plain_by_name(info: &ClusterInfo, host: &str) -> Result<Self> {
        let url = format!("http://{host}");
        Self::write(info, host, |node| {
            format!(
                "server = \"{url}\"\n\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n\n\
                 [host.\"{url}\".header]\n{NODE_HEADER} = \"{}\"\n",
                node.name
            )
        })
    }

    /// The registry at `host` shows certificates of this authority.
    ///
    /// # Errors
    /// If a node's file can't be written.
    pub fn authority(info: &ClusterInfo, host: &str, certificate: &Certificate) -> Result<Self> {
        let url = format!("https://{host}");
        let ca = certificate.authority.display();
        Self::write(info, host, |_| format!("server = \"{url}\"\n\n[host.\"{url}\"]\nca = \"{ca}\"\n"))
    }

    /// containerd reads these files anew for every pull.
    fn write(info: &ClusterInfo, host: &str, known: impl Fn(&NodeInfo) -> String) -> Result<Self> {
        let mut directories = Vec::new();
        for node in &info.nodes {
            let directory = node.directory.join("etc/containerd/certs.d").join(host);
            files::write(&directory.join("hosts.toml"), known(node))?;
            directories.push(directory);
        }
        Ok(Self { directories })
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        for directory in &self.directories {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

/// A name that all nodes resolve to the address of the doors, until this is dropped.
#[derive(Debug)]
pub struct Name {
    info: ClusterInfo,
}

impl Name {
    /// Makes `name` known to every node.
    ///
    /// # Errors
    /// If it can't be mounted there.
    pub fn resolve(info: &ClusterInfo, name: &str) -> Result<Self> {
        let hosts = info.state.join("hosts-with-doors");
        let known = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        files::write(&hosts, format!("{known}\n{GATEWAY} {name}\n"))?;
        for node in &info.nodes {
            command::run(on(info, node, "mount").arg("--bind").arg(&hosts).arg("/etc/hosts"))?;
        }
        Ok(Self { info: info.clone() })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        for node in &self.info.nodes {
            let _ = command::run(on(&self.info, node, "umount").arg("/etc/hosts"));
        }
    }
}

fn on(info: &ClusterInfo, node: &NodeInfo, program: &str) -> Command {
    mounts::on_node(info, node, program)
}
