//! An agent may report in the Lease of its own node, and do nothing else: neither forge a grant nor touch what belongs
//! to another node. With the rights and the policy of `deploy/`, and with tokens that the API server makes for Pods.

use std::time::Duration;

use anyhow::{bail, ensure};
use drop_integration::identities::{AGENT, Identities, with_identities};
use drop_integration::{cluster, wait};
use drop_protocol::lease::{Holder, NodeLease};
use drop_protocol::{grant::GrantId, names, report::Report};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource as _};
use serde_json::{Value, json};

const NODE: &str = "integration-a";
const OTHER: &str = "integration-b";
const LEADER: &str = names::LEADER_LEASE;

/// An agent on [`NODE`], Leases of two nodes with a grant each, and the leader's Lease.
struct Scene {
    as_agent: Api<Lease>,
    as_admin: Api<Lease>,
    without_node: Api<Lease>,
}

/// Runs `body` in a scene of its own, once the policy is in force.
fn scene(namespace: &str, body: impl AsyncFnOnce(&Scene) -> anyhow::Result<()>) -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        with_identities(cluster, namespace, async |identities| {
            let scene = Scene::set(identities, cluster.client.clone()).await?;
            body(&scene).await
        })
        .await
    })
}

impl Scene {
    async fn set(identities: &Identities<'_>, admin: Client) -> anyhow::Result<Self> {
        let leases = |client| Api::<Lease>::namespaced(client, &identities.namespace);
        let as_admin = leases(admin.clone());
        // The garbage collector takes what has an owner that does not exist: the namespace stands in for the Node.
        let owner = Api::<Namespace>::all(admin).get(&identities.namespace).await?;
        for node in [NODE, OTHER] {
            let mut lease = NodeLease::create(&identities.namespace, node, "none", Duration::from_secs(60));
            lease.metadata.owner_references = owner.owner_ref(&()).map(|reference| vec![reference]);
            let annotations = lease.metadata.annotations.get_or_insert_default();
            annotations.insert(names::GRANT_ANNOTATION.to_owned(), "{}".to_owned());
            annotations.insert("example.com/note".to_owned(), "someone's".to_owned());
            as_admin.create(&PostParams::default(), &lease).await?;
        }
        let leader = json!({ "metadata": { "name": LEADER }, "spec": { "holderIdentity": "coordinator" } });
        as_admin.create(&PostParams::default(), &serde_json::from_value(leader)?).await?;

        let scene = Self {
            as_agent: leases(identities.agent_on(NODE).await?),
            without_node: leases(identities.unbound(AGENT).await?),
            as_admin,
        };
        let foreign = json!({ "spec": { "renewTime": "2026-01-01T00:00:00.000000Z" } });
        wait::until("the admission policy is in force", async || match scene.patch(OTHER, &foreign).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(Some(())),
            Err(error) => Err(error.into()),
        })
        .await?;
        Ok(scene)
    }

    async fn patch(&self, name: &str, patch: &Value) -> kube::Result<Lease> {
        self.as_agent.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
    }

    async fn lease(&self) -> anyhow::Result<NodeLease> {
        Ok(NodeLease::decode(&self.as_agent.get(NODE).await?)?)
    }

    /// The agent's write to `name` is refused, in these words, and changes nothing.
    async fn refused(&self, name: &str, patch: &Value, words: &str) -> anyhow::Result<()> {
        let before = self.as_admin.get(name).await?;
        denied(self.patch(name, patch).await, words, &format!("{name}: {patch}"))?;
        assert_eq!(self.as_admin.get(name).await?, before, "{name}: {patch}");
        Ok(())
    }
}

fn denied<T: std::fmt::Debug>(outcome: kube::Result<T>, words: &str, what: &str) -> anyhow::Result<()> {
    match outcome {
        Err(kube::Error::Api(status)) if status.code == 403 => {
            ensure!(status.message.contains(words), "{what}: {:?} instead of {words:?}", status.message);
            Ok(())
        }
        other => bail!("{what}: not refused: {other:?}"),
    }
}

