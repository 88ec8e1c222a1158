//! CachedImageSets on a real API server with a real garbage collector: the coordinator makes their images, puts them
//! right and takes them away, with the rights that `deploy/` gives it.

use anyhow::{Context as _, ensure};
use drop_crds::{CachedImage, CachedImageSet, DiscoveryPolicy, IMAGE_SET_LABEL};
use drop_integration::cluster::{self, Cluster};
use drop_integration::identities::{Identities, with_identities};
use drop_integration::{cleanup, coordinator, definitions, wait};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

const DIGEST: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";

/// A set of one test, and the coordinator beside it.
struct Place<'a> {
    cluster: &'a Cluster,
    identities: &'a Identities<'a>,
    /// Name of the set, and of whatever else the test makes.
    name: String,
}

/// Runs `body` beside a coordinator, and leaves no set and no image behind.
fn test(name: &str, body: impl AsyncFnOnce(&Place<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let _alone = coordinator::alone();
    cluster::test(async |cluster| {
        definitions::install(cluster).await?;
        with_identities(cluster, &format!("test-{name}"), async |identities| {
            let place = Place { cluster, identities, name: identities.namespace.clone() };
            let body = coordinator::beside(identities, body(&place));
            cleanup::always(body, async || place.clean().await).await
        })
        .await
    })
}

impl Place<'_> {
    fn sets(&self) -> Api<CachedImageSet> {
        Api::all(self.cluster.client.clone())
    }

    fn images(&self) -> Api<CachedImage> {
        Api::all(self.cluster.client.clone())
    }

    fn discoveries(&self) -> Api<DiscoveryPolicy> {
        Api::all(self.cluster.client.clone())
    }

    /// Creates the set with a selector that no node answers: its images have no target, whatever the cluster's nodes.
    async fn create(&self, spec: &Value) -> anyhow::Result<CachedImageSet> {
        let mut spec = spec.clone();
        spec["nodeSelector"] = json!({ "zone": "nowhere" });
        let set = json!({
            "apiVersion": "drop.corewire.io/v1alpha1",
            "kind": "CachedImageSet",
            "metadata": { "name": self.name, "labels": { "team": "a" }, "annotations": { "note": "b" } },
            "spec": spec,
        });
        Ok(self.sets().create(&PostParams::default(), &serde_json::from_value(set)?).await?)
    }

    async fn edit(&self, spec: &Value) -> anyhow::Result<CachedImageSet> {
        let patch = Patch::Merge(json!({ "spec": spec }));
        Ok(self.sets().patch(&self.name, &PatchParams::default(), &patch).await?)
    }

    async fn children(&self) -> anyhow::Result<Vec<CachedImage>> {
        let of_this = ListParams::default().labels(&format!("{IMAGE_SET_LABEL}={}", self.name));
        Ok(self.images().list(&of_this).await?.items)
    }

    /// Waits until the references of the children are these.
    async fn children_are(&self, references: &[&str]) -> anyhow::Result<Vec<CachedImage>> {
        wait::until(&format!("the set has {references:?}"), async || {
            let mut children = self.children().await?;
            children.sort_by_key(|child| child.spec.reference());
            let found: Vec<String> = children.iter().map(|child| child.spec.reference()).collect();
            Ok((found == references).then_some(children))
        })
        .await
    }

    /// Waits until every child is as `is` says.
    async fn every_child(&self, what: &str, is: impl Fn(&CachedImage) -> bool) -> anyhow::Result<()> {
        wait::until(what, async || Ok(self.children().await?.iter().all(&is).then_some(()))).await
    }

    /// Waits until the condition of the set has this reason, and returns its message.
    async fn says(&self, reason: &str) -> anyhow::Result<String> {
        wait::until(&format!("the set says {reason}"), async || {
            let set = self.sets().get(&self.name).await?;
            let status = set.status.clone().unwrap_or_default();
            let current = status.observed_generation == set.metadata.generation;
            let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready");
            Ok(ready.filter(|ready| current && ready.reason == reason).map(|ready| ready.message))
        })
        .await
    }

    async fn clean(&self) -> anyhow::Result<()> {
        self.sets().delete(&self.name, &DeleteParams::default()).await.ok();
        self.discoveries().delete(&self.name, &DeleteParams::default()).await.ok();
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        for child in self.children().await? {
            self.images().patch(&child.name_any(), &PatchParams::default(), &free).await.ok();
            self.images().delete(&child.name_any(), &DeleteParams::default()).await.ok();
        }
        Ok(())
    }

    /// What the source of a DiscoveryPolicy would have said.
    async fn discovered(&self, ready: bool, references: &[&str]) -> anyhow::Result<()> {
        let images: Vec<Value> =
            references.iter().map(|image| json!({ "image": image, "score": 1, "source": "test" })).collect();
        let condition = json!({
            "type": "Ready", "status": if ready { "True" } else { "False" },
            "reason": if ready { "Synced" } else { "Timeout" }, "message": "told by the test",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let patch =
            Patch::Merge(json!({ "status": { "discoveredImages": images, "conditions": [condition] } }));
        self.discoveries().patch_status(&self.name, &PatchParams::default(), &patch).await?;
        Ok(())
    }
}

#[test]
fn images_follow_their_set_and_what_was_changed_by_hand_is_put_right() -> anyhow::Result<()> {
    test("set-follow", async |place| {
        let set = place
            .create(&json!({ "images": [
                { "image": "nginx" },
                { "image": "reg.test:5000/team/app", "tag": "v1" },
                { "image": "reg.test:5000/team/app", "digest": DIGEST },
            ] }))
            .await?;
        let pinned = format!("reg.test:5000/team/app@{DIGEST}");
        let all = ["nginx:latest", "reg.test:5000/team/app:v1", &pinned];
        let children = place.children_are(&all).await?;
        for child in &children {
            let owner = child.metadata.owner_references.iter().flatten().next().context("no owner")?;
            ensure!(
                (owner.uid.as_str(), owner.controller)
                    == (set.uid().unwrap_or_default().as_str(), Some(true))
            );
            ensure!(child.labels().len() == 1 && child.annotations().is_empty(), "{:?}", child.metadata);
            ensure!(child.spec.priority.is_none() && child.name_any().starts_with(&place.name));
        }
        // No node is selected, and that makes no set unready.
        ensure!(place.says("Ready").await?.contains("without a node"));

        place
            .edit(&json!({
                "policyRef": { "name": "absent" }, "imagePullPolicy": "IfNotPresent",
                "imagePullSecrets": [{ "name": "secret" }], "nodeSelector": { "pool": "build", "zone": "a" },
                "tolerations": [{ "key": "dedicated", "operator": "Exists", "tolerationSeconds": 5 }],
            }))
            .await?;
        let edited = place.sets().get(&place.name).await?.spec;
        place
            .every_child("every edit reaches every image", |child| {
                child.spec.policy_ref == edited.policy_ref
                    && child.spec.image_pull_policy == edited.image_pull_policy
                    && child.spec.image_pull_secrets == edited.image_pull_secrets
                    && child.spec.node_selector == edited.node_selector
                    && child.spec.tolerations == edited.tolerations
            })
            .await?;
        place
            .edit(&json!({
                "policyRef": null, "imagePullPolicy": null, "imagePullSecrets": null,
                "nodeSelector": { "pool": null }, "tolerations": null,
            }))
            .await?;
        place
            .every_child("so does what is taken away", |child| {
                child.spec.policy_ref.is_none()
                    && child.spec.image_pull_secrets.is_empty()
                    && child.spec.tolerations.is_empty()
                    && child.spec.node_selector.keys().eq(["zone"])
            })
            .await?;

        let name = children[0].name_any();
        let by_hand = json!({
            "metadata": {
                "labels": { IMAGE_SET_LABEL: null, "team": "b" }, "annotations": { "note": "kept" },
                "finalizers": ["example.com/hold"],
            },
            "spec": { "image": "reg.test/other", "priority": 7, "nodeSelector": { "zone": "b", "own": "1" } },
        });
        place.images().patch(&name, &PatchParams::default(), &Patch::Merge(by_hand)).await?;
        let right = place.children_are(&all).await?;
        let right = right.iter().find(|child| child.name_any() == name).context("it has another name")?;
        ensure!(right.spec == CachedImage::clone(&place.images().get(&name).await?).spec);
        ensure!(
            right.spec.priority.is_none() && right.spec.node_selector.keys().eq(["zone"]),
            "{:?}",
            right.spec
        );
        ensure!(
            right.labels().get("team").is_some_and(|team| team == "b"),
            "a label of somebody else is gone"
        );
        ensure!(right.annotations().contains_key("note") && right.finalizers() == ["example.com/hold"]);
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        place.images().patch(&name, &PatchParams::default(), &free).await?;

        place.images().delete(&name, &DeleteParams::default()).await?;
        place.children_are(&all).await?;
        place.edit(&json!({ "images": [{ "image": "nginx" }] })).await?;
        place.children_are(&["nginx:latest"]).await?;

        let now = place.sets().get(&place.name).await?;
        let ours = now
            .managed_fields()
            .iter()
            .filter(|fields| fields.manager.as_deref() == Some("drop-coordinator"));
        for fields in ours {
            ensure!(
                fields.subresource.as_deref() == Some("status"),
                "Drop wrote more of a set than its status"
            );
        }
        ensure!(now.labels() == set.labels() && now.annotations() == set.annotations());
        coordinator::quiet(place.cluster, place.identities).await
    })
}

#[test]
fn a_set_that_is_deleted_takes_its_images_along_and_none_comes_back() -> anyhow::Result<()> {
    test("set-delete", async |place| {
        let spec = json!({ "images": [{ "image": "reg.test/a/app" }, { "image": "reg.test/b/app" }, { "image": "nginx" }] });
        for params in [DeleteParams::foreground(), DeleteParams::background()] {
            place.create(&spec).await?;
            place.children_are(&["nginx:latest", "reg.test/a/app:latest", "reg.test/b/app:latest"]).await?;
            place.sets().delete(&place.name, &params).await?;
            wait::until("the set is gone", async || {
                Ok(place.sets().get_opt(&place.name).await?.is_none().then_some(()))
            })
            .await?;
            place.children_are(&[]).await?;
            coordinator::quiet(place.cluster, place.identities).await?;
            ensure!(place.children().await?.is_empty(), "an image came back");
        }
        Ok(())
    })
}

#[test]
fn a_set_that_comes_back_under_its_name_gets_images_of_its_own() -> anyhow::Result<()> {
    test("set-again", async |place| {
        let spec = json!({ "images": [{ "image": "reg.test/app" }, { "image": "nginx" }] });
        let all = ["nginx:latest", "reg.test/app:latest"];
        place.create(&spec).await?;
        place.children_are(&all).await?;
        place.sets().delete(&place.name, &DeleteParams::background()).await?;
        let again = place.create(&spec).await?.uid();
        wait::until("all images belong to the new set", async || {
            let children = place.children().await?;
            let owned = children
                .iter()
                .flat_map(CachedImage::owner_references)
                .filter(|o| Some(&o.uid) == again.as_ref());
            Ok((owned.count() == all.len() && children.len() == all.len()).then_some(()))
        })
        .await?;
        place.says("Ready").await.map(drop)
    })
}

#[test]
fn a_cached_image_that_a_user_wrote_is_left_alone_whatever_its_name() -> anyhow::Result<()> {
    test("set-taken", async |place| {
        let spec = json!({ "images": [{ "image": "reg.test/app" }] });
        place.create(&spec).await?;
        let child = place.children_are(&["reg.test/app:latest"]).await?.remove(0);
        // Whoever takes the owner away makes it their own.
        let adopt =
            Patch::Merge(json!({ "metadata": { "ownerReferences": null }, "spec": { "tag": "own" } }));
        place.images().patch(&child.name_any(), &PatchParams::default(), &adopt).await?;
        ensure!(place.says("NameTaken").await?.contains(&child.name_any()));
        coordinator::quiet(place.cluster, place.identities).await?;
        let now = place.images().get(&child.name_any()).await?;
        ensure!(now.spec.tag.as_deref() == Some("own"), "{:?}", now.spec);
        Ok(())
    })
}

#[test]
fn discovered_images_come_and_go_with_what_was_found_and_stay_while_nothing_is_known() -> anyhow::Result<()> {
    test("set-discovery", async |place| {
        place
            .create(
                &json!({ "discoveryPolicyRef": { "name": place.name }, "images": [{ "image": "nginx" }] }),
            )
            .await?;
        ensure!(place.says("DiscoveryPolicyNotFound").await?.contains(&place.name));
        let discovery = json!({
            "apiVersion": "drop.corewire.io/v1alpha1",
            "kind": "DiscoveryPolicy",
            "metadata": { "name": place.name },
            "spec": { "sources": [{
                "type": "prometheus", "prometheus": { "endpoint": "http://127.0.0.1:1", "query": "up" },
            }] },
        });
        place.discoveries().create(&PostParams::default(), &serde_json::from_value(discovery)?).await?;
        place
            .discovered(true, &["docker.io/library/nginx:latest", "reg.test/a:1", "reg.test/b:1", "no image"])
            .await?;
        place.children_are(&["nginx:latest", "reg.test/a:1", "reg.test/b:1"]).await?;
        ensure!(place.says("Ready").await?.contains("no image"), "what is malformed is told");

        place.discovered(true, &["reg.test/b:1"]).await?;
        let all = ["nginx:latest", "reg.test/b:1"];
        place.children_are(&all).await?;
        place.discovered(false, &[]).await?;
        place.says("Timeout").await?;
        place.children_are(&all).await?;
        place.discoveries().delete(&place.name, &DeleteParams::default()).await?;
        place.says("DiscoveryPolicyNotFound").await?;
        place.children_are(&all).await?;
        place.edit(&json!({ "discoveryPolicyRef": null })).await?;
        place.children_are(&["nginx:latest"]).await.map(drop)
    })
}

#[test]
fn five_hundred_images_are_made_with_one_write_each_and_then_nothing_is_written() -> anyhow::Result<()> {
    test("set-many", async |place| {
        let mark = coordinator::audit(place.cluster, place.identities)?;
        let images: Vec<Value> = (0..500).map(|n| json!({ "image": format!("reg.test/app-{n}") })).collect();
        place.create(&json!({ "images": images })).await?;
        let made = async |what: &str, is: &dyn Fn(&CachedImage) -> bool| {
            wait::until(what, async || {
                let children = place.children().await?;
                Ok((children.len() == 500 && children.iter().all(is)).then_some(()))
            })
            .await
        };
        made("all images", &|_| true).await?;
        place.says("Ready").await?;
        coordinator::quiet(place.cluster, place.identities).await?;
        let writes = mark.requests()?.writes;
        let count = |what: &str| writes.get(&format!("drop-coordinator {what}")).copied().unwrap_or_default();
        ensure!(count("create cachedimages") == 500 && count("delete cachedimages") == 0, "{writes:?}");
        ensure!(count("patch cachedimages") == 0, "{writes:?}");
        ensure!(count("patch cachedimagesets/status") <= 10, "{writes:?}");
        println!("500 images made: {writes:?}");

        let mark = coordinator::audit(place.cluster, place.identities)?;
        place.edit(&json!({ "imagePullPolicy": "IfNotPresent" })).await?;
        let policy = drop_crds::ImagePullPolicy::IfNotPresent;
        made("the edit reaches all images", &|child| child.spec.image_pull_policy == policy).await?;
        place.says("Ready").await?;
        coordinator::quiet(place.cluster, place.identities).await?;
        let writes = mark.requests()?.writes;
        let count = |what: &str| writes.get(&format!("drop-coordinator {what}")).copied().unwrap_or_default();
        ensure!(count("patch cachedimages") == 500, "{writes:?}");
        ensure!(count("create cachedimages") + count("delete cachedimages") == 0, "{writes:?}");
        println!("500 images changed: {writes:?}");
        Ok(())
    })
}
