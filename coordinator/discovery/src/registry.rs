//! The registry API, as far as discovery needs it: tag lists, page by page, and the ways to log in.
//!
//! | module | subject |
//! |---|---|
//! | [`challenge`] | `WWW-Authenticate`: what a registry wants to see |
//! | [`link`] | `Link`: where the next page is |
//! | [`client`] | requests, with whatever login the registry asks for |
//!
//! The client knows nothing of discovery: it serves whoever wants to read from a registry.

use std::collections::VecDeque;
use std::io::{BufReader, Read};

use regex::Regex;
use serde::Deserialize;
use url::Url;

use crate::failure::{Failure, Reason, quote};
use crate::template::Template;

pub mod challenge;
pub mod client;
pub mod link;

pub use client::Client;

/// So many tags are asked for at a time; what most registries grant at most.
const PAGE: &str = "1000";

/// One source may keep this many tags before anything is ranked.
pub const MAX_TAGS: usize = 100_000;

/// Longer tags are none, nor are they digests.
const MAX_TAG: usize = 135;

/// Where Docker Hub answers, and how its images are called.
const HUB: (&str, &str) = ("registry-1.docker.io", "docker.io");

/// What a source asks of its registry.
#[derive(Debug, Clone)]
pub struct Listing {
    /// Base URL.
    pub base: Url,
    /// Whose tags.
    pub repositories: Vec<String>,
    /// Which tags are kept.
    pub tag_filter: Option<Regex>,
    /// How many of each repository, the last ones.
    pub top: Option<usize>,
    /// What a reference looks like.
    pub template: Template,
}

impl Listing {
    /// The host as references name it.
    #[must_use]
    pub fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        if is_hub(host) {
            return HUB.1.to_owned();
        }
        match self.base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The first page of a repository's tags.
    #[must_use]
    pub fn first_page(&self, repository: &str) -> Url {
        let mut url = api(&self.base);
        let path = url.path().trim_end_matches('/').to_owned();
        // The Hub keeps its own images under a prefix that nobody writes.
        let prefix = if is_hub(self.base.host_str().unwrap_or_default()) && !repository.contains('/') {
            "library/"
        } else {
            ""
        };
        url.set_path(&format!("{path}/v2/{prefix}{repository}/tags/list"));
        url.set_query(None);
        url.query_pairs_mut().append_pair("n", PAGE);
        url
    }
}

/// The base URL of the API behind the URL that a user wrote.
#[must_use]
pub fn api(base: &Url) -> Url {
    let mut url = base.clone();
    if base.host_str().is_some_and(is_hub) {
        // A host name in place of another is always accepted.
        let _ = url.set_host(Some(HUB.0));
    }
    url
}

fn is_hub(host: &str) -> bool {
    [HUB.0, HUB.1, "index.docker.io"].contains(&host)
}

#[derive(Debug, Deserialize)]
struct Page {
    /// `null` for a repository without tags.
    #[serde(default)]
    tags: Option<Vec<String>>,
}

/// Reads one page.
///
/// # Errors
/// If it is no page.
pub fn page(body: impl Read) -> Result<Vec<String>, Failure> {
    let page: Page = serde_json::from_reader(BufReader::new(body)).map_err(|error| {
        Failure::new(
            Reason::InvalidResponse,
            format!("the answer is no list of tags: {}", quote(&error.to_string())),
        )
    })?;
    Ok(page.tags.unwrap_or_default())
}

/// The tags of one repository that are kept, in the order of the registry.
#[derive(Debug)]
pub struct Tags {
    filter: Option<Regex>,
    top: Option<usize>,
    kept: VecDeque<String>,
}

impl Tags {
    /// Keeps what a listing keeps.
    #[must_use]
    pub fn new(listing: &Listing) -> Self {
        Self { filter: listing.tag_filter.clone(), top: listing.top, kept: VecDeque::new() }
    }

    /// Adds a page.
    pub fn add(&mut self, page: Vec<String>) {
        for tag in page {
            if tag.len() > MAX_TAG {
                continue;
            }
            if self.filter.as_ref().is_some_and(|filter| !filter.is_match(&tag)) {
                continue;
            }
            self.kept.push_back(tag);
            if self.top.is_some_and(|top| self.kept.len() > top) {
                self.kept.pop_front();
            }
        }
    }

    /// The kept tags with their distance from the last one.
    pub fn from_last(self) -> impl Iterator<Item = (usize, String)> {
        self.kept.into_iter().rev().enumerate()
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::template;

    fn listing(base: &str, filter: Option<&str>, top: Option<usize>) -> Listing {
        Listing {
            base: Url::parse(base).unwrap(),
            repositories: Vec::new(),
            tag_filter: filter.map(|pattern| Regex::new(pattern).unwrap()),
            top,
            template: Template::parse(template::DEFAULT).unwrap(),
        }
    }

    #[test]
    fn the_registry_of_a_reference_is_the_host_without_scheme() {
        for (base, host) in [
            ("https://registry.example.com", "registry.example.com"),
            ("https://registry.example.com:443/", "registry.example.com"),
            ("http://10.0.0.1:5000", "10.0.0.1:5000"),
            ("http://[fd00::1]:5000", "[fd00::1]:5000"),
            ("https://host/artifactory/api/docker/main", "host"),
            ("https://registry-1.docker.io", "docker.io"),
        ] {
            assert_eq!(listing(base, None, None).host(), host);
        }
    }

    #[test]
    fn pages_lie_under_the_base_path() {
        let page =
            |base: &str, repository: &str| listing(base, None, None).first_page(repository).to_string();
        assert_eq!(page("http://r:5000", "team/app"), "http://r:5000/v2/team/app/tags/list?n=1000");
        assert_eq!(page("https://h/sub/", "app"), "https://h/sub/v2/app/tags/list?n=1000");
        assert_eq!(
            page("https://docker.io", "nginx"),
            "https://registry-1.docker.io/v2/library/nginx/tags/list?n=1000"
        );
        assert_eq!(
            page("https://docker.io", "grafana/grafana"),
            "https://registry-1.docker.io/v2/grafana/grafana/tags/list?n=1000"
        );
    }

    #[test]
    fn a_page_may_be_empty_and_must_be_a_page() {
        assert_eq!(page(&br#"{"name":"a","tags":null}"#[..]).unwrap(), Vec::<String>::new());
        assert_eq!(page(&br#"{"name":"a","tags":["1","2"]}"#[..]).unwrap(), ["1", "2"]);
        for body in [&b"<html>"[..], b"[1]", br#"{"tags":[1]}"#, b""] {
            assert_eq!(page(body).unwrap_err().reason, Reason::InvalidResponse);
        }
    }

    proptest! {
        #[test]
        fn the_last_tags_that_pass_the_filter_are_kept_whatever_the_pages(
            tags in prop::collection::vec("[ab][0-9]{1,2}", 0..40), size in 1usize..7, top in 1usize..9
        ) {
            let mut kept = Tags::new(&listing("http://r", Some("^a"), Some(top)));
            for page in tags.chunks(size) {
                kept.add(page.to_vec());
            }
            let wanted: Vec<_> = tags.iter().filter(|tag| tag.starts_with('a')).rev().take(top).cloned().collect();
            prop_assert_eq!(kept.from_last().map(|(_, tag)| tag).collect::<Vec<_>>(), wanted);
        }
    }
}
