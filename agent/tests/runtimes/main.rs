//! The agent on every release of containerd that it is said to work with, each alone: no kubelet, no API server.
//!
//! Real are containerd, the registry, and all of the agent but its client of the API server, in whose place a
//! [desk](desk) keeps the Lease in memory. Needs root, and nothing that has to be up before.
#![cfg(feature = "real-parts")]
#![allow(unreachable_pub, clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // all of this is test code

mod containerd;
mod desk;
#[path = "../real/mod.rs"]
mod real;
mod shelf;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use drop_agent::node::NodeRuntime;
use drop_agent::parts::ImageRuntime as _;
use drop_devtools::containerd_releases::Release;
use drop_protocol::{FailureReason, Outcome, Report};
use real::registry::Registry;
use real::{catalog, eventually, uid};

use containerd::Containerd;
use desk::Desk;
use shelf::Shelf;

/// Slow machines unpack a hundred layers in this time.
const SOON: Duration = Duration::from_secs(120);
/// The agents of these tests list images after events and never by the clock.
const SECONDS: Duration = Duration::from_secs(10);

#[test]
fn the_agent_works_on_debians_containerd_with_overlayfs() {
    everything_works_on(Release::Debian, "overlayfs");
}

#[test]
fn the_agent_works_on_debians_containerd_with_native_snapshots() {
    everything_works_on(Release::Debian, "native");
}

#[test]
fn the_agent_works_on_containerd_1_7_with_overlayfs() {
    everything_works_on(Release::V1_7, "overlayfs");
}

#[test]
fn the_agent_works_on_containerd_1_7_with_native_snapshots() {
    everything_works_on(Release::V1_7, "native");
}

#[test]
fn the_agent_works_on_containerd_2_3_with_overlayfs() {
    everything_works_on(Release::Current, "overlayfs");
}

#[test]
fn the_agent_works_on_containerd_2_3_with_native_snapshots() {
    everything_works_on(Release::Current, "native");
}

/// One containerd and one agent for all cases, which need images of their own and nothing else for themselves.
fn everything_works_on(release: Release, snapshotter: &str) {
    let shelf = Shelf::open();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&tokio, async {
        let containerd = Containerd::start(release, snapshotter).await;
        let version = containerd.cri.version().await.unwrap();
        println!("{} {} with {snapshotter}", version.name, version.version);
        let filesystem = containerd.cri.image_filesystem().await.unwrap();
        assert!(filesystem.mountpoint.ends_with(snapshotter), "{filesystem:?}");

        let desk = Desk::with_agent(NodeRuntime::new(containerd.cri.clone(), containerd.root().to_owned()));
        every_form_of_image_is_told_with_the_registrys_digest(&containerd, &desk, shelf).await;
        what_cannot_be_pulled_is_told_with_its_reason(&containerd, &desk, shelf).await;
        what_comes_and_goes_by_hand_is_told_by_events(&containerd, &desk, shelf).await;
        progress_tells_arriving_bytes_from_none(&containerd).await;
        losing_the_grant_ends_the_download(&containerd, &desk).await;
    });
}

fn digest(report: &Report, reference: &str) -> Option<String> {
    report.images.get(uid(reference).as_str())?.digest.as_deref().map(str::to_owned)
}

async fn every_form_of_image_is_told_with_the_registrys_digest(
    containerd: &Containerd,
    desk: &Desk,
    shelf: &Shelf,
) {
    containerd.speak_plainly_to(shelf.address());
    containerd.mirror("mirrored.example", shelf.address());
    let mut expected: BTreeMap<String, &str> =
        shelf.images().map(|image| (image.reference.clone(), image.digest.as_str())).collect();
    let (by_digest, mirrored) = (shelf.image("by-digest"), shelf.image("mirrored"));
    expected.remove(&by_digest.reference);
    expected.insert(by_digest.by_digest(), &by_digest.digest);
    expected.remove(&mirrored.reference);
    expected.insert(mirrored.reference.replace(shelf.address(), "mirrored.example"), &mirrored.digest);

    let references: Vec<&str> = expected.keys().map(String::as_str).collect();
    let grant = desk.grant(&references);
    let report = desk.ended(&grant, SOON).await;
    assert_eq!(report.grant.as_ref().unwrap().outcome, Outcome::Finished);
    for (reference, expected) in &expected {
        let entry = report.images.get(uid(reference).as_str());
        assert_eq!(digest(&report, reference).as_deref(), Some(*expected), "{reference}: {entry:?}");
        assert!(containerd.cri.image(reference).await.unwrap().is_some(), "{reference}");
    }
}

