//! The control groups of containers: what a killed shim can no longer remove.

use crate::state::NodeInfo;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel shows its control groups.
const ROOT: &str = "/sys/fs/cgroup";
/// containerd's namespace for Kubernetes, and the group that holds one group for each container.
const NAMESPACE: &str = "k8s.io";

/// Ids of the containers that the node's containerd runs or left behind.
#[must_use]
pub fn containers(node: &NodeInfo) -> Vec<String> {
    names(&node.directory.join("run/io.containerd.runtime.v2.task").join(NAMESPACE))
}

/// Removes the groups of ended containers. A group that still holds a process cannot be removed and stays.
pub fn remove(containers: &[String]) {
    for parent in parents(Path::new(ROOT)) {
        for container in containers {
            remove_tree(&parent.join(container));
        }
        // Goes with its last container, of whichever cluster.
        let _ = fs::remove_dir(&parent);
    }
}

/// The containers' parent in the unified hierarchy and in each of the older ones.
fn parents(root: &Path) -> Vec<PathBuf> {
    let mut parents = vec![root.join(NAMESPACE)];
    parents.extend(names(root).iter().map(|hierarchy| root.join(hierarchy).join(NAMESPACE)));
    parents.retain(|parent| parent.is_dir());
    parents
}

/// Groups are removed like empty directories, children first; the files in them are the kernel's.
fn remove_tree(group: &Path) {
    for child in names(group) {
        let child = group.join(child);
        if child.is_dir() {
            remove_tree(&child);
        }
    }
    let _ = fs::remove_dir(group);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_hierarchy_are_found() {
        let root = tempfile::tempdir().unwrap();
        for group in ["k8s.io/a", "memory/k8s.io/a", "pids/other"] {
            fs::create_dir_all(root.path().join(group)).unwrap();
        }
        let mut found = parents(root.path());
        found.sort();
        assert_eq!(found, [root.path().join("k8s.io"), root.path().join("memory/k8s.io")]);
        remove_tree(&found[0].join("a"));
        assert!(!found[0].join("a").exists());
        assert!(found[1].join("a").exists());
    }
}
