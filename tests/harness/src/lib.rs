//! What end-to-end tests and benchmarks share: a running cluster with Drop on it, as an administrator sees it.
//!
//! | module | subject |
//! |---|---|
//! | [`cluster`] | API, nodes, and the objects that a test creates and removes |
//! | [`audit`] | API requests by user, from the audit log |
//! | [`faulty`], [`api_door`] | registries that fail on demand, and a way to the API server that does |
//! | [`figure`] | a measured value and its bound |
//! | [`metrics`], [`scrape`] | what Drop's processes show under `/metrics`, and values and histograms in it |
//! | [`cri`] | a bare CRI client that shares no code with the agent |
//! | [`identity`] | the API server as one of Drop's agents sees it |
//! | [`leader`] | the coordinator that leads |
//! | [`machine`] | the parts of the cluster, ended and started again |
//! | [`processes`] | Drop's processes on this machine |
//! | [`private_registry`], [`token_server`] | a registry that wants a login, and who hands out tokens for one |
//!
//! [`run`] enters the cluster's network namespace by itself. Nothing here knows anything of Drop's insides but the
//! protocol.

pub mod api_door;
pub mod audit;
pub mod cluster;
pub mod cri;
pub mod faulty;
pub mod figure;
pub mod identity;
pub mod leader;
pub mod machine;
pub mod metrics;
pub mod private_registry;
pub mod processes;
pub mod scrape;
pub mod token_server;

pub use cluster::{Cluster, Told, Wanted, run};
