//! The planner as its users see it: worlds in, plans out. One behaviour a module.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)] // all of this is test code

mod cached;
mod cap_and_delay;
mod catalog;
mod checks;
mod documented;
mod edited;
mod election;
mod failures;
mod hostile;
mod leases;
mod order;
mod progress;
mod properties;
mod pull_secrets;
mod rechecks;
mod repull;
mod rig;
mod rollout;
mod scale;
mod set_children;
mod set_properties;
mod set_rig;
mod set_status;
mod status;
mod turns;
mod undone;
mod unsettled;
mod withdrawals;
mod wording;
