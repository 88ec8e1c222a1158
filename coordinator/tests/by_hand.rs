//! Somebody edits Drop's own objects by hand: the coordinator's process on a real API server puts them right, once.
#![cfg(feature = "real-parts")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of this is test code

mod stage;

use std::panic::{AssertUnwindSafe, resume_unwind};

use drop_protocol::{NodeLease, names};
use futures::FutureExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use stage::{Stage, eventually, on_stage};

/// A node, an agent's Pod that says that it is ready, and a CachedImage for that node.
struct Scene {
    name: String,
    leases: Api<Lease>,
    maps: Api<ConfigMap>,
    nodes: Api<Node>,
    images: Api<DynamicObject>,
}

impl Scene {
    async fn set(stage: &Stage) -> Self {
        let (client, namespace) = (stage.client(), &stage.namespace);
        let name = format!("{namespace}-node");
        let kind = GroupVersionKind::gvk(drop_crds::GROUP, drop_crds::VERSION, "CachedImage");
        let resource = ApiResource::from_gvk_with_plural(&kind, "cachedimages");
        let scene = Self {
            leases: Api::namespaced(client.clone(), namespace),
            maps: Api::namespaced(client.clone(), namespace),
            nodes: Api::all(client.clone()),
            images: Api::all_with(client.clone(), &resource),
            name,
        };
        let node = json!({ "metadata": { "name": scene.name, "labels": { "kubernetes.io/os": "linux", "by-hand": scene.name } } });
        scene.nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let pod = json!({
            "metadata": { "name": "agent", "labels": { "app.kubernetes.io/name": names::AGENT_APP } },
            "spec": {
                "nodeName": scene.name, "automountServiceAccountToken": false, "tolerations": [{ "operator": "Exists" }],
                "containers": [{ "name": "agent", "image": "not-pulled.example.com/agent" }],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        // The namespace has a service account in a moment.
        eventually("the Pod is created", async || pods.create(&PostParams::default(), &pod).await.ok()).await;
        let ready = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        pods.patch_status("agent", &PatchParams::default(), &Patch::Merge(ready)).await.unwrap();
        scene
    }

    async fn want(&self) {
        let image = json!({
            "apiVersion": format!("{}/{}", drop_crds::GROUP, drop_crds::VERSION), "kind": "CachedImage",
            "metadata": { "name": self.name },
            "spec": { "image": "not-pulled.example.com/app", "nodeSelector": { "by-hand": self.name }, "tolerations": [{ "operator": "Exists" }] },
        });
        self.images.create(&PostParams::default(), &serde_json::from_value(image).unwrap()).await.unwrap();
    }

    async fn lease(&self, what: &str, is: impl Fn(&Lease, &NodeLease) -> bool) -> Lease {
        eventually(what, async || {
            let lease = self.leases.get_opt(&self.name).await.unwrap()?;
            let read = NodeLease::decode(&lease).unwrap();
            is(&lease, &read).then_some(lease)
        })
        .await
    }

    async fn edit_lease(&self, patch: Value) {
        self.leases.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// The catalog once it is laid out as a coordinator does it and lists the image.
    async fn catalog(&self, what: &str) -> ConfigMap {
        eventually(what, async || {
            let map = self.maps.get_opt(names::CATALOG).await.unwrap()?;
            let data = map.data.clone().unwrap_or_default();
            let catalog = drop_protocol::Catalog::decode(&data).ok()?;
            let sound = data.len() == 3 && map.binary_data.is_none() && catalog.answer_within.as_secs() < 60;
            let lines: Vec<&String> = catalog
                .wanted
                .keys()
                .filter(|key| key.contains("by-hand") || key.contains("not-pulled"))
                .collect();
            (sound
                && lines == ["not-pulled.example.com/app:latest"]
                && !catalog.wanted.contains_key("evil.test/x"))
            .then_some(map)
        })
        .await
    }

    async fn clear(&self) {
        // A test that failed early may have made none of them.
        let _ = self.images.delete(&self.name, &DeleteParams::default()).await;
        let _ = self.nodes.delete(&self.name, &DeleteParams::default()).await;
    }
}

fn on_scene(test: impl AsyncFnOnce(&mut Stage, &Scene)) {
    on_stage(async |stage: &mut Stage| {
        let scene = Scene::set(stage).await;
        stage.start_coordinator();
        let outcome = AssertUnwindSafe(test(stage, &scene)).catch_unwind().await;
        // A Node without a kubelet would be in the way of whoever uses the cluster next.
        scene.clear().await;
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
    });
}

#[test]
fn a_lease_edited_by_hand_is_put_right() {
    on_scene(async |_: &mut Stage, scene: &Scene| {
        let node_uid = scene.nodes.get(&scene.name).await.unwrap().metadata.uid.unwrap();
        let owned = |read: &NodeLease| read.node_uid.as_ref() == Some(&node_uid);
        let first = scene.lease("the Lease is made", |_, read| owned(read)).await;

        let foreign =
            json!([{ "apiVersion": "v1", "kind": "Node", "name": scene.name, "uid": "someone-else" }]);
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
            let status = scene.images.get(&scene.name).await.unwrap().data["status"].clone();
            status.to_string().contains("ReportUnreadable").then_some(())
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
    on_scene(async |stage: &mut Stage, scene: &Scene| {
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
            scene.maps.patch(names::CATALOG, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
            scene.catalog(what).await;
        }
        scene.maps.delete(names::CATALOG, &DeleteParams::default()).await.unwrap();
        scene.catalog("deleted").await;
        let warned = stage.log().matches("the API server refuses a write").count();
        assert_eq!(warned, 0, "{}", stage.log());
    });
}
