//! Input as nobody should send it: for the tests of whatever reads something from outside.
//!
//! | module | makes |
//! |---|---|
//! | [`text`] | texts and bytes of every odd kind, and sound ones that were damaged |
//! | [`json`] | JSON of any shape, and sound values of which one part was damaged |
//!
//! `README.md` beside this crate lists who reads what, within which limits, and which test shows it. Nothing here knows what a
//! reader reads.

pub mod json;
pub mod text;

/// The configuration of a property with so many cases that leaves no files behind.
#[must_use]
pub fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}
