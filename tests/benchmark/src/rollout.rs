//! A rollout: some images on every node, under a cap and a delay; against bare CRI pulls under the same.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

use drop_harness::audit::Mark;
use drop_harness::figure::Figure;
use drop_harness::{Cluster, Wanted};

const DELAY: Duration = Duration::from_secs(1);
const MEGABYTES: u32 = 20;
const QUIET: Duration = Duration::from_secs(12);

/// Rolls `count` images of 20 MB out to all nodes, cap = nodes, delay 1 s.
pub(crate) async fn measure(bench: &Cluster, count: usize) -> Result<Vec<Figure>> {
    let wanted = bench.fresh_images(count, MEGABYTES).await?;
    let bare = bare_pulls(bench, &wanted).await?;
    println!("bare CRI pulls of {count} images on {} nodes: {:.2} s", bench.nodes.len(), bare.as_secs_f64());
    bench.remove_everywhere(&wanted).await?;

    bench.apply_policy(bench.nodes.len(), DELAY).await?;
    // The policy's delay also counts from a change of leader; start from a quiet cluster.
    tokio::time::sleep(DELAY * 2).await;
    let mark = Mark::of(&bench.info)?;
    let start = Instant::now();
    for image in &wanted {
        bench.apply_image(image).await?;
    }
    bench.wait_ready(&wanted, Duration::from_secs(300)).await?;
    let drop_time = start.elapsed();
    println!("the same by Drop, until status says so: {:.2} s", drop_time.as_secs_f64());
    // What is written after that counts too: late reports, coalesced status, events.
    tokio::time::sleep(QUIET).await;
    let requests = mark.requests()?;
    for (kind, n) in &requests.writes {
        println!("  {n:4} {kind}");
    }
    bench.clean().await?;

    let pairs = (count * bench.nodes.len()) as f64;
    let title = format!("{count} images × {} nodes", bench.nodes.len());
    let per_pair = requests.total_writes() as f64 / pairs;
    let ratio = drop_time.as_secs_f64() / bare.as_secs_f64();
    Ok(vec![
        Figure::counted(
            format!("API writes a pair, {title}"),
            per_pair,
            "writes",
            if count == 1 { 6.0 } else { 2.5 },
        ),
        if count == 1 {
            Figure::shown(format!("time to all cached against bare CRI pulls, {title}"), ratio, "×")
        } else {
            Figure::bounded(format!("time to all cached against bare CRI pulls, {title}"), ratio, "×", 1.3)
        },
    ])
}

/// The ideal under this policy: node after node starts one delay apart and pulls its images one by one.
async fn bare_pulls(bench: &Cluster, wanted: &[Wanted]) -> Result<Duration> {
    let start = Instant::now();
    let nodes = bench.nodes.iter().zip(0u32..).map(async |((_, cri), index)| {
        tokio::time::sleep(DELAY * index).await;
        for image in wanted {
            cri.pull(&image.reference()).await?;
        }
        anyhow::Ok(())
    });
    try_join_all(nodes).await?;
    Ok(start.elapsed())
}
