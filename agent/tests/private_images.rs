//! Private images: the agent's process, a real API server, a real containerd, and Debian's docker-registry with
//! passwords or behind a token server.
#![cfg(feature = "real-parts")]
#![allow(clippy::unwrap_used)] // all of this is test code

mod real;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drop_harness::private_registry::{Access, PrivateRegistry};
use drop_harness::token_server::{TokenServer, User};
use drop_protocol::failure::Failure;
use drop_protocol::{FailureReason, FailureScope, GrantedImage, ReportEntry};
use real::new_image::NewImage;
use real::{DOCKER_CONFIG, OLD_DOCKER_CONFIG, Stage, image, on_stage, uid};
use serde_json::json;
use tempfile::TempDir;

const MINUTE: Duration = Duration::from_secs(60);
const USER: &str = "somebody";
const PASSWORD: &str = "hunter2-password";
const TOKEN: &str = "hunter2-identity-token";

/// A private registry with its files.
struct Private {
    registry: PrivateRegistry,
    place: TempDir,
}

impl Private {
    fn with_password() -> Self {
        let place = tempfile::tempdir().unwrap();
        let access = Access::Password(USER, PASSWORD);
        Self { registry: PrivateRegistry::start(place.path(), place.path(), access).unwrap(), place }
    }

    fn with_tokens(may_pull: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let user = User {
            name: USER.to_owned(),
            password: PASSWORD.to_owned(),
            identity_token: TOKEN.to_owned(),
            may_pull: may_pull.to_owned(),
        };
        let server = TokenServer::start(place.path(), user).unwrap();
        let registry = PrivateRegistry::start(place.path(), place.path(), Access::Token(&server)).unwrap();
        Self { registry, place }
    }

    fn host(&self) -> &str {
        self.registry.address()
    }

    /// A new image in `repository` that is to be pulled with `secrets`.
    fn image(&self, repository: &str, secrets: &[&str]) -> GrantedImage {
        NewImage::of(repository).store(self.place.path(), repository);
        let secrets = secrets.iter().map(|name| (*name).to_owned()).collect();
        GrantedImage { secrets, ..image(&format!("{}/{repository}:1", self.host())) }
    }
}

/// A credential provider plugin: its program, its configuration, and how often it was run.
struct Plugin(TempDir);

impl Plugin {
    /// A plugin for images of `host` that writes what `script` says.
    fn new(host: &str, script: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig",
            "providers": [{
                "name": "plugin", "matchImages": [host], "defaultCacheDuration": "1h",
                "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "args": ["get-credentials"],
                "env": [{"name": "RUNS", "value": place.path().join("runs")}],
            }],
        });
        std::fs::write(place.path().join("config.json"), config.to_string()).unwrap();
        let program = place.path().join("plugin");
        std::fs::write(&program, format!("#!/bin/sh\necho run >> $RUNS\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(place)
    }

    fn arguments(&self) -> Vec<String> {
        let (config, bin_dir) = (self.0.path().join("config.json"), self.0.path());
        vec![
            format!("--image-credential-provider-config={}", config.display()),
            format!("--image-credential-provider-bin-dir={}", bin_dir.display()),
        ]
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.0.path().join("runs")).unwrap().lines().count()
    }
}

/// A grant of `images`; what the agent reports of each.
async fn pulled(stage: &mut Stage, images: &[GrantedImage]) -> Vec<ReportEntry> {
    let grant = stage.grant_images(MINUTE, images.to_vec()).await;
    let mut report = stage.ended(&grant).await;
    images.iter().map(|image| report.images.remove(uid(&image.reference).as_str()).unwrap()).collect()
}

async fn failure(stage: &mut Stage, image: GrantedImage) -> Failure {
    let entry = pulled(stage, &[image]).await.remove(0);
    *entry.failure.unwrap()
}

/// Nothing that the agent says anywhere holds a secret, in any of its forms.
async fn nothing_is_told(stage: &Stage) {
    let lease = format!("{:?}", stage.leases.get("node-1").await.unwrap());
    let forms =
        ["hunter2".to_owned(), STANDARD.encode(format!("{USER}:{PASSWORD}")), STANDARD.encode(PASSWORD)];
    for text in [stage.log(), lease, stage.page("/metrics").await.unwrap()] {
        assert!(text.len() > 500);
        for form in &forms {
            assert!(!text.contains(form.trim_end_matches('=')), "{form} got out");
        }
    }
}

