//! Writes `crds/yaml/*.yaml` from the API types: `cargo run -p drop-crds --bin crdgen`.

use std::path::Path;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    for (name, content) in drop_crds::manifest::files()? {
        let path = directory.join(name);
        std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
