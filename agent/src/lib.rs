//! The agent: one a node. It takes grants from its node's Lease, pulls through the container runtime, and reports what
//! is really there.
//!
//! Every decision is made in `drop-agent-step`; this crate does what was decided and feeds back what happened.
//!
//! | module | subject |
//! |---|---|
//! | [`driver`] | the loop: inputs into the step function, effects out of it |
//! | [`parts`] | what the loop needs from outside: API server, container runtime, clocks, kernel timer |
//! | [`kubernetes`] | the API server, by watches and single-attempt writes |
//! | [`node`] | the container runtime and the image file system |
//! | [`inventory`] | which references the runtime's images answer to |
//! | [`pull`] | one pull from its Secrets to its digest |
//! | [`credentials`] | which logins a registry is offered: from pull Secrets and from the node's plugins |
//! | [`clock`], [`kill_timer`] | the machine's clocks and the timer that ends a paused process |
//! | [`observe`], [`http`] | health and metrics, and the pages that show them |
//! | [`settings`], [`process`] | flags, and the process as a whole |
//! | `told` | what is wrong is said once |
//!
//! There are no globals: any number of agents run in one process when they are given parts of their own.

pub mod clock;
pub mod credentials;
pub mod driver;
pub mod http;
pub mod inventory;
pub mod kill_timer;
pub mod kubernetes;
pub mod node;
pub mod observe;
pub mod parts;
pub mod process;
pub mod pull;
pub mod settings;
mod told;
