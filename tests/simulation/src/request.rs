//! What processes ask of the API server, and how it is served.

use std::sync::Arc;

use drop_planner::{CachedImageSet, ChildWrite, ChildWriteKind, ImageStatus, SetStatus, StoredCatalog};
use drop_protocol::{Catalog, names};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use crate::api::{Kind, Object, Refusal, Snapshot, StoredLease, Writer};
use crate::invariants::IssueTag;
use crate::network::{Client, Place};
use crate::simulation::Simulation;

/// One request.
#[derive(Debug, Clone)]
pub enum Request {
    /// A consistent read of a Lease.
    GetLease(String),
    /// A JSON merge patch of a Lease, with what the sender knew if it is an issue.
    PatchLease {
        /// Name of the Lease.
        name: String,
        /// The patch.
        patch: Value,
        /// For traces and the audit.
        what: &'static str,
        /// Set if it issues a grant.
        issue: Option<Box<IssueTag>>,
    },
    /// Creates a Lease.
    CreateLease(Box<Lease>),
    /// Deletes a Lease with these preconditions.
    DeleteLease {
        /// Name of the Lease.
        name: String,
        /// `metadata.uid`
        uid: String,
        /// `metadata.resourceVersion`
        version: u64,
    },
    /// Creates or replaces the catalog.
    PutCatalog(Box<Catalog>, Option<(String, u64)>),
    /// Replaces the status of the CachedImage with this name and uid.
    PutStatus(String, String, Box<ImageStatus>),
    /// Creates, patches or deletes the CachedImage of a set.
    WriteChild(Box<ChildWrite>),
    /// Replaces the status of the CachedImageSet with this name and uid.
    PutSetStatus(String, String, Box<SetStatus>),
    /// Creates an Event.
    CreateEvent(String),
    /// A write that something before the server refuses, such as a webhook.
    Vetoed,
    /// A consistent list of one kind.
    List(Kind),
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The Lease as it is now.
    Lease(Arc<StoredLease>),
    /// The catalog as it is now.
    Catalog(Arc<StoredCatalog>),
    /// A list.
    Snapshot(Arc<Snapshot>),
    /// The CachedImage as it is now.
    Image(Arc<drop_planner::CachedImage>, u64),
    /// The CachedImageSet as it is now.
    Set(Arc<CachedImageSet>, u64),
    /// Done; there is nothing to show.
    Done,
    /// Not done.
    Refused(Refusal),
    /// The server is not there, or fails.
    Unavailable,
}

