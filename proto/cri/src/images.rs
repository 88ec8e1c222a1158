//! Listing, looking up and pulling images through the CRI ImageService.

use k8s_cri::v1::{
    AuthConfig, ImageSpec, ImageStatusRequest, ListImagesRequest, PodSandboxConfig, PodSandboxMetadata,
    PullImageRequest,
};
use secrecy::{ExposeSecret, SecretString};

use crate::error::Error;
use crate::runtime::{Runtime, unary};

/// An image as the runtime shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Image ID: the digest of its configuration, not of its manifest.
    pub id: String,
    /// Names with tags, in the runtime's normal form.
    pub tags: Vec<String>,
    /// Names with manifest digests.
    pub digests: Vec<String>,
    /// Bytes, as the runtime states them: containerd's are those of the layers as registries hold them.
    pub size: u64,
}

/// What a registry is to be shown. Its `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// URL of the only host that they may be shown to, such as `https://registry.example:5000`.
    pub server_address: String,
    /// What to show.
    pub secret: Secret,
}

/// One of the two ways in which registries know their users.
#[derive(Debug, Clone)]
pub enum Secret {
    /// A user and their password.
    Password {
        /// Name of the user.
        username: String,
        /// Their password.
        password: SecretString,
    },
    /// A token that stands for a login.
    IdentityToken(SecretString),
}

impl Runtime {
    /// All images that the runtime holds.
    ///
    /// # Errors
    /// If the runtime does not answer.
    pub async fn list_images(&self) -> Result<Vec<Image>, Error> {
        let mut client = self.image_service();
        let answer = unary("ListImages", client.list_images(ListImagesRequest { filter: None })).await?;
        Ok(answer.images.into_iter().map(Image::from).collect())
    }

    /// The image that `reference` names; `None`: it is not there.
    ///
    /// # Errors
    /// If the runtime does not answer.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>, Error> {
        let request = ImageStatusRequest { image: Some(spec(reference)), verbose: false };
        let mut client = self.image_service();
        let answer = unary("ImageStatus", client.image_status(request)).await?;
        Ok(answer.image.map(Image::from))
    }

    /// Pulls `reference`, for as long as it takes. Dropping the future ends the pull in the runtime; after that, any
    /// other call on this client is answered only once the runtime knows.
    ///
    /// # Errors
    /// If the pull fails: [`Error::Status`] holds what the runtime says of it.
    pub async fn pull(&self, reference: &str, credentials: Option<&Credentials>) -> Result<(), Error> {
        let request = PullImageRequest {
            image: Some(spec(reference)),
            auth: credentials.map(auth),
            // Without one, containerd ignores which runtime the image is for.
            sandbox_config: Some(PodSandboxConfig {
                metadata: Some(PodSandboxMetadata {
                    name: "drop-agent".to_owned(),
                    uid: "drop-agent".to_owned(),
                    namespace: "drop-system".to_owned(),
                    attempt: 0,
                }),
                ..PodSandboxConfig::default()
            }),
        };
        self.image_service()
            .pull_image(request)
            .await
            .map(|_| ())
            .map_err(|status| Error::status("PullImage", &status))
    }
}

fn spec(reference: &str) -> ImageSpec {
    ImageSpec { image: reference.to_owned(), ..ImageSpec::default() }
}

fn auth(credentials: &Credentials) -> AuthConfig {
    let mut auth = AuthConfig { server_address: credentials.server_address.clone(), ..AuthConfig::default() };
    match &credentials.secret {
        Secret::Password { username, password } => {
            auth.username.clone_from(username);
            auth.password = password.expose_secret().to_owned();
        }
        Secret::IdentityToken(token) => auth.identity_token = token.expose_secret().to_owned(),
    }
    auth
}

impl From<k8s_cri::v1::Image> for Image {
    fn from(image: k8s_cri::v1::Image) -> Self {
        Self { id: image.id, tags: image.repo_tags, digests: image.repo_digests, size: image.size }
    }
}
