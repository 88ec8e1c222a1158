//! An image removed from a node by hand: how soon status shows it, how soon it is back.

use std::time::{Duration, Instant};

use anyhow::Result;

use drop_harness::Cluster;
use drop_harness::figure::Figure;

const DELAY: Duration = Duration::from_secs(1);

/// So long that a node which has to wait for it stays without the image.
const FOREVER: Duration = Duration::from_secs(3600);

/// Removes one cached image from all nodes while only one of them may pull, and another from a node that may pull at
/// once. They are two because a pair that was evicted before is by design due again only after the policy's backoff.
pub(crate) async fn measure(bench: &Cluster) -> Result<Vec<Figure>> {
    let wanted = bench.fresh_images(2, 20).await?;
    let (shown, returning) = (&wanted[..1], &wanted[1]);
    let image = &shown[0];
    let nodes = i32::try_from(bench.nodes.len())?;
    bench.apply_policy(bench.nodes.len(), DELAY).await?;
    for image in &wanted {
        bench.apply_image(image).await?;
    }
    bench.wait_ready(&wanted, Duration::from_secs(120)).await?;
    bench.edit_delay(FOREVER).await?;
    // Past the delay and the status rate limit, so that only the eviction is timed.
    tokio::time::sleep(DELAY + Duration::from_secs(5)).await;
    println!("removing {} from every node", image.reference());
    let start = Instant::now();
    bench.remove_everywhere(shown).await?;
    bench
        .wait_until(Duration::from_secs(60), "status shows the loss", async || {
            Ok(bench.ready_nodes(&image.name).await?.is_some_and(|ready| ready < nodes))
        })
        .await?;
    let seen = start.elapsed();

    bench.edit_delay(DELAY).await?;
    bench.wait_ready(&wanted, Duration::from_secs(120)).await?;
    tokio::time::sleep(DELAY + Duration::from_secs(5)).await;
    let (node, cri) = &bench.nodes[0];
    println!("removing {} from {node}", returning.reference());
    let start = Instant::now();
    cri.remove(&returning.reference()).await?;
    bench
        .wait_until(Duration::from_secs(60), "the image is back", async || {
            cri.has(&returning.reference()).await
        })
        .await?;
    let back = start.elapsed().saturating_sub(DELAY);
    bench.clean().await?;
    Ok(vec![
        Figure::bounded("image removed by hand, until status shows it", seen.as_secs_f64(), "s", 4.0),
        Figure::bounded("… until it is back, beyond the policy's delay", back.as_secs_f64(), "s", 15.0),
    ])
}
