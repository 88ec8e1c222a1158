//! What the programs may do at the API server: what they need and no more, by the RBAC of `deploy/`.

use drop_integration::cluster::{self, Cluster};
use drop_integration::identities::{AGENT, COORDINATOR, Identities, with_identities};
use drop_integration::wait;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

/// Where something is asked for: in Drop's namespace, in another one, or in none.
#[derive(Debug, Clone, Copy)]
enum Place {
    Own,
    Other,
    Cluster,
}

use Place::{Cluster as Everywhere, Other, Own};

/// verbs, resource (`group/resource/subresource`), name, place, allowed?
type Row = (&'static str, &'static str, &'static str, Place, bool);

const COORDINATOR_RIGHTS: &[Row] = &[
    ("get list watch", "drop.corewire.io/cachedimages", "", Everywhere, true),
    ("get list watch", "drop.corewire.io/cachedimagesets", "", Everywhere, true),
    ("get list watch", "drop.corewire.io/discoverypolicies", "", Everywhere, true),
    ("get list watch", "drop.corewire.io/pullpolicies", "", Everywhere, true),
    ("patch", "drop.corewire.io/cachedimages/status", "", Everywhere, true),
    ("patch", "drop.corewire.io/cachedimagesets/status", "", Everywhere, true),
    ("patch", "drop.corewire.io/discoverypolicies/status", "", Everywhere, true),
    ("create patch delete", "drop.corewire.io/cachedimages", "", Everywhere, true),
    ("update", "drop.corewire.io/cachedimages", "", Everywhere, false),
    ("create update patch delete", "drop.corewire.io/cachedimagesets", "", Everywhere, false),
    ("update patch", "drop.corewire.io/cachedimagesets/finalizers", "", Everywhere, false),
    ("create update patch delete", "drop.corewire.io/pullpolicies", "", Everywhere, false),
    ("create update patch delete", "drop.corewire.io/discoverypolicies", "", Everywhere, false),
    ("get list watch", "/nodes", "", Everywhere, true),
    ("update patch delete", "/nodes", "", Everywhere, false),
    ("create patch", "events.k8s.io/events", "", Other, true),
    ("get list watch create patch delete", "coordination.k8s.io/leases", "", Own, true),
    ("get list create patch delete", "coordination.k8s.io/leases", "", Other, false),
    ("create", "/configmaps", "", Own, true),
    ("get list watch patch delete", "/configmaps", "drop-catalog", Own, true),
    ("get list watch patch delete", "/configmaps", "other", Own, false),
    ("get list watch", "/pods", "", Own, true),
    ("get list watch", "/pods", "", Other, false),
    ("create delete patch", "/pods", "", Own, false),
    ("create", "/pods/exec", "", Own, false),
    ("get", "/secrets", "registry", Own, true),
    ("list watch create update patch delete", "/secrets", "", Own, false),
    ("get", "/secrets", "registry", Other, false),
    ("get update patch", "rbac.authorization.k8s.io/roles", "drop-agent-pull-secrets", Own, true),
    ("update patch", "rbac.authorization.k8s.io/roles", "drop-agent", Own, false),
    ("escalate bind create delete", "rbac.authorization.k8s.io/roles", "drop-agent-pull-secrets", Own, false),
    ("create", "/serviceaccounts/token", "drop-agent", Own, false),
];

const AGENT_RIGHTS: &[Row] = &[
    ("get list watch patch", "coordination.k8s.io/leases", "", Own, true),
    ("create delete update deletecollection", "coordination.k8s.io/leases", "", Own, false),
    ("get list watch patch", "coordination.k8s.io/leases", "", Other, false),
    ("get list watch", "/configmaps", "drop-catalog", Own, true),
    ("get list watch", "/configmaps", "other", Own, false),
    ("create update patch delete", "/configmaps", "drop-catalog", Own, false),
    ("get list watch", "/secrets", "", Own, false),
    ("get", "/secrets", "registry", Own, false),
    ("get list watch", "/pods", "", Own, false),
    ("get list watch", "/nodes", "", Everywhere, false),
    ("get list watch patch", "drop.corewire.io/cachedimages", "", Everywhere, false),
    ("create patch", "events.k8s.io/events", "", Own, false),
];

/// Asks the API server about each row and collects those that are not as they should be.
async fn differences(
    cluster: &Cluster,
    identities: &Identities<'_>,
    account: &str,
    rows: &[Row],
) -> anyhow::Result<Vec<String>> {
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client.clone());
    let mut wrong = Vec::new();
    for (verbs, resource, name, place, expected) in rows {
        let mut parts = resource.splitn(3, '/').map(str::to_owned);
        let attributes = ResourceAttributes {
            group: parts.next(),
            resource: parts.next(),
            subresource: parts.next(),
            name: Some((*name).to_owned()),
            namespace: match place {
                Own => Some(identities.namespace.clone()),
                Other => Some("default".to_owned()),
                Everywhere => None,
            },
            ..ResourceAttributes::default()
        };
        for verb in verbs.split(' ') {
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: Some(format!("system:serviceaccount:{}:{account}", identities.namespace)),
                    resource_attributes: Some(ResourceAttributes {
                        verb: Some(verb.to_owned()),
                        ..attributes.clone()
                    }),
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            let answer = reviews.create(&PostParams::default(), &review).await?;
            if answer.status.is_some_and(|status| status.allowed) != *expected {
                let rather = if *expected { "may not" } else { "may" };
                wrong.push(format!("{account} {rather} {verb} {resource} {name} ({place:?})"));
            }
        }
    }
    Ok(wrong)
}

