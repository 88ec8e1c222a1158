//! The leader killed with SIGKILL in mid-rollout: how soon the next grant is issued, and whether the cap held.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use drop_protocol::NodeLease;
use kube::api::ListParams;

use drop_harness::figure::Figure;
use drop_harness::{Cluster, leader, processes};

const DELAY: Duration = Duration::from_secs(2);
const IMAGES: usize = 4;

/// Rolls images out with cap 1, kills the leader after the first grant was taken, and times the next grant.
pub(crate) async fn measure(bench: &Cluster) -> Result<Vec<Figure>> {
    let wanted = bench.fresh_images(IMAGES, 100).await?;
    bench.apply_policy(1, DELAY).await?;
    for image in &wanted {
        bench.apply_image(image).await?;
    }
    let mut seen = BTreeSet::new();
    let mut most = 0;
    let first = next_grant(bench, &mut seen, &mut most).await?;
    println!("{first} has the first grant; killing the leader");
    let killed = Instant::now();
    processes::kill(leader::process(bench).await?).await?;
    let second = next_grant(bench, &mut seen, &mut most).await?;
    let next = killed.elapsed().saturating_sub(DELAY);
    println!("{second} has the next grant");
    let limit = Instant::now() + Duration::from_secs(180);
    loop {
        observe(bench, &mut seen, &mut most).await?;
        if bench.all_ready(&wanted).await? {
            break;
        }
        if Instant::now() > limit {
            bail!("the rollout did not end after the leader was killed");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bench.clean().await?;
    Ok(vec![
        Figure::bounded(
            "leader killed: next grant, beyond the policy's delay",
            next.as_secs_f64(),
            "s",
            20.0,
        ),
        Figure::counted("… most live grants at any time (cap 1)", f64::from(most), "grants", 1.0),
    ])
}

/// Waits for a grant that was not there before; the node that has it.
async fn next_grant(bench: &Cluster, seen: &mut BTreeSet<String>, most: &mut u32) -> Result<String> {
    let limit = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(node) = observe(bench, seen, most).await? {
            return Ok(node);
        }
        if Instant::now() > limit {
            bail!("no new grant within 120 s");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Looks at all node Leases at once: notes new grants and how many live.
async fn observe(bench: &Cluster, seen: &mut BTreeSet<String>, most: &mut u32) -> Result<Option<String>> {
    let selector = format!("{}=true", drop_protocol::names::NODE_LEASE_LABEL);
    let list = bench.leases().list(&ListParams::default().labels(&selector)).await?;
    let (mut live, mut new) = (0, None);
    for lease in &list.items {
        let lease = NodeLease::decode(lease)?;
        let Some(grant) = lease.live_grant().filter(|grant| grant.policy == "benchmark") else { continue };
        live += 1;
        if seen.insert(grant.id.to_string()) {
            new = Some(lease.node.clone());
        }
    }
    *most = (*most).max(live);
    Ok(new)
}
