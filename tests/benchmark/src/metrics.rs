//! Reads the agents' metrics.

use anyhow::{Context as _, Result};
use kube::api::ListParams;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use drop_harness::Cluster;

/// Sum and count of a histogram, without regard to labels.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Histogram {
    /// Sum of all observations.
    pub(crate) sum: f64,
    /// How many there were.
    pub(crate) count: f64,
}

/// The text that the agent on `node` serves under `/metrics`.
pub(crate) async fn of_agent(bench: &Cluster, node: &str) -> Result<String> {
    let selector = format!("app.kubernetes.io/name={}", drop_protocol::names::AGENT_APP);
    let pods = bench.pods().list(&ListParams::default().labels(&selector)).await?;
    let address = pods
        .items
        .iter()
        .filter(|pod| pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node))
        .find_map(|pod| pod.status.as_ref()?.pod_ip.clone())
        .with_context(|| format!("no agent Pod with an address on {node}"))?;
    let mut stream = TcpStream::connect((address.as_str(), 8080)).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Sum and count of the histogram `name` in `text`.
pub(crate) fn histogram(text: &str, name: &str) -> Histogram {
    let total = |suffix: &str| {
        let series = format!("{name}{suffix}");
        text.lines()
            .filter(|line| line.strip_prefix(&series).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    Histogram { sum: total("_sum"), count: total("_count") }
}

/// The upper bound of the bucket that holds the median of the histogram `name` over all of `texts`.
pub(crate) fn median_bucket(texts: &[String], name: &str) -> Option<f64> {
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let Some(rest) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix("_bucket{")) else {
            continue;
        };
        let bound = rest.split("le=\"").nth(1)?.split('"').next()?;
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
        let count: f64 = line.rsplit(' ').next()?.parse().ok()?;
        match buckets.iter_mut().find(|(b, _)| b.total_cmp(&bound).is_eq()) {
            Some((_, sum)) => *sum += count,
            None => buckets.push((bound, count)),
        }
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total = buckets.last()?.1;
    buckets.iter().find(|(_, count)| *count * 2.0 >= total && total > 0.0).map(|(bound, _)| *bound)
}
