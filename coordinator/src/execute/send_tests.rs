//! Sends requests to a small HTTP server that answers as an API server would.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use drop_planner::{
    ChildSpec, ChildWrite, ChildWriteKind, EventType, Issue, IssueKind, PlannedEvent, SetEvent, WriteOutcome,
    WrittenImage,
};
use drop_protocol::{Epoch, Grant, GrantId, Monotonic, NodeLease, grant};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{mpsc, watch};

use super::{IssueLane, Permit, Requests, Sender, StatusRequest};
use crate::api::Clients;
use crate::clock::Clock;
use crate::execute::requests::SetStatusRequest;
use crate::execute::{Note, Noted, children};
use crate::lead::{Proof, Term};
use crate::metrics::Metrics;

/// An API server that answers everything with one status and one body, and remembers what it was asked.
#[derive(Clone)]
struct Server {
    code: StatusCode,
    body: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn answering(code: u16, body: &serde_json::Value) -> Self {
        Self { code: StatusCode::from_u16(code).unwrap(), body: body.to_string(), asked: Arc::default() }
    }

    fn refusing(code: u16) -> Self {
        Self::answering(
            code,
            &json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code }),
        )
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    async fn start(&self) -> Clients {
        async fn answer(
            State(server): State<Server>,
            request: Request,
        ) -> (StatusCode, [(&'static str, &'static str); 1], String) {
            server.asked.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
            (server.code, [("content-type", "application/json")], server.body)
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Clients::new(kube::Config::new(url.parse().unwrap())).unwrap()
    }
}

fn epoch() -> Epoch {
    Epoch { lease: "leader".to_owned(), transitions: 1 }
}

struct Setup {
    sender: Sender,
    notes: mpsc::UnboundedReceiver<Note>,
    terms: watch::Sender<Option<Term>>,
    stop: watch::Sender<bool>,
    metrics: Arc<Metrics>,
}

impl Setup {
    async fn new(server: &Server) -> Self {
        let clients = server.start().await;
        let clock = Clock::new();
        let since = clock.monotonic();
        let (terms, seen) =
            watch::channel(Some(Term { epoch: epoch(), since, until: since.after(Duration::from_secs(60)) }));
        let (stop, stopping) = watch::channel(false);
        let (notes, noted) = mpsc::unbounded_channel();
        let metrics = Arc::new(Metrics::new());
        let permit = Permit { proof: Proof::new(epoch(), seen, clock), stopping };
        let sender = Sender::new(
            &clients.writing,
            "drop-system",
            "pod".to_owned(),
            permit,
            clock,
            Arc::clone(&metrics),
            notes,
        );
        Self { sender, notes: noted, terms, stop, metrics }
    }

    fn outcomes(&mut self) -> Vec<WriteOutcome> {
        std::iter::from_fn(|| self.notes.try_recv().ok())
            .filter_map(|note| match note.what {
                Noted::IssueSettled { outcome, .. } => Some(outcome),
                _ => None,
            })
            .collect()
    }
}

fn issues(nodes: &[&str]) -> Requests {
    let issue = |node: &&str| {
        let issue = Issue {
            node: (*node).to_owned(),
            lease_uid: "u".to_owned(),
            resource_version: 1,
            grant: Grant {
                version: grant::VERSION,
                id: GrantId::from(*node),
                epoch: epoch(),
                policy: String::new(),
                issued_at: Timestamp::UNIX_EPOCH,
                withdrawn: None,
                images: vec![],
            },
            duration: Duration::from_secs(60),
            due_since: Vec::new(),
            kind: IssueKind::New,
        };
        (issue, json!({}))
    };
    let lane = IssueLane { delay: Duration::from_millis(1), issues: nodes.iter().map(issue).collect() };
    Requests { issues: vec![lane], ..Requests::default() }
}

