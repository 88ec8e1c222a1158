//! One ranked list out of what all sources said.
//!
//! An image that several sources name counts once, under its best score: a number of containers and a place in a list
//! of tags have no common unit in which they could be added up.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use drop_crds::DiscoveredImage;
use drop_protocol::reference::Reference;
use regex::Regex;

/// Between the sources of an image that several name.
const AND: &str = ", ";

/// A list takes this many bytes in the status at most: an object is limited to 1.5 MiB, and others read this one.
pub const MAX_BYTES: usize = 512 << 10;

/// A ranked list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranked {
    /// Best first.
    pub images: Vec<DiscoveredImage>,
    /// How many had to be left out because a status cannot hold them.
    pub left_out: usize,
}

/// One image as one source named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named<'a> {
    /// Reference.
    pub image: &'a str,
    /// Score.
    pub score: i64,
    /// Name of the source.
    pub source: &'a str,
}

/// Merges, filters, ranks and cuts. The result does not depend on the order in which images are `named`.
#[must_use]
pub fn rank<'a>(
    named: impl IntoIterator<Item = Named<'a>>,
    filter: Option<&Regex>,
    max_images: usize,
) -> Ranked {
    struct Merged<'a> {
        image: &'a str,
        score: i64,
        sources: BTreeMap<&'a str, i64>,
    }
    let mut merged: BTreeMap<String, Merged<'a>> = BTreeMap::new();
    for Named { image, score, source } in named {
        if filter.is_some_and(|filter| !filter.is_match(image)) {
            continue;
        }
        let key =
            Reference::parse(image).map_or_else(|_| image.to_owned(), |reference| reference.to_string());
        let entry = merged.entry(key).or_insert(Merged { image, score, sources: BTreeMap::new() });
        entry.image = entry.image.min(image);
        entry.score = entry.score.max(score);
        let best = entry.sources.entry(source).or_insert(score);
        *best = score.max(*best);
    }
    let mut merged: Vec<Merged<'a>> = merged.into_values().collect();
    merged.sort_by_key(|entry| (Reverse(entry.score), entry.image));
    merged.truncate(max_images);
    let mut ranked = Ranked::default();
    let mut bytes = 0;
    for entry in &merged {
        let mut sources: Vec<(&str, i64)> =
            entry.sources.iter().map(|(source, score)| (*source, *score)).collect();
        sources.sort_by_key(|(source, score)| (Reverse(*score), *source));
        let source = sources.into_iter().map(|(source, _)| source).collect::<Vec<_>>().join(AND);
        // Quotes, field names and the longest number.
        bytes += entry.image.len() + source.len() + 64;
        if bytes > MAX_BYTES {
            break;
        }
        ranked.images.push(DiscoveredImage { image: entry.image.to_owned(), score: entry.score, source });
    }
    ranked.left_out = merged.len() - ranked.images.len();
    ranked
}

/// The names of the sources that an image of the status came from.
pub fn sources(image: &DiscoveredImage) -> impl Iterator<Item = &str> {
    image.source.split(AND)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named<'a>(image: &'a str, score: i64, source: &'a str) -> Named<'a> {
        Named { image, score, source }
    }

    fn shown(ranked: &Ranked) -> Vec<String> {
        ranked.images.iter().map(|i| format!("{} {} {}", i.image, i.score, i.source)).collect()
    }

    #[test]
    fn the_best_score_wins_ties_go_by_name_and_the_rest_is_cut() {
        let all = [named("b:1", 5, "p"), named("a:1", 5, "p"), named("c:1", 9, "p"), named("d:1", 1, "p")];
        assert_eq!(shown(&rank(all, None, 3)), ["c:1 9 p", "a:1 5 p", "b:1 5 p"]);
    }

    #[test]
    fn an_image_of_several_sources_counts_once_with_its_best_score_and_names_them_best_first() {
        let all = [
            named("nginx", 3, "p"),
            named("docker.io/library/nginx:latest", 7, "r"),
            named("nginx:1", 1, "p"),
        ];
        assert_eq!(shown(&rank(all, None, 9)), ["docker.io/library/nginx:latest 7 r, p", "nginx:1 1 p"]);
    }

    #[test]
    fn the_filter_is_found_anywhere_in_a_reference() {
        let all = [named("r.io/team/app:1", 1, "p"), named("r.io/other/app:1", 2, "p")];
        assert_eq!(shown(&rank(all, Some(&Regex::new("/team/").unwrap()), 9)), ["r.io/team/app:1 1 p"]);
    }

    #[test]
    fn a_list_fits_into_a_status() {
        let names: Vec<String> = (0..5000).map(|n| format!("r.io/{}:{n}", "a".repeat(250))).collect();
        let ranked = rank(names.iter().map(|name| named(name, 1, "p")), None, 5000);
        assert_eq!(ranked.images.len() + ranked.left_out, 5000);
        let bytes = serde_json::to_vec(&ranked.images).unwrap().len();
        assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&bytes), "{bytes}");
    }

    proptest! {
        #[test]
        fn the_order_of_answers_does_not_matter(
            mut all in prop::collection::vec(("[a-c](:[12])?", -3i64..3, "[pqr]"), 0..20),
            max in 0usize..6, seed in any::<u64>()
        ) {
            let list = |all: &[(String, i64, String)]| {
                rank(all.iter().map(|(image, score, source)| named(image, *score, source)), None, max)
            };
            let before = list(&all);
            let mut seed = seed;
            for at in (1..all.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                all.swap(at, usize::try_from(seed >> 33).unwrap() % (at + 1));
            }
            prop_assert_eq!(&list(&all), &before);
            prop_assert!(before.images.len() <= max);
            prop_assert!(before.images.windows(2).all(|pair| (Reverse(pair[0].score), &pair[0].image) < (Reverse(pair[1].score), &pair[1].image)));
        }
    }
}
