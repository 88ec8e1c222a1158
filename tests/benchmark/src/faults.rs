//! A dead node and a missing image in the middle of a rollout: what they cost all others.

use std::time::{Duration, Instant};

use anyhow::Result;
use drop_harness::faulty::{Door, Fault, Trust};
use drop_harness::figure::Figure;
use drop_harness::{Cluster, Wanted, machine, processes};
use kube::api::ListParams;

const NODES: u8 = 5;
const IMAGES: usize = 20;
/// So many nodes pull at a time: a dead one takes half of it, until its grant is taken back.
const CAP: usize = 2;
/// Bytes a second at most of the layers of every second image, which then takes about a second: the registry and not
/// this machine decides how long a rollout lasts.
const PACE: u32 = 667_000;
const LIMIT: Duration = Duration::from_secs(300);

/// Rolls the same images out to the same nodes twice, the second time with a node that takes no grant though it looks
/// ready, first in the order of nodes, and an image that does not exist, first in the order of images.
pub(crate) async fn measure(bench: &Cluster) -> Result<Vec<Figure>> {
    let outcome = match machine::grow(bench, NODES).await {
        Ok(wide) => compare(&wide).await,
        Err(error) => Err(error),
    };
    machine::shrink(bench).await?;
    outcome
}

async fn compare(wide: &Cluster) -> Result<Vec<Figure>> {
    let door = Door::open(&wide.info)?;
    let _plain = Trust::plain(&wide.info, &door.host)?;
    let images: Vec<Wanted> =
        wide.fresh_images(IMAGES, 1).await?.iter().map(|image| door.leads_to(image)).collect();
    for image in images.iter().step_by(2) {
        door.fail_for(image, Fault::Slow(PACE));
    }
    let (sane, good) = (&images[0], &images[1..]);

    let without = rollout(wide, sane, good).await?;
    println!("without faults: {:.1} s", without.as_secs_f64());
    let missing = Wanted { tag: "no-such-tag".to_owned(), ..sane.clone() };
    let dead = &wide.nodes[0].0;
    let agent = processes::with_environment("drop-agent", "NODE_NAME", |node| node == dead)?;
    processes::signal(agent, "STOP").await?;
    let with = rollout(wide, &missing, good).await;
    processes::signal(agent, "CONT").await?;
    let with = with?;
    println!("with {dead} dead and {} missing: {:.1} s", missing.reference(), with.as_secs_f64());
    machine::wait_for_agents(wide).await?;
    let title = format!("{IMAGES} images × {NODES} nodes, cap {CAP}, one node dead, one image missing");
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    Ok(vec![Figure::bounded(format!("{title}: all others cached, against no faults"), ratio, "×", 1.2)])
}

/// How long it takes until all nodes but the first have all of `good`, with one more image that comes before them.
async fn rollout(wide: &Cluster, first: &Wanted, good: &[Wanted]) -> Result<Duration> {
    wide.apply_policy(CAP, Duration::ZERO).await?;
    let start = Instant::now();
    wide.apply_image(first).await?;
    for image in good {
        wide.apply_image(image).await?;
    }
    wide.wait_until(LIMIT, "all other pairs cached", async || cached(wide, good).await).await?;
    let took = start.elapsed();
    wide.clean().await?;
    Ok(took)
}

async fn cached(wide: &Cluster, good: &[Wanted]) -> Result<bool> {
    let list = wide.images().list(&ListParams::default()).await?;
    Ok(good.iter().all(|image| {
        let found = list.items.iter().find(|found| found.metadata.name.as_deref() == Some(&image.name));
        let status = found.and_then(|found| found.status.as_ref());
        status
            .is_some_and(|status| wide.nodes[1..].iter().all(|(node, _)| status.cached_nodes.contains(node)))
    }))
}
