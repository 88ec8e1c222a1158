//! Counts API writes by user from the API server's audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use drop_harness::Cluster;
use serde::Deserialize;

/// A place in the audit log, to count from.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    path: PathBuf,
    offset: u64,
}

/// Writes by Drop's service accounts, by `verb resource`.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    /// `patch leases` → count.
    pub(crate) by_kind: BTreeMap<String, u64>,
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
    pub(crate) fn of(cluster: &Cluster) -> Result<Self> {
        let path = cluster.info.audit_log.clone();
        let offset = std::fs::metadata(&path).with_context(|| format!("{}", path.display()))?.len();
        Ok(Self { path, offset })
    }

    /// Drop's writes since then, the leader's renewals left out.
    pub(crate) fn writes(&self) -> Result<Writes> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut writes = Writes::default();
        for line in BufReader::new(file).lines() {
            // The last line may still be in the making; everything before it is whole.
            let Ok(event) = serde_json::from_str::<Event>(&line?) else { continue };
            if let Some(kind) = drops_write(&event) {
                *writes.by_kind.entry(kind).or_default() += 1;
            }
        }
        Ok(writes)
    }
}

fn drops_write(event: &Event) -> Option<String> {
    let is_write =
        matches!(event.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection");
    let is_drop = event.user.username.starts_with("system:serviceaccount:drop-system:");
    if event.stage != "ResponseComplete" || !is_write || !is_drop {
        return None;
    }
    let object = event.object_ref.as_ref()?;
    if object.resource == "leases" && object.name.as_deref() == Some(drop_protocol::names::LEADER_LEASE) {
        return None;
    }
    let who = event.user.username.rsplit(':').next().unwrap_or_default();
    let sub = object.subresource.as_ref().map_or_else(String::new, |sub| format!("/{sub}"));
    Some(format!("{who} {} {}{sub}", event.verb, object.resource))
}

impl Writes {
    /// All of them.
    pub(crate) fn total(&self) -> u64 {
        self.by_kind.values().sum()
    }
}
