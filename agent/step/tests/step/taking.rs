//! A grant is taken only from the coordinator that leads, once, before anything is pulled.

use crate::node::{DIGEST, Node, catalog, epoch, grant, image, secs};
use drop_agent_step::{Effect, Input, WriteKind, WriteResult};
use drop_protocol::{GrantState, Outcome};
use serde_json::json;

#[test]
fn nothing_is_pulled_before_the_grant_is_taken() {
    let mut node = Node::idle();
    node.issue(&grant(1, &[image("a")]));
    assert_eq!(node.open, [Effect::ReadLeader]);
    node.answer_leader();
    assert_eq!(node.pull_in_flight(), None);
    node.apply(WriteKind::Take);
    assert_eq!(node.open_pull().1, image("a"));
    assert_eq!(node.lease().state(), GrantState::Taken);
}

#[test]
fn the_kernel_timer_is_armed_before_each_pull() {
    let node = Node::working(&[image("a")]);
    let at = |found: fn(&Effect) -> bool| node.log.iter().position(found).unwrap();
    assert!(
        at(|e| matches!(e, Effect::ArmTimer { .. })) < at(|e| matches!(e, Effect::StartPull { .. })),
        "{:#?}",
        node.log
    );
}

#[test]
fn a_grant_of_a_coordinator_that_does_not_lead_is_refused() {
    for leader in [Some(epoch(2)), None] {
        let mut node = Node::idle();
        node.leader = leader;
        node.issue(&grant(1, &[image("a")]));
        node.answer_leader();
        node.apply(WriteKind::Refuse);
        assert_eq!(node.lease().state(), GrantState::Ended(Outcome::Refused));
        assert_eq!(node.pull_in_flight(), None);
        assert_eq!(node.agent.grant(), None);
    }
}

#[test]
fn a_restamped_grant_is_checked_anew() {
    let mut node = Node::idle();
    let mut grant = grant(1, &[image("a")]);
    node.issue(&grant);
    grant.epoch = epoch(2);
    node.issue(&grant);
    // The answer to the check that began before the grant was re-stamped proves nothing about it.
    node.leader = Some(epoch(2));
    assert_eq!(node.answer_leader(), [Effect::ReadLeader]);
    node.answer_leader();
    node.apply(WriteKind::Take);
    assert!(node.pull_in_flight().is_some());
}

#[test]
fn an_unreadable_leader_lease_is_asked_for_again() {
    let mut node = Node::idle();
    node.issue(&grant(1, &[image("a")]));
    node.open.clear();
    assert_eq!(node.step(Input::LeaderUnknown("timeout".to_owned())), []);
    node.advance(secs(2));
    node.answer_leader();
    node.apply(WriteKind::Take);
}

#[test]
fn who_leads_is_asked_once_a_grant() {
    let node = Node::working(&[image("a")]);
    assert_eq!(node.count(&Effect::ReadLeader), 1);
}

#[test]
fn a_report_waits_for_the_take_that_is_about_to_be_sent_but_not_for_a_leader_out_of_reach() {
    let mut node = Node::idle();
    node.issue(&grant(1, &[image("a")]));
    node.step(Input::DiskFree(50));
    node.images.insert(image("b").reference, DIGEST.to_owned());
    node.step(Input::Catalog(catalog(2, &[image("b")])));
    node.images_changed();
    node.advance(secs(4));
    assert_eq!(node.open, [Effect::ReadLeader]);
    node.open.clear();
    node.step(Input::LeaderUnknown("timeout".to_owned()));
    node.apply(WriteKind::Report);
}

#[test]
fn an_agent_that_is_told_to_end_begins_with_no_grant() {
    let mut node = Node::idle();
    node.step(Input::DiskFree(10));
    node.step(Input::DiskFree(80));
    node.open_write(WriteKind::Report);
    let deadline = node.now().monotonic.after(secs(100));
    assert_eq!(node.step(Input::Shutdown { deadline }), [], "its report is still on its way");
    assert_eq!(node.issue(&grant(1, &[image("a")])), []);
}

/// Another process of the node takes the first grant.
fn take_by_another(node: &Node) -> serde_json::Value {
    let other = drop_protocol::Holder { process: "other".to_owned(), grant: grant(1, &[]).id };
    node.lease().take_patch(&other, node.now().wall)
}

#[test]
fn an_answer_that_is_out_of_date_already_grants_nothing() {
    for newer in [take_by_another, |node: &Node| node.lease().remove_grant_patch()] {
        let mut node = Node::idle();
        node.issue(&grant(1, &[image("a")]));
        node.answer_leader();
        let (write, patch) = node.open_write(WriteKind::Take);
        assert!(node.patch(&patch));
        let taken = node.lease();
        let newer = newer(&node);
        assert!(node.patch(&newer));
        node.see_lease();
        node.step(Input::WriteDone { write, result: WriteResult::Applied(taken) });
        assert_eq!(node.pull_in_flight(), None);
    }
}

