//! The releases of containerd that the agent is tested on: programs only, each run alone and without a kubelet.

use crate::{packages, parts};
use std::path::{Path, PathBuf};

/// A release that could not be made available.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be built.
    #[error(transparent)]
    Parts(#[from] parts::Error),
    /// Its Debian package could not be unpacked.
    #[error(transparent)]
    Package(#[from] packages::UnpackError),
}

/// A release of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// The one that Debian packages: 1.6 in Debian 12.
    Debian,
    /// The last of the line before containerd 2.
    V1_7,
    /// The one that the nodes of the development cluster run.
    Current,
}

impl Release {
    /// The program, built or unpacked into `cache` unless it is there.
    pub fn program(self, cache: &Path) -> Result<PathBuf, Error> {
        match self {
            Self::Debian => {
                let directory = cache.join("containerd-debian");
                packages::unpack("containerd", &directory)?;
                Ok(directory.join("usr/bin/containerd"))
            }
            Self::V1_7 => Ok(parts::ensure_older_containerd(cache)?),
            Self::Current => Ok(parts::ensure(cache, false)?.join("containerd")),
        }
    }
}
