//! The catalog ConfigMap → row.

use drop_planner::StoredCatalog;
use drop_protocol::Catalog;
use k8s_openapi::api::core::v1::ConfigMap;
use tracing::warn;

/// The catalog as stored. One that can't be read lists nothing, so that it is written anew.
#[must_use]
pub fn row(map: ConfigMap) -> StoredCatalog {
    let meta = map.metadata;
    let catalog = Catalog::decode(&map.data.unwrap_or_default())
        .inspect_err(|error| warn!(%error, "the stored catalog is replaced"))
        .unwrap_or_default();
    StoredCatalog {
        catalog,
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
    }
}
