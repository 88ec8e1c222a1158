//! Rules that drop or lead astray packets of pods inside the cluster's network.

use std::net::SocketAddrV4;
use std::process::Command;

use anyhow::Result;
use drop_devtools::command;
use drop_devtools::network::{SERVICE_ADDRESS, inside};
use drop_devtools::state::ClusterInfo;

/// All pods of all nodes.
const PODS: &str = "10.244.0.0/16";

/// A rule that holds until this is dropped.
#[derive(Debug)]
pub(crate) struct Rule {
    info: ClusterInfo,
    words: Vec<String>,
}

impl Rule {
    /// The pod with this address can't say anything to the API server.
    pub(crate) fn cut_off(info: &ClusterInfo, pod: &str) -> Result<Self> {
        Self::add(info, &format!("filter INPUT -s {pod} -p tcp --dport 6443 -j DROP"))
    }

    /// The connection of a pod to the API server that comes from this address and port is dead, and neither end is told.
    pub(crate) fn forget(info: &ClusterInfo, end: SocketAddrV4) -> Result<[Self; 2]> {
        let (pod, port) = (end.ip(), end.port());
        Ok([
            Self::add(info, &format!("filter INPUT -s {pod} -p tcp --sport {port} --dport 6443 -j DROP"))?,
            Self::add(info, &format!("filter OUTPUT -d {pod} -p tcp --sport 6443 --dport {port} -j DROP"))?,
        ])
    }

    /// New connections of all pods to the API server go to this port.
    pub(crate) fn lead_to(info: &ClusterInfo, port: u16) -> Result<Self> {
        let to = drop_devtools::network::GATEWAY;
        let service = format!("-d {SERVICE_ADDRESS} --dport 443");
        let rule = format!("nat PREROUTING -s {PODS} -p tcp {service} -j DNAT --to-destination {to}:{port}");
        Self::add(info, &rule)
    }

    fn add(info: &ClusterInfo, rule: &str) -> Result<Self> {
        let words = rule.split(' ').map(str::to_owned).collect();
        let rule = Self { info: info.clone(), words };
        command::run(&mut rule.iptables("-I"))?;
        Ok(rule)
    }

    fn iptables(&self, what: &str) -> Command {
        let mut iptables = inside(&self.info.netns, "iptables");
        iptables.args(["-w", "-t", &self.words[0], what, &self.words[1]]).args(&self.words[2..]);
        iptables
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        let _ = command::run(&mut self.iptables("-D"));
    }
}
