//! Every write to a node Lease is bound to one version of one object, and touches its writer's fields only.

use std::time::Duration;

use drop_protocol::names::{GRANT_ANNOTATION, NODE_LEASE_LABEL, REPORT_ANNOTATION};
use drop_protocol::{
    Epoch, Grant, GrantId, GrantOutcome, GrantState, Holder, NodeLease, Outcome, Report, Withdrawal,
};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

const DURATION: Duration = Duration::from_secs(60);

fn now() -> jiff::Timestamp {
    "2026-03-01T10:00:00Z".parse().unwrap()
}

fn grant(sequence: u64) -> Grant {
    let epoch = Epoch { lease: "leader".into(), transitions: 1 };
    Grant {
        version: 1,
        id: GrantId::new(&epoch, sequence),
        epoch,
        policy: "p".into(),
        issued_at: now(),
        withdrawn: None,
        images: vec![],
    }
}

/// A Lease as the API server would keep it: RFC 7386 merges, a new resourceVersion with each.
struct Server {
    object: Value,
    version: u64,
}

impl Server {
    fn new() -> Self {
        let mut object =
            serde_json::to_value(NodeLease::create("drop-system", "node-1", "n1", DURATION)).unwrap();
        object["metadata"]["uid"] = json!("lease-uid");
        object["metadata"]["resourceVersion"] = json!("1");
        Self { object, version: 1 }
    }

    fn lease(&self) -> NodeLease {
        NodeLease::decode(&serde_json::from_value::<Lease>(self.object.clone()).unwrap()).unwrap()
    }

