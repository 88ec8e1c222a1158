//! Writes to CachedImageSets and to the CachedImages that belong to them.

use drop_planner::{ChildWrite, WriteKey, WriteOutcome};
use kube::api::Patch;
use tracing::debug;

use super::Sender;
use crate::api::{self, REQUEST_TIMEOUT, attempt};
use crate::execute::Noted;
use crate::execute::children::ChildRequest;
use crate::execute::event::News;
use crate::execute::requests::SetStatusRequest;
use crate::index::Written;
use crate::metrics::WriteKind;
use crate::watch::stream::versioned;
use crate::watch::{Stored, images, sets};

impl Sender {
    pub(super) async fn child(&self, write: ChildWrite, request: ChildRequest) -> bool {
        let kind = match &request {
            ChildRequest::Create(_) => WriteKind::CreateChild,
            ChildRequest::Patch(_) => WriteKind::PatchChild,
            ChildRequest::Delete(_) => WriteKind::DeleteChild,
        };
        if !self.may_write(kind) {
            return false;
        }
        let name = write.child.as_str();
        let (outcome, stored) = match &request {
            ChildRequest::Create(object) => {
                let params = api::creating();
                let creation = self.children.create(&params, object);
                let (outcome, created) = self.outcome(kind, name, attempt(REQUEST_TIMEOUT, creation).await);
                (outcome, created.map(Stored::from))
            }
            ChildRequest::Patch(patch) => {
                let (params, patch) = (api::patching(), Patch::Merge(patch));
                let patching = self.images.patch(name, &params, &patch);
                self.outcome(kind, name, attempt(REQUEST_TIMEOUT, patching).await)
            }
            ChildRequest::Delete(params) => {
                let deletion = self.images.delete(name, params);
                (self.outcome(kind, name, attempt(REQUEST_TIMEOUT, deletion).await).0, None)
            }
        };
        if let Some(row) = stored.and_then(|object| versioned(object, |object| Some(images::image(object)))) {
            self.note(Noted::Object(Box::new(Written::Image(row))));
        }
        if outcome == WriteOutcome::Applied {
            debug!(image = name, set = %write.set, ?kind, "image of a set written");
        }
        self.note(Noted::ChildSettled { write: Box::new(write), outcome });
        outcome == WriteOutcome::Applied
    }

    pub(super) async fn set_status(&self, request: SetStatusRequest) -> bool {
        if !self.may_write(WriteKind::SetStatus) {
            return false;
        }
        let SetStatusRequest { set, uid, patch, event } = request;
        let (params, patch) = (api::patching(), Patch::Merge(&patch));
        let answer = attempt(REQUEST_TIMEOUT, self.sets.patch_status(&set, &params, &patch)).await;
        let (outcome, stored) = self.outcome(WriteKind::SetStatus, &set, answer);
        if let Some(row) = stored.and_then(|object| versioned(object, |object| Some(sets::set(object)))) {
            self.note(Noted::Object(Box::new(Written::Set(row))));
            self.note(Noted::SetStatusWritten(set.clone()));
        }
        let mut all = self.settle(outcome, WriteKey::SetStatus(set.clone()));
        if let Some(event) = event.filter(|_| outcome == WriteOutcome::Applied) {
            all &= self.event(News::of_set(&set, &uid, &event)).await;
        }
        all
    }
}
