//! A DiscoveryPolicy's spec as it is acted on: texts read, defaults filled in, sources named.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_crds::validation::{self, Problem};
use drop_crds::{
    DiscoveryPolicySpec, DiscoverySource, PrometheusSource, RegistrySource, SourceType, duration,
};
use regex::Regex;
use url::Url;

use crate::prometheus::Query;
use crate::registry::Listing;
use crate::template::{self, Template};

/// How often sources are asked when the spec does not say.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(30 * 60);

/// Sources are never asked more often, whatever a spec says.
pub const SHORTEST_INTERVAL: Duration = Duration::from_secs(10);

/// A policy without problems.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Whom to ask.
    pub sources: Vec<Source>,
    /// Which references are kept.
    pub filter: Option<Regex>,
    /// How often.
    pub interval: Duration,
    /// How many images are kept.
    pub max_images: usize,
}

/// One source.
#[derive(Debug, Clone)]
pub struct Source {
    /// How it is called in `source` of an image and in messages: type and endpoint, told apart where two are alike.
    pub name: String,
    /// Its type.
    pub kind: SourceType,
    /// Its URL without query: what metrics show.
    pub endpoint: String,
    /// Name of the Secret with credentials.
    pub secret: Option<String>,
    /// What it is asked.
    pub question: Question,
}

/// What a source is asked.
#[derive(Debug, Clone)]
pub enum Question {
    /// A query.
    Prometheus(Query),
    /// Tags of repositories.
    Registry(Listing),
}

/// The word for a type in names, messages and metrics.
#[must_use]
pub fn word(kind: SourceType) -> &'static str {
    match kind {
        SourceType::Prometheus => "prometheus",
        SourceType::Registry => "registry",
    }
}

impl Policy {
    /// Reads a spec.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(spec: &DiscoveryPolicySpec) -> Result<Self, Vec<Problem>> {
        let mut problems = validation::discovery_policy(spec);
        let mut sources = Vec::new();
        let mut alike: BTreeMap<String, usize> = BTreeMap::new();
        if problems.is_empty() {
            for (index, source) in spec.sources.iter().enumerate() {
                match self::source(source, &format!("spec.sources[{index}]")) {
                    Ok(mut source) => {
                        let seen = alike.entry(source.name.clone()).or_default();
                        *seen += 1;
                        if *seen > 1 {
                            source.name = format!("{} ({seen})", source.name);
                        }
                        sources.push(source);
                    }
                    Err(problem) => problems.push(problem),
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let interval = duration::parse(&spec.sync_interval).unwrap_or_default();
        Ok(Self {
            sources,
            filter: spec.image_filter.as_deref().and_then(filter),
            interval: if interval.is_zero() { DEFAULT_INTERVAL } else { interval.max(SHORTEST_INTERVAL) },
            max_images: usize::try_from(spec.max_images).unwrap_or_default(),
        })
    }
}

/// An empty pattern is found in everything, like none. Whether it compiles has been checked.
fn filter(pattern: &str) -> Option<Regex> {
    (!pattern.is_empty()).then(|| validation::regex(pattern).ok()).flatten()
}

fn source(source: &DiscoverySource, field: &str) -> Result<Source, Problem> {
    let missing = |message: &str| Problem { field: field.to_owned(), message: message.to_owned() };
    let (url, question) = match (source.type_, &source.prometheus, &source.registry) {
        (SourceType::Prometheus, Some(prometheus), _) => {
            let (url, query) = self::prometheus(prometheus, &format!("{field}.prometheus"))?;
            (url, Question::Prometheus(query))
        }
        (SourceType::Registry, _, Some(registry)) => {
            let (url, listing) = self::registry(registry, &format!("{field}.registry"))?;
            (url, Question::Registry(listing))
        }
        (SourceType::Prometheus, None, _) => return Err(missing(drop_crds::rules::NO_PROMETHEUS)),
        (SourceType::Registry, _, None) => return Err(missing(drop_crds::rules::NO_REGISTRY)),
    };
    let endpoint = shown(&url);
    Ok(Source {
        name: format!("{} {endpoint}", word(source.type_)),
        kind: source.type_,
        endpoint,
        secret: source.secret_ref.as_ref().map(|secret| secret.name.clone()).filter(|name| !name.is_empty()),
        question,
    })
}

fn prometheus(source: &PrometheusSource, field: &str) -> Result<(Url, Query), Problem> {
    let endpoint = url(&source.endpoint, &format!("{field}.endpoint"))?;
    let lookback = source.lookback.as_deref().and_then(|text| duration::parse(text).ok());
    let query = Query {
        endpoint: endpoint.clone(),
        query: source.query.clone(),
        lookback: lookback.filter(|lookback| !lookback.is_zero()),
        step: source.step.clone(),
    };
    Ok((endpoint, query))
}

fn registry(source: &RegistrySource, field: &str) -> Result<(Url, Listing), Problem> {
    let base = url(&source.url, &format!("{field}.url"))?;
    let template = source.image_template.as_deref().filter(|text| !text.is_empty());
    let template = Template::parse(template.unwrap_or(template::DEFAULT))
        .map_err(|error| Problem { field: format!("{field}.imageTemplate"), message: error.to_string() })?;
    let listing = Listing {
        base: base.clone(),
        repositories: source.repositories.clone(),
        tag_filter: source.tag_filter.as_deref().and_then(filter),
        top: source.top_x.and_then(|top| usize::try_from(top).ok()),
        template,
    };
    Ok((base, listing))
}

fn url(text: &str, field: &str) -> Result<Url, Problem> {
    let problem = |message: String| Problem { field: field.to_owned(), message };
    let url = Url::parse(text).map_err(|error| problem(format!("is not a URL: {error}")))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(problem("names no host".to_owned()));
    }
    Ok(url)
}

/// A URL as it is shown: without user, query and fragment.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut text = url.origin().ascii_serialization();
    text.push_str(url.path().trim_end_matches('/'));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Result<Policy, String> {
        Policy::read(&serde_json::from_value(spec).unwrap())
            .map_err(|problems| validation::summary(&problems))
    }

