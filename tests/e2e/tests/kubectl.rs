//! What users see of their images with kubectl alone.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use drop_devtools::command;
use drop_devtools::control_plane::kubectl;
use drop_harness::{Cluster, Wanted, run};

/// One line of what `kubectl get` prints, by the name of the column.
struct Row {
    columns: Vec<String>,
    cells: Vec<String>,
}

impl Row {
    /// The line of the CachedImage `name`.
    fn get(cluster: &Cluster, name: &str, arguments: &[&str]) -> Result<Self> {
        let table = command::output(kubectl(&cluster.info).args(["get", "cachedimages"]).args(arguments))?;
        let mut lines = table.lines();
        let head = lines.next().context("kubectl prints nothing")?;
        let line = lines
            .find(|line| line.split(' ').next() == Some(name))
            .with_context(|| format!("{name} is not listed:\n{table}"))?;
        let columns: Vec<String> = head.split_whitespace().map(str::to_owned).collect();
        // Cells begin where their headings do.
        let begins = |place: &usize| {
            let before = head[..*place].chars().next_back();
            before.is_none_or(|c| c == ' ') && !head[*place..].starts_with(' ')
        };
        let mut edges: Vec<usize> = (0..head.len()).filter(begins).collect();
        edges.push(line.len().max(head.len()));
        let cells = edges.windows(2).map(|edge| {
            let (from, to) = (edge[0].min(line.len()), edge[1].min(line.len()));
            line[from..to].trim().to_owned()
        });
        Ok(Self { cells: cells.collect(), columns })
    }

    fn cell(&self, column: &str) -> &str {
        let place = self.columns.iter().position(|name| name == column);
        place.and_then(|place| self.cells.get(place)).map_or("", String::as_str)
    }
}

/// `kubectl wait` for the CachedImage `name`.
fn wait(cluster: &Cluster, name: &str, condition: &str, limit: &str) -> Result<String> {
    let mut wait = kubectl(&cluster.info);
    wait.args(["wait", &format!("--for={condition}"), &format!("--timeout={limit}")]);
    Ok(command::output(wait.arg(format!("cachedimage/{name}")))?)
}

#[test]
fn kubectl_waits_for_images_and_tells_of_good_and_of_failing_ones() -> Result<()> {
    run("kubectl", async |cluster| {
        let good = cluster.fresh_images(1, 1).await?.remove(0);
        let failing = Wanted { name: "kubectl-failing".into(), tag: "no-such-tag".into(), ..good.clone() };
        cluster.apply_policy(3, Duration::ZERO).await?;
        for image in [&good, &failing] {
            cluster.apply_image(image).await?;
        }
        wait(cluster, &good.name, "condition=Ready", "60s")?;
        wait(cluster, &failing.name, "jsonpath={.status.phase}=Degraded", "60s")?;
        wait(cluster, &failing.name, "jsonpath={.status.nodesFailing}=3", "60s")?;
        ensure!(wait(cluster, &failing.name, "condition=Ready", "1s").is_err(), "what fails is ready");
        wait(cluster, &failing.name, "condition=Ready=False", "1s")?;

        let row = Row::get(cluster, &good.name, &[])?;
        ensure!(row.columns == ["NAME", "IMAGE", "TAG", "STATUS", "READY", "AGE"], "{:?}", row.columns);
        ensure!(row.cells[..5] == [&good.name, &good.image, &good.tag, "Cached", "3/3"], "{:?}", row.cells);
        ensure!(row.cell("AGE").ends_with('s') || row.cell("AGE").contains('m'), "{:?}", row.cells);
        let row = Row::get(cluster, &failing.name, &[])?;
        ensure!((row.cell("STATUS"), row.cell("READY")) == ("NotFound", "0/3"), "{:?}", row.cells);

        let row = Row::get(cluster, &good.name, &["--output=wide"])?;
        let further = ["DIGEST", "SET", "MESSAGE", "POLICY"];
        ensure!(row.columns[6..] == further, "{:?}", row.columns);
        let digest = cluster.status(&good.name).await?.resolved_digest.context("no digest")?;
        ensure!((row.cell("DIGEST"), row.cell("POLICY")) == (&digest, "kubectl"), "{:?}", row.cells);
        let row = Row::get(cluster, &failing.name, &["--output=wide"])?;
        let told = cluster.told(&failing.name).await?.context("no condition")?;
        let message = row.cell("MESSAGE");
        ensure!(message == told.message && message.contains(&failing.reference()), "{message}");
        cluster.clean().await
    })
}
