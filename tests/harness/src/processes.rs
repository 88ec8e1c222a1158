//! Drop's processes on this machine: the development cluster's pods are processes of the machine itself.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// Process ids of all live processes that run the program `name` in a pod of the cluster whose network this thread is
/// in: other clusters may run beside it.
///
/// # Errors
/// If `/proc` can't be read.
pub fn running(name: &str) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        // A process that has ended in between has no command line any more.
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
        let named = program.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes());
        if named && in_this_cluster(pid).unwrap_or(false) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Whether the parent of a container's process, containerd's shim, is in this thread's network.
fn in_this_cluster(pid: u32) -> Result<bool> {
    let parent = status_line(pid, "PPid")?;
    let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net"));
    Ok(network(&parent)? == network("thread-self")?)
}

/// The process of the program `name` whose environment says `variable=value…`; `value` may be a beginning.
///
/// # Errors
/// If there is none.
pub fn with_environment(name: &str, variable: &str, is: impl Fn(&str) -> bool) -> Result<u32> {
    for pid in running(name)? {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let prefix = format!("{variable}=");
        let value = environment
            .split(|byte| *byte == 0)
            .filter_map(|entry| std::str::from_utf8(entry).ok())
            .find_map(|entry| entry.strip_prefix(&prefix));
        if value.is_some_and(&is) {
            return Ok(pid);
        }
    }
    bail!("no process {name} has the right {variable}")
}

/// The agent's process on this node.
///
/// # Errors
/// If there is none.
pub fn agent_on(node: &str) -> Result<u32> {
    with_environment("drop-agent", "NODE_NAME", |name| name == node)
}

/// A line of `/proc/<pid>/status`, without its name.
///
/// # Errors
/// If the process is gone or has no such line.
pub fn status_line(pid: u32, name: &str) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(|rest| rest.trim().to_owned()))
        .with_context(|| format!("process {pid} has no status line {name}"))
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// If the process is gone.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let line = status_line(pid, "VmRSS")?;
    let kilobytes: u64 = line.trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// Resident memory of a process at its highest, in bytes.
///
/// # Errors
/// If the process is gone.
pub fn peak_resident_bytes(pid: u32) -> Result<u64> {
    let line = status_line(pid, "VmHWM")?;
    let kilobytes: u64 = line.trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// Processor time that a process has used, in user and kernel mode, with all its threads.
///
/// # Errors
/// If the process is gone.
pub fn processor_time(pid: u32) -> Result<Duration> {
    // A tick is a hundredth of a second on every Linux that Kubernetes runs on.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name in parentheses may hold spaces: count fields after it.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let ticks: u32 = ticks.sum::<Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// Sends SIGKILL.
///
/// # Errors
/// If the process can't be killed.
pub async fn kill(pid: u32) -> Result<()> {
    signal(pid, "KILL").await
}

/// Sends the signal of this name, such as `STOP`.
///
/// # Errors
/// If the process is gone.
pub async fn signal(pid: u32, name: &str) -> Result<()> {
    let mut kill = tokio::process::Command::new("kill");
    let status = kill.args([&format!("-{name}"), &pid.to_string()]).status().await?;
    anyhow::ensure!(status.success(), "kill -{name} {pid} failed");
    Ok(())
}
