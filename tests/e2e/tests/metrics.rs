//! Metrics of the running processes move when the thing happens that they tell of.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use drop_harness::faulty::{Door, Fault, Trust};
use drop_harness::{Cluster, Wanted, metrics, processes, run, scrape};
use kube::api::DeleteParams;
use serde_json::json;

const SOON: Duration = Duration::from_secs(60);
/// Bytes a second of each layer: an image takes some seconds.
const PACE: u32 = 70_000;

/// What all processes show at one time.
struct Page(String);

impl Page {
    async fn read(cluster: &Cluster) -> Result<Self> {
        let mut text = metrics::of_coordinators(cluster).await?;
        for (node, _) in &cluster.nodes {
            text += &metrics::of_agent(cluster, node).await?;
        }
        Ok(Self(text))
    }

    /// The sum over all processes of a series, written as it stands in the text, with some of its labels.
    fn value(&self, series: &str) -> f64 {
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let labels: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
        scrape::total(&self.0, name, &labels)
    }
}

/// Waits until each of these has grown by so much since `before`, exactly.
async fn wait_grown(cluster: &Cluster, before: &Page, wanted: &[(&str, f64)]) -> Result<()> {
    let mut last = None;
    let grown = async || {
        let now = Page::read(cluster).await?;
        Ok(wanted.iter().all(|(series, by)| now.value(series) - before.value(series) == *by))
    };
    if let Err(error) = cluster.wait_until(SOON, "the counters", grown).await {
        last = Some((error, Page::read(cluster).await?));
    }
    let Some((error, now)) = last else { return Ok(()) };
    let grown = wanted.iter().map(|(series, by)| {
        format!("{series} by {} and not by {by}", now.value(series) - before.value(series))
    });
    Err(error.context(grown.collect::<Vec<_>>().join("\n")))
}

/// Waits until each of these has this value.
async fn wait_shown(cluster: &Cluster, wanted: &[(&str, f64)]) -> Result<()> {
    cluster
        .wait_until(SOON, &format!("{wanted:?}"), async || {
            let now = Page::read(cluster).await?;
            Ok(wanted.iter().all(|(series, value)| now.value(series) == *value))
        })
        .await
}

