//! Debian packages that the cluster needs: finds what is missing, installs only that.

use crate::progress::say;
use crate::{command, files};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Packages for the cluster itself.
pub const CLUSTER: &[&str] = &[
    "apache2-utils",
    "ca-certificates",
    "containernetworking-plugins",
    "docker-registry",
    "gcc",
    "iproute2",
    "iptables",
    "libc6-dev",
    "libseccomp-dev",
    "openssl",
    "pkg-config",
    "procps",
    "skopeo",
    "util-linux",
];

/// Packages for making images from Debian packages.
pub const IMAGES: &[&str] = &["buildah", "mmdebstrap"];

/// Packages that start a service of the same name.
const SERVICES: &[&str] = &["docker-registry", "prometheus", "victoria-metrics"];

/// Packages that could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This is no Debian.
    #[error(
        "dpkg-query is missing: the cluster installs its tools as Debian packages and needs Debian 12 or newer"
    )]
    NotDebian,
    /// apt-get failed.
    #[error("cannot install {missing}: {source}\nInstall these packages by hand and run the command again.")]
    Install {
        /// The packages.
        missing: String,
        /// What apt-get said.
        source: command::Error,
    },
}

/// A package that could not be downloaded and unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// apt-get or dpkg-deb failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// Its directory could not be made.
    #[error(transparent)]
    File(#[from] files::Error),
}

/// Installs those of `packages` that are missing.
pub fn ensure(packages: &[&str]) -> Result<(), Error> {
    let missing = missing(packages)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    say(format!("installing Debian packages: {names}"));
    let failed = |source| Error::Install { missing: names.clone(), source };
    command::run(apt_get().arg("update")).map_err(failed)?;
    command::run(apt_get().args(["install", "-y", "--no-install-recommends"]).args(&missing))
        .map_err(failed)?;
    for service in SERVICES.iter().filter(|service| missing.contains(service)) {
        keep_service_off(service);
    }
    Ok(())
}

/// Unpacks the newest version of `package` into `directory`, unless that exists, without installing it.
pub fn unpack(package: &str, directory: &Path) -> Result<(), UnpackError> {
    if directory.exists() {
        return Ok(());
    }
    let unfinished = directory.with_extension(format!("new-{}", std::process::id()));
    files::remove_dir(&unfinished)?;
    files::create_dir(&unfinished)?;
    let download = || {
        let mut download = apt_get();
        // apt's own user may not write into this directory.
        download.args(["-o", "APT::Sandbox::User=root", "download", package]).current_dir(&unfinished);
        command::run(&mut download)
    };
    if download().is_err() {
        command::run(apt_get().arg("update"))?;
        download()?;
    }
    command::run(
        Command::new("sh")
            .args(["-c", "dpkg-deb --extract ./*.deb . && rm ./*.deb"])
            .current_dir(&unfinished),
    )?;
    match fs::rename(&unfinished, directory) {
        // Somebody else was first.
        Err(_) if directory.exists() => Ok(files::remove_dir(&unfinished)?),
        renamed => Ok(files::named(renamed, "create", directory)?),
    }
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>, Error> {
    if !Path::new("/usr/bin/dpkg-query").exists() {
        return Err(Error::NotDebian);
    }
    let installed = |package: &str| {
        command::output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
            .is_ok_and(|status| status == "installed")
    };
    Ok(packages.iter().copied().filter(|package| !installed(package)).collect())
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get.arg("-q").env("DEBIAN_FRONTEND", "noninteractive");
    apt_get
}

/// These packages start a server for the whole machine, which nobody asked for: clusters and tests run their own.
fn keep_service_off(service: &str) {
    if Path::new("/run/systemd/system").exists() {
        let off = Command::new("systemctl").args(["disable", "--now", service]).output();
        if off.is_err() {
            say(format!(
                "could not turn off the service `{service}` that its package starts: turn it off by hand"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_packages_are_named() {
        assert_eq!(missing(&["dpkg", "drop-no-such-package"]).unwrap(), ["drop-no-such-package"]);
    }
}
