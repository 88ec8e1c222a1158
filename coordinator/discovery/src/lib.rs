//! What a DiscoveryPolicy asks of others: queries to Prometheus, tag lists of registries, and one ranked list of
//! images out of what they say.
//!
//! ```text
//!  spec ─► Policy ─► ask each source (http) ─► Answers ─┐
//!                                                        ├─► conclude (pure) ─► status
//!  old status ───────────────────────────────────────────┘
//! ```
//!
//! | module | subject |
//! |---|---|
//! | [`policy`] | a spec as it is acted on |
//! | [`prometheus`] | query → URL; answer → scores |
//! | [`registry`] | repository → tags; pages, challenges, tokens |
//! | [`template`] | `imageTemplate` |
//! | [`credentials`] | what a Secret says |
//! | [`failure`] | what can go wrong with a source, in a user's words |
//! | [`http`] | requests with limits: time, size, redirects |
//! | [`answer`] | what a source said |
//! | [`ask`] | asks one source |
//! | [`rank`] | merges, filters, ranks and cuts |
//! | [`status`] | old status + answers → new status |
//! | [`schedule`] | when a policy is due |
//!
//! Only [`http`], [`ask`] and the client in [`registry`] do anything; everything else is pure. This crate must not know
//! the API server, nor what becomes of the images.

pub mod answer;
pub mod ask;
pub mod credentials;
pub mod failure;
pub mod http;
pub mod policy;
pub mod prometheus;
pub mod rank;
pub mod registry;
pub mod schedule;
pub mod status;
pub mod template;

pub use answer::{Answer, Scored};
pub use credentials::Credentials;
pub use failure::{Failure, Reason};
pub use policy::{Policy, Source};
