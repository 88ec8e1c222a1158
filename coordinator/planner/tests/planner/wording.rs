//! Everything that people read in `kubectl describe cachedimage`, on one page: `snapshots/planner__wording__*.snap`.

use std::fmt::Write as _;
use std::time::Duration;

use drop_planner::WriteKey;
use drop_planner::cluster::{Taint, TaintEffect};
use drop_protocol::failure::{FailureReason, FailureScope, classify};
use drop_protocol::{ImagePullPolicy, LowDisk};

use crate::rig::{Rig, SECOND};

/// What stands in the status of `app` and what events tell of it, under a heading.
fn read(title: &str, rig: &Rig) -> String {
    let status = rig.status("app");
    let mut text = format!("{title}\n");
    for condition in &status.conditions {
        let (kind, value, reason) = (&condition.kind, condition.status, &condition.reason);
        writeln!(text, "    {kind} {value:?} {reason}: {}", condition.message).unwrap();
    }
    for event in rig.events.iter().filter(|event| event.image == "app") {
        writeln!(text, "    event {:?} {}: {}", event.kind, event.reason, event.note).unwrap();
    }
    text
}

fn rig(nodes: usize) -> Rig {
    let names: Vec<String> = (1..=nodes).map(|n| format!("node-{n}")).collect();
    let mut rig = Rig::with_nodes(&names.iter().map(String::as_str).collect::<Vec<_>>());
    rig.image("app", |_| {});
    rig
}

/// Nodes of which none gets the image, because `change` is true of each from the beginning.
fn obstructed(nodes: usize, change: impl Fn(&mut Rig, &str)) -> Rig {
    let mut rig = rig(nodes);
    for n in 1..=nodes {
        change(&mut rig, &format!("node-{n}"));
    }
    rig.run(20 * SECOND);
    rig
}

/// Nodes that all fail, each as `failure` says.
fn failing(nodes: usize, failure: impl Fn(&str) -> (FailureScope, FailureReason)) -> Rig {
    let mut rig = rig(nodes);
    rig.policy("p", 10, SECOND / 10);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(SECOND);
    for n in 1..=nodes {
        let node = format!("node-{n}");
        let (scope, reason) = failure(&node);
        rig.failed(&node, "app", scope, reason);
        if rig.grant(&node).is_some() {
            rig.take(&node);
            rig.finish(&node);
        }
    }
    rig.run(3 * SECOND);
    rig
}

#[test]
fn of_a_rollout() {
    let mut text = String::new();

    let mut first = rig(290);
    first.run(2 * SECOND);
    text += &read("290 nodes, the first has its grant", &first);

    let mut between = rig(3);
    between.run_with(5 * SECOND, Rig::eager);
    text += &read("the first node is done, the second waits for the policy's delay", &between);
    between.run_with(60 * SECOND, Rig::eager);
    text += &read("all nodes are done", &between);

    let mut undelayed = rig(100);
    undelayed.policy("fast", 5, Duration::ZERO);
    undelayed.image("app", |image| image.policy = Some("fast".to_owned()));
    undelayed.run(2 * SECOND);
    text += &read("a policy without delay", &undelayed);

    let mut beside = rig(5);
    for node in ["node-4", "node-5"] {
        beside.report(node, |report| {
            report.low_disk = Some(LowDisk { free_percent: 12, wanted_percent: 20 });
        });
    }
    beside.run(2 * SECOND);
    text += &read("some go on, others can't", &beside);

    let mut moved = rig(3);
    moved.run_with(60 * SECOND, Rig::eager);
    moved.pulled("node-2", "app", "sha256:two");
    moved.run(5 * SECOND);
    text += &read("the tag has moved, and one node has it new", &moved);

    let mut kept = rig(3);
    kept.image("app", |image| image.pull_policy = ImagePullPolicy::IfNotPresent);
    for (node, digest) in [("node-1", "sha256:one"), ("node-2", "sha256:one"), ("node-3", "sha256:two")] {
        kept.pulled(node, "app", digest);
        kept.run(3 * SECOND);
    }
    text += &read("nodes came with different digests, and nothing is pulled again", &kept);

    let mut listed = rig(3);
    listed.image("app", |image| image.pull_policy = ImagePullPolicy::IfNotPresent);
    listed.run(SECOND);
    text += &read("newly listed, and nodes may hold it already", &listed);

    let mut evicted = rig(5);
    evicted.run_with(60 * SECOND, Rig::eager);
    for n in 1..=4 {
        evicted.evicted(&format!("node-{n}"), "app");
    }
    evicted.run(SECOND);
    text += &read("evicted on four nodes", &evicted);

    insta::assert_snapshot!(text);
}

#[test]
fn of_failures() {
    let mut text = String::new();
    let one = failing(1, |_| (FailureScope::Image, FailureReason::Unauthorized));
    text += &read("one node fails", &one);

    let mut many = failing(5, |_| (FailureScope::Image, FailureReason::NotFound));
    text += &read("many fail in the same way", &many);
    many.run_with(400 * SECOND, Rig::eager);
    text += &read("and have recovered", &many);

    let mixed = failing(4, |node| match node {
        "node-1" | "node-2" => (FailureScope::Registry, FailureReason::Timeout),
        _ => (FailureScope::Node, FailureReason::DiskError),
    });
    text += &read("they fail in different ways", &mixed);

    let mut retried = failing(1, |_| (FailureScope::Node, FailureReason::RuntimeError));
    retried.run_with(45 * SECOND, |rig| {
        if rig.grant("node-1").is_some() {
            rig.take("node-1");
        }
    });
    text += &read("the next attempt is under way", &retried);

    let mut checked = rig(3);
    checked.run_with(60 * SECOND, Rig::eager);
    checked.failed("node-2", "app", FailureScope::Registry, FailureReason::ConnectionRefused);
    checked.run(5 * SECOND);
    text += &read("a later check fails where the image is cached", &checked);
    insta::assert_snapshot!(text);
}