#[test]
fn every_form_of_a_secret_opens_a_registry_with_passwords() {
    on_stage(async |mut stage| {
        let private = Private::with_password();
        let host = private.host();
        let (good, bad) =
            (json!({"username": USER, "password": PASSWORD}), json!({"username": USER, "password": "x"}));
        let auth = json!({"auth": STANDARD.encode(format!("{USER}:{PASSWORD}"))});
        let port = host.rsplit(':').next().unwrap();
        let secrets = [
            ("password", json!({"auths": {host: good}})),
            ("auth", json!({"auths": {host: auth}})),
            ("scheme", json!({"auths": {format!("https://{host}/v2/"): good}})),
            ("narrow", json!({"auths": {host: bad, format!("{host}/team"): good}})),
            ("wildcard", json!({"auths": {format!("127.*.*.*:{port}"): good}})),
            (
                "token",
                json!({"auths": {host: {"identitytoken": "x", "username": USER, "password": PASSWORD}}}),
            ),
            ("others", json!({"auths": {"other.test": good, format!("{host}/other"): good}})),
            ("wrong", json!({"auths": {host: bad}})),
        ];
        for (name, content) in &secrets {
            stage.put_secret(name, DOCKER_CONFIG, &content.to_string()).await;
        }
        stage.put_secret("old", OLD_DOCKER_CONFIG, &json!({host: auth}).to_string()).await;
        let images = [
            private.image("team/password", &["password"]),
            private.image("team/auth", &["auth"]),
            private.image("team/old", &["old"]),
            private.image("team/scheme", &["scheme"]),
            private.image("team/narrow", &["narrow"]),
            private.image("team/wildcard", &["wildcard"]),
            private.image("team/token", &["token"]),
            private.image("team/second", &["wrong", "password"]),
            private.image("team/beside", &["absent", "others", "password"]),
        ];
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        for (image, entry) in images.iter().zip(pulled(&mut stage, &images).await) {
            assert!(entry.digest.is_some(), "{}: {:?}", image.reference, entry.failure);
        }
        nothing_is_told(&stage).await;
    });
}

#[test]
fn a_failure_names_the_secret_and_the_registry() {
    on_stage(async |mut stage| {
        let private = Private::with_password();
        let host = private.host().to_owned();
        let login = json!({"username": USER, "password": PASSWORD});
        stage.create_secret("wrong", &host, USER, "hunter2-wrong").await;
        stage.put_secret("opaque", ("Opaque", "password"), PASSWORD).await;
        stage.put_secret("malformed", DOCKER_CONFIG, &json!({"auths": PASSWORD}).to_string()).await;
        stage.put_secret("others", DOCKER_CONFIG, &json!({"auths": {"other.test": login}}).to_string()).await;
        stage
            .put_secret(
                "helper",
                DOCKER_CONFIG,
                &json!({"auths": {&host: {}}, "credsStore": "x"}).to_string(),
            )
            .await;
        stage
            .put_secret(
                "bearer",
                DOCKER_CONFIG,
                &json!({"auths": {&host: {"registrytoken": TOKEN}}}).to_string(),
            )
            .await;
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        for (secrets, reason, told) in [
            (vec![], FailureReason::Unauthorized, "check imagePullSecrets"),
            (vec!["wrong"], FailureReason::Unauthorized, "refuses the login in Secret wrong"),
            (vec!["absent"], FailureReason::SecretNotFound, "Secret absent"),
            (vec!["wrong", "absent"], FailureReason::SecretNotFound, "Secret absent"),
            (vec!["opaque"], FailureReason::InvalidSecret, "Secret opaque"),
            (vec!["malformed"], FailureReason::InvalidSecret, "Secret malformed"),
            (vec!["others"], FailureReason::Unauthorized, "no entry for it in Secret others"),
            (
                vec!["helper"],
                FailureReason::Unauthorized,
                "Secret helper has an entry for it without a login",
            ),
            (vec!["bearer"], FailureReason::Unauthorized, "only a registrytoken, which containerd ignores"),
        ] {
            let failure = failure(&mut stage, private.image("team/app", &secrets)).await;
            assert_eq!((failure.reason, failure.scope), (reason, FailureScope::Image), "{}", failure.message);
            assert!(failure.message.contains(told) && failure.message.contains(&host), "{}", failure.message);
        }
        nothing_is_told(&stage).await;
    });
}

