//! What the API server refuses, and in which words; and that the coordinator's own check of stored objects agrees.

use drop_crds::validation::{self, Problem};
use drop_crds::{CachedImageSetSpec, CachedImageSpec, DiscoveryPolicySpec, PullPolicySpec, rules};
use drop_integration::{cluster, definitions};
use serde_json::{Value, json};

const DIGEST: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";

/// A spec that breaks one rule: kind, spec, the field and the words that name it.
type Case = (&'static str, Value, &'static str, String);

fn image(spec: Value, field: &'static str, words: &str) -> Case {
    ("CachedImage", spec, field, words.to_owned())
}

fn policy(spec: Value, field: &'static str, words: &str) -> Case {
    ("PullPolicy", spec, field, words.to_owned())
}

fn discovery(spec: Value, field: &'static str, words: &str) -> Case {
    ("DiscoveryPolicy", spec, field, words.to_owned())
}

fn prometheus(block: &Value, field: &'static str, words: &str) -> Case {
    discovery(json!({ "sources": [{ "type": "prometheus", "prometheus": block }] }), field, words)
}

fn registry(mut block: Value, field: &'static str, words: &str) -> Case {
    for (name, default) in
        [("url", json!("https://registry.example.com")), ("repositories", json!(["team/app"]))]
    {
        if block[name].is_null() {
            block[name] = default;
        }
    }
    discovery(json!({ "sources": [{ "type": "registry", "registry": block }] }), field, words)
}

