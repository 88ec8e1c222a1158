//! The mount namespace of a node: containerd and the kubelet see their usual paths, each node its own directories.
//!
//! The namespaces are pinned by files on a small private tmpfs below the state directory. What containerd and the
//! kubelet mount stays inside and is gone with the namespace.

use crate::state::{ClusterInfo, NodeInfo};
use crate::{command, disk, files};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Path on the node, directory below the node's own.
const BINDS: &[(&str, &str)] = &[
    ("/run/containerd", "run"),
    ("/var/lib/containerd", "disk/containerd"),
    ("/var/lib/kubelet", "disk/kubelet"),
    ("/var/lib/cni", "cni"),
    ("/etc/containerd", "etc/containerd"),
    ("/etc/cni", "etc/cni"),
    ("/var/log/pods", "log/pods"),
    ("/var/log/containers", "log/containers"),
];

/// A namespace that could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// mount, umount or unshare failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// A directory could not be made.
    #[error(transparent)]
    File(#[from] files::Error),
}

/// Makes the place that pins the namespaces, unless it is there.
pub fn ensure_place(info: &ClusterInfo) -> Result<(), Error> {
    let place = info.namespaces();
    files::create_dir(&place)?;
    if !is_mounted(&place) {
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "mode=0700,size=1m", "--make-private", "drop-namespaces"])
            .arg(&place);
        command::run(&mut mount)?;
    }
    Ok(())
}

/// Makes the namespace of a node, unless it is there.
pub fn ensure_node(node: &NodeInfo) -> Result<(), Error> {
    disk::ensure(node)?;
    for (path, own) in BINDS {
        files::create_dir(Path::new(path))?;
        files::create_dir(&node.directory.join(own))?;
    }
    if identity(&node.mount_namespace).is_some() {
        return Ok(());
    }
    files::write(&node.mount_namespace, "")?;
    // Slave: what the machine mounts later is seen, what the node mounts stays. Shared again inside, because containers
    // may ask for propagation.
    let mut script = "set -e; mount --make-rshared /\n".to_owned();
    for (path, own) in BINDS {
        script.push_str(&format!("mount --bind '{}' '{path}'\n", node.directory.join(own).display()));
    }
    let mut unshare = Command::new("unshare");
    unshare.arg(format!("--mount={}", node.mount_namespace.display()));
    unshare.args(["--propagation", "slave", "--", "sh", "-c", &script]);
    let made = command::run(&mut unshare);
    if made.is_err() {
        // A namespace without its binds must not be taken for a finished one.
        release_node(node)?;
    }
    Ok(made?)
}

/// A command that runs `program` on the node: in the cluster's network and with the node's paths.
#[must_use]
pub fn on_node(info: &ClusterInfo, node: &NodeInfo, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net={}", info.netns.display()))
        .arg(format!("--mount={}", node.mount_namespace.display()))
        .arg("--")
        .arg(program);
    command
}

/// Process ids of everything that runs with the node's paths: containerd, kubelet, shims.
#[must_use]
pub fn members(node: &NodeInfo) -> Vec<i32> {
    let Some(wanted) = identity(&node.mount_namespace) else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| identity(Path::new(&format!("/proc/{pid}/ns/mnt"))) == Some(wanted))
        .collect()
}

/// Lets go of a node's namespace; the kernel removes it, with all mounts in it, when its last process has ended.
pub fn release_node(node: &NodeInfo) -> Result<(), Error> {
    if identity(&node.mount_namespace).is_some() {
        command::run(Command::new("umount").arg(&node.mount_namespace))?;
    }
    Ok(files::remove_file(&node.mount_namespace)?)
}

/// Unmounts everything at and below a directory, the deepest first.
pub fn unmount_below(directory: &Path) -> Result<(), Error> {
    for mounted in mounted_below(directory) {
        let gone = command::run(Command::new("umount").arg(&mounted));
        if gone.is_err() {
            // Still in use: detach it, the last user closes it.
            command::run(Command::new("umount").arg("--lazy").arg(&mounted))?;
        }
    }
    Ok(())
}

/// Mount points at and below a directory, the deepest first.
#[must_use]
pub fn mounted_below(directory: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|point| point.starts_with(directory))
        .collect();
    points.reverse();
    points
}

/// Whether something is mounted at this very directory.
#[must_use]
pub fn is_mounted(directory: &Path) -> bool {
    mounted_below(directory).iter().any(|point| point == directory)
}

/// Device and inode of a namespace file; `None` for a plain file.
fn identity(namespace: &Path) -> Option<(u64, u64)> {
    let found = fs::metadata(namespace).ok()?;
    let own = fs::metadata("/proc/self/ns/mnt").ok()?;
    // All namespace files live on the one nsfs device.
    (found.dev() == own.dev()).then(|| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_file_is_no_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("node-1");
        fs::write(&plain, "").unwrap();
        assert_eq!(identity(&plain), None);
        assert!(identity(Path::new("/proc/self/ns/mnt")).is_some());
    }
}
