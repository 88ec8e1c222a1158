//! Who gets the next slot, and what the grant carries.

use std::time::Duration;

use drop_protocol::ImagePullPolicy;

use crate::rig::{Rig, SECOND};

pub(crate) fn rig(max: u32, nodes: &[&str]) -> Rig {
    let mut rig = Rig::with_nodes(nodes);
    rig.policy("p", max, Duration::ZERO);
    rig
}

pub(crate) fn add(rig: &mut Rig, name: &str, priority: i32, pool: Option<&str>) {
    rig.image(name, |image| {
        image.policy = Some("p".to_owned());
        image.priority = priority;
        image.node_selector.extend(pool.map(|pool| ("pool".to_owned(), pool.to_owned())));
    });
}

pub(crate) fn label(rig: &mut Rig, node: &str, pool: &str) {
    rig.node(node, |node| {
        node.labels.insert("pool".to_owned(), pool.to_owned());
    });
}

/// One slot, `a` in pool `x` and `b` in pool `y`.
pub(crate) fn one_slot() -> Rig {
    let mut rig = rig(1, &["a", "b"]);
    label(&mut rig, "a", "x");
    label(&mut rig, "b", "y");
    rig
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
    let mut rig = one_slot();
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
pub(crate) fn a_is_in_line_before_b(rig: &mut Rig) {
    rig.run(5 * SECOND);
    add(rig, "other", 0, Some("y"));
    add(rig, "urgent", -1, Some("x"));
    rig.run(2 * SECOND);
    assert_eq!(rig.live(), ["a"]);
}

#[test]
fn a_grant_that_was_taken_back_was_a_turn_all_the_same() {
    let mut rig = one_slot();
    add(&mut rig, "a-first", -1, Some("x"));
    add(&mut rig, "b-first", -1, Some("y"));
    add(&mut rig, "both", 0, None);
    rig.run(4 * SECOND);
    assert_eq!(rig.granted("a"), ["a-first"]);
    rig.delete_image("a-first");
    rig.delete_image("b-first");
    rig.run(SECOND);
    assert_eq!(rig.live(), ["b"], "both waited for as long, and a has had its turn");
}

#[test]
fn a_node_that_takes_its_grants_again_is_in_line_like_all_others() {
    let mut rig = one_slot();
    add(&mut rig, "first", 0, Some("x"));
    rig.run(15 * SECOND);
    assert_eq!(rig.waiting()["first/a"], "NotAnswering");
    rig.run_with(30 * SECOND, Rig::eager);
    assert_eq!(rig.status("first").ready, "1/1");
    a_is_in_line_before_b(&mut rig);
}

#[test]
fn also_one_that_found_what_it_was_asked_to_pull() {
    let mut rig = one_slot();
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
fn a_node_that_lets_a_grant_pass_is_left_alone_whatever_else_changes_about_it() {
    let mut rig = rig(1, &["a"]);
    add(&mut rig, "one", 0, None);
    rig.run(15 * SECOND);
    assert_eq!(rig.waiting()["one/a"], "NotAnswering");
    label(&mut rig, "a", "x");
    assert_eq!(rig.waiting()["one/a"], "NotAnswering");
}

#[test]
fn between_policies_too_the_lowest_priority_value_comes_first() {
    for (first, second, granted) in [(0, -1, "two"), (-1, 0, "one")] {
        let mut rig = rig(1, &["a"]);
        rig.policy("q", 1, Duration::ZERO);
        add(&mut rig, "one", first, None);
        add(&mut rig, "two", second, None);
        rig.image("two", |image| image.policy = Some("q".to_owned()));
        rig.run(2 * SECOND);
        assert_eq!(rig.granted("a"), [granted]);
    }
}

#[test]
fn how_long_a_node_has_waited_is_told_by_the_images_of_its_lowest_priority_value() {
    for (priority, next) in [(0, "b"), (5, "a")] {
        let mut rig = rig(1, &["a", "b", "c"]);
        for (node, pool) in [("a", "x"), ("b", "y"), ("c", "z")] {
            label(&mut rig, node, pool);
        }
        add(&mut rig, "long", 0, Some("z"));
        rig.run(2 * SECOND);
        rig.take("c");
        add(&mut rig, "older", priority, Some("y"));
        rig.run(10 * SECOND);
        add(&mut rig, "newer", 0, None);
        rig.run(10 * SECOND);
        rig.work("c", |_| Ok("sha256:one"));
        rig.run(SECOND);
        assert_eq!(rig.live(), [next], "priority {priority}");
    }
}

#[test]
fn an_image_that_fills_more_than_a_grant_by_itself_is_granted_all_the_same() {
    let mut rig = rig(1, &["a"]);
    add(&mut rig, "app", 0, None);
    rig.image("app", |image| image.secrets = vec!["s".repeat(250); 300]);
    rig.run(2 * SECOND);
    assert_eq!(rig.granted("a"), ["app"]);
}
