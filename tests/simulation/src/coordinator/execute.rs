//! One plan, carried out once: one attempt a write, one policy's issues one after another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use drop_planner::status::{PULL_PROGRESS, READY};
use drop_planner::{
    Check, ChildWrite, ChildWriteKind, ConditionStatus, Issue, Phase, Plan, PlannedEvent, PolicyIssues,
    SetStatusWrite, StatusWrite, Withdraw, WithdrawKind, WriteKey, plan,
};
use drop_protocol::lease::DEFAULT_DURATION;
use drop_protocol::{Monotonic, NodeLease};

use super::Process;
use super::lead::Asked;
use crate::api::Kind;
use crate::breaks::Break;
use crate::clock::Time;
use crate::invariants::IssueTag;
use crate::network::Client;
use crate::request::Request;
use crate::simulation::Simulation;

/// What a request was for.
#[derive(Debug)]
pub(super) enum Purpose {
    Lead(Asked),
    List(Kind),
    Issue(Box<Issue>),
    Withdraw(Withdraw),
    Write(WriteKey),
    Status(Box<StatusWrite>, Vec<PlannedEvent>),
    Child(Box<ChildWrite>),
    SetStatus(Box<SetStatusWrite>),
    Event,
    Check(Box<Check>),
}

/// The issues of one policy that are not sent yet.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) delay: Duration,
    pub(super) issues: VecDeque<(Issue, IssueTag)>,
    /// One is under way.
    pub(super) sent: bool,
    /// The next is not sent before.
    pub(super) not_before: Monotonic,
}

impl Process {
    /// Whether something of the last plan is still under way.
    pub(super) fn busy(&self) -> bool {
        !self.queues.is_empty()
            || self
                .calls
                .values()
                .any(|purpose| !matches!(purpose, Purpose::Lead(_) | Purpose::Event | Purpose::Check(_)))
    }
}

impl Simulation {
    /// Plans, and sends what is to be sent at once.
    pub(super) fn pass(&mut self, index: usize, client: Client) {
        let clock = self.coordinators[index].clock.clone();
        let (now, true_now, broken) = (clock.now(self.now), self.now, self.broken);
        let Some(process) = self.process(index) else { return };
        let mut world = std::mem::take(&mut process.world);
        let kept = broken.map(|_| world.cluster.clone());
        self.mislead(index, &mut world);
        world.memory.observe(&world.cluster, world.leadership.as_ref(), now);
        let planned = plan(&world, now);
        if let Some(cluster) = kept {
            world.cluster = cluster;
        }
        let Some(process) = self.process(index) else { return };
        process.world = world;
        process.plan_at = planned.wake_at.map(|at| clock.when(at));
        if broken == Some(Break::NeverWakes) {
            process.plan_at = None;
        }
        if self.trace.on() && !planned.is_empty() {
            let text = format!("coord-{index}   plans at {true_now:?}: {}", describe(&planned));
            self.tell(&text);
        }
        self.send_plan(index, client, planned);
        self.advance_queues(index, client);
    }

    /// Takes from the planner what a break takes from it.
    fn mislead(&mut self, index: usize, world: &mut drop_planner::World) {
        match self.broken {
            Some(Break::NoDelay) => {
                for policy in world.cluster.policies.values_mut() {
                    Arc::make_mut(policy).min_delay = Duration::ZERO;
                }
            }
            Some(Break::IgnoreCap) => {
                for policy in world.cluster.policies.values_mut() {
                    Arc::make_mut(policy).max_concurrent_nodes += 1;
                }
            }
            Some(Break::TrustDiscovery) => {
                let cluster = &mut world.cluster;
                for set in cluster.sets.values_mut() {
                    let found = set.discovery.as_ref().and_then(|name| cluster.discoveries.get(name));
                    let found = found.map(|found| found.images.sound.clone());
                    let set = Arc::make_mut(set);
                    set.discovery = None;
                    set.images.sound.extend(found.into_iter().flatten());
                }
            }
            Some(Break::IssueUnwanted) => {
                let seen = self.checker.first_views.entry(index).or_default();
                for (name, image) in &world.cluster.images {
                    seen.entry(name.clone()).or_insert_with(|| Arc::clone(image));
                }
                for (name, image) in seen {
                    let status = world.cluster.images.get(name).map(|image| image.status.clone());
                    let mut image = Arc::clone(image);
                    Arc::make_mut(&mut image).status = status.unwrap_or_default();
                    world.cluster.images.insert(name.clone(), image);
                }
            }
            _ => {}
        }
    }