#[test]
fn a_token_server_is_shown_passwords_and_identity_tokens() {
    on_stage(async |mut stage| {
        let private = Private::with_tokens("team/");
        let host = private.host();
        let entries = [
            ("password", json!({"username": USER, "password": PASSWORD})),
            // As Azure's registry writes it.
            ("identity", json!({"identitytoken": TOKEN, "auth": STANDARD.encode(format!("{USER}:"))})),
            ("wrong", json!({"username": USER, "password": "hunter2-wrong"})),
            ("void", json!({"identitytoken": "hunter2-void"})),
        ];
        for (name, entry) in entries {
            stage.put_secret(name, DOCKER_CONFIG, &json!({"auths": {host: entry}}).to_string()).await;
        }
        let images = [
            private.image("team/password", &["password"]),
            private.image("team/identity", &["identity"]),
            private.image("team/second", &["void", "wrong", "identity"]),
            private.image("team/wrong", &["wrong"]),
            private.image("team/void", &["void"]),
            private.image("forbidden/app", &["password"]),
        ];
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        let reported = pulled(&mut stage, &images).await;
        for entry in &reported[..3] {
            assert!(entry.digest.is_some(), "{}: {:?}", entry.reference, entry.failure);
        }
        for (entry, secret) in reported[3..].iter().zip(["wrong", "void", "password"]) {
            let failure = entry.failure.as_ref().unwrap();
            assert!(
                matches!(failure.reason, FailureReason::Unauthorized | FailureReason::Forbidden)
                    && failure.message.contains(&format!("Secret {secret}")),
                "{failure:?}"
            );
        }
        nothing_is_told(&stage).await;
    });
}

#[test]
fn a_changed_password_holds_from_the_next_attempt_on() {
    on_stage(async |mut stage| {
        let private = Private::with_password();
        let image = private.image("team/app", &["login"]);
        stage.create_secret("login", private.host(), USER, "hunter2-before").await;
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        assert_eq!(failure(&mut stage, image.clone()).await.reason, FailureReason::Unauthorized);
        stage.create_secret("login", private.host(), USER, PASSWORD).await;
        let entry = pulled(&mut stage, &[image]).await.remove(0);
        assert!(entry.digest.is_some() && entry.failure.is_none(), "{:?}", entry.failure);
        nothing_is_told(&stage).await;
    });
}

#[test]
fn a_credential_provider_opens_a_registry_without_a_secret_and_is_asked_once() {
    on_stage(async |mut stage| {
        let private = Private::with_password();
        let answer = json!({
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
            "cacheKeyType": "Registry", "auth": {private.host(): {"username": USER, "password": PASSWORD}},
        });
        let plugin = Plugin::new(private.host(), &format!("/bin/cat > /dev/null\necho '{answer}'"));
        stage.arguments = plugin.arguments();
        stage.create_secret("wrong", private.host(), USER, "hunter2-wrong").await;
        let images =
            [private.image("team/a", &[]), private.image("team/b", &[]), private.image("team/c", &["wrong"])];
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        for entry in pulled(&mut stage, &images).await {
            assert!(entry.digest.is_some(), "{}: {:?}", entry.reference, entry.failure);
        }
        assert_eq!(plugin.runs(), 1);
        nothing_is_told(&stage).await;
    });
}

#[test]
fn a_credential_provider_that_fails_is_named_and_says_nothing() {
    on_stage(async |mut stage| {
        let private = Private::with_password();
        let plugin = Plugin::new(private.host(), &format!("echo {PASSWORD}; echo {PASSWORD} >&2; exit 3"));
        stage.arguments = plugin.arguments();
        stage.create_secret("login", private.host(), USER, PASSWORD).await;
        stage.create_lease(MINUTE).await;
        stage.ready_agent().await;
        let entry = pulled(&mut stage, &[private.image("team/a", &["login"])]).await.remove(0);
        assert!(entry.digest.is_some(), "what a Secret opens needs no plugin: {:?}", entry.failure);
        let failure = failure(&mut stage, private.image("team/b", &[])).await;
        assert_eq!(failure.reason, FailureReason::CredentialProviderFailed, "{failure:?}");
        assert_eq!(failure.scope, FailureScope::Node, "{failure:?}");
        assert!(
            failure.message.contains("credential provider plugin for")
                && failure.message.contains(private.host())
        );
        nothing_is_told(&stage).await;
    });
}
