//! The container runtime, over its unix socket: the CRI ImageService, and what only containerd itself can tell.
//!
//! | module | subject |
//! |---|---|
//! | [`runtime`] | the client: versions, readiness, the image file system |
//! | [`images`] | listing, looking up and pulling images (CRI) |
//! | [`containerd`] | image events, pull progress and manifest digests (containerd's own API; absent elsewhere) |
//! | [`error`] | what may go wrong |
//!
//! Nothing here knows Kubernetes' API, grants or Leases. The connection is made when first used and made again after a
//! restart of the runtime; nothing is repeated, and nothing is cached.

pub mod containerd;
pub mod error;
pub mod images;
pub mod runtime;

pub use containerd::{ImageEvent, ImageEvents, Progress};
pub use error::Error;
pub use images::{Credentials, Image, Secret};
pub use runtime::{ImageFilesystem, Runtime, Version};
