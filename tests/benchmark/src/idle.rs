//! An idle cluster: nothing changes, so Drop writes nothing.

use std::time::Duration;

use anyhow::Result;

use drop_harness::Cluster;
use drop_harness::audit::Mark;
use drop_harness::figure::Figure;

/// Counts Drop's writes over `time` with one image cached and nothing to do.
pub(crate) async fn measure(bench: &Cluster, time: Duration) -> Result<Vec<Figure>> {
    let wanted = bench.fresh_images(1, 20).await?;
    bench.apply_policy(bench.nodes.len(), Duration::from_secs(1)).await?;
    bench.apply_image(&wanted[0]).await?;
    bench.wait_ready(&wanted, Duration::from_secs(120)).await?;
    // Coalesced writes of the rollout end first.
    tokio::time::sleep(Duration::from_secs(15)).await;
    println!("watching the idle cluster for {} s", time.as_secs());
    let mark = Mark::of(&bench.info)?;
    tokio::time::sleep(time).await;
    let requests = mark.requests()?;
    for (kind, n) in &requests.writes {
        println!("  {n:4} {kind}");
    }
    bench.clean().await?;
    let title = format!("API writes of an idle cluster, {} s", time.as_secs());
    Ok(vec![Figure::counted(title, requests.total_writes() as f64, "writes", 0.0)])
}
