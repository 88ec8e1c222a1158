//! One kind's watch as a stream of small rows: lists, resumes and backs off by itself, and never ends.

use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{Stream, StreamExt};
use kube::api::Api;
use kube::runtime::watcher::{self, Event as Seen, ExponentialBackoff};
use kube::runtime::{WatchStreamExt, watcher as watch};
use serde::de::DeserializeOwned;
use tracing::warn;

use crate::api::chain;

/// A row with what it is found by and how new it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// `metadata.name`
    pub name: String,
    /// `metadata.resourceVersion`; 0 if it is not a number, which then counts as older than anything.
    pub version: u64,
    /// What is kept of the object.
    pub row: T,
}

/// What happened to the rows of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<T> {
    /// A new list begins; what follows until [`Self::Complete`] replaces everything.
    Restarted,
    /// One row of that list.
    Listed(Versioned<T>),
    /// The list is complete.
    Complete,
    /// A row is new or has changed.
    Applied(Versioned<T>),
    /// A row is gone; this is how it last looked.
    Deleted(Versioned<T>),
}

/// Lists and watches what `select` selects of `api`, turning each object into a row; `None` drops the object.
///
/// The first list is consistent: it asks for the most recent state, not for what a cache holds.
pub fn rows<K, T>(
    api: Api<K>,
    kind: &'static str,
    select: watcher::Config,
    row: impl Fn(K) -> Option<T> + Send + 'static,
) -> impl Stream<Item = Event<T>> + Send
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
    T: Send,
{
    // Below the 295 s that kube allows, and different for each watch: after a restart of the API server not all come
    // back together.
    let config = select.timeout(fastrand::u32(200..290));
    // kube's default goes up to 30 s, for which an API server that came back would wait for the coordinator.
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(250))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter();
    watch(api, config).backoff(ExponentialBackoff::from(backoff)).filter_map(move |seen| {
        let event = match seen {
            Ok(Seen::Init) => Some(Event::Restarted),
            Ok(Seen::InitApply(object)) => versioned(object, &row).map(Event::Listed),
            Ok(Seen::InitDone) => Some(Event::Complete),
            Ok(Seen::Apply(object)) => versioned(object, &row).map(Event::Applied),
            Ok(Seen::Delete(object)) => versioned(object, &row).map(Event::Deleted),
            Err(error) => {
                report(kind, &error);
                None
            }
        };
        std::future::ready(event)
    })
}

/// Turns an object into a row, keeping its name and version. `None` drops it.
pub fn versioned<K: kube::Resource, T>(object: K, row: impl Fn(K) -> Option<T>) -> Option<Versioned<T>> {
    let meta = object.meta();
    let name = meta.name.clone()?;
    let version = meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0);
    Some(Versioned { name, version, row: row(object)? })
}

fn report(kind: &str, error: &watcher::Error) {
    match error {
        // A history that the server has dropped, for instance after its restart: the watcher lists again.
        watcher::Error::WatchError(status) if status.code == 410 => {}
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
            if status.code == 403 =>
        {
            warn!(kind, error = %status.message, "may not be watched: check the RBAC of the coordinator");
        }
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            warn!(kind, "is not known to the API server: apply Drop's CustomResourceDefinitions");
        }
        error => warn!(kind, error = %chain(error), "watch interrupted; trying again"),
    }
}
