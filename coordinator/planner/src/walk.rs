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

    /// The value of `name`, which must come after the name that was asked for last.
    pub(crate) fn at(&mut self, name: &str) -> Option<&'m V> {
        loop {
            match self.0.peek()?.0.borrow().cmp(name) {
                Ordering::Less => self.0.next(),
                Ordering::Equal => return self.0.next().map(|(_, value)| value),
                Ordering::Greater => return None,
            };
        }
    }

    /// The same, where `is_it` mostly knows the value itself: names lie all over the memory, and to read them costs more
    /// than all else.
    pub(crate) fn at_or(&mut self, name: &str, is_it: impl FnOnce(&V) -> bool) -> Option<&'m V> {
        match self.0.next_if(|(_, value)| is_it(value)) {
            Some((_, value)) => Some(value),
            None => self.at(name),
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
        let found: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().map(|name| walk.at(name)).collect();
        assert_eq!(found, [None, Some(&1), None, Some(&2), None]);
    }

    #[test]
    fn what_is_known_by_its_value_is_found_without_its_name() {
        let map: BTreeMap<String, u8> = [("b".to_owned(), 1), ("d".to_owned(), 2)].into();
        let mut walk = Walk::new(&map);
        assert_eq!(walk.at_or("b", |value| *value == 2), Some(&1));
        assert_eq!(walk.at_or("?", |value| *value == 2), Some(&2));
        assert_eq!(walk.at_or("e", |value| *value == 2), None);
    }
}
