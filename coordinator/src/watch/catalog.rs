//! The catalog ConfigMap → row.

use drop_planner::StoredCatalog;
use drop_protocol::Catalog;
use k8s_openapi::api::core::v1::ConfigMap;
use tracing::warn;

/// The catalog as stored. One that can't be read lists nothing and, like one that holds anything else, is written anew.
#[must_use]
pub fn row(map: ConfigMap) -> StoredCatalog {
    let meta = map.metadata;
    let data = map.data.unwrap_or_default();
    let catalog =
        Catalog::decode(&data).inspect_err(|error| warn!(%error, "the stored catalog is replaced")).ok();
    StoredCatalog {
        damaged: catalog.is_none() || map.binary_data.is_some_and(|data| !data.is_empty()),
        strays: data.into_keys().filter(|key| !Catalog::has_key(key)).collect(),
        catalog: catalog.unwrap_or_default(),
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
    }
}
