//! Whatever happens, in whatever order: only the holder of a live grant pulls, the kernel watches, nothing spins.

use std::time::Duration;

use crate::node::{DIGEST, Node, catalog, epoch, grant, image};
use drop_agent_step::{Effect, Input, PullError, PullId, WriteId, WriteResult};
use drop_protocol::{GrantState, Monotonic};
use proptest::prelude::*;

/// One thing that may happen.
#[derive(Debug, Clone)]
enum Happening {
    Wait(u64),
    /// Answer the open effect at this place, well (0), with an error (1), or with its effect applied and the answer lost.
    Answer(usize, u8),
    Issue(u64, i32),
    Withdraw,
    RemoveGrant,
    DeleteLease,
    ShowLease,
    Lead(i32),
    Evict,
    FillDisk(u8),
    Restart,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (1_u64..20_000).prop_map(Happening::Wait),
        12 => (0_usize..4, 0_u8..3).prop_map(|(at, how)| Happening::Answer(at, how)),
        6 => (0_usize..4).prop_map(|at| Happening::Answer(at, 0)),
        3 => (1_u64..4, 1_i32..3).prop_map(|(n, e)| Happening::Issue(n, e)),
        1 => Just(Happening::Withdraw),
        1 => Just(Happening::RemoveGrant),
        1 => Just(Happening::DeleteLease),
        4 => Just(Happening::ShowLease),
        1 => (1_i32..3).prop_map(Happening::Lead),
        1 => Just(Happening::Evict),
        1 => (0_u8..100).prop_map(Happening::FillDisk),
        1 => Just(Happening::Restart),
    ]
}

/// What a bystander sees of the agent's process.
#[derive(Default)]
struct Bystander {
    pulling: Option<PullId>,
    writing: Option<WriteId>,
    timer: Option<Monotonic>,
    seen: usize,
}

impl Bystander {
    /// Checks the effects that came since last time.
    fn look(&mut self, node: &Node) {
        for effect in &node.log[self.seen..] {
            match effect {
                Effect::ArmTimer { deadline } => self.timer = Some(*deadline),
                Effect::DisarmTimer => {
                    assert!(self.pulling.is_none(), "the timer is disarmed while something is pulled");
                    self.timer = None;
                }
                Effect::StartPull { pull, .. } => {
                    assert!(self.pulling.is_none(), "two pulls at a time");
                    let timer = self.timer.expect("a pull starts without the kernel's timer");
                    assert!(timer > node.now().monotonic, "a pull starts after its deadline");
                    self.pulling = Some(*pull);
                }
                Effect::CancelPull { pull } => assert_eq!(self.pulling, Some(*pull)),
                Effect::WriteLease { write, patch, .. } => {
                    assert!(self.writing.is_none(), "two writes at a time");
                    assert!(
                        patch["metadata"]["resourceVersion"].is_string(),
                        "a write that is not conditional"
                    );
                    self.writing = Some(*write);
                }
                _ => {}
            }
        }
        self.seen = node.log.len();
    }
}

fn happen(node: &mut Node, bystander: &mut Bystander, happening: Happening) {
    match happening {
        Happening::Wait(milliseconds) => {
            let end = node.elapsed + Duration::from_millis(milliseconds);
            let mut rounds = 0;
            while let Some(at) = node.agent.wake_at().map(Monotonic::since_start).filter(|at| *at <= end) {
                node.elapsed = node.elapsed.max(at);
                node.step(Input::Tick);
                bystander.look(node);
                rounds += 1;
                assert!(rounds < 200, "the agent spins at {at:?}");
            }
            node.elapsed = end;
            if bystander.pulling.is_some() && bystander.timer.is_some_and(|at| at <= node.now().monotonic) {
                restart(node, bystander);
            }
        }
        Happening::Answer(at, how) => {
            if at < node.open.len() {
                let effect = node.open.remove(at);
                answer(node, bystander, &effect, how);
            }
        }
        Happening::Issue(sequence, of) if node.lease.is_some() => {
            let mut grant = grant(sequence, &[image("a"), image("b")]);
            grant.epoch = epoch(of);
            if !matches!(node.lease().state(), GrantState::Taken) {
                node.issue(&grant);
            }
        }
        Happening::Withdraw if node.lease.is_some() && node.lease().grant.is_some() => {
            node.withdraw(&[&image("a")]);
        }
        Happening::RemoveGrant if node.lease.is_some() => {
            let patch = node.lease().remove_grant_patch();
            node.patch(&patch);
        }
        Happening::DeleteLease => {
            node.lease = None;
            node.see_lease();
            let uid = format!("lease-{}", node.version);
            node.create_lease(&uid);
        }
        Happening::ShowLease => {
            node.see_lease();
        }
        Happening::Lead(transitions) => node.leader = Some(epoch(transitions)),
        Happening::Evict => {
            node.images.clear();
            node.step(Input::ImagesChanged);
        }
        Happening::FillDisk(percent) => {
            node.free_percent = Some(percent);
            node.step(Input::DiskFree(percent));
        }
        Happening::Restart => restart(node, bystander),
        Happening::Issue(..) | Happening::Withdraw | Happening::RemoveGrant => {}
    }
    bystander.look(node);
}

