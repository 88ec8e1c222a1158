//! What only containerd's own API can tell: image events, how far pulls have come, which manifest a name stands for.
//!
//! Other runtimes answer these calls with [`Error::is_unsupported`].

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{ListSnapshotsRequest, UsageRequest};
use containerd_client::services::v1::{GetImageRequest, ListStatusesRequest, SubscribeRequest};
use containerd_client::types::Envelope;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::error::Error;
use crate::runtime::{Runtime, unary};

/// Where the CRI plugin keeps its images.
const NAMESPACE: &str = "k8s.io";
/// What stands between a snapshotter's root and its name in the path of the image file system.
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1.";
/// Snapshots that a layer is being unpacked into have this in their names.
const UNPACKING: &str = "extract-";
const SUBSCRIBE: &str = "Events.Subscribe";

/// An image came, went or was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEvent {
    /// `/images/create`, `/images/update` or `/images/delete`.
    pub topic: String,
}

/// The stream of image events.
pub struct ImageEvents(Subscription);

type Subscribed = Result<Response<Streaming<Envelope>>, Status>;

/// containerd answers a subscription only with its first event.
enum Subscription {
    Unanswered(Pin<Box<dyn Future<Output = Subscribed> + Send>>),
    Open(Box<Streaming<Envelope>>),
}

/// How far all running pulls of the node have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of layers that are being fetched.
    pub fetched_bytes: u64,
    /// Differs whenever bytes arrived, a layer was committed, or something was unpacked.
    pub mark: u64,
}

impl ImageEvents {
    /// The next event.
    ///
    /// # Errors
    /// If the stream ended, as it does when containerd restarts: subscribe again, and list what was missed.
    pub async fn next(&mut self) -> Result<ImageEvent, Error> {
        loop {
            match &mut self.0 {
                Subscription::Unanswered(answer) => {
                    let opened = answer.await.map_err(|status| Error::status(SUBSCRIBE, &status))?;
                    self.0 = Subscription::Open(Box::new(opened.into_inner()));
                }
                Subscription::Open(events) => {
                    return match events.message().await {
                        Ok(Some(envelope)) => Ok(ImageEvent { topic: envelope.topic }),
                        Ok(None) => Err(Error::Incomplete { call: SUBSCRIBE, what: "further events" }),
                        Err(status) => Err(Error::status(SUBSCRIBE, &status)),
                    };
                }
            }
        }
    }
}

impl Runtime {
    /// Subscribes to the images of Kubernetes. What happens after this returns is not missed.
    ///
    /// # Errors
    /// If containerd does not answer.
    pub async fn image_events(&self) -> Result<ImageEvents, Error> {
        let filter = format!("topic~=|^/images/|,namespace=={NAMESPACE}");
        let mut client = EventsClient::new(self.channel.clone());
        let mut answer =
            Box::pin(async move { client.subscribe(SubscribeRequest { filters: vec![filter] }).await });
        // There is no answer before the first event; but a later call on the same connection is answered only after
        // the subscription was read.
        tokio::select! {
            biased;
            opened = &mut answer => {
                let opened = opened.map_err(|status| Error::status(SUBSCRIBE, &status))?;
                Ok(ImageEvents(Subscription::Open(Box::new(opened.into_inner()))))
            }
            reached = self.version() => {
                reached?;
                Ok(ImageEvents(Subscription::Unanswered(answer)))
            }
        }
    }

    /// How far the pulls of the node have come. `mountpoint` is that of the image file system: it tells the
    /// snapshotter.
    ///
    /// # Errors
    /// If containerd does not answer.
    pub async fn progress(&self, mountpoint: &str) -> Result<Progress, Error> {
        let mut content = ContentClient::new(self.channel.clone());
        let request = ListStatusesRequest { filters: Vec::new() };
        let mut statuses =
            unary("Content.ListStatuses", content.list_statuses(in_namespace(request))).await?.statuses;
        statuses.sort_by(|a, b| a.r#ref.cmp(&b.r#ref));
        let mut mark = DefaultHasher::new();
        let mut fetched_bytes = 0_u64;
        for status in &statuses {
            (&status.r#ref, status.offset).hash(&mut mark);
            fetched_bytes = fetched_bytes.saturating_add(status.offset.unsigned_abs());
        }
        if let Some((_, snapshotter)) = mountpoint.rsplit_once(SNAPSHOTTER) {
            self.unpacked(snapshotter.trim_end_matches('/')).await?.hash(&mut mark);
        }
        Ok(Progress { fetched_bytes, mark: mark.finish() })
    }

    /// How many snapshots there are, and how large those are that layers are being unpacked into.
    async fn unpacked(&self, snapshotter: &str) -> Result<(usize, i64), Error> {
        const CALL: &str = "Snapshots.List";
        let mut client = SnapshotsClient::new(self.channel.clone());
        let request =
            ListSnapshotsRequest { snapshotter: snapshotter.to_owned(), ..ListSnapshotsRequest::default() };
        let mut stream = unary(CALL, client.list(in_namespace(request))).await?;
        let (mut count, mut growing) = (0, Vec::new());
        while let Some(answer) = stream.message().await.map_err(|status| Error::status(CALL, &status))? {
            count += answer.info.len();
            growing.extend(answer.info.into_iter().map(|info| info.name).filter(|n| n.contains(UNPACKING)));
        }
        let mut size = 0_i64;
        for key in growing {
            let request = UsageRequest { snapshotter: snapshotter.to_owned(), key };
            // A snapshot that was committed meanwhile is gone under this name, and the count tells of it.
            if let Ok(usage) = unary("Snapshots.Usage", client.usage(in_namespace(request))).await {
                size = size.saturating_add(usage.size);
            }
        }
        Ok((count, size))
    }

    /// The manifest digest that `name`, in containerd's normal form, stands for; `None`: there is no such image.
    ///
    /// # Errors
    /// If containerd does not answer.
    pub async fn manifest_digest(&self, name: &str) -> Result<Option<String>, Error> {
        let mut client = ImagesClient::new(self.channel.clone());
        let request = GetImageRequest { name: name.to_owned() };
        match unary("Images.Get", client.get(in_namespace(request))).await {
            Ok(answer) => Ok(answer.image.and_then(|image| image.target).map(|target| target.digest)),
            Err(error) if error.code() == tonic::Code::NotFound as i32 => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn in_namespace<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    request
}
