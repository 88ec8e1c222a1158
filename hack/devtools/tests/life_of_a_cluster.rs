//! A cluster of its own comes up, heals, grows and goes without a trace. Needs root and some minutes when nothing is
//! built yet: `cargo test -p drop-devtools --test life_of_a_cluster -- --ignored`.

// A helper of a test may fail it as the test itself may.
#![allow(clippy::unwrap_used)]

use drop_devtools::cluster::{self, Wanted};
use drop_devtools::control_plane::kubectl;
use drop_devtools::daemon::{Daemons, Process};
use drop_devtools::settings::Settings;
use drop_devtools::state::ClusterInfo;
use drop_devtools::{command, images, mounts, network, node, status, teardown, wait};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Takes the cluster down when the test fails half-way.
struct Down(Settings);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = teardown::down(&self.0);
    }
}

#[test]
#[ignore = "needs root, Debian packages and a Go toolchain"]
fn a_cluster_comes_up_heals_grows_and_goes_without_a_trace() {
    let settings = Settings::new("selftest", None).unwrap();
    teardown::down(&settings).unwrap();
    let guard = Down(settings.clone());

    let info = cluster::up(&settings, Wanted::whole(1)).unwrap();
    assert!(status::healthy(&info), "{}", status::table(&info));
    run_pod(&info);

    let daemons = Daemons::new(&info.state);
    let before: Vec<_> = status::parts(&info);
    cluster::up(&settings, Wanted::whole(1)).unwrap();
    assert_eq!(status::parts(&info), before, "a second run restarted something");

    let kubelet = daemons.running(&node::kubelet_part(&info.nodes[0])).unwrap();
    kubelet.signal(Signal::SIGKILL);
    assert!(wait::until(Duration::from_secs(5), || !status::healthy(&info)), "a dead kubelet is not shown");
    let info = cluster::up(&settings, Wanted::whole(2)).unwrap();
    assert_eq!(info.nodes.len(), 2);
    assert!(status::healthy(&info), "{}", status::table(&info));

    let inside = processes_inside(&info);
    assert!(inside.len() > 8, "{inside:?}");
    // Half a cluster goes too.
    for part in [node::containerd_part(&info.nodes[0]), node::kubelet_part(&info.nodes[1])] {
        daemons.running(&part).unwrap().signal(Signal::SIGKILL);
    }
    drop(guard);

    let left: Vec<&Process> = inside.iter().filter(|process| process.alive()).collect();
    assert!(left.is_empty(), "processes stayed: {left:?}");
    assert!(mounts::mounted_below(&info.state).is_empty());
    assert!(!info.netns.exists());
    assert!(!info.state.exists());
    assert!(!network::exists(&info.netns));
}

/// Runs a pod from a pushed image until it is ready.
fn run_pod(info: &ClusterInfo) {
    let pod = format!("--image={}/{}", info.registry, node::PAUSE_IMAGE);
    command::run(kubectl(info).args(["run", "idle", &pod])).unwrap();
    command::run(kubectl(info).args(["wait", "--for=condition=Ready", "pod/idle", "--timeout=60s"])).unwrap();
    let pushed =
        images::synthetic::push_all(info, &info.state.join("cache"), "selftest", 1, 1, 2).unwrap().remove(0);
    let mut pull = node::ctr(info, &info.nodes[0]);
    pull.args(["images", "pull", "--plain-http", &pushed.reference]);
    // ctr fetches by itself: it has to be in the cluster's network.
    let mut inside = network::inside(&info.netns, pull.get_program());
    let pulled = command::output(inside.args(pull.get_args())).unwrap();
    assert!(pulled.contains(&pushed.digest), "{pulled}");
}

/// Every process in the cluster's network, on its nodes, or in its pods.
fn processes_inside(info: &ClusterInfo) -> BTreeSet<Process> {
    let netns = fs::metadata(&info.netns).unwrap().ino();
    let in_network =
        |pid: &i32| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns.ino() == netns);
    let mut pids: BTreeSet<i32> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(in_network)
        .collect();
    for node in &info.nodes {
        pids.extend(mounts::members(node));
        let tasks = command::output(node::ctr(info, node).args(["tasks", "ls"])).unwrap();
        pids.extend(
            tasks.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)?.parse::<i32>().ok()),
        );
    }
    pids.into_iter().filter_map(Process::find).collect()
}
