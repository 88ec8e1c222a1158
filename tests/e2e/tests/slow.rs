//! A pull is ended when nothing moves any more, never because it takes long.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use drop_harness::faulty::{Door, Fault, Kind, Trust};
use drop_harness::run;

/// Bytes a second of each layer: half a minute for one.
const PACE: u32 = 12 * 1024;
/// So long at most the containerd of every second node waits for a byte.
const NO_BYTE: Duration = Duration::from_secs(20);

#[test]
fn layers_that_come_slowly_are_pulled_at_the_first_attempt_however_long_they_take() -> Result<()> {
    run("slow", async |cluster| {
        let door = Door::open(&cluster.info)?;
        let _plain = Trust::plain(&cluster.info, &door.host)?;
        let image = door.leads_to(&cluster.fresh_images(1, 1).await?[0]);
        door.fail(Fault::Slow(PACE));
        cluster.apply_policy(3, Duration::ZERO).await?;
        cluster.apply_image(&image).await?;
        let begun = async || Ok(door.downloads() > 0);
        cluster.wait_until(Duration::from_secs(60), "nodes download", begun).await?;
        let start = Instant::now();
        cluster.wait_ready(std::slice::from_ref(&image), Duration::from_secs(150)).await?;
        let took = start.elapsed();
        ensure!(took > NO_BYTE, "took {took:?}, which shows nothing");
        // Three layers and a configuration for each of three nodes, and none of them twice.
        ensure!(door.requests(Kind::Blob) == 12, "{} blobs were asked for", door.requests(Kind::Blob));
        cluster.clean().await
    })
}
