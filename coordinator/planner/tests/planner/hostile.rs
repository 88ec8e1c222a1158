//! A node that reports whatever it likes: nothing of it changes what others get, or what is said of them.
//!
//! The rule for what nodes share: a success, a failure or a digest counts for others as the word of one node, and only under a
//! grant that asked for it. One node alone holds up nobody and makes nobody ask again.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_planner::status::ImageStatus;
use drop_protocol::failure::{Failure, FailureReason, FailureScope};
use drop_protocol::{
    Evictions, GrantId, GrantOutcome, ImagePullPolicy, LowDisk, Outcome, Report, ReportEntry,
};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;

use crate::rig::{Rig, SECOND};

const HONEST: [&str; 3] = ["a", "b", "c"];
const LIAR: &str = "m";
const IMAGES: [&str; 3] = ["one", "two", "three"];

/// What the others do; they follow their grants.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    /// A node works off its grant: all well, or all failing for this reason.
    Work(usize, Option<usize>),
    Evict(usize, usize),
    MoveTag,
    Edit(usize),
    /// The liar reports.
    Lie(Box<Lie>),
    /// What it reports can't be read, or is gone.
    Garble(bool),
}

#[derive(Debug, Clone)]
struct Lie {
    report: Report,
    /// Whom it takes itself for.
    holder: Option<&'static str>,
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        Just(Timestamp::UNIX_EPOCH),
        (-60_i64..60).prop_map(|s| Timestamp::from_second(1_800_000_000 + s).unwrap()),
    ]
}

fn digest() -> impl Strategy<Value = &'static str> {
    select(vec!["sha256:0", "sha256:one", "sha256:two", "sha256:zzz", "sha512:new"])
}

fn failure() -> impl Strategy<Value = Failure> {
    let scope =
        select(vec![FailureScope::Image, FailureScope::Platform, FailureScope::Registry, FailureScope::Node]);
    let reason =
        select(vec![FailureReason::NotFound, FailureReason::ErrImagePull, FailureReason::TooManyRequests]);
    let attempts = prop_oneof![0..4_u32, Just(u32::MAX)];
    let wait = prop::option::of(prop_oneof![0..100_u32, Just(u32::MAX)]);
    (scope, reason, attempts, time(), wait).prop_map(|(scope, reason, attempts, at, retry_after_seconds)| {
        Failure { scope, reason, message: "says the liar".to_owned(), attempts, at, retry_after_seconds }
    })
}

fn entry() -> impl Strategy<Value = (String, ReportEntry)> {
    let uid = select(vec!["uid-one", "uid-two", "uid-three", "uid-of-nobody", ""]);
    let reference = select(vec!["reg.test/one:1", "reg.test/two:1", "reg.test/three:1", "evil.test/x", ""]);
    let parts = (prop::option::of(digest()), prop::option::of(time()), prop::option::of(failure()));
    let evictions = prop::option::of((prop_oneof![0..3_u32, Just(u32::MAX)], time()));
    (uid, reference, parts, evictions).prop_map(
        |(uid, reference, (digest, pulled_at, failure), evictions)| {
            // Mostly about the image that it names.
            let own = uid.strip_prefix("uid-").filter(|name| IMAGES.contains(name));
            let reference = own.map_or(reference.to_owned(), |name| format!("reg.test/{name}:1"));
            let entry = ReportEntry {
                reference: reference.into(),
                digest: digest.map(Into::into),
                pulled_at,
                failure: failure.map(Box::new),
                evictions: evictions.map(|(count, at)| Box::new(Evictions { count, at })),
            };
            (uid.to_owned(), entry)
        },
    )
}