/// Rules that the API server and the coordinator state in the same words.
fn shared() -> Vec<Case> {
    let sources = json!([{ "type": "prometheus", "prometheus": { "endpoint": "http://a", "query": "up" } }]);
    let too_long_path = format!("registry.example.com/{}", "p".repeat(256));
    vec![
        image(
            json!({ "image": "nginx:1.29" }),
            "spec.image",
            "must not contain a tag: move it into the field tag",
        ),
        image(json!({ "image": "host:5000/app:1" }), "spec.image", "must not contain a tag"),
        image(json!({ "image": format!("nginx@{DIGEST}") }), "spec.image", "must not contain a digest"),
        image(json!({ "image": format!("nginx:1@{DIGEST}") }), "spec.image", "must not contain a digest"),
        image(json!({ "image": "https://ghcr.io/team/app:1" }), "spec.image", "must not contain a scheme"),
        image(json!({ "image": "Team/App" }), "spec.image", "write lower-case letters"),
        image(json!({ "image": "team/app " }), "spec.image", "write lower-case letters"),
        image(json!({ "image": "team//app" }), "spec.image", "write lower-case letters"),
        image(json!({ "image": too_long_path }), "spec.image", "at most 255 characters"),
        image(json!({ "image": "nginx", "tag": "-x" }), "spec.tag", "is not a tag"),
        image(json!({ "image": "nginx", "tag": "a b" }), "spec.tag", "is not a tag"),
        image(json!({ "image": "nginx", "tag": DIGEST }), "spec.tag", "move it into the field digest"),
        image(json!({ "image": "nginx", "digest": "sha256:abc" }), "spec.digest", "64 lower-case hex digits"),
        image(json!({ "image": "nginx", "digest": DIGEST.to_uppercase() }), "spec.digest", "is not a digest"),
        image(json!({ "image": "nginx", "tag": "1", "digest": DIGEST }), "spec", rules::TAG_AND_DIGEST),
        image(
            json!({ "image": "nginx", "tolerations": [{ "key": "a", "operator": "Is" }] }),
            "spec.tolerations[0].operator",
            rules::BAD_OPERATOR,
        ),
        image(
            json!({ "image": "nginx", "tolerations": [{ "key": "a", "effect": "NoPull" }] }),
            "spec.tolerations[0].effect",
            rules::BAD_EFFECT,
        ),
        image(
            json!({ "image": "nginx", "tolerations": [{ "key": "a", "operator": "Exists", "value": "b" }] }),
            "spec.tolerations[0]",
            rules::EXISTS_WITH_VALUE,
        ),
        image(
            json!({ "image": "nginx", "tolerations": [{ "value": "b" }] }),
            "spec.tolerations[0]",
            rules::NO_KEY,
        ),
        (
            "CachedImageSet",
            json!({ "images": [{ "image": "a" }, { "image": "a", "tag": "1", "digest": DIGEST }] }),
            "spec.images[1]",
            rules::TAG_AND_DIGEST.to_owned(),
        ),
        (
            "CachedImageSet",
            json!({ "images": [{ "image": "a" }, { "image": "b:1" }] }),
            "spec.images[1].image",
            "must not contain a tag".to_owned(),
        ),
        policy(json!({ "minDelayBetweenPulls": "1d" }), "spec.minDelayBetweenPulls", "is not a duration"),
        policy(json!({ "minDelayBetweenPulls": "10" }), "spec.minDelayBetweenPulls", "is not a duration"),
        policy(json!({ "minDelayBetweenPulls": "-1s" }), "spec.minDelayBetweenPulls", "must not be negative"),
        policy(
            json!({ "failureBackoff": { "initial": "soon" } }),
            "spec.failureBackoff.initial",
            "is not a duration",
        ),
        policy(
            json!({ "failureBackoff": { "max": "1h 5m" } }),
            "spec.failureBackoff.max",
            "is not a duration",
        ),
        policy(json!({ "repullInterval": "99999999999999h" }), "spec.repullInterval", "is too long"),
        discovery(json!({}), "spec", rules::NO_SOURCES),
        discovery(json!({ "sources": [] }), "spec", rules::NO_SOURCES),
        discovery(
            json!({ "queries": [{ "name": "a", "type": "loki" }], "ranking": { "signal": "a" } }),
            "spec",
            rules::OTHER_FORM,
        ),
        discovery(json!({ "signals": [{ "name": "a" }], "sources": sources }), "spec", rules::OTHER_FORM),
        discovery(
            json!({ "sources": sources, "syncInterval": "daily" }),
            "spec.syncInterval",
            "is not a duration",
        ),
        discovery(
            json!({ "sources": sources, "imageFilter": "^(?!a)" }),
            "spec.imageFilter",
            rules::BAD_REGEX,
        ),
        discovery(json!({ "sources": [{ "type": "prometheus" }] }), "spec.sources[0]", rules::NO_PROMETHEUS),
        discovery(json!({ "sources": [{ "type": "registry" }] }), "spec.sources[0]", rules::NO_REGISTRY),
        discovery(
            json!({ "sources": [{
                "type": "registry",
                "registry": { "url": "https://a", "repositories": ["b"] },
                "prometheus": { "endpoint": "http://a", "query": "up" },
            }] }),
            "spec.sources[0]",
            rules::NOT_PROMETHEUS,
        ),
        discovery(
            json!({ "sources": [{
                "type": "prometheus",
                "registry": { "url": "https://a", "repositories": ["b"] },
                "prometheus": { "endpoint": "http://a", "query": "up" },
            }] }),
            "spec.sources[0]",
            rules::NOT_REGISTRY,
        ),
        prometheus(
            &json!({ "endpoint": "prometheus:9090", "query": "up" }),
            "spec.sources[0].prometheus.endpoint",
            "must begin with http:// or https://",
        ),
        prometheus(
            &json!({ "endpoint": "http://", "query": "up" }),
            "spec.sources[0].prometheus.endpoint",
            "is not a URL",
        ),
        prometheus(
            &json!({ "endpoint": "https://me:secret@a", "query": "up" }),
            "spec.sources[0].prometheus.endpoint",
            "put them into a Secret",
        ),
        prometheus(
            &json!({ "endpoint": "http://a", "query": "up", "lookback": "7d" }),
            "spec.sources[0].prometheus.lookback",
            "is not a duration",
        ),
        prometheus(
            &json!({ "endpoint": "http://a", "query": "up", "step": "often" }),
            "spec.sources[0].prometheus.step",
            "is not a step",
        ),
        prometheus(
            &json!({ "endpoint": "http://a", "query": "up", "step": "0s" }),
            "spec.sources[0].prometheus.step",
            "must be greater than zero",
        ),
        registry(
            json!({ "url": "ghcr.io" }),
            "spec.sources[0].registry.url",
            "must begin with http:// or https://",
        ),
        registry(
            json!({ "url": "https://ghcr.io?a=b" }),
            "spec.sources[0].registry.url",
            "is not a registry's URL",
        ),
        registry(
            json!({ "repositories": [] }),
            "spec.sources[0].registry.repositories",
            rules::NO_REPOSITORIES,
        ),
        registry(
            json!({ "repositories": ["team/app", "team/app:1"] }),
            "spec.sources[0].registry.repositories[1]",
            "is not a repository",
        ),
        registry(json!({ "tagFilter": "v[" }), "spec.sources[0].registry.tagFilter", rules::BAD_REGEX),
        registry(
            json!({ "imageTemplate": "{{.Registry}}/{{.Name}}" }),
            "spec.sources[0].registry.imageTemplate",
            "is not a template that Drop knows",
        ),
        registry(
            json!({ "imageTemplate": "{{.Registry/x" }),
            "spec.sources[0].registry.imageTemplate",
            "is not a template that Drop knows",
        ),
    ]
}

