//! Registries: what a pull of a reference finds there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drop_planner::CheckOutcome;

/// What is wrong with one published image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFault {
    /// No such repository or tag.
    Missing,
    /// The registry wants credentials.
    Unauthorized,
}

/// An image behind a reference.
#[derive(Debug, Clone)]
pub struct Published {
    /// Manifest digest that the reference stands for now.
    pub digest: String,
    /// What it stood for before, and still does in mirrors that lag.
    pub before: Option<String>,
    /// Architectures that it exists for.
    pub architectures: BTreeSet<String>,
    /// How long an ordinary node needs to fetch it.
    pub fetch: Duration,
    /// What is wrong with it.
    pub fault: Option<ImageFault>,
}

/// What is wrong with a whole host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFault {
    /// Nothing listens.
    Down,
    /// Answers 503.
    Failing,
    /// Answers 429 and asks to wait so many seconds.
    RateLimited(u32),
}

/// All registries.
#[derive(Debug, Default)]
pub struct Registry {
    /// By normalised reference.
    pub images: BTreeMap<String, Published>,
    /// By host; absent: healthy.
    pub hosts: BTreeMap<String, HostFault>,
    digests: u64,
}

/// How the registry client's error reads when it comes out of containerd: gRPC code and text.
pub type Refused = (i32, String);

const UNKNOWN: i32 = 2;
const NOT_FOUND: i32 = 5;

impl Registry {
    /// A digest that nothing had before.
    pub fn new_digest(&mut self) -> String {
        self.digests += 1;
        format!("sha256:{:064x}", self.digests)
    }

    /// What a HEAD of the manifest tells.
    #[must_use]
    pub fn head(&self, reference: &str) -> CheckOutcome {
        let host = drop_protocol::reference::registry_host(reference);
        let retry_after = match self.hosts.get(&host) {
            None => {
                let published = self.images.get(reference).filter(|published| published.fault.is_none());
                let digest = published.map(|published| published.digest.clone());
                return digest.map_or(CheckOutcome::Unknown, CheckOutcome::Digest);
            }
            Some(HostFault::RateLimited(seconds)) => Some(Duration::from_secs((*seconds).into())),
            Some(HostFault::Down | HostFault::Failing) => None,
        };
        CheckOutcome::Unavailable { retry_after }
    }

    /// What a client on a node of this architecture gets.
    ///
    /// # Errors
    /// With what containerd would answer.
    pub fn resolve(&self, reference: &str, architecture: &str) -> Result<&Published, Refused> {
        let host = drop_protocol::reference::registry_host(reference);
        let resolving = format!("failed to resolve reference {reference:?}");
        match self.hosts.get(&host) {
            Some(HostFault::Down) => {
                return Err((UNKNOWN, format!("{resolving}: dial tcp {host}: connect: connection refused")));
            }
            Some(HostFault::Failing) => {
                return Err((
                    UNKNOWN,
                    format!("{resolving}: unexpected status from HEAD: 503 Service Unavailable"),
                ));
            }
            Some(HostFault::RateLimited(seconds)) => {
                return Err((
                    UNKNOWN,
                    format!("{resolving}: unexpected status: 429 Too Many Requests, Retry-After: {seconds}"),
                ));
            }
            None => {}
        }
        let missing = || (NOT_FOUND, format!("{resolving}: {reference}: not found"));
        let published = self.images.get(reference).ok_or_else(missing)?;
        match published.fault {
            Some(ImageFault::Missing) => return Err(missing()),
            Some(ImageFault::Unauthorized) => {
                return Err((UNKNOWN, format!("{resolving}: pull access denied: authorization failed")));
            }
            None => {}
        }
        if !published.architectures.contains(architecture) {
            return Err((NOT_FOUND, format!("no match for platform in manifest {}", published.digest)));
        }
        Ok(published)
    }
}
