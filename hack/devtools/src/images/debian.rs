//! Images of real software, made from Debian packages: a minimal Debian as the first layer, each set of packages as a
//! further one, and one static program in an otherwise empty image.
//!
//! All of them share one OCI layout in the cache, whose name is a key over the recipes; only what it lacks is made.

use super::layout::{Layout, Packing, append_file};
use super::{Error, Pushed, push};
use crate::progress::{elapsed, say};
use crate::state::ClusterInfo;
use crate::{command, files, mounts, packages};
use sha2::{Digest, Sha256};
use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The Debian release that the images are made of.
const SUITE: &str = "bookworm";

/// One image: what it starts from and what its layers add.
#[derive(Debug)]
struct Recipe {
    /// Repository below `demo/`.
    name: &'static str,
    tag: &'static str,
    base: Base,
    /// Debian packages of each further layer.
    layers: &'static [&'static str],
    /// What a container runs: each stays up without arguments, so that pods become ready.
    command: &'static str,
}

#[derive(Debug)]
enum Base {
    /// A minimal Debian, made by mmdebstrap.
    Minimal,
    /// Another recipe of the set, by name and tag; it stands before this one.
    Image(&'static str),
    /// Nothing but this program of the cluster, which is static: no shell, no libraries.
    Program(&'static str),
}

/// The demonstration set: 10 to 200 MB, one to three layers.
const RECIPES: &[Recipe] = &[
    Recipe { name: "debian", tag: "12", base: Base::Minimal, layers: &[], command: "sleep infinity" },
    Recipe {
        name: "etcd",
        tag: "3",
        base: Base::Program("etcd"),
        layers: &[],
        command: "/etcd --data-dir=/data --log-level=warn",
    },
    Recipe {
        name: "redis",
        tag: "7",
        base: Base::Image("debian-12"),
        layers: &["redis-server"],
        command: "redis-server --protected-mode no",
    },
    Recipe {
        name: "nginx",
        tag: "1",
        base: Base::Image("debian-12"),
        layers: &["nginx-light"],
        command: "nginx -g \"daemon off;\"",
    },
    Recipe {
        name: "python",
        tag: "3",
        base: Base::Image("debian-12"),
        layers: &["python3", "python3-requests python3-yaml"],
        command: "python3 -m http.server 8000",
    },
    Recipe {
        name: "java",
        tag: "17",
        base: Base::Image("debian-12"),
        layers: &["openjdk-17-jre-headless"],
        command: "sleep infinity",
    },
    Recipe {
        name: "builder",
        tag: "1",
        base: Base::Image("java-17"),
        layers: &["gcc libc6-dev make"],
        command: "sleep infinity",
    },
];

impl Recipe {
    /// Name of the image in the shared layout.
    fn label(&self) -> String {
        format!("{}-{}", self.name, self.tag)
    }
}

/// Makes what the cache lacks of the set and pushes all of it, as `demo/NAME:TAG`.
pub fn push_all(info: &ClusterInfo, cache: &Path) -> Result<Vec<Pushed>, Error> {
    let layout = cache.join(format!("images/debian-{}", key(info)));
    files::create_dir(&layout)?;
    let lock_path = cache.join("images/debian.lock");
    let lock = files::named(File::create(&lock_path), "create", &lock_path)?;
    files::named(lock.lock(), "lock", &lock_path)?;
    let missing: Vec<&Recipe> = RECIPES.iter().filter(|recipe| !holds(&layout, &recipe.label())).collect();
    if !missing.is_empty() {
        packages::ensure(packages::IMAGES)?;
        let kitchen = Kitchen::open(cache.join("images/debian.work"), layout.clone())?;
        for (number, recipe) in missing.iter().enumerate() {
            say(format!("making image {} ({}/{})…", recipe.name, number + 1, missing.len()));
            let started = Instant::now();
            kitchen.make(info, recipe)?;
            say(format!("  made in {}", elapsed(started.elapsed())));
        }
        kitchen.close()?;
    }
    drop(lock);
    say(format!("pushing {} images…", RECIPES.len()));
    RECIPES
        .iter()
        .map(|recipe| {
            let source = format!("{}:{}", layout.display(), recipe.label());
            push(info, &source, &format!("demo/{}:{}", recipe.name, recipe.tag))
        })
        .collect()
}

/// Changes with the recipes and with the programs that images are made of.
fn key(info: &ClusterInfo) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{SUITE} gzip slim {RECIPES:?}"));
    hash.update(info.binaries.file_name().unwrap_or_default().as_encoded_bytes());
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a layout has a finished image under this label.
fn holds(layout: &Path, label: &str) -> bool {
    let index = files::read(&layout.join("index.json")).unwrap_or_default();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap_or_default();
    let manifests = index["manifests"].as_array();
    manifests.is_some_and(|all| {
        all.iter().any(|image| image["annotations"]["org.opencontainers.image.ref.name"] == label)
    })
}

/// A place to cook in: buildah's storage for the time of one run.
struct Kitchen {
    work: PathBuf,
    layout: PathBuf,
}

impl Kitchen {
    fn open(work: PathBuf, layout: PathBuf) -> Result<Self, Error> {
        let kitchen = Self { work, layout };
        // What an interrupted run left may be half made.
        kitchen.clear()?;
        files::create_dir(&kitchen.work)?;
        files::write(&kitchen.policy(), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#)?;
        Ok(kitchen)
    }

    fn close(self) -> Result<(), Error> {
        self.clear()
    }

    fn clear(&self) -> Result<(), Error> {
        mounts::unmount_below(&self.work)?;
        Ok(files::remove_dir(&self.work)?)
    }

    fn policy(&self) -> PathBuf {
        self.work.join("policy.json")
    }

    fn make(&self, info: &ClusterInfo, recipe: &Recipe) -> Result<(), Error> {
        match recipe.base {
            Base::Program(program) => self.make_from_program(info, recipe, program),
            Base::Minimal => {
                let container = command::output(&mut self.buildah(&["from", "scratch"]))?;
                let archive = self.minimal_debian()?;
                command::run(self.buildah(&["add", "--quiet", container.trim()]).arg(&archive).arg("/"))?;
                files::remove_file(&archive)?;
                self.make_layers(recipe, container.trim())
            }
            Base::Image(base) => {
                let container = command::output(&mut self.from(base))?;
                self.make_layers(recipe, container.trim())
            }
        }
    }

    /// A container that starts from an image of the layout.
    fn from(&self, label: &str) -> Command {
        let mut from = self.buildah(&["from", "--quiet", "--signature-policy"]);
        // buildah names the image in its storage after the path, and takes offence at a dot in it: give a relative one.
        let (parent, name) = (self.layout.parent(), self.layout.file_name().unwrap_or_default());
        from.current_dir(parent.unwrap_or(Path::new("/")));
        from.arg(self.policy()).arg(format!("oci:{}:{label}", name.display()));
        from
    }

    fn make_layers(&self, recipe: &Recipe, first: &str) -> Result<(), Error> {
        let label = recipe.label();
        let mut container = first.to_owned();
        for (number, packages) in recipe.layers.iter().enumerate() {
            // Java's packages fail without the directory of manual pages, which a minimal Debian lacks.
            let install = format!(
                "set -e; mkdir -p /usr/share/man/man1; apt-get -q update
                 DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends {packages}
                 apt-get clean; rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log"
            );
            command::run(&mut self.buildah(&["run", &container, "--", "sh", "-c", &install]))?;
            if number + 1 < recipe.layers.len() {
                // A commit ends a layer: go on from what it made.
                let step = format!("{label}-{number}");
                command::run(&mut self.buildah(&["commit", "--quiet", "--rm", &container, &step]))?;
                let mut next = self.buildah(&["from", "--pull-never", &format!("localhost/{step}")]);
                container = command::output(&mut next)?.trim().to_owned();
            }
        }
        let command = format!("[\"/bin/sh\", \"-c\", {:?}]", format!("exec {}", recipe.command));
        command::run(&mut self.buildah(&["config", "--entrypoint", &command, "--cmd", "", &container]))?;
        // Registries hold compressed layers; a commit to a layout would leave them plain.
        let mut commit =
            self.buildah(&["commit", "--quiet", "--rm", "--disable-compression=false", "--signature-policy"]);
        commit.arg(self.policy()).arg(&container).arg(format!("oci:{}:{label}", self.layout.display()));
        Ok(command::run(&mut commit)?)
    }

    fn make_from_program(&self, info: &ClusterInfo, recipe: &Recipe, program: &str) -> Result<(), Error> {
        let directory = self.work.join(program);
        let write = || {
            let mut layout = Layout::create(&directory)?;
            let content = std::fs::read(info.binary(program))?;
            layout.layer(Packing::Gzip(6), |archive| {
                append_file(archive, program, 0o755, content.len() as u64, &content[..])
            })?;
            layout.finish(&recipe.command.split(' ').collect::<Vec<_>>())
        };
        write().map_err(|source| Error::Layout { path: directory.clone(), source })?;
        let mut copy = Command::new("skopeo");
        copy.args(["--insecure-policy", "copy", "--quiet", "--preserve-digests"]);
        copy.arg(format!("oci:{}", directory.display()));
        copy.arg(format!("oci:{}:{}", self.layout.display(), recipe.label()));
        Ok(command::run(&mut copy)?)
    }

    /// A minimal Debian as a tar archive; from the mirror in DROP_DEBIAN_MIRROR when that is set.
    fn minimal_debian(&self) -> Result<PathBuf, Error> {
        let archive = self.work.join("debian.tar");
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=minbase", "--include=ca-certificates"]);
        mmdebstrap.arg("--customize-hook=rm -rf \"$1\"/var/lib/apt/lists/* \"$1\"/var/cache/apt/*.bin");
        // As in published slim images; dpkg in the image keeps to it, so it holds for further layers.
        for path in ["doc", "info", "locale", "man"] {
            mmdebstrap.arg(format!("--dpkgopt=path-exclude=/usr/share/{path}/*"));
        }
        mmdebstrap.arg(SUITE).arg(&archive);
        if let Some(mirror) = env::var_os("DROP_DEBIAN_MIRROR") {
            mmdebstrap.arg(mirror);
        }
        command::run(&mut mmdebstrap)?;
        Ok(archive)
    }

    fn buildah(&self, arguments: &[&str]) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.work.join("storage")).arg("--runroot").arg(self.work.join("run"));
        buildah.args(["--storage-driver", "overlay"]).args(arguments);
        // Neither a container runtime nor a network of its own is needed to install packages.
        buildah.env("BUILDAH_ISOLATION", "chroot");
        buildah
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_stands_before_what_is_made_from_it() {
        for (number, recipe) in RECIPES.iter().enumerate() {
            if let Base::Image(base) = recipe.base {
                assert!(RECIPES[..number].iter().any(|earlier| earlier.label() == base), "{}", recipe.name);
            }
        }
    }

    #[test]
    fn there_are_six_images_and_one_of_them_has_no_shell() {
        assert!(RECIPES.len() >= 6);
        assert!(RECIPES.iter().any(|recipe| matches!(recipe.base, Base::Program(_))));
    }

    #[test]
    fn an_image_is_held_only_under_its_own_label() {
        let layout = tempfile::tempdir().unwrap();
        assert!(!holds(layout.path(), "redis-7"));
        let index = r#"{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"redis-7"}}]}"#;
        files::write(&layout.path().join("index.json"), index).unwrap();
        assert!(holds(layout.path(), "redis-7"));
        assert!(!holds(layout.path(), "redis-8"));
    }
}
