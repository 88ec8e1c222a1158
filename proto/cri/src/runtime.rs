//! The client, and what it can tell about the runtime as a whole.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{ImageFsInfoRequest, StatusRequest, VersionRequest};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::error::Error;

/// How long a call may take that is not a pull.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// ListImages of a busy node is larger than tonic's default of 4 MiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A container runtime behind a unix socket. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Runtime {
    socket: PathBuf,
    pub(crate) channel: Channel,
}

/// Which runtime it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Such as `containerd`.
    pub name: String,
    /// Such as `v2.3.5`.
    pub version: String,
}

/// The file system that images are kept on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFilesystem {
    /// Path on the node, such as `/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs`.
    pub mountpoint: String,
    /// Bytes used by images.
    pub used_bytes: u64,
}

impl Runtime {
    /// A client for the runtime behind `socket`. Connects when first used, and again whenever the connection is lost:
    /// the path is opened anew each time.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The name is sent as authority and means nothing on a unix socket.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Self { socket: socket.to_owned(), channel }
    }

    /// Path of the socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Name and version of the runtime.
    ///
    /// # Errors
    /// If the runtime does not answer.
    pub async fn version(&self) -> Result<Version, Error> {
        let request = VersionRequest { version: "v1".to_owned() };
        let mut client = self.runtime_service();
        let answer = unary("Version", client.version(request)).await?;
        Ok(Version { name: answer.runtime_name, version: answer.runtime_version })
    }

    /// Whether the runtime says of itself that it is ready.
    ///
    /// # Errors
    /// If the runtime does not answer.
    pub async fn is_ready(&self) -> Result<bool, Error> {
        let mut client = self.runtime_service();
        let answer = unary("Status", client.status(StatusRequest { verbose: false })).await?;
        let conditions = answer.status.unwrap_or_default().conditions;
        Ok(conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status))
    }

    /// Where images are kept, and how much they take.
    ///
    /// # Errors
    /// If the runtime does not answer, or names no file system.
    pub async fn image_filesystem(&self) -> Result<ImageFilesystem, Error> {
        const CALL: &str = "ImageFsInfo";
        let mut client = self.image_service();
        let answer = unary(CALL, client.image_fs_info(ImageFsInfoRequest {})).await?;
        let incomplete = Error::Incomplete { call: CALL, what: "an image file system" };
        let usage = answer.image_filesystems.into_iter().next().ok_or(incomplete.clone())?;
        Ok(ImageFilesystem {
            mountpoint: usage.fs_id.ok_or(incomplete)?.mountpoint,
            used_bytes: usage.used_bytes.unwrap_or_default().value,
        })
    }

    pub(crate) fn image_service(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }

    fn runtime_service(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone())
    }
}

/// Waits for a call that is answered quickly or not at all.
pub(crate) async fn unary<T>(
    call: &'static str,
    answer: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Error> {
    match tokio::time::timeout(CALL_TIMEOUT, answer).await {
        Err(_) => Err(Error::Timeout { call, after: CALL_TIMEOUT }),
        Ok(Err(status)) => Err(Error::status(call, &status)),
        Ok(Ok(response)) => Ok(response.into_inner()),
    }
}
