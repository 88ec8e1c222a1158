//! Who gives way to others: after ten minutes, or after a failure.

use std::time::Duration;

use drop_protocol::{FailureReason, FailureScope};

use crate::order::{add, label, rig};
use crate::rig::{Rig, SECOND};

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
    assert!(rig.plan().withdrawals.is_empty(), "and only once");
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
fn also_while_the_others_wait_for_the_delay_and_not_for_its_slot() {
    let mut rig = rig(1, &["a", "b"]);
    add(&mut rig, "one", 0, None);
    add(&mut rig, "two", 0, None);
    rig.run(2 * SECOND);
    rig.take("a");
    rig.policy("p", 2, 1800 * SECOND);
    for _ in 0..70 {
        rig.renew("a");
        rig.run(10 * SECOND);
    }
    assert_eq!(rig.waiting()["one/b"], "MinDelay");
    assert_eq!(rig.grant("a").unwrap().withdrawn, None);
}

#[test]
fn also_under_another_policy_than_those_who_wait_and_with_a_single_image() {
    let mut rig = rig(1, &["a", "b", "c"]);
    rig.policy("q", 1, Duration::ZERO);
    for (node, pool) in [("a", "x"), ("b", "y"), ("c", "y")] {
        label(&mut rig, node, pool);
    }
    for image in ["one", "two"] {
        add(&mut rig, image, 0, Some("x"));
        rig.image(image, |image| image.policy = Some("q".to_owned()));
    }
    add(&mut rig, "three", 0, Some("y"));
    rig.run(2 * SECOND);
    for node in ["a", "b"] {
        rig.take(node);
    }
    for _ in 0..70 {
        rig.renew("a");
        rig.renew("b");
        rig.run(10 * SECOND);
    }
    assert_eq!(rig.waiting()["three/c"], "WaitingForSlot");
    assert_eq!(["a", "b"].map(|node| rig.grant(node).unwrap().withdrawn.clone()), [None, None]);
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

#[test]
fn a_lease_is_written_once_a_plan_whether_it_gives_way_or_holds_what_nobody_wants() {
    for (longest, told) in [("b", vec![("a", "Unwanted"), ("b", "NextTurn")]), ("a", vec![("a", "Unwanted")])]
    {
        let mut rig = rig(2, &["a", "b", "c"]);
        for (node, pool) in [("a", "x"), ("b", "y"), ("c", "z")] {
            label(&mut rig, node, pool);
            add(&mut rig, &format!("{pool}-1"), 0, Some(pool));
            add(&mut rig, &format!("{pool}-2"), 0, Some(pool));
        }
        rig.run(2 * SECOND);
        rig.take(longest);
        rig.run(SECOND);
        rig.take(if longest == "a" { "b" } else { "a" });
        for _ in 0..30 {
            rig.run(19 * SECOND);
            rig.renew("a");
            rig.renew("b");
        }
        rig.run(25 * SECOND);
        rig.advance(5 * SECOND);
        rig.delete_image("x-1");
        let withdrawals = rig.plan().withdrawals;
        let told_now: Vec<_> = withdrawals.iter().map(|w| (w.node.as_str(), w.reason.as_str())).collect();
        assert_eq!(told_now, told);
    }
}
