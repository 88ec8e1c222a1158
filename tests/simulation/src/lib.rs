//! A deterministic simulation of the whole of Drop: the real planner, election, agent step and codecs between models of
//! everything else, under faults that a seed decides.
//!
//! | module | subject |
//! |---|---|
//! | [`schedule`] | what happens in a run, said in full; what a seed makes of it |
//! | [`run`] | one schedule from its faults to the quiet after them |
//! | [`simulation`] | the parts, the event queue, and who hears what |
//! | [`scenario`] | what a run begins with |
//! | [`streams`] | chance: a stream of its own for each part |
//! | [`faults`] | what goes wrong, and how it ends |
//! | [`api`], [`request`] | the API server: objects, versions, conflicts, admission, watches |
//! | [`network`], [`news`] | what becomes of messages; who hears of a change |
//! | [`sets`] | CachedImageSets, DiscoveryPolicies and the garbage collector |
//! | [`clock`], [`queue`] | time |
//! | [`coordinator`] | replicas: election, index, executor around the planner |
//! | [`agent`] | machines: the thin runtime around the agent step, and the kernel timer |
//! | [`runtime`], [`pulls`], [`registry`] | containerd, the requests to it, and the registries |
//! | [`nodes`] | kubelets, controllers, and machines that come and go |
//! | [`invariants`] | what must always hold |
//! | [`breaks`] | deliberate breaks, which an invariant must notice |
//! | [`trace`] | what happened, for people |
//! | [`coverage`] | which fault struck in which state |
//! | [`shrink`] | as little of a schedule as still breaks an invariant |
//!
//! One thread, no chance that the seed does not decide, no clock but the simulated one: a seed is a run. The crate knows neither
//! Kubernetes' client nor containerd's.

pub mod agent;
pub mod api;
pub mod breaks;
pub mod clock;
pub mod coordinator;
pub mod coverage;
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
pub mod schedule;
pub mod sets;
pub mod shrink;
pub mod simulation;
pub mod streams;
pub mod trace;
