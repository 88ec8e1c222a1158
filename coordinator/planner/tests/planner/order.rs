//! Who gets the next slot, and what the grant carries.

use std::time::Duration;

use drop_protocol::{FailureReason, FailureScope, ImagePullPolicy};

use crate::rig::{Rig, SECOND};

fn rig(max: u32, nodes: &[&str]) -> Rig {
    let mut rig = Rig::with_nodes(nodes);
    rig.policy("p", max, Duration::ZERO);
    rig
}

fn add(rig: &mut Rig, name: &str, priority: i32, pool: Option<&str>) {
    rig.image(name, |image| {
        image.policy = Some("p".to_owned());
        image.priority = priority;
        image.node_selector.extend(pool.map(|pool| ("pool".to_owned(), pool.to_owned())));
    });
}

fn label(rig: &mut Rig, node: &str, pool: &str) {
    rig.node(node, |node| {
        node.labels.insert("pool".to_owned(), pool.to_owned());
    });
}

#[test]
fn a_grant_carries_images_by_priority_and_then_by_name() {
    let mut rig = rig(1, &["a"]);
    add(&mut rig, "z", -5, None);
    add(&mut rig, "b", 0, None);
    add(&mut rig, "a", 0, None);
    add(&mut rig, "c", 7, None);
    rig.run(2 * SECOND);
    assert_eq!(rig.granted("a"), ["z", "a", "b", "c"]);
}

#[test]
fn the_node_with_the_lowest_priority_value_comes_first() {
    let mut rig = rig(1, &["a", "b"]);
    label(&mut rig, "a", "x");
    label(&mut rig, "b", "y");
    add(&mut rig, "later", 1, Some("x"));
    add(&mut rig, "sooner", 0, Some("y"));
    rig.run(2 * SECOND);
    assert_eq!(rig.live(), ["b"]);
}

#[test]
fn a_grant_goes_no_further_than_what_another_node_waits_for() {
    let mut rig = rig(1, &["a", "b"]);
    add(&mut rig, "first", 0, None);
    add(&mut rig, "second", 1, None);
    rig.run(2 * SECOND);
    assert_eq!(rig.granted("a"), ["first"]);
    rig.work("a", |_| Ok("sha256:one"));
    rig.run(SECOND);
    assert_eq!(rig.granted("b"), ["first", "second"], "a waits for nothing more urgent than second");
}

#[test]
fn a_grant_goes_all_the_way_if_everybody_gets_a_slot() {
    let mut rig = rig(2, &["a", "b"]);
    add(&mut rig, "first", 0, None);
    add(&mut rig, "second", 1, None);
    rig.run(2 * SECOND);
    assert_eq!(rig.granted("a"), ["first", "second"]);
    assert_eq!(rig.granted("b"), ["first", "second"]);
}

#[test]
fn no_slot_stays_empty_because_what_is_more_urgent_can_t_be_pulled() {
    let mut rig = rig(1, &["a", "b"]);
    label(&mut rig, "a", "x");
    rig.agent_ready("a", false);
    add(&mut rig, "urgent", -10, Some("x"));
    add(&mut rig, "other", 0, None);
    rig.run(2 * SECOND);
    assert_eq!(rig.granted("b"), ["other"]);
    assert_eq!(rig.waiting()["urgent/a"], "AgentNotReady");
}

#[test]
fn a_node_works_on_one_grant_at_a_time() {
    let mut rig = rig(1, &["a"]);
    rig.policy("q", 1, Duration::ZERO);
    add(&mut rig, "one", 0, None);
    rig.image("two", |image| image.policy = Some("q".to_owned()));
    rig.run(2 * SECOND);
    assert_eq!(rig.granted("a"), ["one"]);
    assert_eq!(rig.waiting()["two/a"], "NodeBusy");
    rig.work("a", |_| Ok("sha256:one"));
    rig.run(SECOND);
    assert_eq!(rig.granted("a"), ["two"]);
}

