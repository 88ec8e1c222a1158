//! The images of Drop itself: built by buildah from the project's own Dockerfiles, pushed to the cluster's registry.
//!
//! Their base images are build arguments. Here they are made from Debian packages by `hack/base-images/make`, and the
//! builder uses this machine's Rust toolchain. Everything is kept below the cache; tags are keys over what goes in, so
//! that nothing is built twice.

use crate::network::inside;
use crate::progress::{elapsed, say};
use crate::state::ClusterInfo;
use crate::{command, files, packages};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The two programs; Dockerfile and image are named after them.
pub const PROGRAMS: [&str; 2] = ["coordinator", "agent"];

/// What the programs are compiled from, below the root of the repository.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "Dockerfile.agent",
    "Dockerfile.coordinator",
    "agent",
    "coordinator",
    "crds",
    "proto",
];

/// While cargo compiles, this passes between lines of progress.
const BETWEEN_LINES: Duration = Duration::from_secs(15);

/// How much of a failed build's output is shown.
const LAST_LINES: usize = 40;

/// What else cargo reads: the manifests of all crates are part of the workspace.
const CONTEXT: &[&str] = &[".containerignore", "hack/devtools", "tests"];

/// An image of Drop that could not be built or pushed.
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
    /// The build failed.
    #[error("building from {dockerfile} failed:\n{said}")]
    Build {
        /// From which file.
        dockerfile: String,
        /// The last lines of its output.
        said: String,
    },
}

/// An image of Drop in the cluster's registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductImage {
    /// The program, `coordinator` or `agent`.
    pub program: &'static str,
    /// Registry and repository, without tag.
    pub repository: String,
    /// The tag, a key over the sources.
    pub tag: String,
}

/// Builds what has changed since the last time and pushes both images. `repository` is the root of the checkout.
pub fn ensure(info: &ClusterInfo, cache: &Path, repository: &Path) -> Result<Vec<ProductImage>, Error> {
    packages::ensure(packages::IMAGES)?;
    let workshop = Workshop::open(cache, repository)?;
    let sources = key(&workshop.sources, SOURCES)?;
    let mut pushed = Vec::new();
    for program in PROGRAMS {
        let local = format!("localhost/drop-{program}:{sources}");
        if !workshop.has(&local) {
            workshop.build(program, &local)?;
            workshop.remove_older(program, &sources)?;
        }
        let image = ProductImage {
            program,
            repository: format!("{}/drop/drop-{program}", info.registry),
            tag: sources.clone(),
        };
        workshop.push(info, &local, &format!("{}:{}", image.repository, image.tag))?;
        pushed.push(image);
    }
    Ok(pushed)
}

/// buildah with storage, build mounts and base images below the cache. One at a time.
struct Workshop {
    place: PathBuf,
    repository: PathBuf,
    /// A copy of what is compiled: compiling takes minutes, in which the checkout may change.
    sources: PathBuf,
    _lock: fs::File,
}

impl Workshop {
    fn open(cache: &Path, repository: &Path) -> Result<Self, Error> {
        let place = cache.join("product");
        files::create_dir(&place.join("tmp"))?;
        let lock_path = place.join("lock");
        let lock = files::named(fs::File::create(&lock_path), "create", &lock_path)?;
        files::named(lock.lock(), "lock", &lock_path)?;
        files::write(&place.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
        let sources = place.join("sources");
        files::remove_dir(&sources)?;
        files::create_dir(&sources)?;
        // With their times: cargo tells by them what has changed.
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--parents"]).args(SOURCES).args(CONTEXT).arg(&sources);
        command::run(copy.current_dir(repository))?;
        Ok(Self { place, repository: repository.to_owned(), sources, _lock: lock })
    }

    fn build(&self, program: &str, name: &str) -> Result<(), Error> {
        let bases = [("BUILDER_IMAGE", self.base("builder")?), ("RUNTIME_IMAGE", self.base("runtime")?)];
        let toolchain = command::output(Command::new("rustc").args(["--print", "sysroot"]))?;
        let dockerfile = format!("Dockerfile.{program}");
        say(format!("building from {dockerfile} (the first time about 8 min on 2 cores)…"));
        let started = Instant::now();
        let mut build = self.buildah(&["build", "--quiet", "--pull-never", "--layers=false"]);
        build.arg("--signature-policy").arg(self.place.join("policy.json"));
        for (argument, image) in bases {
            build.arg("--build-arg").arg(format!("{argument}={image}"));
        }
        build.arg("--volume").arg(format!("{}:/usr/local/rust:ro", toolchain.trim()));
        build.args(["--ignorefile", ".containerignore", "--file", &dockerfile, "--tag", name, "."]);
        build.current_dir(&self.sources).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let line = command::line(&build);
        let failed = |source| command::Error::Start { line: line.clone(), source };
        let mut child = build.spawn().map_err(failed)?;
        let said = child.stderr.take().map(follow).unwrap_or_default();
        let status = child.wait().map_err(failed)?;
        if !status.success() {
            return Err(Error::Build { dockerfile, said });
        }
        say(format!("  built in {}", elapsed(started.elapsed())));
        Ok(())
    }

    /// The base image of this kind, made if need be.
    fn base(&self, kind: &str) -> Result<String, Error> {
        let recipe = "hack/base-images/make";
        let name = format!("localhost/drop-base-{kind}:{}", key(&self.repository, &[recipe])?);
        if self.has(&name) {
            return Ok(name);
        }
        say(format!("making the base image {kind} from Debian packages…"));
        let archive = self.place.join(format!("{kind}.tar"));
        files::remove_file(&archive)?;
        command::run(Command::new(self.repository.join(recipe)).arg(kind).arg(&archive))?;
        let container = command::output(&mut self.buildah(&["from", "scratch"]))?;
        let container = container.trim();
        command::run(self.buildah(&["add", "--quiet", container]).arg(&archive).arg("/"))?;
        if kind == "builder" {
            // As in the public images of Rust, but for the toolchain's own place.
            let path =
                "PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
            let environment = ["config", "--env", path, "--env", "CARGO_HOME=/usr/local/cargo", container];
            command::run(&mut self.buildah(&environment))?;
        }
        let mut commit = self.buildah(&["commit", "--quiet", "--rm", "--signature-policy"]);
        command::run(commit.arg(self.place.join("policy.json")).args([container, &name]))?;
        files::remove_file(&archive)?;
        Ok(name)
    }

    fn has(&self, name: &str) -> bool {
        command::succeeds(&mut self.buildah(&["inspect", "--type", "image", name]))
    }

    fn push(&self, info: &ClusterInfo, local: &str, reference: &str) -> Result<(), Error> {
        let buildah = self.buildah(&["push", "--quiet", "--tls-verify=false", "--signature-policy"]);
        let mut push = inside(&info.netns, buildah.get_program());
        push.args(buildah.get_args()).arg(self.place.join("policy.json")).arg(local);
        push.arg(format!("docker://{reference}")).envs(environment(&self.place));
        Ok(command::run(&mut push)?)
    }

    fn remove_older(&self, program: &str, current: &str) -> Result<(), Error> {
        let format = ["images", "--format", "{{.Name}}:{{.Tag}}"];
        let listed = command::output(&mut self.buildah(&format))?;
        let older = |name: &&str| {
            name.strip_prefix(&format!("localhost/drop-{program}:")).is_some_and(|tag| tag != current)
        };
        for name in listed.lines().filter(older) {
            command::run(&mut self.buildah(&["rmi", name]))?;
        }
        Ok(())
    }

    fn buildah(&self, arguments: &[&str]) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.place.join("storage")).arg("--runroot").arg(self.place.join("run"));
        buildah.args(["--storage-driver", "overlay"]).args(arguments).envs(environment(&self.place));
        buildah
    }
}

