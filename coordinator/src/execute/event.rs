//! The event objects that `kubectl describe` shows under a CachedImage or a CachedImageSet.

use drop_planner::{EventType, PlannedEvent, SetEvent};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use crate::FIELD_MANAGER;

/// Where events about cluster-scoped objects live.
pub const NAMESPACE: &str = "default";
/// The API server refuses longer notes, in bytes.
const MAX_NOTE: usize = 1024;
/// The API server appends five characters to a generated name, and refuses longer ones than 253.
const MAX_PREFIX: usize = 240;

/// Something to tell, and about what.
#[derive(Debug, Clone, Copy)]
pub struct News<'e> {
    /// Kind of the object that it is about.
    subject: &'static str,
    /// What is done to that object when there is something to tell about it.
    action: &'static str,
    /// Its name.
    pub name: &'e str,
    uid: &'e str,
    kind: EventType,
    reason: &'e str,
    note: &'e str,
}

impl<'e> News<'e> {
    /// About a CachedImage.
    #[must_use]
    pub fn of_image(event: &'e PlannedEvent) -> Self {
        let PlannedEvent { image, uid, kind, reason, note } = event;
        Self { subject: "CachedImage", action: "CacheImage", name: image, uid, kind: *kind, reason, note }
    }

    /// About the CachedImageSet of this name and uid.
    #[must_use]
    pub fn of_set(name: &'e str, uid: &'e str, event: &'e SetEvent) -> Self {
        let SetEvent { kind, reason, note } = event;
        Self { subject: "CachedImageSet", action: "CacheImages", name, uid, kind: *kind, reason, note }
    }
}

/// The event object; `instance` is the process that reports it.
#[must_use]
pub fn object(event: News<'_>, instance: &str, wall: Timestamp) -> Event {
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", cut(event.name, MAX_PREFIX))),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(
            match event.kind {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            }
            .to_owned(),
        ),
        reason: Some(event.reason.to_owned()),
        note: Some(cut(event.note, MAX_NOTE).to_owned()),
        action: Some(event.action.to_owned()),
        event_time: Some(MicroTime(wall)),
        regarding: Some(ObjectReference {
            api_version: Some(format!("{}/{}", drop_crds::GROUP, drop_crds::VERSION)),
            kind: Some(event.subject.to_owned()),
            name: Some(event.name.to_owned()),
            uid: Some(event.uid.to_owned()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(FIELD_MANAGER.to_owned()),
        reporting_instance: Some(cut(instance, 128).to_owned()),
        ..Event::default()
    }
}

/// The longest prefix of at most `max` bytes that ends between characters.
fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use drop_planner::{EventType, PlannedEvent};
    use jiff::Timestamp;

    use super::{News, object};

    #[test]
    fn long_names_and_notes_are_cut_to_what_the_server_accepts() {
        let event = PlannedEvent {
            image: "n".repeat(253),
            uid: "u".to_owned(),
            kind: EventType::Warning,
            reason: "ErrImagePull".to_owned(),
            note: "ü".repeat(2000),
        };
        let object = object(News::of_image(&event), "pod", Timestamp::UNIX_EPOCH);
        assert!(object.metadata.generate_name.unwrap().len() + 5 <= 253);
        assert_eq!(object.note.unwrap().len(), 1024);
        assert_eq!(object.regarding.unwrap().name.unwrap().len(), 253);
    }
}
