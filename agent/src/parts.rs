//! What an agent needs from outside, so that tests and swarms can give it something else.
//!
//! All futures end in bounded time, except those of [`ImageRuntime::pull`] and [`Clock::sleep_until`]. None has to be
//! `Send`: an agent lives on one thread.

use std::collections::BTreeMap;
use std::rc::Rc;

use drop_agent_step::{Input, WriteResult};
use drop_credentials::docker_config::{Invalid, SecretData};
use drop_cri::Credentials;
use drop_protocol::{Epoch, Monotonic, NodeLease, Now};
use futures::future::LocalBoxFuture;
use futures::stream::LocalBoxStream;

use crate::credentials::provider::Providers;

/// Everything that one agent is given.
#[derive(Clone)]
pub struct Parts {
    /// The API server.
    pub api: Rc<dyn Api>,
    /// The container runtime.
    pub runtime: Rc<dyn ImageRuntime>,
    /// The machine's clocks.
    pub clock: Rc<dyn Clock>,
    /// The kernel timer.
    pub timer: Rc<dyn KillTimer>,
    /// The node's credential provider plugins.
    pub providers: Rc<Providers>,
}

/// Why a Secret can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The agent may not read it.
    #[error("may not be read by agents")]
    Denied,
    /// It does not exist.
    #[error("does not exist in Drop's namespace")]
    Missing,
    /// It holds no registry logins.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The API server did not answer.
    #[error("could not be read: {0}")]
    Unknown(String),
}

/// The API server, as far as one agent uses it. Each call is one attempt.
pub trait Api {
    /// The agent's own Lease and the catalog as they change. Ends never; heals itself.
    fn watch(&self) -> LocalBoxStream<'static, Input>;
    /// The agent's own Lease, read consistently; `None`: there is none.
    fn read_lease(&self) -> LocalBoxFuture<'static, Result<Option<NodeLease>, String>>;
    /// The epoch in the leader Lease, read consistently; `None`: there is no such Lease.
    fn read_leader(&self) -> LocalBoxFuture<'static, Result<Option<Epoch>, String>>;
    /// Sends a JSON merge patch to the agent's own Lease.
    fn patch_lease(&self, patch: serde_json::Value) -> LocalBoxFuture<'static, WriteResult>;
    /// A Secret of Drop's namespace.
    fn secret(&self, name: &str) -> LocalBoxFuture<'static, Result<SecretData, SecretError>>;
}

/// The container runtime of the node.
pub trait ImageRuntime {
    /// Normalised references that the runtime knows → manifest digest.
    fn images(&self) -> LocalBoxFuture<'static, Result<BTreeMap<String, String>, drop_cri::Error>>;
    /// The manifest digest of one reference; `None`: it is not there.
    fn digest_of(&self, reference: &str) -> LocalBoxFuture<'static, Result<Option<String>, drop_cri::Error>>;
    /// How large the image of one reference is, in bytes; `None`: it is not there, or nobody can tell.
    fn size_of(&self, reference: &str) -> LocalBoxFuture<'static, Option<u64>>;
    /// Pulls for as long as it takes; dropping the future ends the pull.
    fn pull(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
    ) -> LocalBoxFuture<'static, Result<(), drop_cri::Error>>;
    /// Returns once a pull whose future was dropped has ended in the runtime too.
    fn settled(&self) -> LocalBoxFuture<'static, ()>;
    /// A number that differs whenever a running pull has come further; `None`: this runtime can't tell.
    fn progress(&self) -> LocalBoxFuture<'static, Option<u64>>;
    /// An item whenever images came or went. Ends never; heals itself.
    fn image_events(&self) -> LocalBoxStream<'static, ()>;
    /// How much of the image file system is free, in percent; `None`: nobody can tell. Answers at once.
    fn free_percent(&self) -> Option<u8>;
}

/// The clocks.
pub trait Clock {
    /// What the time is.
    fn now(&self) -> Now;
    /// Returns at or soon after `at` on the monotonic clock.
    fn sleep_until(&self, at: Monotonic) -> LocalBoxFuture<'static, ()>;
}

/// The timer by which the kernel ends the process, even a stopped one.
pub trait KillTimer {
    /// Have it end at `deadline` on the monotonic clock, replacing an earlier deadline.
    ///
    /// # Errors
    /// If the kernel refuses: then nothing may be pulled.
    fn arm(&self, deadline: Monotonic) -> Result<(), String>;
    /// Have it live on.
    fn disarm(&self);
}
