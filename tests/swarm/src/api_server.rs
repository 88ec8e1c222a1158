//! What the API server tells of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use drop_harness::processes;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};
use serde::Serialize;

use crate::place::{NAMESPACE, Place};

/// Counters at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    /// Processor time of the API server.
    pub(crate) cpu: Duration,
    /// Bytes of watch events sent, by resource.
    watch_bytes: BTreeMap<String, f64>,
    /// Requests of Drop's that the API server turned away because there were too many.
    pub(crate) rejected: f64,
}

/// What came on top between two moments.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Traffic {
    /// Bytes of watch events sent, by resource.
    pub(crate) watch_bytes: BTreeMap<String, f64>,
    /// Requests of Drop's that were turned away.
    pub(crate) rejected: f64,
}

impl Counters {
    /// Now.
    pub(crate) async fn read(place: &Place) -> Result<Self> {
        let page = page(place).await?;
        let mut counters =
            Self { cpu: processes::processor_time(u32::try_from(place.api_server()?)?)?, ..Self::default() };
        for line in page.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let value: f64 = value.parse().unwrap_or_default();
            if series.starts_with("apiserver_watch_events_sizes_sum") {
                let resource =
                    label(series, "resource").or_else(|| label(series, "kind")).unwrap_or_default();
                *counters.watch_bytes.entry(resource.to_owned()).or_default() += value;
            } else if series.starts_with("apiserver_flowcontrol_rejected_requests_total")
                && series.contains("priority_level=\"drop-")
            {
                counters.rejected += value;
            }
        }
        Ok(counters)
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Traffic {
        let watch_bytes = self
            .watch_bytes
            .iter()
            .map(|(resource, bytes)| {
                (resource.clone(), bytes - before.watch_bytes.get(resource).unwrap_or(&0.0))
            })
            .filter(|(_, bytes)| *bytes > 0.0)
            .collect();
        Traffic { watch_bytes, rejected: self.rejected - before.rejected }
    }
}

/// Everything that it tells.
pub(crate) async fn page(place: &Place) -> Result<String> {
    Ok(place.client.request_text(http::Request::get("/metrics").body(Vec::new())?).await?)
}

/// The value of a label of a series.
pub(crate) fn label<'a>(series: &'a str, name: &str) -> Option<&'a str> {
    let at = series.match_indices(name).find(|(at, _)| {
        let before = series.as_bytes().get(at.wrapping_sub(1));
        matches!(before, Some(b'{' | b',')) && series[at + name.len()..].starts_with("=\"")
    });
    series[at?.0 + name.len() + 2..].split('"').next()
}

/// Size of the largest object of each kind that Drop writes, in bytes of JSON.
pub(crate) async fn largest_objects(place: &Place) -> Result<BTreeMap<&'static str, usize>> {
    let all = ListParams::default();
    let leases: Api<Lease> = Api::namespaced(place.client.clone(), NAMESPACE);
    let maps: Api<ConfigMap> = Api::namespaced(place.client.clone(), NAMESPACE);
    let images: Api<drop_crds::CachedImage> = Api::all(place.client.clone());
    Ok([
        ("node Lease", largest(&leases.list(&all).await?.items)?),
        ("catalog", largest(&maps.list(&all).await?.items)?),
        ("CachedImage", largest(&images.list(&all).await?.items)?),
    ]
    .into())
}

fn largest<T: Serialize>(objects: &[T]) -> Result<usize> {
    let mut largest = 0;
    for object in objects {
        largest = largest.max(serde_json::to_vec(object)?.len());
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_by_its_whole_name() {
        let series = "m{cachedimage=\"a\",image=\"b\"}";
        assert_eq!(label(series, "image"), Some("b"));
        assert_eq!(label(series, "cachedimage"), Some("a"));
        assert_eq!(label(series, "age"), None);
        assert_eq!(label("m{cachedimage=\"a\"}", "image"), None);
    }
}