    fn send_plan(&mut self, index: usize, client: Client, planned: Plan) {
        let Some(process) = self.process(index) else { return };
        let of = |withdraw: &Withdraw| process.world.cluster.leases.get(&withdraw.node).cloned();
        let leases: Vec<_> = planned.withdrawals.iter().map(of).collect();
        let catalog = process.world.cluster.catalog.as_ref().map(|c| (c.uid.clone(), c.resource_version));
        for create in planned.create_leases {
            let lease = NodeLease::create("drop-system", &create.node, &create.node_uid, DEFAULT_DURATION);
            let request = Request::CreateLease(Box::new(lease));
            self.send(index, client, request, Purpose::Write(WriteKey::CreateLease(create.node)));
        }
        for delete in planned.delete_leases {
            let (name, uid, version) = (delete.node.clone(), delete.uid, delete.resource_version);
            let request = Request::DeleteLease { name, uid, version };
            self.send(index, client, request, Purpose::Write(WriteKey::DeleteLease(delete.node)));
        }
        for (withdraw, lease) in planned.withdrawals.into_iter().zip(leases) {
            let Some(lease) = lease else { continue };
            let (patch, what) = match &withdraw.kind {
                WithdrawKind::Remove => (Some(lease.remove_grant_patch()), "remove grant of"),
                WithdrawKind::Mark(_) if self.broken == Some(Break::NeverMarkWithdrawn) => continue,
                WithdrawKind::Mark(mark) => (lease.mark_withdrawn_patch(mark.clone()), "mark grant of"),
            };
            let Some(mut patch) = patch else { continue };
            if self.broken == Some(Break::UnconditionalWithdraw) {
                crate::breaks::unconditional(&mut patch);
            }
            let node = withdraw.node.clone();
            let request = Request::PatchLease { name: node.clone(), patch, what, issue: None };
            self.send(index, client, request, Purpose::Withdraw(withdraw));
            self.moment_of(&node);
        }
        if let Some(content) = planned.catalog {
            self.send(
                index,
                client,
                Request::PutCatalog(Box::new(content), catalog),
                Purpose::Write(WriteKey::Catalog),
            );
        }
        self.send_checks(index, client, planned.checks);
        for write in planned.children {
            if self.broken == Some(Break::LeaveChildren) && matches!(write.kind, ChildWriteKind::Patch { .. })
            {
                continue;
            }
            self.check_child_write(index, &write);
            let request = Request::WriteChild(Box::new(write.clone()));
            self.send(index, client, request, Purpose::Child(Box::new(write)));
        }
        for write in planned.set_statuses {
            let status = Box::new(write.status.clone());
            let request = Request::PutSetStatus(write.set.clone(), write.uid.clone(), status);
            self.send(index, client, request, Purpose::SetStatus(Box::new(write)));
        }
        let mut events = planned.events;
        for mut write in planned.statuses {
            let (mine, others) = events.into_iter().partition(|event| event.image == write.image);
            events = others;
            if self.broken == Some(Break::DropStatus) && self.chance(0.5) {
                self.swallow(index, &write);
                continue;
            }
            if self.broken == Some(Break::AlwaysReady) {
                write.status.phase = Some(Phase::Ready);
                for condition in write.status.conditions.iter_mut().filter(|c| c.kind == READY) {
                    condition.status = ConditionStatus::True;
                }
            }
            self.check_status(index, &write);
            let request =
                Request::PutStatus(write.image.clone(), write.uid.clone(), Box::new(write.status.clone()));
            self.send(index, client, request, Purpose::Status(Box::new(write), mine));
        }
        let Some(process) = self.process(index) else { return };
        for PolicyIssues { policy, delay, issues } in planned.issues {
            let cluster = &process.world.cluster;
            let issues = issues.into_iter().map(|issue| {
                let tag = IssueTag::new(cluster, &issue);
                (issue, tag)
            });
            let queued =
                Queued { delay, issues: issues.collect(), sent: false, not_before: Monotonic::default() };
            process.queues.insert(policy, queued);
        }
    }

