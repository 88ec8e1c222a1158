//! The node's container runtime and image file system, as the agent uses them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use drop_cri::{Credentials, Error, Image, ImageEvents, Runtime};
use drop_protocol::reference::normalise;
use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::{self, LocalBoxStream};
use tokio::sync::OnceCell;
use tracing::{debug, info, warn};

use crate::inventory::{self, Entry};
use crate::parts::ImageRuntime;

/// Longest time that measuring progress may take.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest time between two attempts to subscribe to image events.
const RESUBSCRIBE: Duration = Duration::from_secs(10);

/// A container runtime behind its socket.
pub struct NodeRuntime {
    runtime: Runtime,
    image_fs_path: PathBuf,
    /// Mountpoint of the image file system on the node; names containerd's snapshotter.
    mountpoint: Rc<OnceCell<String>>,
}

impl NodeRuntime {
    /// The runtime `runtime`, whose images lie on the file system that `image_fs_path` belongs to.
    #[must_use]
    pub fn new(runtime: Runtime, image_fs_path: PathBuf) -> Self {
        Self { runtime, image_fs_path, mountpoint: Rc::new(OnceCell::new()) }
    }
}

impl ImageRuntime for NodeRuntime {
    fn images(&self) -> LocalBoxFuture<'static, Result<BTreeMap<String, String>, Error>> {
        let runtime = self.runtime.clone();
        Box::pin(async move {
            let entries = inventory::entries(&runtime.list_images().await?);
            let mut images = BTreeMap::new();
            for (name, entry) in entries {
                let digest = resolve(&runtime, &name, entry).await?;
                images.insert(name, digest);
            }
            Ok(images)
        })
    }

    fn digest_of(&self, reference: &str) -> LocalBoxFuture<'static, Result<Option<String>, Error>> {
        let (runtime, reference) = (self.runtime.clone(), reference.to_owned());
        Box::pin(async move {
            let Some(image) = runtime.image(&reference).await? else { return Ok(None) };
            let name = normalise(&reference).unwrap_or(reference);
            let entry = named_entry(&image, &name);
            resolve(&runtime, &name, entry).await.map(Some)
        })
    }

    fn size_of(&self, reference: &str) -> LocalBoxFuture<'static, Option<u64>> {
        let (runtime, reference) = (self.runtime.clone(), reference.to_owned());
        Box::pin(async move { Some(runtime.image(&reference).await.ok()??.size) })
    }

    fn pull(
        &self,
        reference: &str,
        credentials: Option<Credentials>,
    ) -> LocalBoxFuture<'static, Result<(), Error>> {
        let (runtime, reference) = (self.runtime.clone(), reference.to_owned());
        Box::pin(async move { runtime.pull(&reference, credentials.as_ref()).await })
    }

    fn settled(&self) -> LocalBoxFuture<'static, ()> {
        let runtime = self.runtime.clone();
        // Sent after the cancellation on the same connection: the answer proves that it was read. Without an answer the
        // connection is lost or the kernel timer ends it, and either ends the pull.
        Box::pin(async move {
            if let Err(error) = runtime.version().await {
                debug!(%error, "after a cancelled pull");
            }
        })
    }

    fn progress(&self) -> LocalBoxFuture<'static, Option<u64>> {
        let (runtime, mountpoint) = (self.runtime.clone(), Rc::clone(&self.mountpoint));
        let measure = async move {
            let find = || async { runtime.image_filesystem().await.map(|fs| fs.mountpoint) };
            let mountpoint = mountpoint.get_or_try_init(find).await?;
            runtime.progress(mountpoint).await
        };
        Box::pin(async move {
            match tokio::time::timeout(PROGRESS_TIMEOUT, measure).await {
                Ok(Ok(progress)) => Some(progress.mark),
                Ok(Err(error)) => {
                    debug!(%error, "progress of the pull is not known");
                    None
                }
                Err(_) => None,
            }
        })
    }

    fn image_events(&self) -> LocalBoxStream<'static, ()> {
        let start = Subscription { runtime: self.runtime.clone(), events: None, delay: Duration::ZERO };
        stream::unfold(start, |mut subscription| async move {
            subscription.next().await;
            Some(((), subscription))
        })
        .boxed_local()
    }

    fn free_percent(&self) -> Option<u8> {
        match nix::sys::statvfs::statvfs(&self.image_fs_path) {
            Ok(stat) => percent(stat.blocks_available(), stat.blocks()),
            Err(errno) => {
                warn!(path = %self.image_fs_path.display(), %errno, "free disk space is not known; check --image-fs-path");
                None
            }
        }
    }
}

/// As the kubelet counts it: blocks that unprivileged users may still write, of all.
fn percent(available: u64, all: u64) -> Option<u8> {
    u8::try_from(available.saturating_mul(100).checked_div(all)?).ok()
}

fn named_entry(image: &Image, name: &str) -> Entry {
    inventory::entry(image, name)
}

async fn resolve(runtime: &Runtime, name: &str, entry: Entry) -> Result<String, Error> {
    match entry {
        Entry::Known(digest) => Ok(digest),
        Entry::Ambiguous(guess) => match runtime.manifest_digest(name).await {
            Ok(digest) => Ok(digest.unwrap_or(guess)),
            Err(error) if error.is_unsupported() => Ok(guess),
            Err(error) => Err(error),
        },
    }
}

/// A subscription to image events that is made again whenever it is lost.
struct Subscription {
    runtime: Runtime,
    events: Option<ImageEvents>,
    delay: Duration,
}

impl Subscription {
    /// Returns when images changed, or may have changed unseen.
    async fn next(&mut self) {
        loop {
            match &mut self.events {
                Some(events) => match events.next().await {
                    Ok(_) => return,
                    Err(error) => {
                        info!(%error, "image events ended; subscribing again");
                        self.events = None;
                    }
                },
                None => {
                    tokio::time::sleep(self.delay).await;
                    self.delay = (self.delay * 2).clamp(Duration::from_millis(250), RESUBSCRIBE);
                    match self.runtime.image_events().await {
                        Ok(events) => {
                            self.events = Some(events);
                            self.delay = Duration::ZERO;
                            return;
                        }
                        Err(error) => debug!(%error, "no image events"),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn free_space_is_counted_as_the_kubelet_counts_it() {
        assert_eq!(percent(199, 1000), Some(19));
        assert_eq!(percent(0, 1000), Some(0));
        assert_eq!(percent(1, 0), None);
    }
}