async fn what_cannot_be_pulled_is_told_with_its_reason(containerd: &Containerd, desk: &Desk, shelf: &Shelf) {
    let private = Registry::start();
    containerd.speak_plainly_to(private.address());
    private.require_login("somebody", "a-password");
    let cases = [
        (format!("{}/absent:1", shelf.address()), FailureReason::NotFound),
        (shelf.foreign().reference.clone(), FailureReason::NoMatchingPlatform),
        (private.add("private").reference, FailureReason::Unauthorized),
        ("127.0.0.1:1/nothing:1".to_owned(), FailureReason::ConnectionRefused),
    ];
    for (reference, expected) in cases {
        let grant = desk.grant(&[&reference]);
        let report = desk.ended(&grant, SOON).await;
        let failure = report.images[uid(&reference).as_str()].failure.clone();
        let reason = failure.as_ref().map(|failure| failure.reason);
        assert_eq!(reason, Some(expected), "{reference}: {failure:?}");
    }
}

async fn what_comes_and_goes_by_hand_is_told_by_events(containerd: &Containerd, desk: &Desk, shelf: &Shelf) {
    let image = &shelf.image("by-hand");
    containerd.remove(&image.reference).await;
    desk.publish(catalog(1, &[&image.reference]));
    let told = async |what: &str, present: bool| {
        eventually(what, SECONDS, async || {
            let there = desk.report().and_then(|report| digest(&report, &image.reference));
            (there.as_deref() == present.then_some(image.digest.as_str())).then_some(())
        })
        .await;
    };
    containerd.cri.pull(&image.reference, None).await.unwrap();
    told("presence is told", true).await;
    containerd.remove_name(&image.reference).await;
    told("a removal as by `ctr images rm` is told", false).await;
    containerd.cri.pull(&image.reference, None).await.unwrap();
    told("it is told to be back", true).await;
    containerd.remove(&image.reference).await;
    told("a removal as by the kubelet is told", false).await;
    let report = desk.report().unwrap();
    let evictions = report.images[uid(&image.reference).as_str()].evictions.clone();
    assert_eq!(evictions.map(|evictions| evictions.count), Some(2));
}

async fn progress_tells_arriving_bytes_from_none(containerd: &Containerd) {
    let registry = Registry::start();
    containerd.speak_plainly_to(registry.address());
    registry.serve_slowly(true);
    let reference = registry.add("slow").reference;
    let runtime = NodeRuntime::new(containerd.cri.clone(), containerd.root().to_owned());
    let pull = tokio::task::spawn_local(runtime.pull(&reference, None));
    eventually("a download begins", SOON, async || (registry.downloads() > 0).then_some(())).await;
    let moves = async |what: &str| {
        let before = runtime.progress().await.unwrap();
        eventually(what, SOON, async || (runtime.progress().await != Some(before)).then_some(())).await;
    };
    moves("arriving bytes are seen").await;
    moves("and further ones").await;
    registry.stall(true);
    eventually("nothing is seen when nothing arrives", SOON, async || {
        let before = runtime.progress().await.unwrap();
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if runtime.progress().await != Some(before) {
                return None;
            }
        }
        Some(())
    })
    .await;
    let stalled = runtime.progress().await;
    registry.stall(false);
    registry.serve_slowly(false);
    pull.await.unwrap().unwrap();
    assert_ne!(runtime.progress().await, stalled, "what was fetched and unpacked is seen");
}

async fn losing_the_grant_ends_the_download(containerd: &Containerd, desk: &Desk) {
    let registry = Registry::start();
    containerd.speak_plainly_to(registry.address());
    registry.serve_slowly(true);
    let reference = registry.add("unwanted").reference;
    desk.grant(&[&reference]);
    eventually("a download begins", SOON, async || (registry.downloads() > 0).then_some(())).await;
    desk.take_away();
    let taken_away = Instant::now();
    eventually("the download ends", SOON, async || (registry.downloads() == 0).then_some(())).await;
    // Left alone it would take twice as long.
    assert!(taken_away.elapsed() < Duration::from_secs(5), "{:?}", taken_away.elapsed());
    assert_eq!(containerd.cri.image(&reference).await.unwrap(), None);
}
