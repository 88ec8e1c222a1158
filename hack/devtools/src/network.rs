//! The network namespace of the cluster: addresses, the service address of the API server, and ways in.
//!
//! One bridge carries the address of the control plane and registry and one address for every node. Nothing leads out.

use crate::command;
use crate::settings::Settings;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Address of the API server and the registry.
pub const GATEWAY: &str = "10.77.0.1";
/// Address under which pods find the API server; the first of the service range.
pub const SERVICE_ADDRESS: &str = "10.96.0.1";
/// Range of service addresses.
pub const SERVICE_RANGE: &str = "10.96.0.0/16";
/// The greatest number of nodes that there are addresses for.
pub const MOST_NODES: u8 = 200;

const BRIDGE: &str = "drop0";

/// The network could not be made or entered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ip, iptables or sysctl failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// The namespace cannot be entered.
    #[error("cannot enter the network namespace {path}: {source}; run `hack/cluster up` as root")]
    Enter {
        /// The namespace.
        path: PathBuf,
        /// What the system answered.
        source: std::io::Error,
    },
}

/// Address of the node with this number (from 1).
#[must_use]
pub fn node_address(number: u8) -> String {
    format!("10.77.0.{}", u16::from(number) + 10)
}

/// Range of the pods on the node with this number.
#[must_use]
pub fn pod_range(number: u8) -> String {
    format!("10.244.{number}.0/24")
}

/// Makes the namespace and its addresses, as far as they are missing.
pub fn ensure(settings: &Settings, nodes: &[String]) -> Result<(), Error> {
    let netns = settings.netns();
    if !exists(&netns) {
        // A file without a mounted namespace is left over from a crash or a reboot.
        let _ = std::fs::remove_file(&netns);
        command::run(Command::new("ip").args(["netns", "add", &settings.netns_name()]))?;
    }
    let mut script = format!(
        "set -e
         ip link set lo up
         ip link show {BRIDGE} >/dev/null 2>&1 || ip link add {BRIDGE} type bridge
         ip link set {BRIDGE} up
         ip address replace {GATEWAY}/24 dev {BRIDGE}
         echo 1 >/proc/sys/net/ipv4/ip_forward
         rule='-p tcp -d {SERVICE_ADDRESS} --dport 443 -j DNAT --to-destination {GATEWAY}:6443'
         for chain in PREROUTING OUTPUT; do
           iptables -w -t nat -C $chain $rule 2>/dev/null || iptables -w -t nat -A $chain $rule
         done
         ip route replace {SERVICE_RANGE} dev {BRIDGE}\n"
    );
    for address in nodes {
        script.push_str(&format!("ip address replace {address}/32 dev {BRIDGE}\n"));
    }
    Ok(command::run(inside(&netns, "sh").args(["-c", &script]))?)
}

/// Whether a namespace is mounted at this path.
#[must_use]
pub fn exists(netns: &Path) -> bool {
    // A plain file looks the same: entering is the only sure test.
    netns.exists() && command::succeeds(&mut inside(netns, "true"))
}

/// Removes the namespace; one that is absent is fine.
pub fn remove(settings: &Settings) -> Result<(), Error> {
    if settings.netns().exists() {
        command::run(Command::new("ip").args(["netns", "delete", &settings.netns_name()]))?;
    }
    Ok(())
}

/// A command that runs `program` inside the network namespace. Unlike `ip netns exec` it keeps the cgroup mounts.
#[must_use]
pub fn inside(netns: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", netns.display())).arg("--").arg(program);
    command
}

/// Moves the calling thread into the namespace, with all threads it starts from now on. A test calls it first thing, on
/// the thread that then builds its asynchronous runtime.
pub fn enter(netns: &Path) -> Result<(), Error> {
    let failed = |source| Error::Enter { path: netns.to_owned(), source };
    let namespace = File::open(netns).map_err(failed)?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))
}

/// Whether `http://address/path` answers 200 inside the namespace.
#[must_use]
pub fn http_ok(netns: &Path, address: &str, path: &str) -> bool {
    let netns = netns.to_owned();
    let (address, path) = (address.to_owned(), path.to_owned());
    // A thread of its own, so that the caller stays where it is.
    let asked = std::thread::spawn(move || {
        enter(&netns).ok()?;
        let address: SocketAddr = address.parse().ok()?;
        let patience = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&address, patience).ok()?;
        stream.set_read_timeout(Some(patience)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer).ok()?;
        answer.lines().next()?.split(' ').nth(1).map(|code| code == "200")
    });
    asked.join().ok().flatten().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_node_gets_the_address_of_the_control_plane_or_of_another() {
        let mut seen = std::collections::BTreeSet::from([GATEWAY.to_owned()]);
        for number in 1..=MOST_NODES {
            let address = node_address(number);
            assert!(address.parse::<std::net::Ipv4Addr>().is_ok(), "{address}");
            assert!(seen.insert(address), "node {number} has an address that is taken");
        }
    }
}