    #[test]
    fn sources_are_named_by_type_and_endpoint_and_told_apart() {
        let prometheus = |endpoint: &str| json!({ "type": "prometheus", "prometheus": { "endpoint": endpoint, "query": "up" } });
        let policy = read(json!({ "sources": [
            prometheus("https://mimir.example.com/prometheus/?tenant=secret"),
            prometheus("http://p:9090"),
            prometheus("http://p:9090/"),
            { "type": "registry", "registry": { "url": "https://r.io", "repositories": ["a"] } },
        ] }))
        .unwrap();
        let names: Vec<_> = policy.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "prometheus https://mimir.example.com/prometheus",
                "prometheus http://p:9090",
                "prometheus http://p:9090 (2)",
                "registry https://r.io"
            ]
        );
    }

    #[test]
    fn intervals_have_a_default_and_a_floor() {
        let interval = |text: &str| {
            let source =
                json!({ "type": "prometheus", "prometheus": { "endpoint": "http://p", "query": "up" } });
            read(json!({ "syncInterval": text, "sources": [source] })).unwrap().interval
        };
        assert_eq!(interval("0s"), DEFAULT_INTERVAL);
        assert_eq!(interval("1ms"), SHORTEST_INTERVAL);
        assert_eq!(interval("1h"), Duration::from_secs(3600));
    }

    #[test]
    fn a_spec_that_cannot_work_names_the_field() {
        for (spec, words) in [
            (json!({}), "spec: sources is empty"),
            (json!({ "sources": [], "imageFilter": "(" }), "spec.imageFilter: is not a regular expression"),
            (
                json!({ "sources": [{ "type": "registry", "registry": { "url": "https://r", "repositories": ["a"], "imageTemplate": "{{.Digest}}" } }] }),
                "spec.sources[0].registry.imageTemplate: is not a template",
            ),
            (
                json!({ "sources": [{ "type": "prometheus", "prometheus": { "endpoint": "http://h:99999", "query": "up" } }] }),
                "spec.sources[0].prometheus.endpoint: is not a URL: invalid port number",
            ),
            (json!({ "sources": [{ "type": "registry" }] }), "spec.sources[0]: type is registry"),
        ] {
            let error = read(spec).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