#[test]
fn every_write_and_every_pull_has_a_name_of_its_own() {
    let mut node = Node::working(&[image("a"), image("b")]);
    node.pull_succeeds();
    node.pull_succeeds();
    node.apply(WriteKind::Finish);
    let (mut writes, mut pulls) = (Vec::new(), Vec::new());
    for effect in &node.log {
        match effect {
            Effect::WriteLease { write, .. } => writes.push(*write),
            Effect::StartPull { pull, .. } => pulls.push(*pull),
            _ => {}
        }
    }
    assert!(writes.len() == 2 && writes[0] != writes[1], "{writes:?}");
    assert!(pulls.len() == 2 && pulls[0] != pulls[1], "{pulls:?}");
}

#[test]
fn while_another_process_of_the_node_holds_a_grant_this_one_writes_nothing() {
    let mut node = Node::idle();
    node.issue(&grant(1, &[image("a")]));
    node.open.clear();
    // It took the grant from this process before, which does not take it back.
    node.step(Input::LeaderEpoch(node.leader.clone()));
    node.apply(WriteKind::Take);
    let take = take_by_another(&node);
    assert!(node.patch(&take));
    node.see_lease();
    node.finish_pull(Err(drop_agent_step::PullError::Cancelled));
    node.step(Input::DiskFree(5));
    node.advance(secs(60));
    assert_eq!(node.writes(), [WriteKind::Take]);
}

#[test]
fn the_loser_of_a_take_gives_way() {
    let mut node = Node::idle();
    node.issue(&grant(1, &[image("a")]));
    node.answer_leader();
    let withdraw = node.lease().remove_grant_patch();
    assert!(node.patch(&withdraw));
    node.refuse_write(WriteKind::Take, WriteResult::Conflict);
    node.answer_read();
    node.advance(secs(60));
    assert_eq!(node.writes(), [WriteKind::Take]);
    assert_eq!(node.pull_in_flight(), None);
}

#[test]
fn a_take_of_unknown_outcome_is_followed_by_a_read_and_another_take() {
    let mut node = Node::idle();
    node.issue(&grant(1, &[image("a")]));
    node.answer_leader();
    let (write, patch) = node.open_write(WriteKind::Take);
    assert!(node.patch(&patch), "applied, but the answer is lost");
    node.step(Input::WriteDone { write, result: WriteResult::Unknown("timeout".to_owned()) });
    assert_eq!(node.pull_in_flight(), None);
    node.advance(secs(2));
    node.answer_read();
    node.apply(WriteKind::Take);
    assert!(node.pull_in_flight().is_some());
}

#[test]
fn a_grant_whose_holder_somebody_erased_is_taken_again_also_if_the_answer_is_lost() {
    let mut node = Node::working(&[image("a")]);
    let mut erase = json!({ "metadata": node.lease.as_ref().unwrap()["metadata"].clone() });
    erase["spec"] = json!({ "holderIdentity": null });
    assert!(node.patch(&erase));
    node.see_lease();
    let (write, patch) = node.open_write(WriteKind::Take);
    assert!(node.patch(&patch));
    node.step(Input::WriteDone { write, result: WriteResult::Unknown("timeout".to_owned()) });
    node.advance(secs(2));
    node.answer_read();
    node.apply(WriteKind::Take);
}

#[test]
fn a_restarted_agent_takes_its_own_grant_again_without_asking_who_leads() {
    let mut node = Node::working(&[image("a"), image("b")]);
    node.pull_succeeds();
    node.leader = Some(epoch(7));
    node.restart("process-2");
    node.see_lease();
    node.answer_list();
    assert_eq!(node.pull_in_flight(), None);
    node.apply(WriteKind::Take);
    assert_eq!(node.lease().holder.unwrap().process, "process-2");
    assert_eq!(node.open_pull().1, image("b"), "a is there already");
}

#[test]
fn a_grant_that_another_process_of_the_node_took_over_is_not_taken_back() {
    let mut node = Node::working(&[image("a")]);
    let take = take_by_another(&node);
    assert!(node.patch(&take));
    let effects = node.see_lease();
    assert!(matches!(effects[0], Effect::CancelPull { .. }), "{effects:?}");
    node.finish_pull(Err(drop_agent_step::PullError::Cancelled));
    node.advance(secs(40));
    assert_eq!(node.writes(), [WriteKind::Take]);
}

#[test]
fn no_grant_is_taken_before_the_runtime_has_answered() {
    let mut node = Node::starting();
    node.see_lease();
    node.issue(&grant(1, &[image("a")]));
    assert_eq!(node.open, [Effect::ListImages]);
    node.answer_list();
    assert_eq!(node.open, [Effect::ReadLeader]);
}
