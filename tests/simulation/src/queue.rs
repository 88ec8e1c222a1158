//! The event queue: what happens next, in an order that depends on nothing but the seed.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::clock::Time;

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    sequence: u64,
    /// Boxed: sifting moves entries about.
    event: Box<E>,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<E> Eq for Entry<E> {}
impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap's greatest is the earliest.
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// Events by time; those of one moment in the order in which they were put in.
#[derive(Debug)]
pub struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    sequence: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<E> Queue<E> {
    /// Puts in what happens at `at`.
    pub fn push(&mut self, at: Time, event: E) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, event: Box::new(event) });
    }

    /// Takes out the earliest.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        self.heap.pop().map(|entry| (entry.at, *entry.event))
    }
}
