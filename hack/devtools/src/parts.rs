//! The programs of the cluster, built from Go modules that `hack/parts` pins, cached outside the work tree.
//!
//! The cache directory's name is a key over everything that decides what is built (go.mod, go.sum, flags): a changed
//! version gets a new directory, an unchanged one costs nothing.

use crate::progress::{elapsed, say};
use crate::{command, files};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A program that could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// There is no usable Go.
    #[error(
        "Go 1.21 or newer is needed on PATH to build Kubernetes (it fetches the exact version by itself): {found}; \
         install one as https://go.dev/doc/install tells"
    )]
    NoGo {
        /// What was found instead.
        found: String,
    },
    /// go.mod does not name the module.
    #[error("{path} does not require {module}")]
    NotPinned {
        /// The go.mod file.
        path: PathBuf,
        /// The module.
        module: &'static str,
    },
    /// The compiler failed.
    #[error("building {program} failed: the output is in {log}\n{said}")]
    Build {
        /// Which program.
        program: &'static str,
        /// Where all of the output is.
        log: PathBuf,
        /// The last of it.
        said: String,
    },
}

/// One program to build.
#[derive(Debug)]
struct Part {
    program: &'static str,
    /// Folder under `hack/parts` with the go.mod that pins it.
    folder: &'static str,
    module: &'static str,
    /// Package path below the module; empty for the module's root.
    package: &'static str,
    /// Linker flags; `{version}` stands for the version in go.mod.
    linker: &'static str,
    tags: &'static str,
    cgo: bool,
    /// Seconds that a cold build took on two cores, for the progress line.
    seconds: u64,
}

const KUBERNETES: Part = Part {
    program: "",
    folder: "kubernetes",
    module: "k8s.io/kubernetes",
    package: "",
    linker: "-s -w -X k8s.io/component-base/version.gitVersion={version}",
    tags: "",
    cgo: false,
    seconds: 0,
};

const CONTAINERD: Part = Part {
    program: "",
    folder: "containerd",
    module: "github.com/containerd/containerd/v2",
    package: "",
    linker: "-s -w -X github.com/containerd/containerd/v2/version.Version={version}",
    tags: "no_btrfs no_devmapper no_zfs",
    cgo: false,
    seconds: 0,
};

/// What the agent is tested on beside the nodes' own.
const OLDER_CONTAINERD: &[Part] = &[Part {
    program: "containerd",
    folder: "containerd-1.7",
    module: "github.com/containerd/containerd",
    package: "cmd/containerd",
    linker: "-s -w -X github.com/containerd/containerd/version.Version={version}",
    seconds: 60,
    ..CONTAINERD
}];

/// In the order in which `up` needs them.
const PARTS: &[Part] = &[
    Part {
        program: "etcd",
        folder: "etcd",
        module: "go.etcd.io/etcd/server/v3",
        package: "",
        linker: "-s -w",
        tags: "",
        cgo: false,
        seconds: 45,
    },
    Part { program: "kube-apiserver", package: "cmd/kube-apiserver", seconds: 225, ..KUBERNETES },
    Part { program: "kubectl", package: "cmd/kubectl", seconds: 25, ..KUBERNETES },
    Part {
        program: "kube-controller-manager",
        package: "cmd/kube-controller-manager",
        seconds: 60,
        ..KUBERNETES
    },
    Part { program: "kube-scheduler", package: "cmd/kube-scheduler", seconds: 6, ..KUBERNETES },
    Part { program: "containerd", package: "cmd/containerd", seconds: 40, ..CONTAINERD },
    Part {
        program: "containerd-shim-runc-v2",
        package: "cmd/containerd-shim-runc-v2",
        seconds: 2,
        ..CONTAINERD
    },
    Part { program: "ctr", package: "cmd/ctr", seconds: 3, ..CONTAINERD },
    Part {
        program: "runc",
        folder: "runc",
        module: "github.com/opencontainers/runc",
        package: "",
        linker: "-s -w",
        tags: "seccomp",
        cgo: true,
        seconds: 10,
    },
    Part { program: "kubelet", package: "cmd/kubelet", seconds: 40, ..KUBERNETES },
];

/// Programs that a cluster without nodes needs.
const CONTROL_PLANE: &[&str] = &["etcd", "kube-apiserver", "kubectl", "kube-controller-manager"];

/// Folder of the pinned modules in the work tree this program was built from.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("parts")
}

/// Builds what is missing and returns the directory of the programs.
pub fn ensure(cache: &Path, control_plane_only: bool) -> Result<PathBuf, Error> {
    let modules = modules();
    let directory = cache.join(format!("bin-{}", key(&modules, PARTS)?));
    let wanted: Vec<&Part> =
        PARTS.iter().filter(|part| !control_plane_only || CONTROL_PLANE.contains(&part.program)).collect();
    make(&modules, &directory, &wanted)?;
    Ok(directory)
}

