//! Objects that were stored before the rules existed: they stay readable, their status can be written, and the rules
//! hold for whoever edits them.
//!
//! The definitions are installed under another group first without rules, then as they are, so that the test has them
//! for itself.

use anyhow::{Context as _, anyhow};
use drop_crds::{CachedImage, DiscoveryPolicy, PullPolicy, PullPolicySpec, VERSION, rules, validation};
use drop_integration::cluster::{self, Cluster};
use drop_integration::{cleanup, definitions, wait};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DeserializeGuard, GroupVersionKind};
use serde_json::{Value, json};

/// A definition moved to `group`.
fn moved(definition: &Value, group: &str) -> anyhow::Result<Value> {
    let plural = definition["spec"]["names"]["plural"].as_str().ok_or_else(|| anyhow!("no plural"))?;
    let mut definition = definition.clone();
    definition["metadata"]["name"] = json!(format!("{plural}.{group}"));
    definition["spec"]["group"] = json!(group);
    Ok(definition)
}

/// A definition of a time when everything went.
fn without_rules(definition: &Value) -> Value {
    let mut definition = definition.clone();
    definition["spec"]["versions"][0]["schema"] =
        json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    definition
}

fn definition(kind: &str) -> anyhow::Result<Value> {
    definitions::generated()?
        .into_iter()
        .find(|definition| definition["spec"]["names"]["kind"] == kind)
        .ok_or_else(|| anyhow!("no definition of {kind}"))
}

fn objects(cluster: &Cluster, definition: &Value, group: &str) -> Api<DynamicObject> {
    let names = &definition["spec"]["names"];
    let kind = GroupVersionKind::gvk(group, VERSION, names["kind"].as_str().unwrap_or_default());
    let plural = names["plural"].as_str().unwrap_or_default();
    Api::all_with(cluster.client.clone(), &ApiResource::from_gvk_with_plural(&kind, plural))
}

fn object(kind: &str, group: &str, name: &str, spec: Option<&Value>) -> anyhow::Result<DynamicObject> {
    let mut object =
        json!({ "apiVersion": format!("{group}/{VERSION}"), "kind": kind, "metadata": { "name": name } });
    if let Some(spec) = spec {
        object["spec"] = spec.clone();
    }
    Ok(serde_json::from_value(object)?)
}

/// Stores `specs` as objects of `kind` when there are no rules yet, brings the rules, and goes on with `then`.
/// Objects are called `old-0`, `old-1` …
fn stored_before<F>(kind: &str, group: &str, specs: &[Option<Value>], then: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&Cluster, &Api<DynamicObject>) -> anyhow::Result<()>,
{
    cluster::test(async |cluster| {
        let definition = moved(&definition(kind)?, group)?;
        let api = objects(cluster, &definition, group);
        let store_and_go_on = async {
            definitions::apply(cluster, &without_rules(&definition)).await?;
            for (index, spec) in specs.iter().enumerate() {
                let object = object(kind, group, &format!("old-{index}"), spec.as_ref())?;
                wait::until("the API server stores it", async || {
                    match api.create(&PostParams::default(), &object).await {
                        Ok(_) => Ok(Some(())),
                        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
                        Err(error) => Err(error.into()),
                    }
                })
                .await?;
            }
            definitions::apply(cluster, &definition).await?;
            let unacceptable = object(kind, group, "unacceptable", Some(&json!(["not", "a", "spec"])))?;
            wait::until("the API server knows the rules", async || {
                let params = PostParams { dry_run: true, ..PostParams::default() };
                Ok(api.create(&params, &unacceptable).await.is_err().then_some(()))
            })
            .await?;
            then(cluster, &api).await
        };
        cleanup::always(store_and_go_on, async || {
            let crds: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
            let name = definition["metadata"]["name"].as_str().unwrap_or_default();
            crds.delete(name, &DeleteParams::default()).await.context("cannot clean up")?;
            Ok(())
        })
        .await
    })
}

