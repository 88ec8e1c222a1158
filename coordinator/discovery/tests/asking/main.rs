//! Asking servers that misbehave, redirect or paginate: what no real server does on demand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // all of this is test code

mod failures;
mod hostile;
mod pages;
mod proxies;
mod redirects;
mod server;
