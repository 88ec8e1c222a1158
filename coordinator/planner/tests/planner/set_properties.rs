//! What holds for sets and children whatever users, discoveries and others do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use drop_planner::cluster::CachedImage;
use drop_planner::set::{DiscoveryState, SetImages};
use proptest::prelude::*;

use crate::rig::{Rig, SECOND};
use crate::set_rig::{failing, images};

const SETS: [&str; 3] = ["a", "a-b", "b"];
const REFERENCES: [&str; 8] = [
    "nginx",
    "docker.io/library/nginx:latest",
    "reg.test/app:1",
    "reg.test/app:2",
    "reg.test/other/app:1",
    "reg.test:5000/app:1",
    "reg.test/app@sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4",
    "reg.test/b-app:1",
];

#[derive(Debug, Clone)]
enum Event {
    List(usize, Vec<usize>),
    Settings(usize, u8),
    Discover(usize, bool),
    Found(u8, Vec<usize>),
    Broken(usize, bool),
    EditChild(usize, u8),
    DeleteChild(usize),
    Foreign(usize, usize),
    DeleteSet(usize),
    Recreate(usize),
    CollectGarbage,
    Plan,
    Wait(u64),
    Elect,
}

fn event() -> impl Strategy<Value = Event> {
    let (set, child) = (0..SETS.len(), 0..50_usize);
    let listed = prop::collection::vec(0..REFERENCES.len(), 0..5);
    prop_oneof![
        4 => (set.clone(), listed.clone()).prop_map(|(set, listed)| Event::List(set, listed)),
        2 => (set.clone(), 0..3_u8).prop_map(|(set, n)| Event::Settings(set, n)),
        2 => (set.clone(), any::<bool>()).prop_map(|(set, asks)| Event::Discover(set, asks)),
        4 => (0..4_u8, listed).prop_map(|(state, found)| Event::Found(state, found)),
        1 => (set.clone(), any::<bool>()).prop_map(|(set, broken)| Event::Broken(set, broken)),
        2 => (child.clone(), 0..4_u8).prop_map(|(child, edit)| Event::EditChild(child, edit)),
        2 => child.prop_map(Event::DeleteChild),
        1 => (set.clone(), 0..REFERENCES.len()).prop_map(|(set, image)| Event::Foreign(set, image)),
        1 => set.clone().prop_map(Event::DeleteSet),
        1 => set.prop_map(Event::Recreate),
        2 => Just(Event::CollectGarbage),
        8 => Just(Event::Plan),
        4 => (50..20_000_u64).prop_map(Event::Wait),
        1 => Just(Event::Elect),
    ]
}

#[derive(Default)]
struct Happened {
    elections: i32,
    incarnations: u32,
    /// CachedImages that belong to no set, as they were made.
    foreign: BTreeMap<String, Arc<CachedImage>>,
}

fn pick(which: &[usize]) -> SetImages {
    let references: Vec<&str> = which.iter().map(|index| REFERENCES[*index]).collect();
    images(&references)
}

fn happen(rig: &mut Rig, happened: &mut Happened, event: &Event) {
    let children: Vec<String> = rig
        .world
        .cluster
        .images
        .values()
        .filter(|image| image.child.is_some())
        .map(|image| image.name.clone())
        .collect();
    let exists = |rig: &Rig, set: &usize| rig.world.cluster.sets.contains_key(SETS[*set]);
    match event {
        Event::List(set, listed) if exists(rig, set) => rig.set(SETS[*set], |set| set.images = pick(listed)),
        Event::Settings(set, n) if exists(rig, set) => rig.set(SETS[*set], |set| {
            set.settings.secrets = vec![format!("secret-{n}")];
            set.settings.node_selector = [(format!("key-{n}"), "v".to_owned())].into();
        }),
        Event::Discover(set, asks) if exists(rig, set) => {
            rig.set(SETS[*set], |set| set.discovery = asks.then(|| "d".to_owned()));
        }
        Event::Found(3, _) => drop(rig.world.cluster.discoveries.remove("d")),
        Event::Found(state, found) => {
            let references: Vec<&str> = found.iter().map(|index| REFERENCES[*index]).collect();
            let state =
                [DiscoveryState::Synced, failing(), DiscoveryState::NeverSynced][usize::from(*state)].clone();
            rig.discovery("d", state, &references);
        }
        Event::Broken(set, broken) if exists(rig, set) => rig.set(SETS[*set], |set| {
            set.problem = broken.then(|| "spec.tolerations[0]: broken".to_owned());
        }),
        Event::EditChild(child, edit) => {
            if let Some(name) = children.get(child % children.len().max(1)) {
                rig.edit_child(name, |spec| match edit {
                    0 => spec.priority = Some(1),
                    1 => spec.image.tag = Some("edited".to_owned()),
                    2 => spec.settings.policy = Some("edited".to_owned()),
                    _ => spec.image = pick(&[2]).sound.remove(0).written,
                });
            }
        }
        Event::DeleteChild(child) => {
            if let Some(name) = children.get(child % children.len().max(1)) {
                rig.delete_image(name);
            }
        }
        Event::Foreign(set, image) => {
            // Somebody takes the name that the child of this image would have, as far as it is known.
            let wanted = pick(&[*image]).sound.remove(0).normalised;
            let of = |image: &CachedImage| image.child.as_ref().and_then(|child| child.normalised.clone());
            let found = rig.world.cluster.images.values().find(|image| {
                of(image).as_ref() == Some(&wanted) && image.name.starts_with(&format!("{}-", SETS[*set]))
            });
            if let Some(name) = found.map(|image| image.name.clone()) {
                rig.delete_image(&name);
                rig.image(&name, |image| image.problem = Some("not a child".to_owned()));
                happened.foreign.insert(name.clone(), Arc::clone(&rig.world.cluster.images[&name]));
            }
        }
        Event::DeleteSet(set) => drop(rig.world.cluster.sets.remove(SETS[*set])),
        Event::Recreate(set) => {
            happened.incarnations += 1;
            let uid = format!("incarnation-{}", happened.incarnations);
            rig.world.cluster.sets.remove(SETS[*set]);
            rig.set(SETS[*set], |set| set.uid = uid);
        }
        Event::CollectGarbage => collect_garbage(rig),
        Event::Plan => drop(rig.step()),
        Event::Wait(milliseconds) => rig.advance(std::time::Duration::from_millis(*milliseconds)),
        Event::Elect => {
            happened.elections += 1;
            rig.elect(happened.elections + 1);
        }
        _ => {}
    }
}

