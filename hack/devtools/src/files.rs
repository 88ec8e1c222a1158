//! Reading and writing files with errors that name the file.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}")]
pub struct Error {
    /// What was tried, as a verb: `write`, `read`.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the system answered.
    pub source: io::Error,
}

/// Turns an I/O result into one that names `action` and `path`.
pub fn named<T>(result: io::Result<T>, action: &'static str, path: &Path) -> Result<T, Error> {
    result.map_err(|source| Error { action, path: path.to_owned(), source })
}

/// Creates a directory and its parents.
pub fn create_dir(path: &Path) -> Result<(), Error> {
    named(fs::create_dir_all(path), "create directory", path)
}

/// Reads a text file.
pub fn read(path: &Path) -> Result<String, Error> {
    named(fs::read_to_string(path), "read", path)
}

/// Writes a text file at once: readers see the old or the new content, never a part.
pub fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Error> {
    write_with_mode(path, content, 0o644)
}

/// Like [`write`], with the given permission bits; for keys and tokens.
pub fn write_with_mode(path: &Path, content: impl AsRef<[u8]>, mode: u32) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let temporary = path.with_file_name(name);
    named(fs::write(&temporary, content), "write", &temporary)?;
    named(fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)), "set mode of", &temporary)?;
    named(fs::rename(&temporary, path), "replace", path)
}

/// Removes a directory with everything in it; one that is absent is fine.
pub fn remove_dir(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => named(result, "remove", path),
    }
}

/// Removes a file; one that is absent is fine.
pub fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => named(result, "remove", path),
    }
}
