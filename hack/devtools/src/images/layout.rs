//! Writes an OCI image layout: layers as gzipped tar archives, a configuration, a manifest, an index. The same input
//! gives the same digests.

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// An image layout that is being written.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
    layers: Vec<Value>,
    diff_ids: Vec<String>,
}

impl Layout {
    /// Starts an empty layout in a directory that must not exist yet.
    pub fn create(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        Ok(Self { directory: directory.to_owned(), layers: Vec::new(), diff_ids: Vec::new() })
    }

    /// Adds a layer: `fill` appends the files. `level` is gzip's, 0 for data that cannot be compressed.
    pub fn layer(
        &mut self,
        level: u32,
        fill: impl FnOnce(&mut tar::Builder<&mut dyn Write>) -> io::Result<()>,
    ) -> io::Result<()> {
        let unfinished = self.directory.join("unfinished");
        let compressed = Hashing::new(File::create(&unfinished)?);
        let mut archive = Hashing::new(GzEncoder::new(compressed, Compression::new(level)));
        {
            let out: &mut dyn Write = &mut archive;
            let mut builder = tar::Builder::new(out);
            fill(&mut builder)?;
            builder.finish()?;
        }
        let (encoder, diff_id, _) = archive.end();
        let (_, digest, size) = encoder.finish()?.end();
        fs::rename(&unfinished, self.blob(&digest))?;
        self.layers.push(json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": format!("sha256:{digest}"),
            "size": size,
        }));
        self.diff_ids.push(format!("sha256:{diff_id}"));
        Ok(())
    }

    /// Writes configuration, manifest and index. `entrypoint` is the program and its arguments.
    pub fn finish(self, entrypoint: &[&str]) -> io::Result<()> {
        let config = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": entrypoint },
            "rootfs": { "type": "layers", "diff_ids": self.diff_ids },
        });
        let config = self.json_blob("application/vnd.oci.image.config.v1+json", &config)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": self.layers,
        });
        let manifest = self.json_blob("application/vnd.oci.image.manifest.v1+json", &manifest)?;
        fs::write(self.directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.directory.join("index.json"), index.to_string())
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
            .layer(6, |archive| {
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
}
