//! What is kept of a run: rows as JSON, and the page that shows them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use drop_harness::figure;

use crate::seen::{self, Seen};

const HEAD: &str = "# What faults did

Each row is one fault of a real cluster: three kubelets, three containerds, a control plane, and Drop as `deploy/` installs it. It happens
in the middle of a rollout under a PullPolicy of two nodes at once, from a registry that sends slowly. Nothing here is Drop's own word:
*most nodes at once* and *pulls repeated* are computed from the registry's log, in which every node is told apart, and *lost* compares
what containerd lists before and after. [`README.md`](README.md) tells how. `cargo run -p drop-faults -- only FAULT` repeats a row;
`cargo run -p drop-faults -- short` is part of every test run.

";

const TAIL: &str = "
*Fault lasted* ends when what was broken is there again: another leader, another agent, all kubelets ready. A Lease deleted or overwritten
while its node pulls keeps its slot for a minute, in which the third node waits; an API server that is away for longer than a grant lives
costs the pulls in flight, which end when nobody can renew their grants; a node that is not ready is tainted and no target, which costs its own.
";

/// Puts `all` into the JSON file in place of what it says of the same faults, and writes the page of its rows.
pub(crate) fn keep(json: Option<&Path>, page: Option<&Path>, all: &[Seen]) -> Result<()> {
    let Some(json) = json else { return Ok(()) };
    let earlier = match fs::read_to_string(json) {
        Ok(text) => serde_json::from_str(&text).with_context(|| format!("reading {}", json.display()))?,
        Err(_) => Vec::new(),
    };
    let rows = seen::merged(earlier, all);
    figure::write_json(Some(json), &rows)?;
    let Some(page) = page else { return Ok(()) };
    let text = format!("{HEAD}Measured on {}.\n\n{}{TAIL}", machine(), seen::table(&rows));
    fs::write(page, text).with_context(|| format!("writing {}", page.display()))
}

/// The machine in a few words.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let processor = field(&read("/proc/cpuinfo"), "model name");
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kilobytes: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({processor}), {} GiB, Linux {}", kilobytes.div_ceil(1 << 20), kernel.trim())
}