/// What the garbage collector of Kubernetes does in the background.
fn collect_garbage(rig: &mut Rig) {
    let cluster = &mut rig.world.cluster;
    let sets: BTreeSet<String> = cluster.sets.values().map(|set| set.uid.clone()).collect();
    cluster.images.retain(|_, image| image.child.as_ref().is_none_or(|child| sets.contains(&child.set_uid)));
}

fn world(events: &[Event]) -> (Rig, Happened) {
    let mut rig = Rig::new();
    let mut happened = Happened::default();
    for set in SETS {
        rig.listing(set, &["nginx", "reg.test/app:1"]);
    }
    for event in events {
        happen(&mut rig, &mut happened, event);
    }
    (rig, happened)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn children_become_what_sets_want_and_stay_so(events in prop::collection::vec(event(), 1..60)) {
        let (mut rig, happened) = world(&events);
        collect_garbage(&mut rig);
        let kept: BTreeSet<String> = rig.world.cluster.images.values().map(|image| image.uid.clone()).collect();
        rig.run(200 * SECOND);

        for name in SETS {
            let Some(set) = rig.world.cluster.sets.get(name).cloned() else { continue };
            if set.problem.is_some() {
                continue;
            }
            let discovery = set.discovery.as_ref().and_then(|name| rig.world.cluster.discoveries.get(name));
            let reliable = discovery.is_some_and(|d| d.state == DiscoveryState::Synced && !d.images.sound.is_empty());
            let found = discovery.into_iter().flat_map(|discovery| &discovery.images.sound);
            let wanted: BTreeSet<&str> =
                set.images.sound.iter().chain(found).map(|image| image.normalised.as_str()).collect();
            let mut seen = BTreeSet::new();
            for image in rig.world.cluster.images.values() {
                let Some(child) = image.child.as_ref().filter(|child| child.set_uid == set.uid) else { continue };
                let spec = child.spec.as_ref().unwrap();
                prop_assert_eq!(&spec.settings, &set.settings, "{}", image.name);
                prop_assert_eq!((spec.priority, child.label.as_deref()), (None, Some(name)));
                let normalised = child.normalised.as_deref().unwrap();
                if !wanted.contains(normalised) || !seen.insert(normalised.to_owned()) {
                    // While nothing is certain, what somebody made of a child by hand stays too.
                    let is_kept = set.discovery.is_some() && !reliable && kept.contains(&image.uid);
                    prop_assert!(is_kept, "{} is not wanted, or is there twice", image.name);
                }
            }
            let missing: Vec<_> = wanted.iter().filter(|reference| !seen.contains(**reference)).collect();
            let taken = happened.foreign.keys().filter(|taken| rig.world.cluster.images.contains_key(*taken));
            prop_assert!(missing.len() <= taken.count(), "missing {:?}", missing);
        }
        for (name, foreign) in &happened.foreign {
            let now = &rig.world.cluster.images[name];
            prop_assert_eq!((&now.uid, now.generation, &now.child), (&foreign.uid, foreign.generation, &foreign.child));
        }

        let writes = (rig.child_writes.len(), rig.set_statuses.len());
        rig.run(600 * SECOND);
        prop_assert_eq!((rig.child_writes.len(), rig.set_statuses.len()), writes, "written without a cause");
        let plan = rig.plan();
        prop_assert!(plan.is_empty(), "{}", plan);
    }
}