fn rights_are(name: &str, account: &str, rows: &[Row]) -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        with_identities(cluster, name, async |identities| {
            // The API server learns of new rights within moments.
            let mut last = Vec::new();
            let agreed = wait::until("the rights are as they should be", async || {
                last = differences(cluster, identities, account, rows).await?;
                Ok(last.is_empty().then_some(()))
            })
            .await;
            anyhow::ensure!(agreed.is_ok(), "{}", last.join("\n"));
            Ok(())
        })
        .await
    })
}

#[test]
fn the_coordinator_may_do_what_it_needs_and_no_more() -> anyhow::Result<()> {
    rights_are("test-rights-coordinator", COORDINATOR, COORDINATOR_RIGHTS)
}

#[test]
fn an_agent_may_do_what_it_needs_and_no_more() -> anyhow::Result<()> {
    rights_are("test-rights-agent", AGENT, AGENT_RIGHTS)
}

#[test]
fn the_coordinator_hands_agents_the_reading_of_named_secrets_and_nothing_else() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        with_identities(cluster, "test-rights-secrets", async |identities| {
            let client = identities.unbound(COORDINATOR).await?;
            let roles: Api<Role> = Api::namespaced(client, &identities.namespace);
            let hand_on = async |resource: &str, verb: &str| {
                let rule = json!({ "apiGroups": [""], "resources": [resource], "resourceNames": ["a"], "verbs": [verb] });
                let patch = Patch::Merge(json!({ "rules": [rule] }));
                roles.patch("drop-agent-pull-secrets", &PatchParams::default(), &patch).await
            };
            wait::until("the coordinator may hand it on", async || Ok(hand_on("secrets", "get").await.ok())).await?;
            let read = [("get", "/secrets", "a", Own, true), ("get", "/secrets", "b", Own, false)];
            wait::until("agents may read that Secret", async || {
                Ok(differences(cluster, identities, AGENT, &read).await?.is_empty().then_some(()))
            })
            .await?;
            for (resource, verb) in [("secrets", "update"), ("secrets", "list"), ("pods", "create")] {
                let refusal = hand_on(resource, verb).await;
                anyhow::ensure!(
                    refusal.as_ref().is_err_and(|error| error.to_string().contains("attempting to grant RBAC permissions")),
                    "{verb} {resource}: {refusal:?}"
                );
            }
            Ok(())
        })
        .await
    })
}

#[test]
fn the_token_of_an_agent_opens_no_secret_but_those_that_are_named() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        Box::pin(with_identities(cluster, "test-rights-discovery", async |identities| {
            let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &identities.namespace);
            for name in ["pull", "discovery"] {
                let secret = json!({ "metadata": { "name": name }, "stringData": { "password": "p" } });
                secrets.create(&PostParams::default(), &serde_json::from_value(secret)?).await?;
            }
            let roles: Api<Role> = Api::namespaced(cluster.client.clone(), &identities.namespace);
            let rule = json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["pull"], "verbs": ["get"] });
            let patch = Patch::Merge(json!({ "rules": [rule] }));
            roles.patch("drop-agent-pull-secrets", &PatchParams::default(), &patch).await?;
            let agent: Api<Secret> = Api::namespaced(identities.agent_on("node-1").await?, &identities.namespace);
            wait::until("the agent reads the named Secret", async || Ok(agent.get("pull").await.ok())).await?;
            let forbidden = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
            let read = agent.get("discovery").await;
            anyhow::ensure!(read.as_ref().is_err_and(forbidden), "the other Secret: {read:?}");
            let listed = agent.list(&ListParams::default()).await;
            anyhow::ensure!(listed.as_ref().is_err_and(forbidden), "all Secrets: {listed:?}");
            Ok(())
        }))
        .await
    })
}
