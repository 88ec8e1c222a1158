//! One node's agent, one behaviour a module.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::needless_pass_by_value)] // all of this is test code

mod batch;
mod deadline;
mod hostile;
mod node;
mod properties;
mod reporting;
mod retries;
mod taking;
