//! Help for tests against a real API server. Without one they fail and say how to start it.
//!
//! | module | subject |
//! |---|---|
//! | [`cleanup`] | leaving nothing behind |
//! | [`cluster`] | finding and entering the development cluster |
//! | [`coordinator`] | the coordinator's own code, running beside a test |
//! | [`definitions`] | installing Drop's CustomResourceDefinitions, and the objects they define |
//! | [`identities`] | the rights and tokens of Drop's programs |
//! | [`manifests`] | YAML from files, documentation and kustomize |
//! | [`wait`] | waiting for something to become true |
//!
//! Every file in `tests/` has one subject. Tests use names of their own and leave nothing behind, except for the
//! definitions, which all of them share.

pub mod cleanup;
pub mod cluster;
pub mod coordinator;
pub mod definitions;
pub mod identities;
pub mod manifests;
pub mod wait;
