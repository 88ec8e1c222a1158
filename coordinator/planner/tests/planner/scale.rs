//! A large cluster: 5,000 nodes and 50 images.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drop_planner::plan::plan;
use drop_protocol::ImagePullPolicy;

use crate::rig::{Rig, SECOND};

/// Images on nodes, the first `reporting` of which hold them all.
fn cluster(nodes: usize, images: usize, reporting: usize) -> Rig {
    let mut rig = Rig::new();
    rig.policy("p", 250, Duration::from_millis(1));
    for n in 0..images {
        rig.image(&format!("app{n:02}"), |image| {
            image.policy = Some("p".to_owned());
            image.pull_policy = ImagePullPolicy::IfNotPresent;
        });
    }
    for n in 0..nodes {
        rig.node(&format!("ip-10-{}-{}.internal", n / 250, n % 250), |_| {});
    }
    rig.run(3 * SECOND);
    // As the coordinator keeps them: all nodes share one copy of each string.
    let digest: Arc<str> = "sha256:one".into();
    let references: Vec<(Arc<str>, Arc<str>)> = rig
        .world
        .cluster
        .images
        .values()
        .map(|image| (image.uid.as_str().into(), image.reference.as_str().into()))
        .collect();
    let names: Vec<String> = rig.world.cluster.nodes.keys().cloned().collect();
    for name in names.iter().take(reporting) {
        rig.report(name, |report| {
            for (uid, reference) in &references {
                let entry = report.images.entry(uid.clone()).or_default();
                entry.reference.clone_from(reference);
                entry.digest = Some(Arc::clone(&digest));
            }
        });
    }
    for _ in 0..4 {
        rig.step();
        rig.advance(10 * SECOND);
    }
    share_names(&mut rig);
    rig
}

/// Has all statuses share one copy of each node's name, as the coordinator keeps them.
fn share_names(rig: &mut Rig) {
    let names: BTreeMap<String, Arc<str>> =
        rig.world.cluster.nodes.keys().map(|name| (name.clone(), name.as_str().into())).collect();
    for image in rig.world.cluster.images.values_mut() {
        for name in &mut Arc::make_mut(image).status.cached_nodes {
            *name = Arc::clone(&names[&**name]);
        }
    }
}

/// Time that this thread has spent on a processor, whatever else the machine does, in microseconds.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<u64>().unwrap() / 1000
}

/// What one plan takes on average, in microseconds of processor time; the kernel counts in steps of some milliseconds.
fn a_plan(rig: &mut Rig) -> u64 {
    const PLANS: u64 = 20;
    let start = processor_time();
    for _ in 0..PLANS {
        rig.world.memory.observe(&rig.world.cluster, rig.world.leadership.as_ref(), rig.now);
        drop(plan(&rig.world, rig.now));
    }
    (processor_time() - start) / PLANS
}

/// Far above what it takes: this notices a loop over pairs within a loop over pairs.
#[test]
fn a_plan_for_five_thousand_nodes_takes_a_moment() {
    let mut rig = cluster(5000, 50, 5000);
    assert_eq!(rig.status("app00").ready, "5000/5000");
    let idle = a_plan(&mut rig);
    let mut rig = cluster(5000, 50, 2500);
    assert_eq!(rig.status("app00").ready, "2500/5000");
    let rollout = a_plan(&mut rig);
    println!("idle {idle} µs, rollout {rollout} µs");
    assert!(idle < 2_000_000 && rollout < 2_000_000, "idle {idle} µs, rollout {rollout} µs");
}
