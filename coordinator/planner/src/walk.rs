//! Looks up many names of a map in one walk: with thousands of nodes, a search for each is most of a plan.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

/// A walk through a map in the order of its keys.
pub(crate) struct Walk<'m, V, K = String>(Peekable<btree_map::Iter<'m, K, V>>);

impl<'m, V, K: Borrow<str>> Walk<'m, V, K> {
    pub(crate) fn new(map: &'m BTreeMap<K, V>) -> Self {
        Self(map.iter().peekable())
    }

    /// The value of `name`, which must not come before the name that was asked for last.
    pub(crate) fn at(&mut self, name: &str) -> Option<&'m V> {
        loop {
            let (key, value) = *self.0.peek()?;
            match key.borrow().cmp(name) {
                Ordering::Less => self.0.next(),
                Ordering::Equal => return Some(value),
                Ordering::Greater => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Walk;

    #[test]
    fn finds_what_is_there_and_nothing_else() {
        let map: BTreeMap<String, u8> = [("b".to_owned(), 1), ("d".to_owned(), 2)].into();
        let mut walk = Walk::new(&map);
        let found: Vec<_> = ["a", "b", "b", "c", "d", "e"].into_iter().map(|name| walk.at(name)).collect();
        assert_eq!(found, [None, Some(&1), Some(&1), None, Some(&2), None]);
    }
}
