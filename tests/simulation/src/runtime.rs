//! One node's containerd: images, pulls that go on whatever becomes of their client's thoughts, and a disk.
//!
//! It knows nothing of grants. A pull belongs to a connection: it goes on while the client is paused, and ends when the
//! client cancels it or when the client's process is gone and its socket closes.

use std::collections::BTreeMap;
use std::time::Duration;

use drop_agent_step::{Inventory, PullId};
use drop_protocol::reference::{Reference, normalise};

use crate::clock::Time;
use crate::registry::{Published, Registry};

/// Names one pull of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PullKey {
    /// Process of the client.
    pub process: u64,
    /// Its name for the pull.
    pub pull: PullId,
}

/// How a pull will end if nothing interferes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// With the image.
    Fetch,
    /// With this gRPC code and text.
    Fail(i32, String),
    /// Not by itself.
    Stuck,
}

/// A running pull.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Normalised reference.
    pub reference: String,
    /// When it started.
    pub started: Time,
    /// How it will end.
    pub course: Course,
    /// Cancelled, or its client is gone; ends in a moment.
    pub ending: bool,
}

/// A node's container runtime.
#[derive(Debug)]
pub struct Runtime {
    /// Normalised reference → manifest digest.
    pub images: BTreeMap<String, String>,
    /// Running pulls.
    pub pulls: BTreeMap<PullKey, Pull>,
    /// containerd is being restarted: nothing can be asked.
    pub down: bool,
    /// Free space of the image file system, in percent.
    pub free_percent: u8,
    /// `amd64` or `arm64`.
    pub architecture: String,
    /// It pulls through a mirror that lags behind its registry for ever.
    pub lags: bool,
    /// How many digests of its own invention it has listed for what it pulled; `None`: it is sane.
    pub nonsense: Option<u64>,
    /// Fetches take this many times as long as on an ordinary node, in percent.
    pub slowness: u32,
}

/// How long containerd needs to notice that a client is gone, at most.
pub const ENDS_WITHIN: Duration = Duration::from_millis(300);

impl Runtime {
    /// A runtime that holds nothing.
    #[must_use]
    pub fn new(architecture: &str) -> Self {
        Self {
            images: BTreeMap::new(),
            pulls: BTreeMap::new(),
            down: false,
            free_percent: 60,
            architecture: architecture.to_owned(),
            lags: false,
            nonsense: None,
            slowness: 100,
        }
    }

    /// Begins a pull; tells when it will end by itself.
    pub fn start(
        &mut self,
        key: PullKey,
        reference: &str,
        registry: &Registry,
        mishap: Option<Course>,
        now: Time,
    ) -> Option<Time> {
        let reference = normalise(reference).unwrap_or_else(|_| reference.to_owned());
        let (course, takes) = match (mishap, registry.resolve(&reference, &self.architecture)) {
            (Some(Course::Stuck), _) => (Course::Stuck, None),
            (_, Err((code, text))) => (Course::Fail(code, text), Some(Duration::from_millis(250))),
            (Some(course), Ok(published)) => (course, Some(published.fetch / 2)),
            (None, Ok(published)) if self.images.get(&reference) == Some(self.served(published)) => {
                // Only the manifest is asked for.
                (Course::Fetch, Some(Duration::from_millis(120)))
            }
            (None, Ok(published)) => (Course::Fetch, Some(published.fetch * self.slowness / 100)),
        };
        self.pulls.insert(key, Pull { reference, started: now, course, ending: false });
        takes.map(|takes| now + takes)
    }

    /// A pull's time has come: its result, unless it is no longer running or on its way out.
    pub fn end(&mut self, key: PullKey, registry: &Registry) -> Option<Result<String, (i32, String)>> {
        if self.pulls.get(&key)?.ending {
            return None;
        }
        let pull = self.pulls.remove(&key)?;
        Some(match pull.course {
            Course::Fail(code, text) => Err((code, text)),
            Course::Stuck => Err((4, "context deadline exceeded".to_owned())),
            // A registry that fails in mid-pull fails the pull.
            Course::Fetch => registry.resolve(&pull.reference, &self.architecture).map(|published| {
                let digest = match &mut self.nonsense {
                    Some(invented) if !pull.reference.contains('@') => {
                        *invented += 1;
                        format!("sha256:nonsense-{invented}")
                    }
                    _ => self.served(published).clone(),
                };
                self.images.insert(pull.reference, digest.clone());
                digest
            }),
        })
    }

    /// The digest that a pull finds.
    #[must_use]
    pub fn served<'p>(&self, published: &'p Published) -> &'p String {
        published.before.as_ref().filter(|_| self.lags).unwrap_or(&published.digest)
    }

    /// What CRI lists: tags, and for each image its name by digest.
    #[must_use]
    pub fn inventory(&self) -> Inventory {
        let mut images = self.images.clone();
        for (reference, digest) in &self.images {
            if let Ok(parsed) = Reference::parse(reference) {
                images.insert(format!("{}/{}@{digest}", parsed.host, parsed.repository), digest.clone());
            }
        }
        Inventory { images, free_percent: Some(self.free_percent) }
    }

    /// Whether CRI would list `reference`, and with which digest.
    #[must_use]
    pub fn digest_of(&self, reference: &str) -> Option<String> {
        let normalised = normalise(reference).ok()?;
        self.images.get(&normalised).cloned().or_else(|| self.inventory().images.get(&normalised).cloned())
    }
}
