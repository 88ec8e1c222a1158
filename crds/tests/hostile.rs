//! Specs as nobody should write them: what can be read is told what is wrong with it, by field; nothing takes long.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use drop_crds::validation::{self, Problem};
use drop_crds::{
    CachedImageSetSpec, CachedImageSpec, CachedImageStatus, DiscoveryPolicySpec, DiscoveryPolicyStatus,
    PullPolicySpec, duration, rules,
};
use drop_hostile::cases;
use drop_hostile::json::{any_json, damaged_json};
use drop_hostile::text::texts_like;
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

fn image() -> Value {
    json!({
        "image": "registry.example:5000/team/app", "tag": "v1", "digest": "", "imagePullPolicy": "IfNotPresent",
        "imagePullSecrets": [{ "name": "s" }], "nodeSelector": { "a": "b" }, "priority": 3, "policyRef": { "name": "p" },
        "tolerations": [{ "key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule", "tolerationSeconds": 5 }],
    })
}

fn set() -> Value {
    let mut set = image();
    set["images"] = json!([{ "image": "nginx", "tag": "1" }, { "image": "redis" }]);
    set["discoveryPolicyRef"] = json!({ "name": "d" });
    set
}

fn policy() -> Value {
    json!({
        "maxConcurrentNodes": 2, "minDelayBetweenPulls": "10s", "repullInterval": "24h",
        "failureBackoff": { "initial": "30s", "max": "5m" }, "nodeSelector": { "a": "b" }, "tolerations": [{ "operator": "Exists" }],
    })
}

fn discovery() -> Value {
    json!({
        "imageFilter": "^registry", "syncInterval": "30m", "maxImages": 50, "sources": [
            { "type": "prometheus", "secretRef": { "name": "s" },
              "prometheus": { "endpoint": "http://p:9090", "query": "up", "lookback": "7d", "step": "5m" } },
            { "type": "registry", "registry": {
                "url": "https://r.example", "repositories": ["team/app"], "tagFilter": "^v", "topX": 3,
                "imageTemplate": "{{.Registry}}/{{.Repository}}:{{.Tag}}" } },
        ],
    })
}

/// Every problem names a field of the spec, in words for people.
fn are_told(problems: &[Problem]) {
    for problem in problems {
        assert!(problem.field.starts_with("spec") && problem.field.len() < 100, "{problem}");
        assert!(!problem.message.is_empty() && problem.message.len() < 300, "{problem}");
    }
}

fn judge<S: DeserializeOwned>(spec: &Value, problems: impl Fn(&S) -> Vec<Problem>) {
    if let Ok(spec) = serde_json::from_value::<S>(spec.clone()) {
        are_told(&problems(&spec));
    }
}

fn judge_all(spec: &Value) {
    judge(spec, |spec: &CachedImageSpec| {
        let problems = validation::cached_image(spec);
        if problems.is_empty() {
            // What the rules let through has no white space in it: it makes one line of the catalog.
            assert!(!spec.reference().contains(char::is_whitespace), "{:?}", spec.reference());
        }
        problems
    });
    judge(spec, validation::cached_image_set);
    judge::<CachedImageSetSpec>(spec, validation::cached_image_set);
    judge(spec, |spec: &PullPolicySpec| spec.pacing().err().unwrap_or_default());
    judge::<DiscoveryPolicySpec>(spec, validation::discovery_policy);
    let _ = serde_json::from_value::<CachedImageStatus>(spec.clone());
    let _ = serde_json::from_value::<DiscoveryPolicyStatus>(spec.clone());
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn any_spec_is_sound_or_told_what_is_wrong(spec in any_json()) {
        judge_all(&spec);
    }

    #[test]
    fn a_damaged_spec_too(
        image in damaged_json(image()), set in damaged_json(set()), policy in damaged_json(policy()),
        discovery in damaged_json(discovery()),
    ) {
        for spec in [image, set, policy, discovery] {
            judge_all(&spec);
        }
    }

    #[test]
    fn any_text_is_a_duration_or_an_error(text in texts_like(&["1h30m", "500ms", "1.5h", "2us3µs4μs5ns", "+0.000001s"])) {
        match duration::parse(&text) {
            Ok(read) => prop_assert_eq!(duration::parse(&duration::format(read)), Ok(read)),
            Err(words) => prop_assert!(!words.is_empty()),
        }
    }

    #[test]
    fn what_the_api_server_takes_for_a_duration_is_one(text in r"\+?(0|([0-9]{1,5}(\.[0-9]{0,4})?(ns|us|µs|ms|s|m|h)){1,4})") {
        if validation::text(&rules::DURATION, &text).is_ok() {
            prop_assert!(duration::parse(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn any_text_is_a_regular_expression_or_an_error(text in texts_like(&["^registry.*(a|b){1,3}[^c]$"])) {
        let _ = validation::regex(&text);
    }
}

#[test]
fn regular_expressions_that_would_cost_much_are_refused() {
    let started = Instant::now();
    for pattern in [
        "a{1000}{1000}{1000}",
        "(a{0,999}){0,999}",
        "(?:(?:(?:x{0,255}){0,255}){0,255})",
        r"\w{9999}",
        &"(".repeat(1000),
        &"[a-z]".repeat(200_000),
    ] {
        assert_eq!(validation::regex(pattern).err(), Some(rules::BAD_REGEX), "{pattern:.40}");
    }
    // Those that pass are searched for in linear time.
    let evil = validation::regex("(a|a)*(a|aa)*b$").unwrap();
    assert!(!evil.is_match(&"a".repeat(100_000)));
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn long_texts_are_refused_before_they_cost_anything() {
    let started = Instant::now();
    let long = "a/".repeat(1 << 20);
    for rules in rules::ALL {
        assert!(validation::text(rules, &long).unwrap_err().starts_with("is too long"));
    }
    assert_eq!(
        duration::parse(&"9".repeat(1 << 20)),
        Err("is not a duration: write numbers with units (h, m, s, ms), for example 30s, 5m or 1h30m")
    );
    assert!(duration::parse(&format!("{}h", "9".repeat(1 << 20))).unwrap_err().starts_with("is too long"));
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}
