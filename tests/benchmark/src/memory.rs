//! Resident memory of Drop's processes, as the kernel tells it.

use anyhow::{Context as _, Result};
use drop_harness::processes;

use drop_harness::figure::Figure;

/// The largest agent and the largest coordinator on this machine.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let agent = largest("drop-agent")?;
    let coordinator = largest("drop-coordinator")?;
    Ok(vec![
        Figure::bounded("RSS of an agent", agent, "MB", 15.0),
        Figure::bounded("RSS of a coordinator", coordinator, "MB", 40.0),
    ])
}

fn largest(name: &str) -> Result<f64> {
    let sizes: Result<Vec<u64>> =
        processes::running(name)?.into_iter().map(processes::resident_bytes).collect();
    let bytes =
        sizes?.into_iter().max().with_context(|| format!("no process {name} runs on this machine"))?;
    Ok(bytes as f64 / 1e6)
}