/// What the structure of the schema refuses, in the API server's own words.
fn structural() -> Vec<Case> {
    vec![
        image(json!({}), "spec.image", "Required value"),
        image(json!({ "image": "" }), "spec.image", "should be at least 1 chars long"),
        image(json!({ "image": "p".repeat(600) }), "spec.image", "Too long"),
        image(json!({ "image": "nginx", "tag": "t".repeat(129) }), "spec.tag", "Too long"),
        image(
            json!({ "image": "nginx", "imagePullPolicy": "Sometimes" }),
            "spec.imagePullPolicy",
            "supported values",
        ),
        image(json!({ "image": "nginx", "priority": 3_000_000_000_i64 }), "spec.priority", "int32"),
        image(json!({ "image": "nginx", "policyRef": {} }), "spec.policyRef.name", "Required value"),
        image(
            json!({ "image": "nginx", "policyRef": { "name": "" } }),
            "spec.policyRef.name",
            "at least 1 chars",
        ),
        policy(json!({ "maxConcurrentNodes": 0 }), "spec.maxConcurrentNodes", "greater than or equal to 1"),
        policy(json!({ "minDelayBetweenPulls": 10 }), "spec.minDelayBetweenPulls", "must be of type string"),
        policy(json!({ "failureBackoff": "5m" }), "spec.failureBackoff", "must be of type object"),
        discovery(json!({ "sources": [{ "type": "loki" }] }), "spec.sources[0].type", "supported values"),
        registry(json!({ "topX": 0 }), "spec.sources[0].registry.topX", "greater than or equal to 1"),
        discovery(json!({ "sources": [], "maxImages": 0 }), "spec.maxImages", "greater than or equal to 1"),
        (
            "CachedImageSet",
            json!({ "images": vec![json!({ "image": "a" }); 501] }),
            "spec.images",
            "must have at most 500 items".to_owned(),
        ),
    ]
}

/// Asks the API server about each case and collects what it let through or refused in other words.
fn refused(cases: &[Case]) -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        definitions::install(cluster).await?;
        let mut wrong = Vec::new();
        for (kind, spec, field, words) in cases {
            let api = definitions::api(cluster, kind)?;
            match definitions::dry_run(&api, kind, Some(spec)).await {
                Err(kube::Error::Api(status)) if status.code == 422 => {
                    if !status.message.contains(words.as_str()) || !status.message.contains(field) {
                        wrong.push(format!(
                            "{kind} {spec}\n  wanted: {field}: {words}\n  got: {}",
                            status.message
                        ));
                    }
                }
                Err(other) => return Err(other.into()),
                Ok(_) => wrong.push(format!("{kind} {spec}\n  was accepted")),
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    })
}

