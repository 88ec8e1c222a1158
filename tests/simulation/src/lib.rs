//! A deterministic simulation of the whole of Drop: the real planner, election, agent step and codecs between models of
//! everything else, under faults that a seed decides.
//!
//! | module | subject |
//! |---|---|
//! | [`run`] | one seed from its faults to the quiet after them |
//! | [`simulation`] | the parts, the event queue, and who hears what |
//! | [`scenario`] | what a seed begins with |
//! | [`faults`] | what goes wrong, and how it ends |
//! | [`api`], [`request`] | the API server: objects, versions, conflicts, admission, watches |
//! | [`network`], [`news`] | what becomes of messages; who hears of a change |
//! | [`clock`], [`queue`] | time |
//! | [`coordinator`] | replicas: election, index, executor around the planner |
//! | [`agent`] | machines: the thin runtime around the agent step, and the kernel timer |
//! | [`runtime`], [`pulls`], [`registry`] | containerd, the requests to it, and the registries |
//! | [`nodes`] | kubelets, controllers, and machines that come and go |
//! | [`invariants`] | what must always hold |
//! | [`breaks`] | deliberate breaks, which an invariant must notice |
//! | [`trace`] | what happened, for people |
//!
//! One thread, one random number generator, no clock but the simulated one: a seed is a run. The crate knows neither
//! Kubernetes' client nor containerd's.

pub mod agent;
pub mod api;
pub mod breaks;
pub mod clock;
pub mod coordinator;
pub mod faults;
pub mod invariants;
pub mod network;
pub mod news;
pub mod nodes;
pub mod pulls;
pub mod queue;
pub mod registry;
pub mod request;
pub mod run;
pub mod runtime;
pub mod scenario;
pub mod simulation;
pub mod trace;
