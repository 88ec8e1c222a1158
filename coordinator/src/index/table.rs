//! The rows of one kind, kept up to date by watch events and by answers to our own writes.
//!
//! An answer to a write is usually ahead of the watch. Every row therefore comes with its `resourceVersion`, and an
//! older state never replaces a newer one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::watch::{Event, Versioned};

/// Rows by name.
pub type Rows<T> = BTreeMap<String, Arc<T>>;

/// A table's bookkeeping; the rows themselves lie where the planner reads them.
#[derive(Debug)]
pub struct Table<T> {
    versions: BTreeMap<String, u64>,
    /// The list that is being received, until it is complete.
    incoming: BTreeMap<String, Versioned<T>>,
    /// Names of rows that an answer to a write brought while that list was under way: it may lack them.
    ahead: BTreeSet<String>,
    complete: bool,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { versions: BTreeMap::new(), incoming: BTreeMap::new(), ahead: BTreeSet::new(), complete: false }
    }
}

impl<T: PartialEq> Table<T> {
    /// Whether a whole list has been received since the start.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes in a watch event; returns whether `rows` changed.
    pub fn apply(&mut self, rows: &mut Rows<T>, event: Event<T>) -> bool {
        match event {
            Event::Restarted => {
                self.incoming.clear();
                self.ahead.clear();
                false
            }
            Event::Listed(row) => {
                self.incoming.insert(row.name.clone(), row);
                false
            }
            Event::Complete => self.replace(rows),
            Event::Applied(row) => self.insert(rows, row),
            Event::Deleted(row) => self.remove(rows, &row.name, row.version),
        }
    }

    /// Takes in the answer to a write of our own; returns whether `rows` changed.
    pub fn written(&mut self, rows: &mut Rows<T>, row: Versioned<T>) -> bool {
        self.ahead.insert(row.name.clone());
        self.insert(rows, row)
    }

    fn insert(&mut self, rows: &mut Rows<T>, row: Versioned<T>) -> bool {
        let Versioned { name, version, row } = row;
        if self.versions.get(&name).is_some_and(|known| version < *known) {
            return false;
        }
        if rows.get(&name).is_some_and(|current| **current == row) {
            self.versions.insert(name, version);
            return false;
        }
        self.versions.insert(name.clone(), version);
        rows.insert(name, Arc::new(row));
        true
    }

    fn remove(&mut self, rows: &mut Rows<T>, name: &str, version: u64) -> bool {
        if self.versions.get(name).is_some_and(|known| version < *known) {
            return false;
        }
        self.versions.remove(name);
        rows.remove(name).is_some()
    }

    /// Makes the received list the current state, except where an answer to a write is already ahead of it.
    fn replace(&mut self, rows: &mut Rows<T>) -> bool {
        let mut changed = !self.complete;
        self.complete = true;
        let incoming = std::mem::take(&mut self.incoming);
        let ahead = std::mem::take(&mut self.ahead);
        let gone: Vec<String> = rows
            .keys()
            .filter(|name| !incoming.contains_key(*name) && !ahead.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.versions.remove(&name);
            rows.remove(&name);
            changed = true;
        }
        for row in incoming.into_values() {
            changed |= self.insert(rows, row);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::{Rows, Table};
    use crate::watch::{Event, Versioned};

    fn row(name: &str, version: u64, row: u8) -> Versioned<u8> {
        Versioned { name: name.to_owned(), version, row }
    }

    fn seen(rows: &Rows<u8>) -> Vec<(&str, u8)> {
        rows.iter().map(|(name, row)| (name.as_str(), **row)).collect()
    }

    #[test]
    fn a_list_shows_only_once_it_is_complete_and_then_replaces_everything() {
        let (mut table, mut rows) = (Table::default(), Rows::new());
        table.apply(&mut rows, Event::Applied(row("old", 1, 0)));
        table.apply(&mut rows, Event::Restarted);
        table.apply(&mut rows, Event::Listed(row("new", 2, 0)));
        assert_eq!(seen(&rows), [("old", 0)]);
        assert!(!table.is_complete());
        assert!(table.apply(&mut rows, Event::Complete));
        assert_eq!(seen(&rows), [("new", 0)]);
        assert!(table.is_complete());
    }

    #[test]
    fn a_list_that_broke_off_leaves_nothing_behind() {
        let (mut table, mut rows) = (Table::default(), Rows::new());
        table.apply(&mut rows, Event::Restarted);
        table.apply(&mut rows, Event::Listed(row("deleted meanwhile", 2, 0)));
        table.apply(&mut rows, Event::Restarted);
        table.apply(&mut rows, Event::Complete);
        assert!(rows.is_empty());
    }

    #[test]
    fn an_empty_list_leaves_nothing_of_what_was_there_before() {
        let (mut table, mut rows) = (Table::default(), Rows::new());
        table.written(&mut rows, row("a", 7, 1));
        table.apply(&mut rows, Event::Restarted);
        assert!(table.apply(&mut rows, Event::Complete));
        assert!(rows.is_empty());
    }

    #[test]
    fn a_write_that_changes_no_column_wakes_nobody() {
        let (mut table, mut rows) = (Table::default(), Rows::new());
        assert!(table.apply(&mut rows, Event::Applied(row("a", 1, 0))));
        assert!(!table.apply(&mut rows, Event::Applied(row("a", 2, 0))));
        assert!(!table.apply(&mut rows, Event::Applied(row("a", 1, 9))), "older than what was seen");
    }

    #[test]
    fn a_relist_that_finds_the_same_wakes_nobody() {
        let (mut table, mut rows) = (Table::default(), Rows::new());
        for first in [true, false] {
            table.apply(&mut rows, Event::Restarted);
            table.apply(&mut rows, Event::Listed(row("a", 1, 0)));
            assert_eq!(table.apply(&mut rows, Event::Complete), first);
        }
    }

    #[test]
    fn an_answer_to_our_own_write_is_not_undone_by_an_older_watch_event() {
        let (mut table, mut rows) = (Table::default(), Rows::new());
        assert!(table.written(&mut rows, row("a", 7, 1)));
        assert!(!table.apply(&mut rows, Event::Applied(row("a", 5, 0))));
        assert!(!table.apply(&mut rows, Event::Deleted(row("a", 6, 0))));
        assert_eq!(seen(&rows), [("a", 1)]);
        assert!(table.apply(&mut rows, Event::Deleted(row("a", 8, 1))));
        assert!(rows.is_empty());
    }

    #[test]
    fn an_answer_to_our_own_write_survives_a_list_that_began_before_it() {
        let (mut table, mut rows) = (Table::default(), Rows::new());
        table.apply(&mut rows, Event::Restarted);
        table.written(&mut rows, row("a", 7, 1));
        table.written(&mut rows, row("created", 8, 1));
        table.apply(&mut rows, Event::Listed(row("a", 5, 0)));
        table.apply(&mut rows, Event::Complete);
        assert_eq!(seen(&rows), [("a", 1), ("created", 1)]);
    }
}
