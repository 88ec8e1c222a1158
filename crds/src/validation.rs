//! The rules of [`crate::rules`] for objects that the API server has not asked: those stored before it knew the rules.
//!
//! Each function returns everything that is wrong with a spec, with the words that the API server uses. A spec without
//! problems can be acted on as a whole; what one with problems still allows is for the caller to decide.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::Toleration;
use regex::{Regex, RegexBuilder};

use crate::duration;
use crate::rules::{self, Expect, Text};
use crate::{
    CachedImageSetSpec, CachedImageSpec, DiscoveryPolicySpec, DiscoverySource, ImageEntry, PrometheusSource,
    PullPolicySpec, RegistrySource, SourceType,
};

/// A compiled user regex may take this many bytes.
const REGEX_SIZE_LIMIT: usize = 1 << 20;

/// One thing that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path of the field, for example `spec.images[2].tag`.
    pub field: String,
    /// What is expected of it.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// All problems in one line, for a condition's message.
#[must_use]
pub fn summary(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// What is wrong with a CachedImage.
#[must_use]
pub fn cached_image(spec: &CachedImageSpec) -> Vec<Problem> {
    let mut found = Findings::default();
    found.image("spec", &spec.image, spec.tag.as_deref(), spec.digest.as_deref());
    if let Some(policy) = &spec.policy_ref {
        found.text("spec.policyRef.name", &rules::OBJECT_NAME, &policy.name);
    }
    found.tolerations(&spec.tolerations);
    found.0
}

/// What is wrong with a CachedImageSet.
#[must_use]
pub fn cached_image_set(spec: &CachedImageSetSpec) -> Vec<Problem> {
    let mut found = Findings::default();
    if let Some(policy) = &spec.policy_ref {
        found.text("spec.policyRef.name", &rules::OBJECT_NAME, &policy.name);
    }
    if let Some(policy) = &spec.discovery_policy_ref {
        found.text("spec.discoveryPolicyRef.name", &rules::OBJECT_NAME, &policy.name);
    }
    found.tolerations(&spec.tolerations);
    found.at_most("spec.images", spec.images.len(), rules::MAX_SET_IMAGES);
    for (index, entry) in spec.images.iter().enumerate() {
        found.entry(&format!("spec.images[{index}]"), entry);
    }
    found.0
}

/// What is wrong with one image of a set, so that the others can go on.
#[must_use]
pub fn image_entry(field: &str, entry: &ImageEntry) -> Vec<Problem> {
    let mut found = Findings::default();
    found.entry(field, entry);
    found.0
}

/// What is wrong with a PullPolicy.
#[must_use]
pub fn pull_policy(spec: &PullPolicySpec) -> Vec<Problem> {
    let mut found = Findings::default();
    found.positive("spec.maxConcurrentNodes", Some(spec.max_concurrent_nodes));
    found.duration("spec.minDelayBetweenPulls", Some(&spec.min_delay_between_pulls));
    if let Some(backoff) = &spec.failure_backoff {
        found.duration("spec.failureBackoff.initial", Some(&backoff.initial));
        found.duration("spec.failureBackoff.max", Some(&backoff.max));
    }
    found.duration("spec.repullInterval", spec.repull_interval.as_deref());
    found.tolerations(&spec.tolerations);
    found.0
}

/// What is wrong with a DiscoveryPolicy.
#[must_use]
pub fn discovery_policy(spec: &DiscoveryPolicySpec) -> Vec<Problem> {
    let mut found = Findings::default();
    if spec.queries.is_some() || spec.signals.is_some() || spec.ranking.is_some() {
        found.add("spec", rules::OTHER_FORM);
    } else if spec.sources.is_empty() {
        found.add("spec", rules::NO_SOURCES);
    }
    found.regex("spec.imageFilter", spec.image_filter.as_deref());
    found.duration("spec.syncInterval", Some(&spec.sync_interval));
    found.positive("spec.maxImages", Some(spec.max_images));
    found.at_most("spec.sources", spec.sources.len(), rules::MAX_SOURCES);
    for (index, source) in spec.sources.iter().enumerate() {
        found.source(&format!("spec.sources[{index}]"), source);
    }
    found.0
}

/// Checks one text by its rules.
///
/// # Errors
/// The message of the first rule that is broken.
pub fn text(rules: &Text, value: &str) -> Result<(), String> {
    if rules.required && value.is_empty() {
        return Err("is empty: fill it in".to_owned());
    }
    if value.chars().count() > usize::try_from(rules.max_length).unwrap_or(usize::MAX) {
        return Err(format!("is too long: at most {} characters", rules.max_length));
    }
    match rules.rules.iter().find(|rule| !kept(rule, value)) {
        Some(rule) => Err(rule.message.to_owned()),
        None => Ok(()),
    }
}

/// Compiles a user's regular expression, within bounds.
///
/// # Errors
/// [`rules::BAD_REGEX`].
pub fn regex(pattern: &str) -> Result<Regex, &'static str> {
    RegexBuilder::new(pattern).size_limit(REGEX_SIZE_LIMIT).build().map_err(|_| rules::BAD_REGEX)
}

