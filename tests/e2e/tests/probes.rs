//! What fails is asked again by one node at a time, whoever else waits.

use std::time::{Duration, Instant};

use anyhow::Result;
use drop_harness::faulty::{Door, Fault, Kind, Trust};
use drop_harness::{Wanted, run};
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
const BACKOFF: Duration = Duration::from_secs(4);

#[test]
fn a_registry_that_limits_requests_sees_one_probe_at_a_time_and_not_one_a_node() -> Result<()> {
    run("probes", async |cluster| {
        let door = Door::open(&cluster.info)?;
        let _plain = Trust::plain(&cluster.info, &door.host)?;
        door.fail(Fault::Status(429, None));
        let images: Vec<Wanted> =
            cluster.fresh_images(3, 1).await?.iter().map(|image| door.leads_to(image)).collect();
        // containerd asks several times before it gives up.
        let (_, cri) = &cluster.nodes[0];
        anyhow::ensure!(cri.pull(&images[0].reference()).await.is_err(), "the door lets it through");
        let asked_a_pull = door.requests(Kind::Manifest);

        let steady = json!({ "failureBackoff": { "initial": "4s", "max": "4s" } });
        cluster.apply_policy_with(3, Duration::ZERO, &steady).await?;
        for image in &images {
            cluster.apply_image(image).await?;
        }
        cluster
            .wait_until(SOON, "all wait behind a probe", async || {
                let status = cluster.status(&images[2].name).await?;
                let waiting = status.waiting.iter().map(|waiting| waiting.reason.as_str());
                Ok(waiting.into_iter().any(|reason| reason == "WaitingForRegistryProbe"))
            })
            .await?;
        let (start, asked) = (Instant::now(), door.requests(Kind::Manifest));
        cluster
            .wait_until(SOON, "three probes", async || {
                Ok(door.requests(Kind::Manifest) >= asked + 3 * asked_a_pull)
            })
            .await?;
        let took = start.elapsed();
        anyhow::ensure!(took > BACKOFF * 2, "three probes within {took:?}: more than one node tries");

        door.mend();
        cluster.wait_ready(&images, SOON).await?;
        cluster.clean().await
    })
}

#[test]
fn a_broken_image_does_not_delay_the_others() -> Result<()> {
    run("broken", async |cluster| {
        let good = cluster.fresh_images(3, 1).await?;
        let broken = Wanted { name: "broken-image".into(), tag: "no-such-tag".into(), ..good[0].clone() };
        cluster.apply_policy(2, Duration::ZERO).await?;
        // It comes before all others, and fails at once on every node.
        cluster.apply_image_with(&broken, &json!({ "priority": -100 })).await?;
        let start = Instant::now();
        for image in &good {
            cluster.apply_image(image).await?;
        }
        cluster.wait_ready(&good, SOON).await?;
        anyhow::ensure!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
        anyhow::ensure!(cluster.status(&broken.name).await?.failed_nodes_total > 0, "it never failed");
        cluster.clean().await
    })
}