fn problems(kind: &str, spec: &Value) -> anyhow::Result<Vec<Problem>> {
    let spec = spec.clone();
    Ok(match kind {
        "CachedImage" => validation::cached_image(&serde_json::from_value::<CachedImageSpec>(spec)?),
        "CachedImageSet" => {
            validation::cached_image_set(&serde_json::from_value::<CachedImageSetSpec>(spec)?)
        }
        "PullPolicy" => validation::pull_policy(&serde_json::from_value::<PullPolicySpec>(spec)?),
        _ => validation::discovery_policy(&serde_json::from_value::<DiscoveryPolicySpec>(spec)?),
    })
}

#[test]
fn a_broken_rule_is_named_with_its_field_and_its_cure() -> anyhow::Result<()> {
    refused(&shared())
}

#[test]
fn a_wrong_shape_is_named_with_its_field() -> anyhow::Result<()> {
    refused(&structural())
}

#[test]
fn the_coordinator_says_the_same_of_stored_objects() -> anyhow::Result<()> {
    for (kind, spec, field, words) in shared() {
        let problems = problems(kind, &spec)?;
        assert!(
            problems.iter().any(|problem| problem.field == field && problem.message.contains(words.as_str())),
            "{kind} {spec}: {field}: {words}: {problems:?}"
        );
    }
    Ok(())
}

#[test]
fn an_object_without_spec_is_refused_if_it_must_say_something() -> anyhow::Result<()> {
    cluster::test(async |cluster| {
        definitions::install(cluster).await?;
        for kind in ["CachedImage", "DiscoveryPolicy"] {
            let api = definitions::api(cluster, kind)?;
            let refusal = definitions::dry_run(&api, kind, None).await;
            let message = refusal.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(message.contains(rules::NO_SPEC), "{kind}: {message:?}");
        }
        Ok(())
    })
}

#[test]
fn unusual_but_valid_specs_are_accepted_by_both() -> anyhow::Result<()> {
    let path = "p".repeat(255);
    let cases = [
        ("CachedImage", json!({ "image": "host:5000/team/app", "tag": "1.0_b-c" })),
        ("CachedImage", json!({ "image": "[fd00::1]:5000/app" })),
        ("CachedImage", json!({ "image": "Registry.Example.com/a__b/c--d" })),
        ("CachedImage", json!({ "image": format!("registry.example.com/{path}"), "tag": "t".repeat(128) })),
        ("CachedImage", json!({ "image": path })),
        ("CachedImage", json!({ "image": "a", "tag": "", "digest": format!("sha512:{}", "0".repeat(128)) })),
        ("PullPolicy", json!({ "minDelayBetweenPulls": "0", "repullInterval": "1.5h" })),
        (
            "PullPolicy",
            json!({ "minDelayBetweenPulls": "100µs", "failureBackoff": { "initial": "+1m30.5s" } }),
        ),
        (
            "DiscoveryPolicy",
            json!({
                "sources": [{
                    "type": "prometheus",
                    "prometheus": { "endpoint": "http://a:1/b?c=d", "query": "up", "step": "300", "lookback": "0s" },
                }],
                "imageFilter": "",
            }),
        ),
    ];
    cluster::test(async |cluster| {
        definitions::install(cluster).await?;
        for (kind, spec) in cases {
            assert_eq!(problems(kind, &spec)?, [], "{kind} {spec}");
            let api = definitions::api(cluster, kind)?;
            definitions::dry_run(&api, kind, Some(&spec)).await?;
        }
        Ok(())
    })
}
