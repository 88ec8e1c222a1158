//! A bare CRI client, as the reference to measure against: it shares no code with the agent.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::{
    ImageSpec, ImageStatusRequest, ListImagesRequest, PodSandboxConfig, PullImageRequest, RemoveImageRequest,
};
use tonic::transport::{Channel, Endpoint, Uri};

/// A connection to one node's containerd.
#[derive(Debug, Clone)]
pub struct Cri {
    client: ImageServiceClient<Channel>,
}

impl Cri {
    /// Connects to `socket`.
    pub async fn connect(socket: &Path) -> Result<Self> {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(path).await?)) }
        });
        // The URI only satisfies the transport: the connector goes to the socket.
        let channel = Endpoint::from_static("http://containerd")
            .connect_with_connector(connector)
            .await
            .with_context(|| format!("connecting to {}", socket.display()))?;
        Ok(Self { client: ImageServiceClient::new(channel) })
    }

    /// Pulls `reference`; how long PullImage took.
    pub async fn pull(&self, reference: &str) -> Result<Duration> {
        let request = PullImageRequest {
            image: Some(spec(reference)),
            sandbox_config: Some(PodSandboxConfig::default()),
            ..PullImageRequest::default()
        };
        let start = Instant::now();
        self.client.clone().pull_image(request).await.with_context(|| format!("pulling {reference}"))?;
        Ok(start.elapsed())
    }

    /// Manifest digests of `reference` on the node (`<repository>@<digest>`); `None` if it isn't there.
    ///
    /// # Errors
    /// If containerd can't be asked.
    pub async fn repo_digests(&self, reference: &str) -> Result<Option<Vec<String>>> {
        let request = ImageStatusRequest { image: Some(spec(reference)), verbose: false };
        let image = self.client.clone().image_status(request).await?.into_inner().image;
        Ok(image.map(|image| image.repo_digests))
    }

    /// Whether `reference` is on the node.
    pub async fn has(&self, reference: &str) -> Result<bool> {
        Ok(self.repo_digests(reference).await?.is_some())
    }

    /// All tags and manifest digests that the node holds.
    ///
    /// # Errors
    /// If containerd can't be asked.
    pub async fn images(&self) -> Result<BTreeSet<String>> {
        let listed = self.client.clone().list_images(ListImagesRequest { filter: None }).await?.into_inner();
        Ok(listed
            .images
            .into_iter()
            .flat_map(|image| [image.repo_tags, image.repo_digests])
            .flatten()
            .collect())
    }

    /// Removes `reference` from the node; fine if it isn't there.
    pub async fn remove(&self, reference: &str) -> Result<()> {
        let request = RemoveImageRequest { image: Some(spec(reference)) };
        self.client.clone().remove_image(request).await.with_context(|| format!("removing {reference}"))?;
        Ok(())
    }
}

fn spec(reference: &str) -> ImageSpec {
    ImageSpec { image: reference.to_owned(), ..ImageSpec::default() }
}