#[test]
fn a_grant_names_sixty_four_images_at_most() {
    let mut rig = rig(1, &["a"]);
    for n in 0..70 {
        add(&mut rig, &format!("app{n:02}"), 0, None);
    }
    rig.run(4 * SECOND);
    assert_eq!(rig.granted("a").len(), 64);
}

#[test]
fn a_grant_takes_sixty_four_kibibytes_at_most() {
    let mut rig = rig(1, &["a"]);
    for n in 0..60 {
        add(&mut rig, &format!("app{n:02}"), 0, None);
        rig.image(&format!("app{n:02}"), |image| image.secrets = vec!["s".repeat(250); 10]);
    }
    rig.run(4 * SECOND);
    let grant = rig.grant("a").unwrap();
    assert!((10..60).contains(&grant.images.len()) && grant.encode().len() <= 64 * 1024);
}

#[test]
fn the_node_that_waited_longest_comes_before_one_that_was_served() {
    let mut rig = rig(1, &["a", "b", "c"]);
    add(&mut rig, "one", 0, None);
    rig.run(2 * SECOND);
    rig.work("a", |_| Ok("sha256:one"));
    add(&mut rig, "two", 0, None);
    rig.run(3 * SECOND);
    assert_eq!(rig.live(), ["b"], "a has just been served");
}

#[test]
fn a_node_that_lets_a_grant_pass_queues_behind_those_that_answer() {
    let mut rig = rig(1, &["a", "b", "c"]);
    add(&mut rig, "one", 0, None);
    rig.run(2 * SECOND);
    assert_eq!(rig.live(), ["a"]);
    rig.run(10 * SECOND);
    assert_eq!(rig.live(), ["b"]);
    assert_eq!(rig.waiting()["one/a"], "NotAnswering");
    rig.take("b");
    // a's backoff is over by now, but c has never been asked.
    for _ in 0..40 {
        rig.renew("b");
        rig.run(SECOND);
    }
    assert_eq!(rig.waiting()["one/a"], "WaitingForSlot");
    rig.work("b", |_| Ok("sha256:one"));
    rig.run(SECOND);
    assert_eq!(rig.live(), ["c"]);
}

/// `a` was served, `b` wants something as well, and now `a` wants something more urgent.
fn a_is_in_line_before_b(rig: &mut Rig) {
    rig.run(5 * SECOND);
    add(rig, "other", 0, Some("y"));
    add(rig, "urgent", -1, Some("x"));
    rig.run(2 * SECOND);
    assert_eq!(rig.live(), ["a"]);
}

#[test]
fn a_node_that_takes_its_grants_again_is_in_line_like_all_others() {
    let mut rig = rig(1, &["a", "b"]);
    label(&mut rig, "a", "x");
    label(&mut rig, "b", "y");
    add(&mut rig, "first", 0, Some("x"));
    rig.run(15 * SECOND);
    assert_eq!(rig.waiting()["first/a"], "NotAnswering");
    rig.run_with(30 * SECOND, Rig::eager);
    assert_eq!(rig.status("first").ready, "1/1");
    a_is_in_line_before_b(&mut rig);
}

#[test]
fn also_one_that_found_what_it_was_asked_to_pull() {
    let mut rig = rig(1, &["a", "b"]);
    label(&mut rig, "a", "x");
    label(&mut rig, "b", "y");
    add(&mut rig, "first", 0, Some("x"));
    rig.image("first", |image| image.pull_policy = ImagePullPolicy::IfNotPresent);
    rig.run(4 * SECOND);
    rig.take("a");
    rig.present("a", "first", "sha256:baked");
    rig.finish("a");
    a_is_in_line_before_b(&mut rig);
}