fn kept(rule: &rules::TextRule, value: &str) -> bool {
    static COMPILED: LazyLock<BTreeMap<&'static str, Regex>> = LazyLock::new(|| {
        let patterns = rules::ALL.iter().flat_map(|text| text.rules).map(|rule| rule.pattern);
        patterns.filter_map(|pattern| Some((pattern, Regex::new(pattern).ok()?))).collect()
    });
    COMPILED
        .get(rule.pattern)
        .is_some_and(|pattern| pattern.is_match(value) == (rule.expect == Expect::Match))
}

/// Problems in the order in which they are found.
#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, field: &str, message: &str) {
        self.0.push(Problem { field: field.to_owned(), message: message.to_owned() });
    }

    fn text(&mut self, field: &str, rules: &Text, value: &str) {
        if let Err(message) = text(rules, value) {
            self.add(field, &message);
        }
    }

    fn optional(&mut self, field: &str, rules: &Text, value: Option<&str>) {
        if let Some(value) = value {
            self.text(field, rules, value);
        }
    }

    fn duration(&mut self, field: &str, value: Option<&str>) {
        if let Some(message) = value.and_then(|value| duration::parse(value).err()) {
            self.add(field, message);
        }
    }

    fn regex(&mut self, field: &str, value: Option<&str>) {
        self.optional(field, &rules::REGEX, value);
        if let Some(message) = value.and_then(|value| regex(value).err()) {
            self.add(field, message);
        }
    }

    fn positive(&mut self, field: &str, value: Option<i32>) {
        if value.is_some_and(|value| value < 1) {
            self.add(field, rules::NOT_POSITIVE);
        }
    }

    fn at_most(&mut self, field: &str, count: usize, most: u32) {
        if count > usize::try_from(most).unwrap_or(usize::MAX) {
            self.add(field, &format!("lists {count} entries: at most {most} are read, split the object"));
        }
    }

    fn image(&mut self, field: &str, image: &str, tag: Option<&str>, digest: Option<&str>) {
        if [tag, digest].iter().all(|part| part.is_some_and(|part| !part.is_empty())) {
            self.add(field, rules::TAG_AND_DIGEST);
        }
        self.text(&format!("{field}.image"), &rules::IMAGE, image);
        self.optional(&format!("{field}.tag"), &rules::TAG, tag);
        self.optional(&format!("{field}.digest"), &rules::DIGEST, digest);
    }

    fn entry(&mut self, field: &str, entry: &ImageEntry) {
        self.image(field, &entry.image, entry.tag.as_deref(), entry.digest.as_deref());
    }

    fn tolerations(&mut self, tolerations: &[Toleration]) {
        self.at_most("spec.tolerations", tolerations.len(), rules::MAX_TOLERATIONS);
        for (index, toleration) in tolerations.iter().enumerate() {
            let field = format!("spec.tolerations[{index}]");
            let [key, operator, value, effect] =
                [&toleration.key, &toleration.operator, &toleration.value, &toleration.effect]
                    .map(|part| part.as_deref().unwrap_or_default());
            if !matches!(operator, "" | "Exists" | "Equal") {
                self.add(&format!("{field}.operator"), rules::BAD_OPERATOR);
            }
            if !matches!(effect, "" | "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
                self.add(&format!("{field}.effect"), rules::BAD_EFFECT);
            }
            if operator == "Exists" && !value.is_empty() {
                self.add(&field, rules::EXISTS_WITH_VALUE);
            }
            if key.is_empty() && operator != "Exists" {
                self.add(&field, rules::NO_KEY);
            }
        }
    }

    fn source(&mut self, field: &str, source: &DiscoverySource) {
        let unions = match source.type_ {
            SourceType::Prometheus => [
                (source.prometheus.is_none(), rules::NO_PROMETHEUS),
                (source.registry.is_some(), rules::NOT_REGISTRY),
            ],
            SourceType::Registry => [
                (source.registry.is_none(), rules::NO_REGISTRY),
                (source.prometheus.is_some(), rules::NOT_PROMETHEUS),
            ],
        };
        for (_, message) in unions.into_iter().filter(|(broken, _)| *broken) {
            self.add(field, message);
        }
        if let Some(prometheus) = &source.prometheus {
            self.prometheus(&format!("{field}.prometheus"), prometheus);
        }
        if let Some(registry) = &source.registry {
            self.registry(&format!("{field}.registry"), registry);
        }
    }

    fn prometheus(&mut self, field: &str, source: &PrometheusSource) {
        self.text(&format!("{field}.endpoint"), &rules::ENDPOINT, &source.endpoint);
        self.text(&format!("{field}.query"), &rules::QUERY, &source.query);
        self.duration(&format!("{field}.lookback"), source.lookback.as_deref());
        self.text(&format!("{field}.step"), &rules::STEP, &source.step);
    }

    fn registry(&mut self, field: &str, source: &RegistrySource) {
        self.text(&format!("{field}.url"), &rules::REGISTRY_URL, &source.url);
        let repositories = format!("{field}.repositories");
        if source.repositories.is_empty() {
            self.add(&repositories, rules::NO_REPOSITORIES);
        }
        self.at_most(&repositories, source.repositories.len(), rules::MAX_REPOSITORIES);
        for (index, repository) in source.repositories.iter().enumerate() {
            self.text(&format!("{repositories}[{index}]"), &rules::REPOSITORY, repository);
        }
        self.regex(&format!("{field}.tagFilter"), source.tag_filter.as_deref());
        self.positive(&format!("{field}.topX"), source.top_x);
        self.optional(
            &format!("{field}.imageTemplate"),
            &rules::IMAGE_TEMPLATE,
            source.image_template.as_deref(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles() {
        for rule in rules::ALL.iter().flat_map(|text| text.rules) {
            assert!(Regex::new(rule.pattern).is_ok(), "{}", rule.pattern);
        }
    }

    #[test]
    fn names_that_containerd_reads_are_images() {
        for name in [
            "nginx",
            "library/nginx",
            "docker.io/library/nginx",
            "host:5000/team/app",
            "localhost/app",
            "Registry.Example.com/team/app",
            "10.0.0.1:5000/a/b/c",
            "[fd00::1]:5000/app",
            "gcr.io/k8s-staging/my_app__x--y.z",
        ] {
            assert_eq!(text(&rules::IMAGE, name), Ok(()), "{name}");
        }
        let longest = format!("{}.example.com/{}", "h".repeat(63), "p".repeat(255));
        assert_eq!(text(&rules::IMAGE, &longest), Ok(()));
    }

    #[test]
    fn what_is_not_an_image_name_is_told_apart() {
        for (name, words) in [
            ("", "is empty"),
            ("https://ghcr.io/a", "scheme"),
            ("nginx@sha256:0", "digest"),
            ("nginx:1.25", "tag"),
            ("host:5000/app:1", "tag"),
            ("Team/App", "lower-case"),
            ("a//b", "lower-case"),
            ("nginx ", "lower-case"),
            ("-nginx", "lower-case"),
            ("a/b_.c", "lower-case"),
        ] {
            let message = text(&rules::IMAGE, name).unwrap_err();
            assert!(message.contains(words), "{name}: {message}");
        }
        assert!(text(&rules::IMAGE, &"p".repeat(256)).unwrap_err().contains("255"));
        assert!(text(&rules::IMAGE, &format!("a.io/{}", "p".repeat(256))).unwrap_err().contains("255"));
    }

    #[test]
    fn a_problem_names_its_field() {
        let spec = CachedImageSetSpec {
            images: vec![
                ImageEntry { image: "nginx".to_owned(), ..ImageEntry::default() },
                ImageEntry {
                    image: "nginx".to_owned(),
                    tag: Some("1".to_owned()),
                    digest: Some("sha256:zz".to_owned()),
                },
            ],
            ..CachedImageSetSpec::default()
        };
        let problems = cached_image_set(&spec);
        let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
        assert_eq!(fields, ["spec.images[1]", "spec.images[1].digest"]);
        assert!(summary(&problems).starts_with("spec.images[1]: tag and digest can't both be set"));
    }

    #[test]
    fn durations_and_their_pattern_agree() {
        for value in
            ["", "0", "5", "-5s", "30s", "1h30m", "1.5h", "1d", "99999h", "999999h", "123456789s", ".5s", "x"]
        {
            assert_eq!(
                duration::parse(value).is_ok(),
                text(&rules::DURATION, value).is_ok() || value == "999999h" || value == "123456789s",
                "{value}"
            );
        }
    }
}
