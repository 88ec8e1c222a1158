//! Images of incompressible data with a chosen size: what a benchmark pulls. The name seeds the data, so that equal
//! names give equal digests and different names share no layer.

use super::layout::{Format, Layout, Packing, Top, append_file};
use super::{Error, Pushed, check_registry, push};
use crate::files;
use crate::progress::say;
use crate::state::ClusterInfo;
use sha2::{Digest, Sha256};
use std::io::{self, Read};
use std::path::Path;

/// Makes and pushes `name-1:1` … `name-count:1`, each of `size_mb` MB (10^6 bytes) in `layers` layers.
pub fn push_all(
    info: &ClusterInfo,
    cache: &Path,
    name: &str,
    count: u32,
    size_mb: u32,
    layers: u32,
) -> Result<Vec<Pushed>, Error> {
    check_registry(info)?;
    (1..=count)
        .map(|number| {
            let name = format!("{name}-{number}");
            let directory = ensure(cache, &name, size_mb, layers)?;
            push(info, &directory.to_string_lossy(), &format!("{name}:1"))
        })
        .collect()
}

/// Makes one image in the cache, unless it is there, and returns its layout.
fn ensure(cache: &Path, name: &str, size_mb: u32, layers: u32) -> Result<std::path::PathBuf, Error> {
    let directory =
        cache.join("images/synthetic").join(format!("{}-{size_mb}mb-{layers}", name.replace('/', "_")));
    if directory.join("index.json").exists() {
        return Ok(directory);
    }
    say(format!("making {name} ({size_mb} MB in {layers} layers)…"));
    files::remove_dir(&directory)?;
    let shape =
        Shape { bytes: u64::from(size_mb) * 1_000_000, layers: u64::from(layers), ..Shape::default() };
    write(&directory, name, shape).map_err(|source| Error::Layout { path: directory.clone(), source })?;
    Ok(directory)
}

/// What an image is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Size of its files in all.
    pub bytes: u64,
    /// In how many layers, at least one.
    pub layers: u64,
    /// How they are compressed.
    pub packing: Packing,
    /// Whose media types it has.
    pub format: Format,
    /// What its reference names.
    pub top: Top,
}

impl Default for Shape {
    /// A thousand bytes in one layer, as registries have most images.
    fn default() -> Self {
        Self { bytes: 1000, layers: 1, packing: Packing::Gzip(0), format: Format::Oci, top: Top::Manifest }
    }
}

/// Writes the layout of an image to a directory that must not exist yet. `name` seeds its data.
pub fn write(directory: &Path, name: &str, shape: Shape) -> io::Result<()> {
    let mut layout = Layout::create(directory)?;
    for number in 0..shape.layers {
        // The first layers take one byte more when the size cannot be divided evenly.
        let bytes = shape.bytes / shape.layers + u64::from(number < shape.bytes % shape.layers);
        let data = Noise::new(&format!("{name}/{number}/{}", shape.bytes)).take(bytes);
        let path = format!("data/{number}");
        layout.layer(shape.packing, |archive| append_file(archive, &path, 0o644, bytes, data))?;
    }
    layout.finish_as(&["/none"], shape.format, shape.top)
}

/// An endless stream of bytes that no compressor can shrink (xorshift64*).
struct Noise {
    state: u64,
}

impl Noise {
    fn new(seed: &str) -> Self {
        let digest = Sha256::digest(seed);
        let state = digest.iter().take(8).fold(0, |state, byte| (state << 8) | u64::from(*byte));
        // Zero is the one state that never changes.
        Self { state: state | 1 }
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(directory: &Path) -> Vec<(String, u64)> {
        let mut found: Vec<(String, u64)> = std::fs::read_dir(directory.join("blobs/sha256"))
            .unwrap()
            .map(|blob| blob.unwrap())
            .map(|blob| (blob.file_name().into_string().unwrap(), blob.metadata().unwrap().len()))
            .filter(|(_, size)| *size > 10_000)
            .collect();
        found.sort();
        found
    }

    #[test]
    fn the_compressed_image_has_the_size_that_was_asked_for() {
        let cache = tempfile::tempdir().unwrap();
        let directory = ensure(cache.path(), "bench", 2, 3).unwrap();
        let total: u64 = layers(&directory).iter().map(|(_, size)| size).sum();
        assert_eq!(layers(&directory).len(), 3);
        assert!((2_000_000..2_020_000).contains(&total), "{total}");
    }

    #[test]
    fn different_names_share_no_layer_and_equal_names_share_all() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = layers(&ensure(one.path(), "a", 1, 2).unwrap());
        assert_eq!(first, layers(&ensure(two.path(), "a", 1, 2).unwrap()));
        let other = layers(&ensure(one.path(), "b", 1, 2).unwrap());
        assert!(first.iter().all(|layer| !other.contains(layer)));
    }
}