/// A new process: whatever the old one had under way ends with it.
fn restart(node: &mut Node, bystander: &mut Bystander) {
    *bystander = Bystander { seen: node.log.len(), ..Bystander::default() };
    let name = format!("process-{}", node.log.len());
    node.restart(&name);
    node.step(Input::Catalog(catalog(1, &[image("a"), image("b")])));
}

fn answer(node: &mut Node, bystander: &mut Bystander, effect: &Effect, how: u8) {
    let failed = || "no answer".to_owned();
    let input = match effect {
        Effect::ReadLeader if how == 0 => Input::LeaderEpoch(node.leader.clone()),
        Effect::ReadLeader => Input::LeaderUnknown(failed()),
        Effect::ReadLease if how == 0 => {
            node.see_lease();
            return;
        }
        Effect::ReadLease => Input::LeaseUnknown(failed()),
        Effect::ListImages if how == 0 => Input::Inventory(drop_agent_step::Inventory {
            images: node.images.clone(),
            free_percent: node.free_percent,
        }),
        Effect::ListImages => Input::InventoryFailed(failed()),
        Effect::WriteLease { write, patch, .. } => {
            bystander.writing = None;
            let applied = node.lease.is_some() && how != 1 && node.patch(patch);
            let result = match how {
                0 if applied => WriteResult::Applied(node.lease()),
                0 => WriteResult::Conflict,
                _ => WriteResult::Unknown(failed()),
            };
            Input::WriteDone { write: *write, result }
        }
        Effect::StartPull { pull, image } => {
            bystander.pulling = None;
            let cancelled = node.log.contains(&Effect::CancelPull { pull: *pull });
            let result = match how {
                0 => {
                    node.images.insert(image.reference.clone(), DIGEST.to_owned());
                    Ok(drop_agent_step::Pulled { digest: Some(DIGEST.to_owned()) })
                }
                _ if cancelled => Err(PullError::Cancelled),
                _ => Err(crate::node::failure(
                    drop_protocol::FailureScope::Image,
                    drop_protocol::FailureReason::NotFound,
                )),
            };
            Input::PullFinished { pull: *pull, result }
        }
        _ => return,
    };
    node.step(input);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn only_the_holder_of_a_live_grant_pulls(happenings in prop::collection::vec(happening(), 1..120)) {
        let mut node = Node::starting();
        let mut bystander = Bystander::default();
        bystander.look(&node);
        node.see_lease();
        node.step(Input::Catalog(catalog(1, &[image("a"), image("b")])));
        for happening in happenings {
            happen(&mut node, &mut bystander, happening);
        }
    }

    #[test]
    fn once_everything_is_answered_the_agent_comes_to_rest(
        happenings in prop::collection::vec(happening(), 1..60),
    ) {
        let mut node = Node::starting();
        let mut bystander = Bystander::default();
        node.see_lease();
        node.step(Input::Catalog(catalog(1, &[image("a"), image("b")])));
        for happening in happenings {
            happen(&mut node, &mut bystander, happening);
        }
        if node.lease.is_none() {
            node.create_lease("lease-last");
        }
        happen(&mut node, &mut bystander, Happening::ShowLease);
        let mut idle_rounds = 0;
        for _ in 0..400 {
            let before = node.writes().len();
            while !node.open.is_empty() {
                happen(&mut node, &mut bystander, Happening::Answer(0, 0));
            }
            happen(&mut node, &mut bystander, Happening::Wait(5_000));
            idle_rounds = if node.writes().len() == before { idle_rounds + 1 } else { 0 };
        }
        prop_assert!(idle_rounds > 300, "it wrote {} times", node.writes().len());
        prop_assert!(!matches!(node.lease().state(), GrantState::Taken), "a grant is held for ever");
    }
}