#[test]
fn of_what_stands_in_the_way() {
    let mut text = String::new();
    let mut add = |title: &str, rig: Rig| text += &read(title, &rig);

    add("no policy of that name", {
        let mut rig = rig(2);
        rig.image("app", |image| image.policy = Some("slow".to_owned()));
        rig.run(5 * SECOND);
        rig
    });
    add("a policy that can't be acted on", {
        let mut rig = rig(2);
        let policy = rig.policy("slow", 1, SECOND);
        let problem = Some("spec.minDelayBetweenPulls: is not a duration: write 30s".to_owned());
        rig.set_policy(drop_planner::PullPolicy { problem, ..policy });
        rig.image("app", |image| image.policy = Some("slow".to_owned()));
        rig.run(5 * SECOND);
        rig
    });
    add("a policy that went away afterwards", {
        let mut rig = rig(1);
        rig.policy("slow", 1, SECOND);
        rig.image("app", |image| image.policy = Some("slow".to_owned()));
        rig.run_with(20 * SECOND, Rig::eager);
        rig.world.cluster.policies.clear();
        rig.run(5 * SECOND);
        rig
    });
    add("a spec that can't be acted on", {
        let mut rig = rig(2);
        rig.image("app", |image| {
            image.problem = Some("spec: tag and digest can't both be set: remove one of them".to_owned());
        });
        rig.run(5 * SECOND);
        rig
    });
    add("imagePullPolicy Never", {
        let mut rig = rig(2);
        rig.image("app", |image| image.pull_policy = ImagePullPolicy::Never);
        rig.run(5 * SECOND);
        rig
    });
    add("labels that no node has", {
        let mut rig = rig(2);
        rig.image("app", |image| drop(image.node_selector.insert("pool".to_owned(), "gpu".to_owned())));
        rig.run(5 * SECOND);
        rig
    });
    let taint =
        || Taint { key: "dedicated".to_owned(), value: "ci".to_owned(), effect: TaintEffect::NoSchedule };
    add("taints on all nodes, which the policy does not tolerate either", {
        let mut rig = rig(2);
        rig.policy("slow", 1, SECOND);
        rig.image("app", |image| image.policy = Some("slow".to_owned()));
        for node in ["node-1", "node-2"] {
            rig.node(node, |node| node.taints.push(taint()));
        }
        rig.run(5 * SECOND);
        rig
    });
    add("no nodes at all", {
        let mut rig = Rig::new();
        rig.image("app", |_| {});
        rig.run(5 * SECOND);
        rig
    });
    for nodes in [1, 3] {
        add(
            "no node Lease",
            obstructed(nodes, |rig, node| {
                rig.world.cluster.leases.remove(node);
                for _ in 0..10 {
                    rig.world.memory.write_failed(&WriteKey::CreateLease(node.to_owned()), rig.now);
                }
            }),
        );
        add("no ready agent", obstructed(nodes, |rig, node| rig.agent_ready(node, false)));
        add(
            "a report of a later release",
            obstructed(nodes, |rig, node| {
                rig.change_lease(node, |lease| lease.report_error = Some("version 9".to_owned()));
            }),
        );
        add(
            "no room in the report",
            obstructed(nodes, |rig, node| rig.report(node, |report| report.left_out = 1)),
        );
        add(
            "too little free disk space",
            obstructed(nodes, |rig, node| {
                let low_disk = Some(LowDisk { free_percent: 12, wanted_percent: 20 });
                rig.report(node, |report| report.low_disk = low_disk);
            }),
        );
        add("grants that nobody takes", obstructed(nodes, |_, _| {}));
    }
    add("no room in the catalog", {
        let mut rig = rig(1);
        rig.image("aaa", |image| image.reference = format!("reg.test/{}:1", "a".repeat(921_560)));
        rig.run(3 * SECOND);
        rig
    });
    add("Secrets that agents may not read yet", {
        let mut rig = rig(1);
        rig.pull_secrets([]);
        rig.image("app", |image| image.secrets = vec!["ghcr".to_owned(), "ecr".to_owned()]);
        for _ in 0..10 {
            rig.world.memory.write_failed(&WriteKey::PullSecrets, rig.now);
        }
        rig.run(5 * SECOND);
        rig
    });
    insta::assert_snapshot!(text);
}

/// How agents put into words what containerd answers.
#[test]
fn of_agents() {
    let reference = "ghcr.io/team/app:1";
    let answers = [
        "failed to resolve reference: ghcr.io/team/app:1: not found",
        "pull access denied, repository does not exist or may require authorization: 401 Unauthorized",
        "unexpected status from HEAD request: 403 Forbidden",
        "failed to unpack image: mismatched image rootfs and manifest layers",
        "no match for platform in manifest: not found",
        "unexpected status code: 429 Too Many Requests",
        "unexpected status from GET request: 503 Service Unavailable",
        "dial tcp: lookup ghcr.io on 10.0.0.10:53: no such host",
        "dial tcp 10.1.2.3:443: connect: connection refused",
        "dial tcp 10.1.2.3:443: i/o timeout",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "write /var/lib/containerd/io.containerd.content.v1.content/ingest: no space left on device",
        "error reading from server: EOF: transport is closing",
        "something that nobody has seen before",
    ];
    let mut text = String::new();
    for answer in answers {
        let classified = classify(2, answer, reference);
        writeln!(text, "{} ({:?}): {}", classified.reason, classified.scope, classified.message).unwrap();
    }
    insta::assert_snapshot!(text);
}
