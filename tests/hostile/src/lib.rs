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

/// The configuration of a property with so many cases that leaves no files behind; `PROPTEST_CASES` sets another number.
#[must_use]
pub fn cases(cases: u32) -> proptest::test_runner::Config {
    let given = proptest::test_runner::Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { given.cases } else { cases };
    proptest::test_runner::Config { cases, failure_persistence: None, ..given }
}