    fn patch(&mut self, patch: &Value) -> Result<(), &'static str> {
        let meta = &patch["metadata"];
        if meta["uid"] != self.object["metadata"]["uid"]
            || meta["resourceVersion"] != self.object["metadata"]["resourceVersion"]
        {
            return Err("409 Conflict");
        }
        merge(&mut self.object, patch);
        self.version += 1;
        self.object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        Ok(())
    }
}

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
            merge(target.as_object_mut().unwrap().entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn holder(grant: &Grant) -> Holder {
    Holder { process: "agent-1".into(), grant: grant.id.clone() }
}

fn finished(grant: &Grant) -> Report {
    let outcome = GrantOutcome { id: grant.id.clone(), outcome: Outcome::Finished, reason: String::new() };
    Report { grant: Some(outcome), ..Report::empty("pod") }
}

#[test]
fn a_grant_lives_from_issue_to_finish() {
    let mut server = Server::new();
    assert_eq!(server.lease().state(), GrantState::None);
    server.patch(&server.lease().issue_patch(&grant(1), DURATION)).unwrap();
    assert_eq!(server.lease().state(), GrantState::Untaken);
    server.patch(&server.lease().take_patch(&holder(&grant(1)), now())).unwrap();
    assert_eq!(server.lease().state(), GrantState::Taken);
    assert_eq!(server.lease().live_grant(), Some(&grant(1)));
    assert_eq!(server.lease().transitions, 1);
    server.patch(&server.lease().renew_patch(None, now())).unwrap();
    assert_eq!(server.lease().state(), GrantState::Taken);
    server.patch(&server.lease().finish_patch(&finished(&grant(1)))).unwrap();
    assert_eq!(server.lease().state(), GrantState::Ended(Outcome::Finished));
    assert!(server.lease().live_grant().is_none());
    server.patch(&server.lease().issue_patch(&grant(2), DURATION)).unwrap();
    assert_eq!(server.lease().state(), GrantState::Untaken);
}

#[test]
fn whoever_comes_second_loses() {
    let mut server = Server::new();
    server.patch(&server.lease().issue_patch(&grant(1), DURATION)).unwrap();
    let seen = server.lease();
    server.patch(&seen.take_patch(&holder(&grant(1)), now())).unwrap();
    assert!(server.patch(&seen.remove_grant_patch()).is_err(), "a taken grant was withdrawn as untaken");
    assert_eq!(server.lease().state(), GrantState::Taken);

    let mut server = Server::new();
    server.patch(&server.lease().issue_patch(&grant(1), DURATION)).unwrap();
    let seen = server.lease();
    server.patch(&seen.remove_grant_patch()).unwrap();
    assert!(
        server.patch(&seen.take_patch(&holder(&grant(1)), now())).is_err(),
        "a withdrawn grant was taken"
    );
    assert_eq!(server.lease().state(), GrantState::None);
}

#[test]
fn a_late_finish_of_an_old_grant_leaves_the_new_holder_alone() {
    let mut server = Server::new();
    server.patch(&server.lease().issue_patch(&grant(1), DURATION)).unwrap();
    server.patch(&server.lease().take_patch(&holder(&grant(1)), now())).unwrap();
    let late = server.lease().finish_patch(&finished(&grant(1)));
    server.patch(&late.clone()).unwrap();
    server.patch(&server.lease().issue_patch(&grant(2), DURATION)).unwrap();
    server.patch(&server.lease().take_patch(&holder(&grant(2)), now())).unwrap();
    assert!(server.patch(&late).is_err());
    assert_eq!(server.lease().state(), GrantState::Taken);
}

#[test]
fn a_holder_left_behind_does_not_pass_for_the_holder_of_a_new_grant() {
    let mut server = Server::new();
    server.patch(&server.lease().issue_patch(&grant(1), DURATION)).unwrap();
    server.patch(&server.lease().take_patch(&holder(&grant(1)), now())).unwrap();
    server.patch(&server.lease().issue_patch(&grant(2), DURATION)).unwrap();
    assert_eq!(server.lease().state(), GrantState::Untaken);
}

#[test]
fn a_withdrawn_mark_leaves_the_grant_with_its_holder() {
    let mut server = Server::new();
    server.patch(&server.lease().issue_patch(&grant(1), DURATION)).unwrap();
    server.patch(&server.lease().take_patch(&holder(&grant(1)), now())).unwrap();
    let mark = Withdrawal { reason: "image deleted".into(), unwanted: vec!["u".into()] };
    server.patch(&server.lease().mark_withdrawn_patch(mark.clone()).unwrap()).unwrap();
    assert_eq!(server.lease().state(), GrantState::Taken);
    assert_eq!(server.lease().grant.unwrap().withdrawn, Some(mark));
}

#[test]
fn an_agent_writes_its_own_fields_only() {
    let mut server = Server::new();
    server.patch(&server.lease().issue_patch(&grant(1), DURATION)).unwrap();
    let lease = server.lease();
    let report = finished(&grant(1));
    for patch in [
        lease.take_patch(&holder(&grant(1)), now()),
        lease.renew_patch(Some(&report), now()),
        lease.report_patch(&report),
        lease.finish_patch(&report),
    ] {
        let mut rest = patch.clone();
        for own in ["holderIdentity", "acquireTime", "renewTime", "leaseTransitions"] {
            if let Some(spec) = rest["spec"].as_object_mut() {
                spec.remove(own);
            }
        }
        if let Some(annotations) = rest["metadata"]["annotations"].as_object_mut() {
            annotations.remove(REPORT_ANNOTATION);
            assert!(annotations.is_empty(), "{patch}");
        }
        assert!(rest["spec"].as_object().is_none_or(serde_json::Map::is_empty), "{patch}");
        assert!(!patch.to_string().contains(GRANT_ANNOTATION), "{patch}");
    }
}

#[test]
fn a_damaged_annotation_spoils_only_itself() {
    let mut server = Server::new();
    server.patch(&server.lease().report_patch(&Report::empty("pod"))).unwrap();
    server.object["metadata"]["annotations"][GRANT_ANNOTATION] = json!("{");
    let lease = server.lease();
    assert_eq!(lease.state(), GrantState::None);
    assert!(lease.grant_error.is_some() && lease.report.is_some());
}

#[test]
fn a_new_lease_belongs_to_its_node_and_is_told_from_all_others() {
    let lease = NodeLease::create("drop-system", "node-1", "n1", DURATION);
    assert_eq!(
        lease.spec.unwrap().lease_duration_seconds.map(i64::from),
        Some(DURATION.as_secs().cast_signed())
    );
    assert_eq!(lease.metadata.name.as_deref(), Some("node-1"));
    assert_eq!(lease.metadata.namespace.as_deref(), Some("drop-system"));
    let labels = lease.metadata.labels.unwrap();
    assert_eq!(labels[NODE_LEASE_LABEL], "true");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "drop");
    let lease = Server::new().lease();
    assert_eq!((lease.node.as_str(), lease.node_uid.as_deref()), ("node-1", Some("n1")));
    assert_eq!(lease.duration, DURATION);
}

#[test]
fn only_an_owner_that_is_a_node_owns_a_lease() {
    let mut server = Server::new();
    server.object["metadata"]["ownerReferences"] = json!([
        { "apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d1" },
        { "apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "n1" },
    ]);
    assert_eq!(server.lease().node_uid.as_deref(), Some("n1"));
}

#[test]
fn a_lease_says_how_long_a_grant_lives() {
    let mut server = Server::new();
    server.patch(&server.lease().issue_patch(&grant(1), 2 * DURATION)).unwrap();
    assert_eq!(server.lease().duration, 2 * DURATION);
    server.object["spec"]["leaseDurationSeconds"] = json!(-1);
    assert_eq!(server.lease().duration, DURATION, "what makes no sense counts as nothing said");
}

#[test]
fn a_holder_names_process_and_grant_or_it_is_none() {
    let sound = Holder { process: "agent-1".into(), grant: GrantId::from("leader.1.7") };
    assert_eq!(sound.encode(), "agent-1/leader.1.7");
    assert_eq!(Holder::decode("agent-1/leader.1.7"), Some(sound));
    for unsound in ["", "agent-1", "/leader.1.7", "agent-1/", "/"] {
        assert_eq!(Holder::decode(unsound), None, "{unsound}");
    }
}