/// Builds containerd 1.7, which no node of a cluster runs, unless it is there; returns the program.
pub fn ensure_older_containerd(cache: &Path) -> Result<PathBuf, Error> {
    let modules = modules();
    let directory = cache.join(format!("containerd-1.7-{}", key(&modules, OLDER_CONTAINERD)?));
    make(&modules, &directory, &OLDER_CONTAINERD.iter().collect::<Vec<_>>())?;
    Ok(directory.join("containerd"))
}

/// Builds those of `parts` that are not in `directory`.
fn make(modules: &Path, directory: &Path, parts: &[&Part]) -> Result<(), Error> {
    files::create_dir(directory)?;
    let missing = |part: &&&Part| !directory.join(part.program).exists();
    if !parts.iter().any(|part| missing(&part)) {
        return Ok(());
    }
    // A second builder waits here and then finds everything made.
    let lock_path = directory.join(".lock");
    let lock = files::named(fs::File::create(&lock_path), "create", &lock_path)?;
    files::named(lock.lock(), "lock", &lock_path)?;
    let missing: Vec<_> = parts.iter().filter(missing).collect();
    check_go()?;
    for (number, part) in missing.iter().enumerate() {
        say(format!(
            "building {} ({}/{}, about {} on 2 cores)…",
            part.program,
            number + 1,
            missing.len(),
            elapsed(Duration::from_secs(part.seconds))
        ));
        let started = Instant::now();
        build(part, modules, directory)?;
        say(format!("  built in {}", elapsed(started.elapsed())));
    }
    Ok(())
}

fn key(modules: &Path, parts: &[Part]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut folders: Vec<&str> = parts.iter().map(|part| part.folder).collect();
    folders.dedup();
    for folder in folders {
        for file in ["go.mod", "go.sum"] {
            hash.update(files::read(&modules.join(folder).join(file))?);
        }
    }
    for part in parts {
        hash.update([part.package, part.linker, part.tags].join("|"));
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

fn check_go() -> Result<(), Error> {
    let found = command::output(Command::new("go").args(["env", "GOVERSION"]))
        .map_err(|error| Error::NoGo { found: error.to_string() })?;
    let minor =
        found.trim().strip_prefix("go1.").and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
    match minor {
        Some(minor) if minor < 21 => Err(Error::NoGo { found: format!("found {}", found.trim()) }),
        _ => Ok(()),
    }
}

fn build(part: &Part, modules: &Path, directory: &Path) -> Result<(), Error> {
    let folder = modules.join(part.folder);
    let version = pinned_version(&folder.join("go.mod"), part.module)?;
    let unfinished = directory.join(format!(".{}.new", part.program));
    let log = directory.join(format!(".{}.log", part.program));
    let package = if part.package.is_empty() {
        part.module.to_owned()
    } else {
        format!("{}/{}", part.module, part.package)
    };
    let output = files::named(fs::File::create(&log), "create", &log)?;
    let errors = files::named(output.try_clone(), "open", &log)?;
    let status = Command::new("go")
        .current_dir(&folder)
        .args(["build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-tags", part.tags])
        .args(["-ldflags", &part.linker.replace("{version}", &version), "-o"])
        .arg(&unfinished)
        .arg(&package)
        .env("CGO_ENABLED", if part.cgo { "1" } else { "0" })
        .env("GOWORK", "off")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(|source| Error::NoGo { found: source.to_string() })?;
    if !status.success() {
        let said = command::last_lines(&files::read(&log).unwrap_or_default(), 15);
        return Err(Error::Build { program: part.program, log, said });
    }
    let finished = directory.join(part.program);
    files::named(fs::rename(&unfinished, &finished), "replace", &finished)?;
    Ok(files::remove_file(&log)?)
}

fn pinned_version(go_mod: &Path, module: &'static str) -> Result<String, Error> {
    let text = files::read(go_mod)?;
    let version = text.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    });
    version.map(str::to_owned).ok_or_else(|| Error::NotPinned { path: go_mod.to_owned(), module })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_pinned() {
        for part in PARTS.iter().chain(OLDER_CONTAINERD) {
            let version = pinned_version(&modules().join(part.folder).join("go.mod"), part.module).unwrap();
            assert!(version.starts_with('v'), "{}: {version}", part.program);
        }
    }

    #[test]
    fn a_changed_pin_changes_the_key() {
        let copy = tempfile::tempdir().unwrap();
        for part in PARTS {
            let folder = copy.path().join(part.folder);
            files::create_dir(&folder).unwrap();
            for file in ["go.mod", "go.sum"] {
                fs::copy(modules().join(part.folder).join(file), folder.join(file)).unwrap();
            }
        }
        let before = key(copy.path(), PARTS).unwrap();
        assert_eq!(before, key(&modules(), PARTS).unwrap());
        let changed = copy.path().join("runc/go.sum");
        files::write(&changed, format!("{}\n", files::read(&changed).unwrap())).unwrap();
        assert_ne!(before, key(copy.path(), PARTS).unwrap());
    }
}
