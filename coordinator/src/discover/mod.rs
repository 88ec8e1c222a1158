//! DiscoveryPolicies: asks their sources when they are due, and writes what was found into their status.
//!
//! ```text
//!  watch ─► policies: rows and schedules ─► due ─► secrets ─► ask ─► conclude ─► still leader? ─► status
//!               ▲                                  └──────── drop-discovery ───────┘                 │
//!               └──────────────────────────────── answers to writes ◄───────────────────────────────┘
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`row`] | a DiscoveryPolicy as a row, also one that doesn't decode |
//! | [`policies`] | all of them: which is due, which answer still counts |
//! | [`sync`] | one sync: Secrets, questions, new status |
//! | [`write`](mod@write) | the status write |
//! | [`run`] | the loop beside that of the planner, for one term |
//!
//! Nothing here touches what the planner plans from: a CachedImageSet reads the status, like anybody else. What is to be
//! asked, and what the answers mean, is for `drop-discovery`, which knows no API server.

pub mod policies;
pub mod row;
pub mod run;
pub mod sync;
pub mod write;

pub use run::Discoverer;