    /// A status is taken for written that never was.
    fn swallow(&mut self, index: usize, write: &StatusWrite) {
        let now = self.coordinators[index].clock.now(self.now);
        let Some(process) = self.process(index) else { return };
        if let Some(image) = process.world.cluster.images.get_mut(&write.image) {
            Arc::make_mut(image).status = write.status.clone();
        }
        process.world.memory.status_written(&write.image, now);
    }

    pub(super) fn send(&mut self, index: usize, client: Client, request: Request, purpose: Purpose) {
        if !self.still_leads(index) {
            return;
        }
        let call = self.call(client, request);
        if let Some(process) = self.process(index) {
            process.calls.insert(call, purpose);
        }
    }

    /// Whether the process can still prove that it leads, or is deaf to the opposite.
    fn still_leads(&mut self, index: usize) -> bool {
        let (true_now, now) = (self.now, self.coordinators[index].clock.monotonic(self.now));
        let Some(process) = self.process(index) else { return false };
        let Some(leadership) = &process.world.leadership else { return false };
        process.deaf_until > true_now
            || process.candidate.term(now).is_some_and(|term| term.epoch == leadership.epoch)
    }

    /// Sends the next issue of each policy whose turn has come; tells when the next one's does.
    pub(super) fn advance_queues(&mut self, index: usize, client: Client) -> Option<Time> {
        if self.process(index)?.queues.is_empty() {
            return None;
        }
        let clock = self.coordinators[index].clock.clone();
        let now = clock.now(self.now);
        let leads = self.still_leads(index);
        let forgets = self.broken == Some(Break::ForgetIssued);
        let mut at: Option<Time> = None;
        let mut requests = Vec::new();
        let process = self.process(index)?;
        if !leads {
            process.queues.clear();
        }
        process.queues.retain(|_, queued| queued.sent || !queued.issues.is_empty());
        for queued in process.queues.values_mut().filter(|queued| !queued.sent) {
            if queued.not_before > now.monotonic {
                let when = clock.when(queued.not_before);
                at = Some(at.map_or(when, |at| at.min(when)));
                continue;
            }
            let Some((issue, tag)) = queued.issues.pop_front() else { continue };
            let Some(lease) = process.world.cluster.leases.get(&issue.node) else { continue };
            // On the very version that the planner saw, whatever was heard since.
            let basis = NodeLease {
                uid: issue.lease_uid.clone(),
                resource_version: issue.resource_version,
                ..(**lease).clone()
            };
            let patch = basis.issue_patch(&issue.grant, issue.duration);
            if !forgets {
                process.world.memory.issue_sent(&issue);
            }
            queued.sent = true;
            requests.push((
                Request::PatchLease {
                    name: issue.node.clone(),
                    patch,
                    what: "issue",
                    issue: Some(Box::new(tag)),
                },
                issue,
            ));
        }
        for (request, issue) in requests {
            let call = self.call(client, request);
            self.process(index)?.calls.insert(call, Purpose::Issue(Box::new(issue)));
        }
        at
    }
}

fn describe(plan: &Plan) -> String {
    let mut text = String::new();
    let mut add = |part: String| {
        text.push_str(&part);
        text.push_str("; ");
    };
    for create in &plan.create_leases {
        add(format!("create {}", create.node));
    }
    for delete in &plan.delete_leases {
        add(format!("delete {}", delete.node));
    }
    for withdraw in &plan.withdrawals {
        add(format!("withdraw {} {:?} ({})", withdraw.node, withdraw.kind, withdraw.reason));
    }
    for issues in &plan.issues {
        for issue in &issues.issues {
            let images: Vec<&str> = issue.grant.images.iter().map(|image| image.name.as_str()).collect();
            add(format!(
                "{:?} {} to {} under {:?}: {images:?}",
                issue.kind, issue.grant.id, issue.node, issues.policy
            ));
        }
    }
    for write in &plan.children {
        add(write.to_string());
    }
    for write in &plan.set_statuses {
        add(format!("status of {} {:?}", write.set, write.status.phase));
    }
    if let Some(catalog) = &plan.catalog {
        add(format!("catalog {}", catalog.generation));
    }
    for check in &plan.checks {
        add(format!("ask the registry for {} of {}", check.reference, check.image));
    }
    for write in &plan.statuses {
        let progress = write.status.condition(PULL_PROGRESS).map_or("", |c| c.reason.as_str());
        add(format!("status {} {} {:?} {progress}", write.image, write.status.ready, write.status.phase));
    }
    text
}