/// Reads what a build says to its end: shows every now and then how far cargo is, returns the last lines.
fn follow(output: impl Read) -> String {
    let started = Instant::now();
    let mut shown = started;
    let mut crates = 0;
    let mut last = VecDeque::new();
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Some(compiling) = line.trim_start().strip_prefix("Compiling ") {
            crates += 1;
            if shown.elapsed() >= BETWEEN_LINES {
                say(format!("  {:>6}  crate {crates}: {compiling}", elapsed(started.elapsed())));
                shown = Instant::now();
            }
        }
        last.push_back(line);
        if last.len() > LAST_LINES {
            last.pop_front();
        }
    }
    Vec::from(last).join("\n")
}

/// buildah needs no container runtime for a compiler, and keeps its build mounts where temporary files go.
fn environment(place: &Path) -> [(&'static str, PathBuf); 2] {
    [("BUILDAH_ISOLATION", "chroot".into()), ("TMPDIR", place.join("tmp"))]
}

/// A key over the names and contents of files and of everything below directories.
fn key(repository: &Path, paths: &[&str]) -> Result<String, Error> {
    let mut files = Vec::new();
    for path in paths {
        collect(&repository.join(path), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        let content = crate::files::named(fs::read(&path), "read", &path)?;
        hash.update(path.strip_prefix(repository).unwrap_or(&path).as_os_str().as_encoded_bytes());
        hash.update((content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    Ok(hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect())
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) -> Result<(), Error> {
    if !path.is_dir() {
        into.push(path.to_owned());
        return Ok(());
    }
    for entry in files::named(fs::read_dir(path), "list", path)? {
        collect(&files::named(entry, "list", path)?.path(), into)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_a_name_and_with_content_anywhere_below() {
        let tree = tempfile::tempdir().unwrap();
        files::write(&tree.path().join("agent/src/main.rs"), "fn main() {}").unwrap();
        let first = key(tree.path(), &["agent"]).unwrap();
        assert_eq!(key(tree.path(), &["agent"]).unwrap(), first);
        files::write(&tree.path().join("agent/src/main.rs"), "fn main() { }").unwrap();
        let changed = key(tree.path(), &["agent"]).unwrap();
        assert_ne!(changed, first);
        fs::rename(tree.path().join("agent/src/main.rs"), tree.path().join("agent/src/lib.rs")).unwrap();
        assert_ne!(key(tree.path(), &["agent"]).unwrap(), changed);
    }

    #[test]
    fn a_failed_build_shows_its_last_lines() {
        let said: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let last = follow(said.as_bytes());
        assert!(last.ends_with("line 99"), "{last}");
        assert_eq!(last.lines().count(), LAST_LINES);
    }

    #[test]
    fn sources_and_dockerfiles_are_where_the_key_looks() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert!(key(&repository, SOURCES).is_ok());
        for program in PROGRAMS {
            assert!(SOURCES.contains(&format!("Dockerfile.{program}").as_str()));
        }
    }
}
