//! Writes an OCI image layout: layers as compressed tar archives, a configuration, a manifest, an index. The same input
//! gives the same digests.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// By gzip at this level; 0 for data that cannot be compressed.
    Gzip(u32),
    /// By zstd at its default level.
    Zstd,
}

/// Whose media types an image has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Those of the Open Container Initiative.
    Oci,
    /// Docker's image manifest version 2, schema 2.
    Docker,
}

/// What the image's reference names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    /// The manifest of this machine's architecture.
    Manifest,
    /// An index of that manifest and one of another architecture.
    Index,
    /// An index of another architecture's manifest only: nothing that this machine could run.
    ForeignIndex,
}

/// An architecture that no machine here has.
const FOREIGN: &str = "s390x";

/// An image layout that is being written.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
    layers: Vec<Layer>,
}

/// A layer that has been written.
#[derive(Debug)]
struct Layer {
    packing: Packing,
    digest: String,
    size: u64,
    /// Digest of the archive before it was compressed.
    diff_id: String,
}

impl Layout {
    /// Starts an empty layout in a directory that must not exist yet.
    pub fn create(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        Ok(Self { directory: directory.to_owned(), layers: Vec::new() })
    }

    /// Adds a layer: `fill` appends the files.
    pub fn layer(
        &mut self,
        packing: Packing,
        fill: impl FnOnce(&mut tar::Builder<&mut dyn Write>) -> io::Result<()>,
    ) -> io::Result<()> {
        let unfinished = self.directory.join("unfinished");
        let compressed = Hashing::new(File::create(&unfinished)?);
        let (diff_id, (_, digest, size)) = match packing {
            Packing::Gzip(level) => {
                let (encoder, diff_id) = pack(GzEncoder::new(compressed, Compression::new(level)), fill)?;
                (diff_id, encoder.finish()?.end())
            }
            Packing::Zstd => {
                let (encoder, diff_id) = pack(zstd::Encoder::new(compressed, 0)?, fill)?;
                (diff_id, encoder.finish()?.end())
            }
        };
        fs::rename(&unfinished, self.blob(&digest))?;
        self.layers.push(Layer { packing, digest, size, diff_id });
        Ok(())
    }

    /// Writes configuration, manifest and index. `entrypoint` is the program and its arguments.
    pub fn finish(self, entrypoint: &[&str]) -> io::Result<()> {
        self.finish_as(entrypoint, Format::Oci, Top::Manifest)
    }

    /// As [`finish`](Self::finish), in the form that is asked for.
    pub fn finish_as(self, entrypoint: &[&str], format: Format, top: Top) -> io::Result<()> {
        let named = match top {
            Top::Manifest => self.manifest(entrypoint, format, architecture())?,
            Top::Index => self.index(entrypoint, format, &[FOREIGN, architecture()])?,
            Top::ForeignIndex => self.index(entrypoint, format, &[FOREIGN])?,
        };
        fs::write(self.directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let contents = json!({ "schemaVersion": 2, "manifests": [named] });
        fs::write(self.directory.join("index.json"), contents.to_string())
    }

    fn index(&self, entrypoint: &[&str], format: Format, architectures: &[&str]) -> io::Result<Value> {
        let mut manifests = Vec::new();
        for architecture in architectures {
            let mut manifest = self.manifest(entrypoint, format, architecture)?;
            manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
            manifests.push(manifest);
        }
        let media_type = format.index();
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
        self.json_blob(media_type, &index)
    }

    fn manifest(&self, entrypoint: &[&str], format: Format, architecture: &str) -> io::Result<Value> {
        let diff_ids: Vec<String> =
            self.layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Entrypoint": entrypoint },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| {
                json!({
                    "mediaType": format.layer(layer.packing),
                    "digest": format!("sha256:{}", layer.digest),
                    "size": layer.size,
                })
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": format.manifest(),
            "config": self.json_blob(format.config(), &config)?,
            "layers": layers,
        });
        self.json_blob(format.manifest(), &manifest)
    }

    fn json_blob(&self, media_type: &str, content: &Value) -> io::Result<Value> {
        let text = content.to_string();
        let digest = hex(Sha256::digest(&text));
        fs::write(self.blob(&digest), &text)?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len() }))
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest)
    }
}