fn lie() -> impl Strategy<Value = Lie> {
    let catalog = prop_oneof![0..9_u64, Just(u64::MAX), Just(1 << 40)];
    let outcome = prop::option::of(prop_oneof![Just(Outcome::Finished), Just(Outcome::Refused)]);
    let sequence = 0..40_u64;
    let rest = (
        0..4_u32,
        prop::option::of((any::<u8>(), any::<u8>())),
        select(vec![None, Some("lead.1.1"), Some("")]),
    );
    let entries = prop::collection::vec(entry(), 0..5);
    (catalog, outcome, sequence, rest, entries).prop_map(
        |(catalog, outcome, n, (left_out, low, holder), entries)| {
            let grant = outcome.map(|outcome| GrantOutcome {
                id: GrantId::from(format!("lead.1.{n}").as_str()),
                outcome,
                reason: "because".to_owned(),
            });
            let low_disk = low.map(|(free_percent, wanted_percent)| LowDisk { free_percent, wanted_percent });
            let images = entries.into_iter().map(|(uid, entry)| (uid.as_str().into(), entry)).collect();
            let report = Report { catalog, grant, low_disk, left_out, images, ..Report::empty("pod-a") };
            Lie { report, holder }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let (n, i) = (0..HONEST.len(), 0..IMAGES.len());
    prop_oneof![
        6 => (50..40_000_u64).prop_map(Step::Wait),
        6 => (n.clone(), prop::option::weighted(0.3, 0..3_usize)).prop_map(|(n, how)| Step::Work(n, how)),
        1 => (n, i.clone()).prop_map(|(n, i)| Step::Evict(n, i)),
        1 => Just(Step::MoveTag),
        1 => i.prop_map(Step::Edit),
        8 => lie().prop_map(|lie| Step::Lie(Box::new(lie))),
        1 => any::<bool>().prop_map(Step::Garble),
    ]
}

/// Nodes whose agents work, and one whose agent is not ready, so that it is never asked for anything.
fn rig() -> Rig {
    let mut rig = Rig::new();
    for node in HONEST {
        rig.node(node, |_| {});
    }
    rig.node(LIAR, |_| {});
    rig.agent_ready(LIAR, false);
    let mut policy = rig.policy("p", 8, Duration::ZERO);
    policy.repull_interval = Some(600 * SECOND);
    rig.set_policy(policy);
    rig.policy("q", 1, 2 * SECOND);
    for (n, image) in IMAGES.iter().enumerate() {
        rig.image(image, |image| {
            image.policy = Some(["p", "q"][n % 2].to_owned());
            image.pull_policy = [ImagePullPolicy::Always, ImagePullPolicy::IfNotPresent][n / 2];
        });
    }
    rig.run(5 * SECOND);
    rig
}

fn happen(rig: &mut Rig, step: &Step, tag: &'static str, lies: bool) {
    match step {
        Step::Wait(milliseconds) => rig.run(Duration::from_millis(*milliseconds)),
        Step::Work(n, how) => {
            let result = match how {
                None => Ok(tag),
                Some(0) => Err((FailureScope::Image, FailureReason::NotFound)),
                Some(1) => Err((FailureScope::Registry, FailureReason::ServerError)),
                Some(_) => Err((FailureScope::Node, FailureReason::RuntimeError)),
            };
            if rig.grant(HONEST[*n]).is_some() {
                rig.work(HONEST[*n], |_| result);
            }
        }
        Step::Evict(n, i) if rig.holds(HONEST[*n], IMAGES[*i]) => rig.evicted(HONEST[*n], IMAGES[*i]),
        Step::Edit(i) => rig.image(IMAGES[*i], |image| image.priority += 1),
        Step::Lie(lie) if lies => rig.change_lease(LIAR, |lease| {
            lease.report = Some(lie.report.clone());
            lease.report_error = None;
            let grant = lie.holder.map(GrantId::from);
            lease.holder = grant.map(|grant| drop_protocol::Holder { process: "m".to_owned(), grant });
        }),
        Step::Garble(gone) if lies => rig.change_lease(LIAR, |lease| {
            lease.report = None;
            lease.report_error = (!gone).then(|| "not readable".to_owned());
        }),
        Step::Evict(..) | Step::MoveTag | Step::Lie(_) | Step::Garble(_) => {}
    }
}

/// All that is said and done about the others.
#[derive(Debug, PartialEq)]
struct View {
    granted: BTreeMap<&'static str, Vec<(String, bool)>>,
    waiting: BTreeMap<String, &'static str>,
    images: Vec<Said>,
}

#[derive(Debug, PartialEq)]
struct Said {
    cached: Vec<String>,
    failed: Vec<(String, String, String, u32)>,
    resolved: Option<String>,
    pulled_at: Option<Timestamp>,
    attempted_at: Option<Timestamp>,
    pulling: u32,
}

fn view(rig: &mut Rig) -> View {
    let granted = |rig: &Rig, node| {
        let images = rig.grant(node).map(|grant| grant.images.clone()).unwrap_or_default();
        images.into_iter().map(|image| (image.name, image.refresh)).collect()
    };
    let said = |status: &ImageStatus| Said {
        cached: status.cached_nodes.iter().map(ToString::to_string).filter(|node| node != LIAR).collect(),
        failed: status
            .failed_nodes
            .iter()
            .filter(|failed| failed.node != LIAR)
            .map(|f| (f.node.clone(), f.reason.clone(), f.message.clone(), f.attempts))
            .collect(),
        // Where nobody else holds any, it is the liar's.
        resolved: status.resolved_digest.clone().filter(|_| status.cached_nodes.iter().any(|n| **n != *LIAR)),
        pulled_at: status.last_pulled_at,
        attempted_at: status.last_attempted_at,
        pulling: status.nodes_pulling,
    };
    let mut waiting = rig.waiting();
    waiting.retain(|pair, _| !pair.ends_with(&format!("/{LIAR}")));
    View {
        granted: HONEST.iter().map(|node| (*node, granted(rig, node))).collect(),
        waiting,
        images: IMAGES.iter().map(|image| said(rig.status(image))).collect(),
    }
}

/// Two worlds that differ in nothing but what the liar reports.
fn both(steps: &[Step]) -> (Rig, Rig) {
    let (mut quiet, mut loud) = (rig(), rig());
    let mut tag = "sha256:one";
    for step in steps {
        if matches!(step, Step::MoveTag) {
            tag = "sha256:two";
        }
        happen(&mut quiet, step, tag, false);
        happen(&mut loud, step, tag, true);
        // What flickers is written later where something else was written: read what would be said now.
        for rig in [&mut quiet, &mut loud] {
            rig.forget_statuses();
            rig.advance(11 * SECOND);
            rig.step();
        }
        assert_eq!(view(&mut quiet), view(&mut loud), "after {step:?}");
    }
    (quiet, loud)
}

proptest! {
    #![proptest_config(drop_hostile::cases(32))]

    #[test]
    fn what_a_node_reports_without_being_asked_changes_nothing_for_others(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let (_, loud) = both(&steps);
        for write in &loud.statuses {
            // A status that the API server would refuse keeps everybody's from being told.
            let times = [write.status.last_pulled_at, write.status.last_attempted_at].into_iter().flatten();
            let since = write.status.failed_nodes.iter().filter_map(|failed| failed.since);
            for time in times.chain(since) {
                prop_assert!(time >= Timestamp::UNIX_EPOCH && time <= loud.now.wall, "{time}");
            }
        }
    }

    /// It is asked, too, takes its grants when it likes, and says of them what it likes.
    #[test]
    fn whatever_a_node_makes_of_its_grants_the_others_get_their_images(
        lies in prop::collection::vec((lie(), 0..6_u8), 1..30),
    ) {
        let mut rig = rig();
        rig.agent_ready(LIAR, true);
        let mut lies = lies.iter().cycle();
        rig.run_with(900 * SECOND, |rig| {
            if let Some((lie, how)) = lies.next() {
                let id = rig.grant(LIAR).map(|grant| grant.id.clone());
                rig.change_lease(LIAR, |lease| {
                    let mut report = lie.report.clone();
                    match (how, id) {
                        (0, Some(id)) => report.grant = Some(GrantOutcome { id, outcome: Outcome::Refused, reason: String::new() }),
                        (1 | 2, Some(id)) => report.grant = Some(GrantOutcome { id, outcome: Outcome::Finished, reason: String::new() }),
                        (3, Some(grant)) => lease.holder = Some(drop_protocol::Holder { process: "m".to_owned(), grant }),
                        _ => {}
                    }
                    lease.report = Some(report);
                });
            }
            for node in HONEST {
                if rig.grant(node).is_some() {
                    rig.work(node, |_| Ok("sha256:one"));
                }
            }
        });
        // One slot may be the liar's for as long as it says that it pulls: of a policy with one alone, others wait for that.
        for image in ["one", "three"] {
            let cached: Vec<&str> = rig.status(image).cached_nodes.iter().map(|node| &**node).collect();
            prop_assert!(HONEST.iter().all(|node| cached.contains(node)), "{image}: {:?}", rig.status(image));
        }
    }
}

/// A policy with one slot, an urgent image and another that everybody wants; the liar lacks both.
fn urgent() -> Rig {
    let mut rig = Rig::with_nodes(&["a", "b", LIAR]);
    rig.policy("p", 1, Duration::ZERO);
    for (image, priority) in [("urgent", -5), ("app", 0)] {
        rig.image(image, |image| {
            image.policy = Some("p".to_owned());
            image.priority = priority;
        });
    }
    rig
}

#[test]
fn a_node_that_gives_its_grants_back_undone_takes_no_turn_from_the_others() {
    for outcome in [Outcome::Finished, Outcome::Refused] {
        let mut rig = urgent();
        rig.run_with(30 * SECOND, |rig| {
            for node in ["a", "b"] {
                if rig.grant(node).is_some() {
                    // The urgent one only: the other is still to come.
                    rig.work(node, |_| Ok("sha256:one"));
                }
            }
            if rig.grant(LIAR).is_some() {
                rig.end(LIAR, outcome);
            }
        });
        assert_eq!(rig.status("app").ready, "2/3", "{outcome:?} {:?}", rig.issued);
        let to_liar = rig.issued.iter().filter(|(_, _, node)| node == LIAR).count();
        assert!(to_liar <= 3, "{outcome:?}: {to_liar} grants in 30 s");
        assert_eq!(rig.waiting()[&format!("urgent/{LIAR}")], "NotAnswering");
    }
}

/// Two nodes fail under grants, one of which says that it failed for ever and was told to wait for ever.
#[test]
fn what_one_node_says_of_its_failure_does_not_lengthen_the_wait_of_others() {
    let mut rig = Rig::with_nodes(&["a", "b", "c", "d", LIAR]);
    rig.policy("p", 1, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    let start = rig.now.monotonic;
    let mut again = 0;
    let mut probes = Vec::new();
    rig.run_with(200 * SECOND, |rig| {
        for node in ["a", "b", "c", "d", LIAR] {
            if rig.grant(node).is_some() {
                probes.push((rig.elapsed(start).as_secs(), node));
                let fails = [("a", 0), (LIAR, 0)].contains(&(node, 0));
                rig.work(node, |_| {
                    if fails {
                        Err((FailureScope::Registry, FailureReason::ServerError))
                    } else {
                        Ok("sha256:one")
                    }
                });
            }
        }
        if rig.world.cluster.leases[LIAR].report.as_ref().is_some_and(|report| !report.images.is_empty()) {
            again += 1;
            let at = rig.now.wall;
            rig.entry(LIAR, "app", |entry| {
                let failure = entry.failure.as_mut().unwrap();
                (failure.attempts, failure.at, failure.retry_after_seconds) =
                    (u32::MAX - again, at, Some(u32::MAX));
            });
        }
    });
    let cached: Vec<&str> = rig.status("app").cached_nodes.iter().map(|node| &**node).collect();
    assert!(["b", "c", "d"].iter().all(|node| cached.contains(node)), "{probes:?}");
}

#[test]
fn a_probe_that_does_not_end_keeps_the_others_for_one_turn_at_most() {
    let mut rig = Rig::with_nodes(&["a", "b", LIAR]);
    rig.policy("p", 2, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run(2 * SECOND);
    for node in rig.live().into_iter().map(str::to_owned).collect::<Vec<_>>() {
        rig.work(&node, |_| Err((FailureScope::Image, FailureReason::NotFound)));
    }
    // Whoever is granted next: the liar renews for ever, the others pull.
    rig.run_with(1500 * SECOND, |rig| {
        if rig.grant(LIAR).is_some() {
            rig.take(LIAR);
        }
        for node in ["a", "b"] {
            if rig.grant(node).is_some() {
                rig.work(node, |_| Ok("sha256:one"));
            }
        }
    });
    assert_eq!(rig.status("app").nodes_ready, 2, "{:?}", rig.status("app"));
}

#[test]
fn a_node_that_names_ever_new_digests_hides_nobody_elses_and_takes_no_room() {
    let mut rig = Rig::with_nodes(&["a", "b", LIAR]);
    rig.policy("p", 3, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run_with(5 * SECOND, Rig::eager);
    assert_eq!(rig.status("app").ready, "3/3");
    let issued = rig.issued.len();
    for n in 0..2000 {
        rig.pulled(LIAR, "app", ["sha256:x", "sha256:y", "sha256:z", "sha256:u", "sha256:v"][n % 5]);
        rig.step();
        rig.advance(SECOND);
    }
    assert_eq!(rig.issued.len(), issued, "nobody asks again");
    assert_eq!(rig.status("app").ready, "3/3");
    let digests: Vec<&str> = rig.status("app").digests.iter().map(|held| held.digest.as_str()).collect();
    assert_eq!(digests.len(), 2, "{digests:?}");
    assert!(digests.contains(&"sha256:one"));
    rig.pulled(LIAR, "app", "sha256:one");
    rig.run(5 * SECOND);
    assert_eq!(rig.status("app").resolved_digest.as_deref(), Some("sha256:one"));
}

#[test]
fn a_digest_that_a_node_was_not_asked_for_is_no_second_word() {
    let mut rig = Rig::with_nodes(&["a", "b", LIAR]);
    rig.agent_ready(LIAR, false);
    rig.policy("p", 3, Duration::ZERO);
    rig.image("app", |image| image.policy = Some("p".to_owned()));
    rig.run_with(5 * SECOND, Rig::eager);
    rig.evicted("b", "app");
    rig.run_with(20 * SECOND, |rig| {
        if rig.grant("b").is_some() {
            rig.work("b", |_| Ok("sha256:two"));
        }
    });
    let issued = rig.issued.len();
    assert_eq!(issued, 3, "{:?}", rig.issued);
    rig.pulled(LIAR, "app", "sha256:two");
    rig.run(60 * SECOND);
    assert_eq!(rig.issued.len(), issued, "nobody asks again: {:?}", rig.issued);
}

#[test]
fn an_answer_to_a_catalog_that_never_was_answers_nothing_and_leaves_room_to_count() {
    let mut rig = Rig::with_nodes(&["a", LIAR]);
    for n in 0..3 {
        rig.report(LIAR, |report| report.catalog = u64::MAX - n);
        rig.image(&format!("app-{n}"), |image| image.pull_policy = ImagePullPolicy::IfNotPresent);
        rig.run(SECOND);
        assert_eq!(rig.waiting().get(&format!("app-{n}/{LIAR}")), Some(&"NotYetAnswered"));
        rig.run(10 * SECOND);
    }
    let generation = rig.world.cluster.catalog.as_ref().unwrap().catalog.generation;
    assert!(generation < 10, "{generation}");
}
