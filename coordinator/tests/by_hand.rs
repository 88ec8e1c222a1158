//! Somebody edits Drop's own objects by hand: the coordinator's process on a real API server puts them right, once.
#![cfg(feature = "real-parts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of this is test code

mod crowd;
mod stage;

use crowd::Crowd;
use drop_protocol::{NodeLease, names};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use stage::{Stage, eventually, on_stage};

/// The image that is wanted on the node.
const IMAGE: &str = "not-pulled.example.com/app";

/// A coordinator, and one node whose agent is ready.
struct Scene {
    crowd: Crowd,
}

impl Scene {
    async fn set(stage: &mut Stage) -> Self {
        stage.start_coordinator();
        Self { crowd: Crowd::join(stage, 1).await }
    }

    fn node(&self) -> &str {
        &self.crowd.nodes[0]
    }

    async fn want(&self) {
        self.crowd.want(IMAGE, &json!({ "tolerations": [{ "operator": "Exists" }] })).await;
    }

    async fn lease(&self, what: &str, is: impl Fn(&Lease, &NodeLease) -> bool) -> Lease {
        eventually(what, async || {
            let lease = self.crowd.leases.get_opt(self.node()).await.unwrap()?;
            let read = NodeLease::decode(&lease).unwrap();
            is(&lease, &read).then_some(lease)
        })
        .await
    }

    async fn edit_lease(&self, patch: Value) {
        self.crowd.leases.patch(self.node(), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// The catalog once it is laid out as a coordinator does it and lists the image.
    async fn catalog(&self, what: &str) -> ConfigMap {
        eventually(what, async || {
            let map = self.crowd.catalogs.get_opt(names::CATALOG).await.unwrap()?;
            let data = map.data.clone().unwrap_or_default();
            let catalog = drop_protocol::Catalog::decode(&data).ok()?;
            let sound = data.len() == 3 && map.binary_data.is_none() && catalog.answer_within.as_secs() < 60;
            let lines: Vec<&String> =
                catalog.wanted.keys().filter(|key| key.contains("not-pulled")).collect();
            (sound
                && lines == ["not-pulled.example.com/app:latest"]
                && !catalog.wanted.contains_key("evil.test/x"))
            .then_some(map)
        })
        .await
    }
}

#[test]
fn a_lease_edited_by_hand_is_put_right() {
    on_stage(async |stage: &mut Stage| {
        let scene = Scene::set(stage).await;
        let node_uid = scene.crowd.uid(scene.node()).await;
        let owned = |read: &NodeLease| read.node_uid.as_ref() == Some(&node_uid);
        let first = scene.lease("the Lease is made", |_, read| owned(read)).await;

        let foreign =
            json!([{ "apiVersion": "v1", "kind": "Node", "name": scene.node(), "uid": "someone-else" }]);
        scene.edit_lease(json!({ "metadata": { "ownerReferences": foreign } })).await;
        let again = scene
            .lease("a Lease of somebody else is made anew", |lease, read| {
                owned(read) && lease.metadata.uid != first.metadata.uid
            })
            .await;
        assert_eq!(again.metadata.labels.unwrap()[names::NODE_LEASE_LABEL], "true");

        for garbage in ["", "{", "{\"version\":99}", "null"] {
            scene.edit_lease(json!({ "metadata": { "annotations": { names::GRANT_ANNOTATION: garbage, "example.com/note": "someone's" } } })).await;
            scene
                .lease("a grant that can't be read is removed", |lease, read| {
                    let annotations = lease.metadata.annotations.clone().unwrap_or_default();
                    !annotations.contains_key(names::GRANT_ANNOTATION)
                        && annotations.contains_key("example.com/note")
                        && read.grant_error.is_none()
                })
                .await;
        }

        scene.edit_lease(json!({ "metadata": { "annotations": { names::REPORT_ANNOTATION: "{\"version\":1,\"agent\":7}" } } })).await;
        scene.want().await;
        eventually("the status says whose report can't be read", async || {
            scene.crowd.status().await.to_string().contains("ReportUnreadable").then_some(())
        })
        .await;
        // What an agent does with a report that it can't read.
        let report = drop_protocol::Report::empty("pod").encode();
        scene.edit_lease(json!({
            "metadata": { "annotations": { names::REPORT_ANNOTATION: report } },
            "spec": { "leaseDurationSeconds": 86_400, "holderIdentity": "somebody", "leaseTransitions": 7 },
        })).await;
        let granted = scene
            .lease("the node gets its grant, and the Lease its duration", |_, read| read.grant.is_some())
            .await;
        assert_eq!(granted.spec.unwrap().lease_duration_seconds, Some(60));
    });
}

#[test]
fn a_catalog_edited_by_hand_is_put_right() {
    on_stage(async |stage: &mut Stage| {
        let scene = Scene::set(stage).await;
        scene.want().await;
        let sound = scene.catalog("the catalog is written").await;
        for (what, patch) in [
            ("missing lines", json!({ "data": { "wanted": "" } })),
            ("no lines", json!({ "data": { "wanted": null } })),
            ("garbage", json!({ "data": { "wanted": "what is this", "generation": "many" } })),
            (
                "foreign lines",
                json!({ "data": { "wanted": format!("evil.test/x u\n{}", sound.data.as_ref().unwrap()["wanted"]) } }),
            ),
            ("the last generation", json!({ "data": { "generation": u64::MAX.to_string() } })),
            ("far too long", json!({ "data": { "answerWithinMilliseconds": "3599999" } })),
            ("extra keys", json!({ "data": { "note": "someone's" } })),
            ("extra bytes", json!({ "binaryData": { "note": "AAAA" } })),
            ("in the wrong half", json!({ "data": { "wanted": null }, "binaryData": { "wanted": "AAAA" } })),
            ("nothing at all", json!({ "data": null })),
        ] {
            scene
                .crowd
                .catalogs
                .patch(names::CATALOG, &PatchParams::default(), &Patch::Merge(patch))
                .await
                .unwrap();
            scene.catalog(what).await;
        }
        scene.crowd.catalogs.delete(names::CATALOG, &DeleteParams::default()).await.unwrap();
        scene.catalog("deleted").await;
        let warned = stage.log().matches("the API server refuses a write").count();
        assert_eq!(warned, 0, "{}", stage.log());
    });
}
