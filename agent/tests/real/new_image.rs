//! Images made up on the spot, as registries keep them.

use std::path::Path;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

/// Media type of the manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image of one layer of 3 MiB that no runtime has ever seen.
pub struct NewImage {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layer: Vec<u8>,
}

impl NewImage {
    pub fn of(seed: &str) -> Self {
        let layer = tar_of(&format!("{seed} {:?}", SystemTime::now()));
        let layer_digest = digest(&layer);
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{layer_digest}"]}}}}"#
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
            digest(config.as_bytes()),
            config.len(),
            layer.len()
        );
        Self { manifest: manifest.into_bytes(), config: config.into_bytes(), layer }
    }

    /// Digest of the manifest.
    pub fn digest(&self) -> String {
        digest(&self.manifest)
    }

    /// Writes it where docker-registry with its files below `storage` finds it as `repository:1`.
    pub fn store(&self, storage: &Path, repository: &str) {
        let registry = storage.join("docker/registry/v2");
        let write = |file: String, content: &[u8]| {
            let file = registry.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        };
        let at = format!("repositories/{repository}");
        for blob in [&self.manifest, &self.config, &self.layer] {
            let digest = digest(blob);
            let hex = digest.trim_start_matches("sha256:");
            write(format!("blobs/sha256/{}/{hex}/data", &hex[..2]), blob);
            let kind = if blob == &self.manifest { "_manifests/revisions" } else { "_layers" };
            write(format!("{at}/{kind}/sha256/{hex}/link"), digest.as_bytes());
        }
        let digest = self.digest();
        let hex = digest.trim_start_matches("sha256:");
        write(format!("{at}/_manifests/tags/1/current/link"), digest.as_bytes());
        write(format!("{at}/_manifests/tags/1/index/sha256/{hex}/link"), digest.as_bytes());
    }
}

pub fn digest(content: &[u8]) -> String {
    let hash = Sha256::digest(content);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A tar archive of one file of 3 MiB that begins with `seed`.
fn tar_of(seed: &str) -> Vec<u8> {
    let size = 3 * 1024 * 1024;
    let mut header = [0_u8; 512];
    header[..4].copy_from_slice(b"file");
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(seed.as_bytes());
    archive.resize(512 + size, 0);
    archive.resize(archive.len() + 1024, 0);
    archive
}
