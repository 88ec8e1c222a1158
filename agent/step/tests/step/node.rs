//! One agent in a world of its own: a Lease that applies merge patches as an API server does, a leader Lease, a runtime
//! that pulls when told to. Answers come only when a test asks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_agent_step::*;
use drop_protocol::failure::Classified;
use drop_protocol::*;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

pub(crate) const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const OTHER_DIGEST: &str =
    "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

pub(crate) struct Node {
    pub(crate) agent: Agent,
    pub(crate) elapsed: Duration,
    pub(crate) lease: Option<Value>,
    pub(crate) version: u64,
    pub(crate) images: BTreeMap<String, String>,
    pub free_percent: Option<u8>,
    pub(crate) leader: Option<Epoch>,
    /// Effects that no test has answered yet.
    pub(crate) open: Vec<Effect>,
    /// Every effect there ever was.
    pub(crate) log: Vec<Effect>,
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn epoch(transitions: i32) -> Epoch {
    Epoch { lease: "leader-uid".to_owned(), transitions }
}

pub(crate) fn image(name: &str) -> GrantedImage {
    GrantedImage {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        reference: format!("registry.test/{name}:1"),
        pull_policy: ImagePullPolicy::IfNotPresent,
        refresh: false,
        secrets: Vec::new(),
    }
}

pub(crate) fn grant(sequence: u64, images: &[GrantedImage]) -> Grant {
    Grant {
        version: 1,
        id: GrantId::new(&epoch(1), sequence),
        epoch: epoch(1),
        policy: "policy".to_owned(),
        issued_at: Timestamp::UNIX_EPOCH,
        withdrawn: None,
        images: images.to_vec(),
    }
}

pub(crate) fn catalog(generation: u64, images: &[GrantedImage]) -> Catalog {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for image in images {
        wanted.entry(image.reference.clone()).or_default().insert(image.uid.clone());
    }
    Catalog { generation, answer_within: secs(4), wanted }
}

pub(crate) fn failure(scope: FailureScope, reason: FailureReason) -> PullError {
    PullError::Failed(Classified {
        scope,
        reason,
        message: "it failed".to_owned(),
        retry_after_seconds: None,
    })
}

pub(crate) fn process(name: &str) -> Agent {
    let now = Now { monotonic: Monotonic::default(), wall: Timestamp::UNIX_EPOCH };
    Agent::new(Config::new("node-1", "pod-1", name), now)
}

impl Node {
    /// A node whose agent has just started; nothing is answered.
    pub(crate) fn starting() -> Self {
        let mut node = Self {
            agent: process("process-1"),
            elapsed: Duration::ZERO,
            lease: None,
            version: 10,
            images: BTreeMap::new(),
            free_percent: Some(80),
            leader: Some(epoch(1)),
            open: Vec::new(),
            log: Vec::new(),
        };
        node.create_lease("lease-1");
        node.step(Input::Tick);
        node
    }

    /// A node that knows its Lease, an empty catalog and an empty runtime, and has nothing to do.
    pub(crate) fn idle() -> Self {
        let mut node = Self::starting();
        node.see_lease();
        node.step(Input::Catalog(catalog(1, &[])));
        node.answer_list();
        assert_eq!(node.open, [], "an idle node does nothing");
        node.advance(secs(10));
        node
    }

    /// An idle node whose agent was given a grant and has taken it.
    pub(crate) fn working(images: &[GrantedImage]) -> Self {
        let mut node = Self::idle();
        node.step(Input::Catalog(catalog(2, images)));
        node.issue(&grant(1, images));
        node.answer_leader();
        node.apply(WriteKind::Take);
        node
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            monotonic: Monotonic::from_start(self.elapsed),
            wall: Timestamp::UNIX_EPOCH + SignedDuration::try_from(self.elapsed).unwrap(),
        }
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.agent.step(input, self.now());
        self.open.extend(effects.iter().cloned());
        self.log.extend(effects.iter().cloned());
        effects
    }

