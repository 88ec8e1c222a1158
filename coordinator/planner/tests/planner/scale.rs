//! A large cluster: 5,000 nodes and 50 images.

use std::sync::Arc;
use std::time::Duration;

use drop_planner::plan::plan;
use drop_protocol::ImagePullPolicy;

use crate::rig::{Rig, SECOND};

fn cluster(nodes: usize, images: usize) -> Rig {
    let mut rig = Rig::new();
    rig.policy("p", 100, Duration::from_millis(100));
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
    for name in &names {
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
        rig.advance(30 * SECOND);
    }
    rig
}

/// Time that this thread has spent on a processor, whatever else the machine does, in milliseconds.
fn processor_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

/// The quickest of five, in milliseconds of processor time.
fn quickest(rig: &mut Rig) -> u64 {
    (0..5)
        .map(|_| {
            let start = processor_time();
            rig.world.memory.observe(&rig.world.cluster, rig.world.leadership.as_ref(), rig.now);
            let plan = plan(&rig.world, rig.now);
            drop(plan);
            processor_time() - start
        })
        .min()
        .unwrap()
}

/// Far above what it takes: this notices a loop over pairs within a loop over pairs.
#[test]
fn a_plan_for_five_thousand_nodes_takes_a_moment() {
    let mut rig = cluster(5000, 50);
    assert_eq!(rig.status("app00").ready, "5000/5000");
    let idle = quickest(&mut rig);
    rig.image("new", |image| image.policy = Some("p".to_owned()));
    for _ in 0..3 {
        rig.step();
        rig.advance(SECOND);
    }
    let rollout = quickest(&mut rig);
    println!("idle {idle} ms, rollout {rollout} ms");
    assert!(idle < 2000 && rollout < 2000, "idle {idle} ms, rollout {rollout} ms");
}
