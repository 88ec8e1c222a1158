//! A node's disk: a file system of its own, in a sparse file.
//!
//! The kubelet and Drop's agent both look at how full the disk with the images is. Were it the machine's own, what they
//! do would depend on what else lies there; so each node has one that only its images and pods fill.

use crate::mounts::{self, Error};
use crate::state::NodeInfo;
use crate::{command, files};
use std::fs::File;
use std::process::Command;

/// Size of a node's disk as the node sees it; the file takes no more room than what is written.
const BYTES: u64 = 40 << 30;

/// Makes and mounts the node's disk, unless it is mounted.
pub fn ensure(node: &NodeInfo) -> Result<(), Error> {
    let directory = node.directory.join("disk");
    files::create_dir(&directory)?;
    if mounts::is_mounted(&directory) {
        return Ok(());
    }
    let image = node.directory.join("disk.ext4");
    if !image.exists() {
        files::named(File::create(&image).and_then(|file| file.set_len(BYTES)), "make", &image)?;
        command::run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
    }
    Ok(command::run(Command::new("mount").args(["-o", "loop,discard"]).arg(&image).arg(&directory))?)
}