#[test]
fn an_agent_takes_renews_reports_and_finishes_in_its_own_lease() -> anyhow::Result<()> {
    scene("test-admission-own", async |scene| {
        let holder = Holder { process: "process".to_owned(), grant: GrantId::from("grant") };
        let report = Report::empty("uid-of-the-pod");
        let now = Timestamp::now();
        scene.patch(NODE, &scene.lease().await?.take_patch(&holder, now)).await?;
        scene.patch(NODE, &scene.lease().await?.renew_patch(Some(&report), now)).await?;
        scene.patch(NODE, &scene.lease().await?.report_patch(&report)).await?;
        scene.patch(NODE, &scene.lease().await?.finish_patch(&report)).await?;
        let lease = scene.lease().await?;
        assert_eq!((lease.report, lease.holder), (Some(report), None));
        assert_eq!(lease.transitions, 1);
        Ok(())
    })
}

#[test]
fn an_agent_can_not_write_the_lease_of_another_node() -> anyhow::Result<()> {
    scene("test-admission-foreign", async |scene| {
        let report = json!({ "metadata": { "annotations": { names::REPORT_ANNOTATION: "{}" } } });
        let words =
            format!("the drop agent on node {NODE} may write only the Lease of that node, not {OTHER}");
        scene.refused(OTHER, &report, &words).await
    })
}

#[test]
fn an_agent_can_not_write_the_leaders_lease() -> anyhow::Result<()> {
    scene("test-admission-leader", async |scene| {
        let steal = json!({ "spec": { "holderIdentity": "agent" } });
        scene.refused(LEADER, &steal, "may write only the Lease of that node").await
    })
}

#[test]
fn not_even_the_agent_of_a_node_that_is_called_like_the_leaders_lease_can_write_it() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        Box::pin(with_identities(cluster, "test-admission-name", async |identities| {
            let scene = Scene::set(identities, cluster.client.clone()).await?;
            let leases: Api<Lease> =
                Api::namespaced(identities.agent_on(LEADER).await?, &identities.namespace);
            let steal = json!({ "spec": { "holderIdentity": "agent" } });
            let outcome = leases.patch(LEADER, &PatchParams::default(), &Patch::Merge(&steal)).await;
            denied(outcome, "this is not a node's Lease", "the leader's Lease")?;
            let holder = scene.as_admin.get(LEADER).await?.spec.and_then(|spec| spec.holder_identity);
            assert_eq!(holder.as_deref(), Some("coordinator"));
            Ok(())
        }))
        .await
    })
}

