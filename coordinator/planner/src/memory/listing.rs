//! Since when the catalog lists each wanted reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use drop_protocol::Monotonic;

use crate::cluster::{Cluster, StoredCatalog};

/// Since when the catalog lists what.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListingMemory {
    /// By uid of the CachedImage.
    listed: BTreeMap<String, Listed>,
    seen: Option<Arc<StoredCatalog>>,
}

/// One line of the catalog.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    reference: String,
    /// Generation of the catalog when it was first seen there: a report that answers this one has answered it.
    pub(crate) generation: u64,
    /// When it was first seen there.
    pub(crate) at: Monotonic,
}

impl ListingMemory {
    pub(super) fn observe(&mut self, cluster: &Cluster, now: Monotonic) {
        if self.seen == cluster.catalog {
            return;
        }
        let mut before = std::mem::take(&mut self.listed);
        self.seen.clone_from(&cluster.catalog);
        let Some(stored) = &cluster.catalog else { return };
        for (reference, uids) in &stored.catalog.wanted {
            for uid in uids {
                let listed = before.remove(uid).filter(|listed| &listed.reference == reference);
                let listed = listed.unwrap_or_else(|| Listed {
                    reference: reference.clone(),
                    generation: stored.catalog.generation,
                    at: now,
                });
                self.listed.insert(uid.clone(), listed);
            }
        }
    }

    /// Since when the catalog lists `reference` for the CachedImage `uid`.
    pub(crate) fn of(&self, uid: &str, reference: &str) -> Option<&Listed> {
        self.listed.get(uid).filter(|listed| listed.reference == reference)
    }
}
