//! Images for the cluster's registry: made on this machine, cached as OCI layouts, pushed by skopeo.
//!
//! | module | makes |
//! |---|---|
//! | [`layout`] | an OCI layout from layers written here |
//! | [`pause`] | the pod sandbox, from a few lines of C |
//! | [`synthetic`] | incompressible data of a chosen size |
//! | [`debian`] | real software from Debian packages |

pub mod debian;
pub mod layout;
pub mod pause;
pub mod synthetic;

use crate::network::inside;
use crate::state::ClusterInfo;
use crate::{command, files, mounts, packages};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// An image that could not be made or pushed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tool failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Debian packages are missing.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// What an interrupted run left mounted does not go.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// An image layout could not be written.
    #[error("cannot write the image layout {path}: {source}")]
    Layout {
        /// Its directory.
        path: PathBuf,
        /// What failed.
        source: std::io::Error,
    },
    /// The cluster has no registry.
    #[error("the cluster {0} was started with --control-plane-only and has no registry")]
    NoRegistry(String),
}

/// An image in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Reference with registry and tag.
    pub reference: String,
    /// Digest of its manifest, `sha256:…`.
    pub digest: String,
}

impl Pushed {
    /// The reference by digest instead of tag.
    #[must_use]
    pub fn by_digest(&self) -> String {
        let name = self.reference.rsplit_once(':').map_or(self.reference.as_str(), |(name, _)| name);
        format!("{name}@{}", self.digest)
    }
}

impl fmt::Display for Pushed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.reference, self.digest)
    }
}

/// Pushes an image of an OCI layout (`directory`, or `directory:label` when it holds several) as `repository:tag` and
/// returns what the registry holds then. Layers that the
/// registry has are not sent again.
pub fn push(info: &ClusterInfo, layout: &str, repository_and_tag: &str) -> Result<Pushed, Error> {
    let reference = format!("{}/{repository_and_tag}", info.registry);
    Ok(push_by(inside(&info.netns, "skopeo"), layout, reference)?)
}

/// As [`push`], to the registry that `reference` names, by the program `skopeo`.
pub fn push_by(mut skopeo: Command, layout: &str, reference: String) -> Result<Pushed, command::Error> {
    skopeo
        .args(["--insecure-policy", "copy", "--quiet", "--all", "--preserve-digests"])
        .args(["--dest-tls-verify=false", "--digestfile", "/dev/stdout"])
        .arg(format!("oci:{layout}"))
        .arg(format!("docker://{reference}"));
    let digest = command::output(&mut skopeo)?.trim().to_owned();
    Ok(Pushed { reference, digest })
}

/// Makes and pushes the demonstration set: a scratch image and real software in several layers, 5 to 200 MB.
pub fn fill(info: &ClusterInfo, cache: &Path) -> Result<Vec<Pushed>, Error> {
    check_registry(info)?;
    debian::push_all(info, cache)
}

/// Tells early that there is nowhere to push to, before anything is made.
fn check_registry(info: &ClusterInfo) -> Result<(), Error> {
    if info.control_plane_only {
        return Err(Error::NoRegistry(info.name.clone()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_by_digest_keeps_the_registry_port() {
        let pushed = Pushed { reference: "10.0.0.1:5000/a/b:1".into(), digest: "sha256:00".into() };
        assert_eq!(pushed.by_digest(), "10.0.0.1:5000/a/b@sha256:00");
    }
}
