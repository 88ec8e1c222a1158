//! The pod sandbox image: one static program that waits and collects orphans, in an image without anything else.

use super::layout::{Layout, Packing, append_file};
use super::{Error, push};
use crate::node::PAUSE_IMAGE;
use crate::state::ClusterInfo;
use crate::{command, files};
use std::path::Path;
use std::process::Command;

const SOURCE: &str = include_str!("pause.c");

/// Makes the image and pushes it, unless that was done for this cluster.
pub fn ensure(info: &ClusterInfo) -> Result<(), Error> {
    let directory = info.state.join("pause");
    let pushed = directory.join("pushed");
    if pushed.exists() {
        return Ok(());
    }
    files::remove_dir(&directory)?;
    files::create_dir(&directory)?;
    let program = compile_static(&directory, "pause", SOURCE)?;
    let layout = directory.join("image");
    write(&layout, &program).map_err(|source| Error::Layout { path: layout.clone(), source })?;
    let image = push(info, &layout.to_string_lossy(), PAUSE_IMAGE)?;
    Ok(files::write(&pushed, image.to_string())?)
}

/// Compiles a C program that needs no shared library.
pub(super) fn compile_static(
    directory: &Path,
    name: &str,
    source: &str,
) -> Result<std::path::PathBuf, Error> {
    let source_file = directory.join(format!("{name}.c"));
    files::write(&source_file, source)?;
    let program = directory.join(name);
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-Os", "-s", "-o"]).arg(&program).arg(&source_file);
    command::run(&mut gcc)?;
    Ok(program)
}

fn write(directory: &Path, program: &Path) -> std::io::Result<()> {
    let mut layout = Layout::create(directory)?;
    let content = std::fs::read(program)?;
    layout.layer(Packing::Gzip(6), |archive| {
        append_file(archive, "pause", 0o755, content.len() as u64, content.as_slice())
    })?;
    layout.finish(&["/pause"])
}