/// Writes the status of an object as the coordinator does.
async fn write_status(api: &Api<DynamicObject>, name: &str) -> anyhow::Result<Value> {
    let status = json!({ "status": { "conditions": [{
        "type": "Ready",
        "status": "False",
        "reason": "InvalidSpec",
        "message": "spec.image: must not contain a tag",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] } });
    let written = api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await?;
    Ok(written.data["status"].clone())
}

#[test]
fn the_status_of_an_image_that_breaks_rules_can_be_written() -> anyhow::Result<()> {
    let specs = [
        Some(json!({ "image": "nginx:1.29" })),
        Some(json!({ "image": "nginx", "tag": "1", "digest": "sha256:0" })),
        Some(json!({ "image": "nginx", "tolerations": [{ "effect": "Never" }] })),
        Some(json!({ "tag": "1" })),
        None,
    ];
    stored_before("CachedImage", "images.stored.example.com", &specs, async |_, api| {
        for index in 0..5 {
            let status =
                write_status(api, &format!("old-{index}")).await.with_context(|| format!("old-{index}"))?;
            assert_eq!(status["conditions"][0]["reason"], "InvalidSpec");
        }
        Ok(())
    })
}

#[test]
fn an_image_without_spec_does_not_hide_the_others() -> anyhow::Result<()> {
    let specs = [None, Some(json!({ "image": "nginx:1" }))];
    stored_before("CachedImage", "list.stored.example.com", &specs, async |_, api| {
        let list = api.list(&kube::api::ListParams::default()).await?;
        let read: Vec<_> = list
            .items
            .iter()
            .map(|item| {
                Ok(serde_json::from_value::<DeserializeGuard<CachedImage>>(serde_json::to_value(item)?)?.0)
            })
            .collect::<anyhow::Result<_>>()?;
        assert_eq!(read.len(), 2);
        let unreadable = read[0].as_ref().err().ok_or_else(|| anyhow!("read an image without spec"))?;
        assert_eq!(unreadable.metadata.name.as_deref(), Some("old-0"));
        let image = read[1].as_ref().map_err(|error| anyhow!("{error}"))?;
        assert_eq!(validation::cached_image(&image.spec)[0].field, "spec.image");
        Ok(())
    })
}

#[test]
fn a_rule_holds_for_whoever_edits_the_field() -> anyhow::Result<()> {
    let specs = [Some(json!({ "image": "nginx:1.29" }))];
    stored_before("CachedImage", "edit.stored.example.com", &specs, async |_, api| {
        let priority = json!({ "spec": { "priority": 5 } });
        api.patch("old-0", &PatchParams::default(), &Patch::Merge(&priority))
            .await
            .context("a change of another field was refused")?;
        let image = json!({ "spec": { "image": "nginx:1.30" } });
        let refusal = api.patch("old-0", &PatchParams::default(), &Patch::Merge(&image)).await;
        assert!(refusal.is_err_and(|error| error.to_string().contains("must not contain a tag")));
        Ok(())
    })
}

#[test]
fn a_spec_that_was_there_can_not_be_taken_away() -> anyhow::Result<()> {
    let specs = [Some(json!({ "image": "nginx" }))];
    stored_before("CachedImage", "remove.stored.example.com", &specs, async |_, api| {
        let refusal =
            api.patch("old-0", &PatchParams::default(), &Patch::Merge(&json!({ "spec": null }))).await;
        assert!(refusal.is_err_and(|error| error.to_string().contains(rules::NO_SPEC)));
        Ok(())
    })
}

#[test]
fn a_policy_without_spec_reads_as_the_default_one() -> anyhow::Result<()> {
    let specs = [None, Some(json!({ "minDelayBetweenPulls": "soon" }))];
    stored_before("PullPolicy", "policies.stored.example.com", &specs, async |_, api| {
        let read = async |name: &str| -> anyhow::Result<PullPolicy> {
            Ok(serde_json::from_value(serde_json::to_value(api.get(name).await?)?)?)
        };
        assert_eq!(read("old-0").await?.spec, PullPolicySpec::default());
        let problems = read("old-1").await?.spec.pacing().err().unwrap_or_default();
        assert!(problems.iter().any(|problem| problem.field == "spec.minDelayBetweenPulls"), "{problems:?}");
        Ok(())
    })
}

#[test]
fn a_discovery_of_the_other_form_is_readable_and_says_so() -> anyhow::Result<()> {
    let specs = [Some(json!({ "queries": [{ "name": "a", "type": "loki" }], "ranking": { "signal": "a" } }))];
    stored_before("DiscoveryPolicy", "discovery.stored.example.com", &specs, async |_, api| {
        write_status(api, "old-0").await?;
        let read: DiscoveryPolicy = serde_json::from_value(serde_json::to_value(api.get("old-0").await?)?)?;
        let problems = validation::discovery_policy(&read.spec);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].message, rules::OTHER_FORM);
        Ok(())
    })
}
