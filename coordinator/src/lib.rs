//! The coordinator's runtime: everything around the planner that touches the world.
//!
//! ```text
//!  watch ──► index ──► run: snapshot ─► observe ─► plan (drop-planner) ─► still leader? ─► execute ──► API server
//!                       ▲                                                                     │
//!                       └──────────────────────── answers to writes ◄─────────────────────────┘
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`watch`] | lists and watches: API objects become small rows at this edge and are dropped |
//! | [`index`] | the rows, kept up to date by watches and by answers to our own writes |
//! | [`lead`] | who leads, and under which number |
//! | [`run`] | the one loop of a leader |
//! | [`execute`] | what is planned becomes requests, each attempted once |
//! | [`check`] | beside that loop: asks registries which digest a tag stands for |
//! | [`discover`] | beside that loop: asks the sources of DiscoveryPolicies, by `drop-discovery` |
//! | [`status`], [`set_status`] | `status` of a CachedImage and of a CachedImageSet, domain type ↔ API type |
//! | [`api`] | the clients, and what an answer to a write means |
//! | [`clock`] | the only place that reads a clock |
//! | [`metrics`], [`http`] | what can be scraped and probed |
//! | [`settings`], [`process`] | flags; what runs beside what, and how it ends |
//!
//! This crate must not decide anything about pulls: that is the planner's, which knows neither a client nor a clock.

pub mod api;
pub mod check;
pub mod clock;
pub mod discover;
pub mod execute;
pub mod http;
pub mod index;
pub mod lead;
pub mod metrics;
pub mod process;
pub mod run;
pub mod set_status;
pub mod settings;
pub mod status;
pub mod watch;

/// How this program signs its fields and events.
pub const FIELD_MANAGER: &str = "drop-coordinator";