#[test]
fn an_agent_can_neither_forge_nor_remove_a_grant() -> anyhow::Result<()> {
    scene("test-admission-grant", async |scene| {
        for grant in [json!(r#"{"version":1,"images":[]}"#), Value::Null] {
            let forged = json!({ "metadata": { "annotations": { names::GRANT_ANNOTATION: grant } } });
            scene.refused(NODE, &forged, "only the coordinator issues and withdraws grants").await?;
        }
        let none = json!({ "metadata": { "annotations": null } });
        scene.refused(NODE, &none, "only the coordinator issues and withdraws grants").await
    })
}

#[test]
fn an_agent_changes_no_annotation_but_its_report() -> anyhow::Result<()> {
    scene("test-admission-annotations", async |scene| {
        for (key, value) in [
            ("example.com/note", json!("mine")),
            ("example.com/note", Value::Null),
            ("example.com/new", json!("a")),
        ] {
            let patch = json!({ "metadata": { "annotations": { key: value } } });
            scene.refused(NODE, &patch, "no annotation but drop.corewire.io/report").await?;
        }
        let huge =
            json!({ "metadata": { "annotations": { names::REPORT_ANNOTATION: "x".repeat(131_073) } } });
        scene.refused(NODE, &huge, "longer than 128 KiB").await
    })
}

#[test]
fn an_agent_can_not_change_whose_lease_it_is_or_how_long_a_grant_lives() -> anyhow::Result<()> {
    scene("test-admission-fields", async |scene| {
        let words = "labels, ownerReferences or finalizers";
        for metadata in [
            json!({ "labels": { names::NODE_LEASE_LABEL: "false" } }),
            json!({ "labels": { "a": "b" } }),
            json!({ "labels": null }),
            json!({ "ownerReferences": null }),
            json!({ "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "a", "uid": "b" }] }),
            json!({ "finalizers": ["example.com/keep"] }),
        ] {
            scene.refused(NODE, &json!({ "metadata": metadata }), words).await?;
        }
        let words = "may change only holderIdentity, acquireTime, renewTime and leaseTransitions";
        for spec in [json!({ "leaseDurationSeconds": 86_400 }), json!({ "leaseDurationSeconds": null })] {
            scene.refused(NODE, &json!({ "spec": spec }), words).await?;
        }
        // Refused where the API server knows these fields, dropped where they are switched off.
        let before = scene.as_admin.get(NODE).await?.spec;
        let _ = scene.patch(NODE, &json!({ "spec": { "preferredHolder": "me", "strategy": "a/b" } })).await;
        assert_eq!(scene.as_admin.get(NODE).await?.spec, before);
        Ok(())
    })
}

#[test]
fn an_agent_neither_creates_nor_deletes_a_lease() -> anyhow::Result<()> {
    scene("test-admission-create", async |scene| {
        let lease: Lease = serde_json::from_value(json!({ "metadata": { "name": "new" } }))?;
        denied(scene.as_agent.create(&PostParams::default(), &lease).await, "cannot create", "create")?;
        denied(scene.as_agent.delete(NODE, &DeleteParams::default()).await, "cannot delete", "delete")
    })
}

#[test]
fn with_more_rights_than_it_should_have_an_agent_still_neither_creates_nor_deletes_a_lease()
-> anyhow::Result<()> {
    scene("test-admission-rights", async |scene| {
        let namespace = scene.as_admin.namespace().unwrap_or_default();
        let admin = scene.as_admin.clone().into_client();
        let role = json!({
            "metadata": { "name": "too-much" },
            "rules": [{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"] }],
        });
        let binding = json!({
            "metadata": { "name": "too-much" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "too-much" },
            "subjects": [{ "kind": "ServiceAccount", "name": "drop-agent", "namespace": namespace }],
        });
        let params = PostParams::default();
        Api::<Role>::namespaced(admin.clone(), namespace)
            .create(&params, &serde_json::from_value(role)?)
            .await?;
        let bindings: Api<RoleBinding> = Api::namespaced(admin, namespace);
        bindings.create(&params, &serde_json::from_value(binding)?).await?;

        let lease: Lease = serde_json::from_value(json!({ "metadata": { "name": "new" } }))?;
        let words = "drop agents neither create nor delete Leases";
        wait::until("the agent has too many rights", async || {
            let refusal = scene.as_agent.create(&params, &lease).await;
            Ok(denied(refusal, words, "create").is_ok().then_some(()))
        })
        .await?;
        denied(scene.as_agent.delete(NODE, &DeleteParams::default()).await, words, "delete")
    })
}

#[test]
fn a_token_without_a_node_writes_nothing() -> anyhow::Result<()> {
    scene("test-admission-nowhere", async |scene| {
        let report = json!({ "metadata": { "annotations": { names::REPORT_ANNOTATION: "{}" } } });
        let outcome = scene.without_node.patch(NODE, &PatchParams::default(), &Patch::Merge(&report)).await;
        denied(outcome, "names no node", "a token without a node")?;
        Ok(())
    })
}

#[test]
fn an_agent_reads_leases_but_no_secrets_and_no_other_config_maps() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        with_identities(cluster, "test-admission-read", async |identities| {
            use k8s_openapi::api::core::v1::{ConfigMap, Secret};
            let client = identities.agent_on(NODE).await?;
            let leases: Api<Lease> = Api::namespaced(client.clone(), &identities.namespace);
            leases.list(&kube::api::ListParams::default()).await?;
            let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &identities.namespace);
            assert_eq!(maps.get_opt(names::CATALOG).await?, None);
            denied(maps.get("kube-root-ca.crt").await, "forbidden", "another ConfigMap")?;
            let secrets: Api<Secret> = Api::namespaced(client, &identities.namespace);
            denied(secrets.get("any").await, "forbidden", "a Secret")?;
            Ok(())
        })
        .await
    })
}