#[test]
fn an_evicted_image_is_as_urgent_as_one_that_was_never_there() {
    let mut rig = rig(1, &["a", "b", "c"]);
    for (node, pool) in [("a", "x"), ("b", "y"), ("c", "z")] {
        label(&mut rig, node, pool);
    }
    add(&mut rig, "urgent", -1, Some("y"));
    rig.run_with(10 * SECOND, Rig::eager);
    add(&mut rig, "long", 0, Some("z"));
    rig.run(5 * SECOND);
    rig.take("c");
    rig.evicted("b", "urgent");
    add(&mut rig, "other", 0, Some("x"));
    rig.run(10 * SECOND);
    assert_eq!(rig.live(), ["c"]);
    rig.work("c", |_| Ok("sha256:one"));
    rig.run(SECOND);
    assert_eq!(rig.live(), ["b"]);
}

#[test]
fn a_grant_of_ten_minutes_gives_way_to_nodes_that_wait() {
    let mut rig = rig(1, &["a", "b"]);
    add(&mut rig, "one", 0, None);
    add(&mut rig, "two", 0, None);
    rig.run(2 * SECOND);
    rig.take("a");
    for _ in 0..50 {
        rig.renew("a");
        rig.run(10 * SECOND);
    }
    assert!(rig.grant("a").unwrap().withdrawn.is_none());
    for _ in 0..12 {
        rig.renew("a");
        rig.run(10 * SECOND);
    }
    let mark = rig.grant("a").unwrap().withdrawn.clone().unwrap();
    assert!(mark.unwanted.is_empty(), "the image in flight is let to finish");
    assert_eq!(rig.live(), ["a"], "marked, not removed");
    rig.finish("a");
    rig.run(SECOND);
    assert_eq!(rig.live(), ["b"]);
}

#[test]
fn where_nobody_waits_a_grant_goes_on_for_as_long_as_it_takes() {
    let mut rig = rig(1, &["a"]);
    add(&mut rig, "one", 0, None);
    add(&mut rig, "two", 0, None);
    rig.run(2 * SECOND);
    rig.take("a");
    for _ in 0..100 {
        rig.renew("a");
        rig.run(10 * SECOND);
    }
    assert_eq!(rig.grant("a").unwrap().withdrawn, None);
}

#[test]
fn an_urgent_image_that_fails_again_and_again_leaves_turns_to_others() {
    let mut rig = rig(1, &["a", "b"]);
    let mut policy = rig.policy("p", 1, 9 * SECOND);
    policy.backoff_initial = SECOND;
    policy.backoff_max = SECOND;
    rig.set_policy(policy);
    label(&mut rig, "a", "x");
    label(&mut rig, "b", "y");
    add(&mut rig, "broken", -1, Some("x"));
    rig.run(15 * SECOND);
    let fail = |rig: &mut Rig| {
        if rig.live() == ["a"] {
            rig.work("a", |_| Err((FailureScope::Image, FailureReason::NotFound)));
        }
    };
    fail(&mut rig);
    add(&mut rig, "fine", 0, Some("y"));
    rig.run_with(15 * SECOND, fail);
    assert_eq!(rig.live(), ["b"], "a is due again all the time");
}

#[test]
fn a_node_that_let_a_grant_pass_is_not_starved_by_one_that_fails_again_and_again() {
    let mut rig = rig(1, &["a", "b"]);
    let mut policy = rig.policy("p", 1, 11 * SECOND);
    policy.backoff_initial = SECOND;
    policy.backoff_max = 4 * SECOND;
    rig.set_policy(policy);
    label(&mut rig, "a", "x");
    label(&mut rig, "b", "y");
    add(&mut rig, "fine", 0, Some("y"));
    while rig.waiting().get("fine/b") != Some(&"NotAnswering") {
        rig.run(SECOND / 2);
    }
    // Each new start on `a` begins the delay for `b` anew.
    add(&mut rig, "broken", -1, Some("x"));
    let mut served = false;
    rig.run_with(120 * SECOND, |rig| {
        if rig.live() == ["a"] {
            rig.work("a", |_| Err((FailureScope::Image, FailureReason::NotFound)));
        }
        served |= rig.live() == ["b"];
    });
    assert!(served, "b waits for its turn for ever");
}
