//! The agent of a node killed or stopped in the middle of its pull, or no longer told of its grant.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, ensure};
use drop_harness::processes;

use crate::packets::Rule;
use crate::stage::Stage;

/// Of an agent whose connections are dead, until it pulls: half a minute until it finds out, the end of another's pull
/// beside it, and what a busy machine adds. Watches end by themselves after 200 s and more.
const FINDS_OUT: Duration = Duration::from_secs(75);

/// SIGKILL; the kubelet starts it again.
pub(crate) async fn killed(stage: &Stage<'_>) -> Result<()> {
    let node = stage.puller()?;
    let agent = processes::agent_on(&node)?;
    processes::kill(agent).await?;
    stage.wait("an agent again", async || Ok(processes::agent_on(&node)? != agent)).await
}

/// SIGSTOP, and nobody lets it go on: the kernel ends it when its grant does, and with it the pull.
pub(crate) async fn paused(stage: &Stage<'_>) -> Result<()> {
    let node = stage.puller()?;
    let agent = processes::agent_on(&node)?;
    processes::signal(agent, "STOP").await?;
    stage.pace(Duration::from_secs(4));
    let outcome = stage.wait("an agent again", async || Ok(processes::agent_on(&node)? != agent)).await;
    if outcome.is_err() {
        processes::kill(agent).await?;
    }
    outcome
}

/// The network forgets all connections that the agent of a node has, both ways; it may make new ones. The node waits for
/// its turn, so that it has nothing to say which would fail.
pub(crate) async fn connections_forgotten(stage: &Stage<'_>) -> Result<()> {
    let node = stage.waiter()?;
    let connections = connections_of(processes::agent_on(&node)?)?;
    ensure!(!connections.is_empty(), "the agent of {node} has no connection");
    let forget = |end: &SocketAddrV4| Rule::forget(&stage.cluster.info, *end);
    let _forgotten = connections.iter().map(forget).collect::<Result<Vec<_>>>()?;
    let pulls = async || Ok(stage.door.pulling().contains(&node));
    stage.cluster.wait_until(FINDS_OUT, &format!("{node} pulls"), pulls).await
}

/// This process's ends of its connections to the API server's service.
fn connections_of(pid: u32) -> Result<Vec<SocketAddrV4>> {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?;
    let connection = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (here, there, state) = (end(fields.next()?)?, end(fields.next()?)?, fields.next()?);
        (there.port() == 443 && state == ESTABLISHED).then_some(here)
    };
    Ok(table.lines().filter_map(connection).collect())
}

/// An address as the kernel's tables have it: `0100007F:1F90`, in the machine's byte order.
fn end(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_ne_bytes());
    Some(SocketAddrV4::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::end;

    #[test]
    fn an_address_of_the_kernels_is_read() {
        assert_eq!(end("0100007F:1F90"), Some("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(end("local_address"), None);
    }
}