impl Format {
    const fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    const fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    const fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    const fn layer(self, packing: Packing) -> &'static str {
        match (self, packing) {
            (Self::Oci, Packing::Gzip(_)) => "application/vnd.oci.image.layer.v1.tar+gzip",
            (Self::Oci, Packing::Zstd) => "application/vnd.oci.image.layer.v1.tar+zstd",
            (Self::Docker, Packing::Gzip(_)) => "application/vnd.docker.image.rootfs.diff.tar.gzip",
            (Self::Docker, Packing::Zstd) => "application/vnd.docker.image.rootfs.diff.tar.zstd",
        }
    }
}

/// Writes a tar archive through `encoder`; returns the encoder and the archive's digest.
fn pack<W: Write>(
    encoder: W,
    fill: impl FnOnce(&mut tar::Builder<&mut dyn Write>) -> io::Result<()>,
) -> io::Result<(W, String)> {
    let mut archive = Hashing::new(encoder);
    {
        let out: &mut dyn Write = &mut archive;
        let mut builder = tar::Builder::new(out);
        fill(&mut builder)?;
        builder.finish()?;
    }
    let (encoder, digest, _) = archive.end();
    Ok((encoder, digest))
}

/// Appends one file with fixed owner and time.
pub fn append_file(
    archive: &mut tar::Builder<&mut dyn Write>,
    path: &str,
    mode: u32,
    size: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    archive.append_data(&mut header, path, content)
}

/// The machine's architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts and hashes what is written through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }

    fn end(self) -> (W, String, u64) {
        (self.inner, hex(self.hash.finalize()), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command;
    use std::process::Command;

    fn write(directory: &Path, content: &str) {
        let mut layout = Layout::create(directory).unwrap();
        layout
            .layer(Packing::Gzip(6), |archive| {
                append_file(archive, "etc/motd", 0o644, content.len() as u64, content.as_bytes())
            })
            .unwrap();
        layout.finish(&["/bin/true"]).unwrap();
    }

    #[test]
    fn the_same_content_gives_the_same_image_and_other_content_another() {
        let place = tempfile::tempdir().unwrap();
        let index = |name: &str, content: &str| {
            let directory = place.path().join(name);
            write(&directory, content);
            fs::read_to_string(directory.join("index.json")).unwrap()
        };
        assert_eq!(index("a", "hello"), index("b", "hello"));
        assert_ne!(index("c", "hello"), index("d", "other"));
    }

    #[test]
    fn every_blob_is_named_by_its_digest_and_holds_the_file() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("image");
        write(&directory, "hello");
        let mut listed = Vec::new();
        for blob in fs::read_dir(directory.join("blobs/sha256")).unwrap() {
            let path = blob.unwrap().path();
            let sum = command::output(Command::new("sha256sum").arg(&path)).unwrap();
            assert!(sum.starts_with(path.file_name().unwrap().to_str().unwrap()));
            if let Ok(names) = command::output(Command::new("tar").arg("-tzf").arg(&path)) {
                listed.push(names);
            }
        }
        assert_eq!(listed, ["etc/motd\n"]);
    }

    #[test]
    fn an_index_names_manifests_that_are_there_with_the_media_types_of_its_format() {
        let place = tempfile::tempdir().unwrap();
        let read = |directory: &Path, descriptor: &Value| -> Value {
            let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
            let text = fs::read_to_string(directory.join("blobs/sha256").join(digest)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        for (name, format, vendor) in
            [("oci", Format::Oci, "vnd.oci."), ("docker", Format::Docker, "vnd.docker.")]
        {
            let directory = place.path().join(name);
            let mut layout = Layout::create(&directory).unwrap();
            layout
                .layer(Packing::Zstd, |archive| append_file(archive, "file", 0o644, 1, b"1".as_slice()))
                .unwrap();
            layout.finish_as(&["/none"], format, Top::Index).unwrap();
            let contents = fs::read_to_string(directory.join("index.json")).unwrap();
            let contents: Value = serde_json::from_str(&contents).unwrap();
            let index = read(&directory, &contents["manifests"][0]);
            let manifests = index["manifests"].as_array().unwrap();
            assert_eq!(manifests.len(), 2);
            for entry in manifests {
                let manifest = read(&directory, entry);
                let config = read(&directory, &manifest["config"]);
                assert_eq!(config["architecture"], entry["platform"]["architecture"]);
                assert!(config["rootfs"]["diff_ids"][0].as_str().unwrap().starts_with("sha256:"));
                for media_type in
                    [&index["mediaType"], &entry["mediaType"], &manifest["layers"][0]["mediaType"]]
                {
                    assert!(media_type.as_str().unwrap().contains(vendor), "{media_type}");
                }
            }
        }
    }
}