    /// Lets time pass, with a tick whenever the agent asked for one. Lists are answered by themselves.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.elapsed + by;
        while let Some(at) = self.agent.wake_at().map(Monotonic::since_start).filter(|at| *at <= end) {
            self.elapsed = self.elapsed.max(at);
            self.step(Input::Tick);
            if self.open.contains(&Effect::ListImages) {
                self.answer_list();
            }
        }
        self.elapsed = end;
    }

    pub(crate) fn create_lease(&mut self, uid: &str) {
        self.version += 1;
        let mut lease =
            serde_json::to_value(NodeLease::create("drop-system", "node-1", "node-uid", secs(60))).unwrap();
        lease["metadata"]["uid"] = json!(uid);
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease);
    }

    pub(crate) fn lease(&self) -> NodeLease {
        let lease: Lease = serde_json::from_value(self.lease.clone().unwrap()).unwrap();
        NodeLease::decode(&lease).unwrap()
    }

    pub(crate) fn report(&self) -> Report {
        self.lease().report.expect("the Lease holds a report")
    }

    /// Tells the agent of its Lease, as a watch does.
    pub(crate) fn see_lease(&mut self) -> Vec<Effect> {
        match &self.lease {
            Some(_) => self.step(Input::Lease(self.lease())),
            None => self.step(Input::LeaseGone),
        }
    }

    /// A write as the API server does it; `false`: conflict.
    pub(crate) fn patch(&mut self, patch: &Value) -> bool {
        let lease = self.lease.as_mut().unwrap();
        for key in ["uid", "resourceVersion"] {
            if patch["metadata"][key] != lease["metadata"][key] {
                return false;
            }
        }
        merge(lease, patch);
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        true
    }

    pub(crate) fn issue(&mut self, grant: &Grant) -> Vec<Effect> {
        let patch = self.lease().issue_patch(grant, secs(60));
        assert!(self.patch(&patch));
        self.see_lease()
    }

    pub(crate) fn withdraw(&mut self, unwanted: &[&GrantedImage]) -> Vec<Effect> {
        let withdrawal = Withdrawal {
            reason: "no longer wanted".to_owned(),
            unwanted: unwanted.iter().map(|image| image.uid.clone()).collect(),
        };
        let patch = self.lease().mark_withdrawn_patch(withdrawal).unwrap();
        assert!(self.patch(&patch));
        self.see_lease()
    }

    fn close(&mut self, found: impl Fn(&Effect) -> bool) -> Effect {
        let at = self.open.iter().position(found).unwrap_or_else(|| panic!("not among {:#?}", self.open));
        self.open.remove(at)
    }

    pub(crate) fn answer_leader(&mut self) -> Vec<Effect> {
        self.close(|effect| *effect == Effect::ReadLeader);
        self.step(Input::LeaderEpoch(self.leader.clone()))
    }

    pub(crate) fn answer_list(&mut self) -> Vec<Effect> {
        self.close(|effect| *effect == Effect::ListImages);
        let inventory = Inventory { images: self.images.clone(), free_percent: self.free_percent };
        self.step(Input::Inventory(inventory))
    }

    pub(crate) fn answer_read(&mut self) -> Vec<Effect> {
        self.close(|effect| *effect == Effect::ReadLease);
        self.see_lease()
    }

    /// The open write, which has to be of this kind.
    pub(crate) fn open_write(&mut self, wanted: WriteKind) -> (WriteId, Value) {
        match self.close(|effect| matches!(effect, Effect::WriteLease { kind, .. } if *kind == wanted)) {
            Effect::WriteLease { write, patch, .. } => (write, patch),
            _ => unreachable!(),
        }
    }

    /// Applies the open write and tells the agent so.
    pub(crate) fn apply(&mut self, kind: WriteKind) -> Vec<Effect> {
        let (write, patch) = self.open_write(kind);
        assert!(self.patch(&patch), "the write conflicts");
        self.step(Input::WriteDone { write, result: WriteResult::Applied(self.lease()) })
    }

    pub(crate) fn refuse_write(&mut self, kind: WriteKind, result: WriteResult) -> Vec<Effect> {
        let (write, _) = self.open_write(kind);
        self.step(Input::WriteDone { write, result })
    }

    /// The pull in flight.
    pub(crate) fn open_pull(&self) -> (PullId, GrantedImage) {
        self.pull_in_flight().unwrap_or_else(|| panic!("no pull among {:#?}", self.open))
    }

    pub(crate) fn pull_in_flight(&self) -> Option<(PullId, GrantedImage)> {
        self.open.iter().find_map(|effect| match effect {
            Effect::StartPull { pull, image } => Some((*pull, image.clone())),
            _ => None,
        })
    }

    pub(crate) fn finish_pull(&mut self, result: Result<Pulled, PullError>) -> Vec<Effect> {
        let (pull, image) = self.open_pull();
        self.close(|effect| matches!(effect, Effect::StartPull { .. }));
        if let Ok(Pulled { digest: Some(digest) }) = &result {
            self.images.insert(image.reference, digest.clone());
        }
        self.step(Input::PullFinished { pull, result })
    }

    pub(crate) fn pull_succeeds(&mut self) -> Vec<Effect> {
        self.finish_pull(Ok(Pulled { digest: Some(DIGEST.to_owned()) }))
    }

    /// The node's image changed under the agent's feet and the runtime says so.
    pub(crate) fn images_changed(&mut self) {
        self.step(Input::ImagesChanged);
        self.advance(secs(1));
    }

    pub(crate) fn restart(&mut self, name: &str) {
        self.agent = Agent::new(Config::new("node-1", "pod-1", name), self.now());
        self.open.clear();
        self.step(Input::Tick);
    }

    pub(crate) fn writes(&self) -> Vec<WriteKind> {
        self.log
            .iter()
            .filter_map(|effect| match effect {
                Effect::WriteLease { kind, .. } => Some(*kind),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn count(&self, wanted: &Effect) -> usize {
        self.log.iter().filter(|effect| *effect == wanted).count()
    }
}

/// JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