#[test]
fn what_happens_on_nodes_moves_the_metrics_of_the_running_processes() -> Result<()> {
    run("metrics", async |cluster| {
        let door = Door::open(&cluster.info)?;
        let _plain = Trust::plain(&cluster.info, &door.host)?;
        door.fail(Fault::Slow(PACE));
        let images: Vec<Wanted> =
            cluster.fresh_images(2, 1).await?.iter().map(|image| door.leads_to(image)).collect();
        let image = &images[0];
        let of_image = |name: &str| format!("{name}{{image=\"{}\"}}", image.image);
        let once = json!({ "failureBackoff": { "initial": "1h", "max": "1h" } });

        // One node after the other: grants, pulls and the queue.
        wait_shown(cluster, &[("drop_live_grants", 0.0), ("drop_leader", 1.0)]).await?;
        let before = Page::read(cluster).await?;
        cluster.apply_policy_with(1, Duration::ZERO, &once).await?;
        cluster.apply_image_with(image, &json!({ "imagePullPolicy": "IfNotPresent" })).await?;
        let one_pulls = [
            ("drop_live_grants", 1.0),
            ("drop_active_pulls", 1.0),
            ("drop_agent_grant_held", 1.0),
            ("drop_due_pairs", 2.0),
            ("drop_waiting_pairs{reason=\"WaitingForSlot\"}", 2.0),
        ];
        wait_shown(cluster, &one_pulls).await?;
        cluster.wait_ready(std::slice::from_ref(image), SOON).await?;
        let at_rest = [
            ("drop_live_grants", 0.0),
            ("drop_active_pulls", 0.0),
            ("drop_agent_grant_held", 0.0),
            ("drop_due_pairs", 0.0),
        ];
        wait_shown(cluster, &at_rest).await?;
        let rolled_out = [
            ("drop_grants_issued_total", 3.0),
            ("drop_grants_taken_total", 3.0),
            ("drop_grants_ended_total{outcome=\"Finished\"}", 3.0),
            ("drop_due_to_cached_seconds_count", 3.0),
            (&of_image("drop_images_cached_total"), 3.0),
            ("drop_pull_duration_seconds_count{result=\"Pulled\"}", 3.0),
            ("drop_agent_pulls_total{result=\"Pulled\"}", 3.0),
            ("drop_agent_grant_to_pull_seconds_count", 3.0),
        ];
        wait_grown(cluster, &before, &rolled_out).await?;
        let after = Page::read(cluster).await?;
        let grown = |series: &str| after.value(series) - before.value(series);
        ensure!(grown("drop_agent_pulled_bytes_total") >= 3e6, "{}", grown("drop_agent_pulled_bytes_total"));
        // One pull took its seconds, and the last node waited for two others.
        ensure!(grown("drop_pull_duration_seconds_sum") > 9.0, "{}", grown("drop_pull_duration_seconds_sum"));
        ensure!(
            grown("drop_due_to_cached_seconds_sum") > 18.0,
            "{}",
            grown("drop_due_to_cached_seconds_sum")
        );
        for kind in ["take", "finish"] {
            let series = format!("drop_agent_lease_writes_total{{kind=\"{kind}\",result=\"applied\"}}");
            ensure!(grown(&series) == 3.0, "{series}: {}", grown(&series));
        }
        for series in ["drop_writes_total{outcome=\"Applied\"}", "drop_plan_duration_seconds_count"] {
            ensure!(grown(series) > 0.0, "{series} does not move");
        }
        wait_shown(cluster, &[("drop_nodes_cached{cachedimage=\"metrics-1mb-1\"}", 3.0)]).await?;

        // An image that goes.
        let before = Page::read(cluster).await?;
        cluster.nodes[0].1.remove(&image.reference()).await?;
        let evicted =
            [(&*of_image("drop_evictions_total"), 1.0), (&of_image("drop_images_cached_total"), 1.0)];
        wait_grown(cluster, &before, &evicted).await?;

        // An image that fails, on each node once.
        let before = Page::read(cluster).await?;
        cluster.edit_policy(&json!({ "maxConcurrentNodes": 3 })).await?;
        let missing =
            Wanted { name: "metrics-missing".to_owned(), tag: "no-such-tag".to_owned(), ..image.clone() };
        cluster.apply_image(&missing).await?;
        let errors = of_image("drop_pull_errors_total");
        let failures = [
            &*errors,
            "drop_pull_duration_seconds_count{result=\"NotFound\"}",
            "drop_agent_pulls_total{result=\"NotFound\"}",
        ];
        let failed = async || {
            let now = Page::read(cluster).await?;
            let grown = failures.map(|series| now.value(series) - before.value(series));
            // Two or three: once two nodes have failed, the third waits.
            Ok(grown[0] >= 2.0 && grown.iter().all(|by| *by == grown[0]))
        };
        cluster.wait_until(SOON, "each failure is counted once by all", failed).await?;
        wait_shown(cluster, &[("drop_consecutive_failures{cachedimage=\"metrics-missing\"}", 1.0)]).await?;
        cluster.images().delete(&missing.name, &DeleteParams::default()).await?;

        // Grants that are taken back: of an image that nobody wants any more, and of an agent that does not answer.
        let before = Page::read(cluster).await?;
        door.fail(Fault::Slow(1));
        cluster.apply_image(&images[1]).await?;
        // Three layers on each of three nodes.
        cluster.wait_until(SOON, "all nodes download", async || Ok(door.downloads() == 9)).await?;
        cluster.images().delete(&images[1].name, &DeleteParams::default()).await?;
        let unwanted = [
            ("drop_grants_withdrawn_total{reason=\"Unwanted\"}", 3.0),
            ("drop_agent_pulls_total{result=\"Cancelled\"}", 3.0),
        ];
        wait_grown(cluster, &before, &unwanted).await?;
        door.mend();
        let node = cluster.nodes[0].0.as_str();
        let before = metrics::of_coordinators(cluster).await?;
        let pid = processes::with_environment("drop-agent", "NODE_NAME", |name| name == node)?;
        processes::signal(pid, "STOP").await?;
        let outcome = async {
            cluster.apply_image(&images[1]).await?;
            let not_taken = async || {
                let not_taken =
                    |text: &str| scrape::total(text, "drop_grants_withdrawn_total", &["reason=\"NotTaken\""]);
                Ok(not_taken(&metrics::of_coordinators(cluster).await?) > not_taken(&before))
            };
            cluster.wait_until(SOON, "a grant that is not taken is counted", not_taken).await
        }
        .await;
        processes::signal(pid, "CONT").await?;
        outcome.context("the grant of a dead agent")?;
        cluster.clean().await
    })
}
