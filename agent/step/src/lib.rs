//! Decides what one node's agent does next.
//!
//! [`Agent::step`] is a function of what happened ([`Input`]) and of a clock value; what to do comes out as [`Effect`]s.
//! It never reads a clock, does no I/O, and knows neither Kubernetes' client nor containerd: thousands of agents run in
//! one process, and the simulation drives this very code.
//!
//! | module | decides |
//! |---|---|
//! | `agent` | takes inputs in and runs the decisions below, once each, in order |
//! | `admission` | whether a grant may be taken: the epoch must be the leader's |
//! | `pulling` | which image is pulled next, and when a pull must end |
//! | `writing` | which write to the node Lease is due |
//! | `writer` | one write at a time; what an unknown outcome means |
//! | `work` | how long a taken grant surely lives |
//! | `known` | presence, attempts, evictions: the source of report entries |
//! | `report` | the report's content and size, and whether it says anything new |
//! | `disk` | whether the disk has room for a pull |
//! | `spread` | moments that differ from node to node |

mod admission;
mod agent;
mod api;
mod disk;
mod known;
mod pulling;
mod report;
mod spread;
mod work;
mod writer;
mod writing;

pub use agent::Agent;
pub use api::{Config, Effect, Input, Inventory, PullError, PullId, Pulled, WriteId, WriteKind, WriteResult};