impl Simulation {
    /// Serves a request.
    pub fn serve(&mut self, client: Client, request: &Arc<Request>) -> Answer {
        let now = self.now;
        let writer = match client.place {
            Place::Coordinator(index) => Writer::Coordinator(index),
            Place::Agent(machine) => Writer::Agent(self.machines[machine].name.clone()),
        };
        let lease = |result: Result<Arc<StoredLease>, Refusal>| match result {
            Ok(lease) => Answer::Lease(lease),
            Err(refusal) => Answer::Refused(refusal),
        };
        if request.is_write() {
            self.api.note_write(now, writer.clone(), Arc::clone(request));
        }
        let answer = match &**request {
            Request::GetLease(name) => match self.api.lease(name) {
                Some(lease) => Answer::Lease(Arc::clone(lease)),
                None => Answer::Refused(Refusal::NotFound),
            },
            Request::PatchLease { name, patch, issue, .. } => {
                let before = self.api.version();
                let result = self.api.patch_lease(now, &writer, name, patch);
                if let (Ok(_), Some(tag), true) = (&result, issue, self.api.version() > before) {
                    self.checker_sees_issue(tag);
                }
                lease(result)
            }
            Request::CreateLease(object) => lease(self.api.create_lease(now, &writer, object)),
            Request::DeleteLease { name, uid, version } => {
                match self.api.delete_lease(now, &writer, name, Some(uid), Some(*version)) {
                    Ok(()) => Answer::Done,
                    Err(refusal) => Answer::Refused(refusal),
                }
            }
            Request::PutCatalog(catalog, seen) => {
                let seen = seen.as_ref().map(|(uid, version)| (uid.as_str(), *version));
                match self.api.put_catalog(now, names::CATALOG, catalog, seen) {
                    Ok(stored) => Answer::Catalog(stored),
                    Err(refusal) => Answer::Refused(refusal),
                }
            }
            Request::PutStatus(name, uid, status) => {
                let stored = self.api.image(name).filter(|image| image.uid == *uid).cloned();
                match stored {
                    Some(stored) => {
                        let image = Arc::new(drop_planner::CachedImage {
                            status: (**status).clone(),
                            ..(*stored).clone()
                        });
                        if image != stored {
                            self.api.commit(now, Kind::Image, name, Some(Object::Image(image)));
                        }
                        match self.api.image(name) {
                            Some(image) => Answer::Image(Arc::clone(image), self.api.version()),
                            None => Answer::Refused(Refusal::NotFound),
                        }
                    }
                    None => Answer::Refused(Refusal::NotFound),
                }
            }
            Request::WriteChild(write) => match self.api.write_child(now, write) {
                Ok(Some(image)) => {
                    if self.is_left_behind(&image) {
                        self.leave_to_collector(&image);
                    }
                    Answer::Image(image, self.api.version())
                }
                Ok(None) => Answer::Done,
                Err(refusal) => Answer::Refused(refusal),
            },
            Request::PutSetStatus(name, uid, status) => {
                match self.api.set(name).filter(|set| set.uid == *uid).cloned() {
                    Some(stored) => {
                        let set =
                            Arc::new(CachedImageSet { status: (**status).clone(), ..(*stored).clone() });
                        if set != stored {
                            self.api.commit(now, Kind::Set, name, Some(Object::Set(Arc::clone(&set))));
                        }
                        Answer::Set(set, self.api.version())
                    }
                    None => Answer::Refused(Refusal::NotFound),
                }
            }
            Request::CreateEvent(_) => Answer::Done,
            Request::Vetoed => return Answer::Refused(Refusal::Forbidden("a webhook says no".to_owned())),
            Request::List(kind) => Answer::Snapshot(Arc::new(self.api.snapshot(*kind, None))),
        };
        if let (Writer::Agent(_), Answer::Refused(Refusal::Forbidden(why))) = (&writer, &answer) {
            self.report(1, format!("an agent asked for what admission refuses: {why}"));
        }
        self.trace_request(client, request, &answer);
        self.spread_news();
        answer
    }

    fn trace_request(&mut self, client: Client, request: &Request, answer: &Answer) {
        if !self.trace.on() {
            return;
        }
        let Some(what) = request.written() else { return };
        let outcome = match answer {
            Answer::Refused(refusal) => format!("{refusal:?}"),
            Answer::Unavailable => "unavailable".to_owned(),
            _ => format!("ok, version {}", self.api.version()),
        };
        let text = format!("api       {:?}: {what}: {outcome}", client.place);
        self.tell(&text);
    }
}

impl Request {
    /// Whether it is part of the coordinators' election.
    #[must_use]
    pub fn elects(&self) -> bool {
        match self {
            Self::GetLease(name) | Self::PatchLease { name, .. } => name == names::LEADER_LEASE,
            Self::CreateLease(lease) => lease.metadata.name.as_deref() == Some(names::LEADER_LEASE),
            _ => false,
        }
    }

    /// Whether it asks for something to be written.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self, Self::GetLease(_) | Self::List(_) | Self::Vetoed)
    }

    /// What is written, for people; `None` for reads.
    #[must_use]
    pub fn written(&self) -> Option<String> {
        match self {
            Self::GetLease(_) | Self::List(_) | Self::Vetoed => None,
            Self::PatchLease { name, what, issue, .. } => Some(match issue {
                Some(tag) => format!("{what} {name}: grant {}", tag.grant.id),
                None => format!("{what} {name}"),
            }),
            Self::CreateLease(lease) => {
                Some(format!("create Lease {}", lease.metadata.name.as_deref().unwrap_or_default()))
            }
            Self::DeleteLease { name, .. } => Some(format!("delete Lease {name}")),
            Self::PutCatalog(catalog, _) => Some(format!(
                "catalog generation {}: {} references",
                catalog.generation,
                catalog.wanted.len()
            )),
            Self::PutStatus(name, _, status) => Some(format!("status {name} {}", status.ready)),
            Self::WriteChild(write) => {
                let what = match &write.kind {
                    ChildWriteKind::Create { .. } => "create",
                    ChildWriteKind::Patch { .. } => "patch",
                    ChildWriteKind::Delete { .. } => "delete",
                };
                Some(format!("{what} {} of {}", write.child, write.set))
            }
            Self::PutSetStatus(name, _, status) => Some(format!("status of {name} {:?}", status.phase)),
            Self::CreateEvent(text) => Some(format!("event {text}")),
        }
    }
}
