//! Writes to CachedImages of sets: preconditions, and what the coordinator reads of such an object.

use std::sync::Arc;

use drop_planner::{
    CachedImage, Child, ChildSpec, ChildWrite, ChildWriteKind, Toleration, TolerationOperator,
    WrittenToleration,
};
use jiff::Timestamp;

use super::{ApiServer, Kind, Object, Refusal};
use crate::clock::Time;

impl ApiServer {
    /// Serves a write to a child; `None`: it is deleted.
    ///
    /// # Errors
    /// If a precondition fails, it does not exist, or another of its name does.
    pub fn write_child(&mut self, at: Time, write: &ChildWrite) -> Result<Option<Arc<CachedImage>>, Refusal> {
        let name = write.child.as_str();
        let stored = self.image(name).cloned();
        let (label, spec) = match (&write.kind, &stored) {
            (ChildWriteKind::Create { .. }, Some(_)) => return Err(Refusal::Conflict),
            (ChildWriteKind::Create { label, spec }, None) => (label, spec),
            (_, None) => return Err(Refusal::NotFound),
            (ChildWriteKind::Patch { uid, resource_version, .. }, Some(image))
            | (ChildWriteKind::Delete { uid, resource_version }, Some(image))
                if *uid != image.uid || Some(*resource_version) != self.version_of(Kind::Image, name) =>
            {
                return Err(Refusal::Conflict);
            }
            (ChildWriteKind::Patch { label, spec, .. }, Some(_)) => (label, spec),
            (ChildWriteKind::Delete { .. }, Some(_)) => {
                self.commit(at, Kind::Image, name, None);
                return Ok(None);
            }
        };
        let before = match stored {
            Some(image) => (*image).clone(),
            None => CachedImage {
                name: name.to_owned(),
                uid: self.new_uid(name),
                created: Timestamp::UNIX_EPOCH,
                ..CachedImage::default()
            },
        };
        let image = with_spec(before, &write.set_uid, Some(label.clone()), (**spec).clone());
        self.commit(at, Kind::Image, name, Some(Object::Image(Arc::new(image))));
        Ok(self.image(name).cloned())
    }
}

/// A child as the coordinator reads it, once its label and spec are these.
#[must_use]
pub fn with_spec(before: CachedImage, set_uid: &str, label: Option<String>, spec: ChildSpec) -> CachedImage {
    let written = spec.image.to_string();
    CachedImage {
        generation: before.generation + 1,
        reference: match (&spec.image.tag, &spec.image.digest) {
            (None, None) => format!("{written}:latest"),
            _ => written,
        },
        pull_policy: spec.settings.pull_policy,
        node_selector: spec.settings.node_selector.clone(),
        tolerations: spec.settings.tolerations.iter().map(toleration).collect(),
        priority: spec.priority.unwrap_or_default(),
        policy: spec.settings.policy.clone(),
        secrets: spec.settings.secrets.clone(),
        child: Some(Box::new(Child {
            set_uid: set_uid.to_owned(),
            // The server fills it in.
            resource_version: 0,
            being_deleted: false,
            label,
            normalised: spec.image.normalise().ok(),
            spec: Some(spec),
        })),
        ..before
    }
}

fn toleration(written: &WrittenToleration) -> Toleration {
    Toleration {
        key: written.key.clone().unwrap_or_default(),
        operator: match written.operator.as_deref() {
            Some("Exists") => TolerationOperator::Exists,
            _ => TolerationOperator::Equal,
        },
        value: written.value.clone().unwrap_or_default(),
        effect: None,
    }
}
