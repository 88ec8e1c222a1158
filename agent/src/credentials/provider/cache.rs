//! Answers of one plugin, for as long as they are good. Pure: whoever asks says what the time is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use drop_protocol::Monotonic;
use drop_protocol::reference::Reference;

use super::protocol::{CacheKeyType, Response};

/// So many answers are kept: more than registries, and than images that one node pulls in a day.
const MOST: usize = 256;

/// What an answer is kept under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Image(String, String),
    Registry(String),
    Global,
}

#[derive(Debug)]
struct Kept {
    until: Monotonic,
    response: Arc<Response>,
}

/// Answers of one plugin.
#[derive(Debug, Default)]
pub struct Cache {
    kept: HashMap<Key, Kept>,
}

impl Cache {
    /// An answer that is still good for `image`: the most special one.
    #[must_use]
    pub fn get(&self, image: &Reference, now: Monotonic) -> Option<Arc<Response>> {
        [CacheKeyType::Image, CacheKeyType::Registry, CacheKeyType::Global]
            .into_iter()
            .filter_map(|kind| self.kept.get(&key(kind, image)))
            .find(|kept| now < kept.until)
            .map(|kept| Arc::clone(&kept.response))
    }

    /// Keeps the answer for `image` for as long as it says, else for `default`. Zero: not at all.
    pub fn put(&mut self, image: &Reference, response: &Arc<Response>, default: Duration, now: Monotonic) {
        let lifetime = response.cache_for.unwrap_or(default);
        self.kept.retain(|_, kept| now < kept.until);
        if lifetime.is_zero() {
            return;
        }
        let key = key(response.key, image);
        if self.kept.len() >= MOST && !self.kept.contains_key(&key) {
            let first_to_go = self.kept.iter().min_by_key(|(_, kept)| kept.until).map(|(key, _)| key.clone());
            first_to_go.and_then(|key| self.kept.remove(&key));
        }
        self.kept.insert(key, Kept { until: now.after(lifetime), response: Arc::clone(response) });
    }
}

fn key(kind: CacheKeyType, image: &Reference) -> Key {
    match kind {
        CacheKeyType::Image => Key::Image(image.host.clone(), image.repository.clone()),
        CacheKeyType::Registry => Key::Registry(image.host.clone()),
        CacheKeyType::Global => Key::Global,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn answer(key: CacheKeyType, seconds: Option<u64>) -> Arc<Response> {
        Arc::new(Response { key, cache_for: seconds.map(Duration::from_secs), logins: BTreeMap::new() })
    }

    fn image(text: &str) -> Reference {
        Reference::parse(text).unwrap()
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn an_answer_is_good_for_what_it_says() {
        for (kind, same_registry, elsewhere) in [
            (CacheKeyType::Image, false, false),
            (CacheKeyType::Registry, true, false),
            (CacheKeyType::Global, true, true),
        ] {
            let mut cache = Cache::default();
            cache.put(&image("h.test/a:1"), &answer(kind, Some(60)), Duration::ZERO, at(0));
            let good = |reference: &str| cache.get(&image(reference), at(1)).is_some();
            assert!(good("h.test/a:2"), "{kind:?}: a tag makes no difference");
            assert_eq!((good("h.test/b"), good("other.test/a")), (same_registry, elsewhere), "{kind:?}");
        }
    }

    #[test]
    fn an_answer_is_good_for_as_long_as_it_says() {
        let mut cache = Cache::default();
        let (a, minute) = (image("h.test/a"), Duration::from_secs(60));
        cache.put(&a, &answer(CacheKeyType::Image, None), minute, at(0));
        assert!(cache.get(&a, at(59)).is_some() && cache.get(&a, at(60)).is_none());
        cache.put(&a, &answer(CacheKeyType::Image, Some(0)), minute, at(60));
        cache.put(&a, &answer(CacheKeyType::Image, None), Duration::ZERO, at(60));
        assert!(cache.get(&a, at(60)).is_none(), "zero is not at all");
    }

    #[test]
    fn the_most_special_answer_counts() {
        let mut cache = Cache::default();
        let special = answer(CacheKeyType::Image, Some(60));
        cache.put(&image("h.test/a"), &answer(CacheKeyType::Global, Some(60)), Duration::ZERO, at(0));
        cache.put(&image("h.test/a"), &special, Duration::ZERO, at(0));
        assert!(Arc::ptr_eq(&cache.get(&image("h.test/a"), at(1)).unwrap(), &special));
    }

    proptest! {
        #[test]
        fn it_stays_small_and_gives_nothing_stale(
            puts in prop::collection::vec((0_u32..2000, 1_u64..100, 0_u64..5), 0..600),
        ) {
            let (mut cache, mut now) = (Cache::default(), 0);
            for (name, lifetime, passes) in puts {
                now += passes;
                let reference = image(&format!("h.test/a{name}"));
                cache.put(&reference, &answer(CacheKeyType::Image, Some(lifetime)), Duration::ZERO, at(now));
                prop_assert!(cache.kept.len() <= MOST);
                prop_assert!(cache.get(&reference, at(now)).is_some());
                prop_assert!(cache.get(&reference, at(now + lifetime)).is_none());
            }
        }
    }
}
