//! What is asked again when there was no answer, and when.

use std::time::Duration;

use crate::node::{DIGEST, Node, grant, image, secs};
use drop_agent_step::{Effect, Input, WriteId, WriteKind, WriteResult};
use serde_json::json;

fn unknown() -> WriteResult {
    WriteResult::Unknown("timeout".to_owned())
}

/// An idle node with something to report, about which the API server has just given no answer.
fn unheard() -> Node {
    let mut node = Node::working(&[image("a")]);
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    node.advance(secs(60));
    node.images.clear();
    node.images_changed();
    node.refuse_write(WriteKind::Report, unknown());
    node
}

/// Lets time pass until the agent asks for `effect`; how long that took.
fn wait_for(node: &mut Node, effect: &Effect) -> Duration {
    let before = node.elapsed;
    for _ in 0..100 {
        if let Some(at) = node.open.iter().position(|open| open == effect) {
            node.open.remove(at);
            return node.elapsed - before;
        }
        node.elapsed = node.elapsed.max(node.agent.wake_at().expect("it wakes").since_start());
        node.step(Input::Tick);
        if *effect != Effect::ListImages && node.open.contains(&Effect::ListImages) {
            node.answer_list();
        }
    }
    panic!("{effect:?} does not come");
}

/// Has the Lease read again and again with this answer; each wait has to be half to all of what is expected.
fn reads(node: &mut Node, answer: &Input, seconds: &[u64]) {
    for (round, whole) in seconds.iter().copied().map(secs).enumerate() {
        let waited = wait_for(node, &Effect::ReadLease);
        assert!(whole / 2 <= waited && waited < whole, "{round}: {waited:?} instead of up to {whole:?}");
        node.step(answer.clone());
    }
}

#[test]
fn an_api_server_that_does_not_answer_is_asked_ever_less_often() {
    let silence = Input::LeaseUnknown("timeout".to_owned());
    reads(&mut unheard(), &silence, &[1, 2, 4, 8, 16, 30, 30, 30]);
}

#[test]
fn while_a_grant_waits_for_its_renewal_it_is_asked_every_two_seconds() {
    let mut node = Node::working(&[image("a")]);
    node.advance(secs(15));
    node.refuse_write(WriteKind::Renew, unknown());
    reads(&mut node, &Input::LeaseUnknown("timeout".to_owned()), &[1, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn a_lease_that_is_not_there_is_looked_for_ever_less_often() {
    let mut node = Node::idle();
    node.lease = None;
    node.see_lease();
    reads(&mut node, &Input::LeaseGone, &[1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
}

#[test]
fn an_answer_ends_the_waiting() {
    let mut node = unheard();
    reads(&mut node, &Input::LeaseUnknown("timeout".to_owned()), &[1, 2, 4, 8]);
    wait_for(&mut node, &Effect::ReadLease);
    node.see_lease();
    node.refuse_write(WriteKind::Report, unknown());
    assert!(wait_for(&mut node, &Effect::ReadLease) > secs(8), "nothing was written yet");
    node.see_lease();
    node.apply(WriteKind::Report);
    node.advance(secs(60));
    node.images.insert(image("a").reference, DIGEST.to_owned());
    node.images_changed();
    node.refuse_write(WriteKind::Report, unknown());
    assert!(wait_for(&mut node, &Effect::ReadLease) < secs(1));
}

#[test]
fn a_runtime_that_does_not_answer_is_asked_ever_less_often() {
    let mut node = Node::starting();
    let waits: Vec<u64> = (0..8)
        .map(|_| {
            let waited = wait_for(&mut node, &Effect::ListImages);
            node.step(Input::InventoryFailed("connection refused".to_owned()));
            waited.as_secs()
        })
        .collect();
    assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
    node.open.push(Effect::ListImages);
    node.answer_list();
    assert_eq!(wait_for(&mut node, &Effect::ListImages), secs(30));
    node.step(Input::InventoryFailed("connection refused".to_owned()));
    assert_eq!(wait_for(&mut node, &Effect::ListImages), secs(1));
}

#[test]
fn who_loses_three_times_in_a_row_waits_before_the_next_attempt() {
    let mut node = Node::working(&[image("a")]);
    node.advance(secs(15));
    for lost in 1..=5 {
        let mut somebody_else = json!({ "metadata": { "labels": { "lost": lost.to_string() } } });
        for key in ["uid", "resourceVersion"] {
            somebody_else["metadata"][key] = node.lease.as_ref().unwrap()["metadata"][key].clone();
        }
        assert!(node.patch(&somebody_else));
        node.refuse_write(WriteKind::Renew, WriteResult::Conflict);
        let waited = wait_for(&mut node, &Effect::ReadLease);
        assert_eq!(waited > Duration::ZERO, lost > 3, "{lost}: {waited:?}");
        node.see_lease();
    }
    node.apply(WriteKind::Renew);
}

#[test]
fn an_answer_to_a_write_that_was_not_sent_is_none() {
    let mut node = Node::working(&[image("a")]);
    node.advance(secs(15));
    assert_eq!(node.step(Input::WriteDone { write: WriteId(99), result: WriteResult::Gone }), []);
    node.apply(WriteKind::Renew);
}

#[test]
fn a_lease_that_was_out_of_sight_is_believed_again_but_no_older_one() {
    let mut node = unheard();
    node.step(Input::LeaseGone);
    node.elapsed += secs(1);
    let mut older = node.lease();
    older.resource_version -= 1;
    assert_eq!(node.step(Input::Lease(older)), []);
    node.see_lease();
    node.apply(WriteKind::Report);
}

#[test]
fn an_agent_tells_which_grant_it_works_on_and_what_it_holds() {
    let mut node = Node::idle();
    assert_eq!(node.agent.grant(), None);
    node.issue(&grant(1, &[image("a")]));
    assert_eq!(node.agent.grant(), None, "not taken yet");
    node.answer_leader();
    node.apply(WriteKind::Take);
    assert_eq!(node.agent.grant().map(|grant| grant.id.clone()), Some(grant(1, &[]).id));
    assert_eq!(node.agent.digest_of("registry.test/a:1"), None);
    node.pull_succeeds();
    assert_eq!(node.agent.digest_of("registry.test/a:1"), Some(DIGEST));
    node.apply(WriteKind::Finish);
    assert_eq!(node.agent.grant(), None);
}
