//! Counts API requests by user from the API server's audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drop_devtools::state::ClusterInfo;
use drop_protocol::names;
use serde::Deserialize;

/// A place in the audit log, to count from.
#[derive(Debug, Clone)]
pub struct Mark {
    path: PathBuf,
    offset: u64,
    namespace: String,
}

/// Requests by Drop's service accounts, by `who verb resource`.
#[derive(Debug, Default)]
pub struct Requests {
    /// `drop-agent patch leases` → count; what changes something.
    pub writes: BTreeMap<String, u64>,
    /// The rest. A watch counts when it ends.
    pub reads: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<ObjectRef>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct ObjectRef {
    resource: String,
    subresource: Option<String>,
    name: Option<String>,
}

impl Mark {
    /// The present end of the cluster's log.
    ///
    /// # Errors
    /// If there is none.
    pub fn of(cluster: &ClusterInfo) -> Result<Self> {
        Self::of_namespace(cluster, names::DEFAULT_NAMESPACE)
    }

    /// The same for Drop in another namespace.
    ///
    /// # Errors
    /// If there is no log.
    pub fn of_namespace(cluster: &ClusterInfo, namespace: &str) -> Result<Self> {
        let path = cluster.audit_log.clone();
        let offset = std::fs::metadata(&path).with_context(|| format!("{}", path.display()))?.len();
        Ok(Self { path, offset, namespace: namespace.to_owned() })
    }

    /// Drop's requests since then, the leader's renewals left out.
    ///
    /// # Errors
    /// If the log can't be read.
    pub fn requests(&self) -> Result<Requests> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut requests = Requests::default();
        for line in BufReader::new(file).lines() {
            // The last line may still be in the making; everything before it is whole.
            let Ok(event) = serde_json::from_str::<Event>(&line?) else { continue };
            let Some(kind) = drops_request(&event, &self.namespace) else { continue };
            let counts = if is_write(&event.verb) { &mut requests.writes } else { &mut requests.reads };
            *counts.entry(kind).or_default() += 1;
        }
        Ok(requests)
    }
}

fn is_write(verb: &str) -> bool {
    matches!(verb, "create" | "update" | "patch" | "delete" | "deletecollection")
}

fn drops_request(event: &Event, namespace: &str) -> Option<String> {
    let is_drop = event.user.username.starts_with(&format!("system:serviceaccount:{namespace}:"));
    if event.stage != "ResponseComplete" || !is_drop {
        return None;
    }
    let object = event.object_ref.as_ref()?;
    let is_leaders = object.resource == "leases" && object.name.as_deref() == Some(names::LEADER_LEASE);
    if is_leaders && is_write(&event.verb) {
        return None;
    }
    let who = event.user.username.rsplit(':').next().unwrap_or_default();
    let sub = object.subresource.as_ref().map_or_else(String::new, |sub| format!("/{sub}"));
    Some(format!("{who} {} {}{sub}", event.verb, object.resource))
}

impl Requests {
    /// How many writes there were.
    #[must_use]
    pub fn total_writes(&self) -> u64 {
        self.writes.values().sum()
    }

    /// How many reads there were.
    #[must_use]
    pub fn total_reads(&self) -> u64 {
        self.reads.values().sum()
    }
}