fn status_with_event() -> Requests {
    let event = PlannedEvent {
        image: "app".to_owned(),
        uid: "u".to_owned(),
        kind: EventType::Normal,
        reason: "Cached".to_owned(),
        note: "on all nodes".to_owned(),
    };
    let status = StatusRequest { image: "app".to_owned(), patch: json!({}), events: vec![event] };
    Requests { statuses: vec![status], ..Requests::default() }
}

fn stored_lease() -> serde_json::Value {
    let mut lease = NodeLease::create("drop-system", "node-1", "node-uid", Duration::from_secs(60));
    lease.metadata.uid = Some("u".to_owned());
    lease.metadata.resource_version = Some("12".to_owned());
    serde_json::to_value(lease).unwrap()
}

#[tokio::test]
async fn one_that_cannot_prove_leadership_sends_nothing() {
    let server = Server::answering(200, &stored_lease());
    let mut setup = Setup::new(&server).await;
    setup.terms.send_replace(None);
    assert!(!setup.sender.send(issues(&["node-1"])).await);
    let expired = Term { epoch: epoch(), since: Monotonic::default(), until: Monotonic::default() };
    setup.terms.send_replace(Some(expired));
    assert!(!setup.sender.send(issues(&["node-1"])).await);
    assert!(server.asked().is_empty());
    assert!(setup.notes.try_recv().is_err(), "an issue that was never sent counts as live");
}

