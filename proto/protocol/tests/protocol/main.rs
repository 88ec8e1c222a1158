//! What goes over the wire, one subject a module.

#![allow(clippy::unwrap_used, clippy::panic)] // all of this is test code

mod failures;
mod formats;
mod hostile;
mod lease_writes;
mod references;