#[tokio::test]
async fn one_that_is_told_to_stop_sends_nothing_more() {
    let server = Server::answering(200, &stored_lease());
    let setup = Setup::new(&server).await;
    setup.stop.send_replace(true);
    assert!(!setup.sender.send(issues(&["node-1"])).await);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_write_is_attempted_once_whatever_the_answer() {
    for (code, outcome) in
        [(409, WriteOutcome::Refused), (429, WriteOutcome::Refused), (503, WriteOutcome::Unknown)]
    {
        let server = Server::refusing(code);
        let mut setup = Setup::new(&server).await;
        assert!(!setup.sender.send(issues(&["node-1"])).await);
        assert_eq!(server.asked().len(), 1, "{code}");
        assert_eq!(setup.outcomes(), [outcome], "{code}");
    }
}

#[tokio::test]
async fn an_issue_that_is_turned_down_for_good_gives_its_slot_back() {
    for code in [403, 413, 422] {
        let server = Server::refusing(code);
        let mut setup = Setup::new(&server).await;
        assert!(!setup.sender.send(issues(&["node-1"])).await);
        let rejected = std::iter::from_fn(|| setup.notes.try_recv().ok())
            .any(|note| matches!(note.what, Noted::IssueRejected { ref node, .. } if node == "node-1"));
        assert!(rejected, "{code}");
    }
}

#[tokio::test]
async fn a_policy_waits_for_the_next_plan_after_an_unknown_outcome_but_not_after_a_conflict() {
    let server = Server::refusing(500);
    let setup = Setup::new(&server).await;
    setup.sender.send(issues(&["node-1", "node-2"])).await;
    assert_eq!(server.asked().len(), 1);
    let server = Server::refusing(409);
    let setup = Setup::new(&server).await;
    setup.sender.send(issues(&["node-1", "node-2"])).await;
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn the_object_of_an_answer_is_known_before_its_outcome() {
    let server = Server::answering(200, &stored_lease());
    let mut setup = Setup::new(&server).await;
    assert!(setup.sender.send(issues(&["node-1"])).await);
    assert_eq!(server.asked(), ["PATCH /apis/coordination.k8s.io/v1/namespaces/drop-system/leases/node-1"]);
    let notes: Vec<Noted> =
        std::iter::from_fn(|| setup.notes.try_recv().ok()).map(|note| note.what).collect();
    assert!(
        matches!(
            notes.as_slice(),
            [
                Noted::IssueSent(_),
                Noted::Object(_),
                Noted::IssueSettled { outcome: WriteOutcome::Applied, .. }
            ]
        ),
        "{notes:?}"
    );
}

#[tokio::test]
async fn an_event_is_sent_only_after_its_status_was_stored() {
    let server = Server::refusing(409);
    let setup = Setup::new(&server).await;
    setup.sender.send(status_with_event()).await;
    assert_eq!(server.asked(), ["PATCH /apis/drop.corewire.io/v1alpha1/cachedimages/app/status"]);

    let server = Server::answering(200, &json!({ "metadata": { "name": "app", "resourceVersion": "3" } }));
    let setup = Setup::new(&server).await;
    assert!(setup.sender.send(status_with_event()).await);
    assert_eq!(
        server.asked(),
        [
            "PATCH /apis/drop.corewire.io/v1alpha1/cachedimages/app/status",
            "POST /apis/events.k8s.io/v1/namespaces/default/events",
        ]
    );
    let scraped = setup.metrics.encode().unwrap();
    assert!(scraped.contains("drop_writes_total{kind=\"Event\",outcome=\"Applied\"} 1"), "{scraped}");
}

fn child(kind: ChildWriteKind) -> Requests {
    let (child, set, set_uid) = ("tools-app".to_owned(), "tools".to_owned(), "set-uid".to_owned());
    let write = ChildWrite { child, set, set_uid, generation: 1, kind };
    let request = children::request(&write).unwrap();
    Requests { children: vec![(write, request)], ..Requests::default() }
}

#[tokio::test]
async fn a_child_is_known_before_its_creation_is_settled() {
    let spec = Box::new(ChildSpec { image: WrittenImage::split("reg.test/app:1"), ..ChildSpec::default() });
    let creation = || child(ChildWriteKind::Create { label: "tools".to_owned(), spec: spec.clone() });
    let stored = json!({
        "metadata": { "name": "tools-app", "uid": "u", "resourceVersion": "3" },
        "spec": { "image": "reg.test/app", "tag": "1" },
    });
    let server = Server::answering(201, &stored);
    let mut setup = Setup::new(&server).await;
    assert!(setup.sender.send(creation()).await);
    assert_eq!(server.asked(), ["POST /apis/drop.corewire.io/v1alpha1/cachedimages"]);
    let notes: Vec<Noted> =
        std::iter::from_fn(|| setup.notes.try_recv().ok()).map(|note| note.what).collect();
    assert!(
        matches!(
            notes.as_slice(),
            [Noted::Object(_), Noted::ChildSettled { outcome: WriteOutcome::Applied, .. }]
        ),
        "{notes:?}"
    );

    let server = Server::refusing(409);
    let mut setup = Setup::new(&server).await;
    assert!(!setup.sender.send(creation()).await);
    assert_eq!(server.asked().len(), 1);
    let settled = setup.notes.try_recv().unwrap().what;
    assert!(matches!(settled, Noted::ChildSettled { outcome: WriteOutcome::Refused, .. }), "{settled:?}");
}

#[tokio::test]
async fn an_event_about_a_set_is_sent_only_after_its_status_was_stored() {
    let request = || {
        let event = SetEvent { kind: EventType::Normal, reason: "Ready".to_owned(), note: "all".to_owned() };
        let (set, uid, patch) = ("tools".to_owned(), "u".to_owned(), json!({}));
        let status = SetStatusRequest { set, uid, patch, event: Some(event) };
        Requests { set_statuses: vec![status], ..Requests::default() }
    };
    let status = "PATCH /apis/drop.corewire.io/v1alpha1/cachedimagesets/tools/status";
    let server = Server::refusing(409);
    let setup = Setup::new(&server).await;
    setup.sender.send(request()).await;
    assert_eq!(server.asked(), [status]);
    let server = Server::answering(200, &json!({ "metadata": { "name": "tools", "resourceVersion": "3" } }));
    let setup = Setup::new(&server).await;
    assert!(setup.sender.send(request()).await);
    assert_eq!(server.asked(), [status, "POST /apis/events.k8s.io/v1/namespaces/default/events"]);
}
