//! What pull Secrets say about the registry of a reference. Nothing of it is ever logged or stored.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use drop_discovery::Credentials;
use drop_discovery::credentials::Login;
use drop_protocol::reference::Reference;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tracing::debug;

/// Docker Hub's names in docker configurations.
const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The logins that the Secrets called `names` hold for `image`, in their order. A Secret that can't
/// be used is left out: whether that matters, nodes find out.
pub async fn of(secrets: &Api<Secret>, names: &[String], image: &Reference) -> Vec<Credentials> {
    let mut logins = Vec::new();
    for name in names {
        match secrets.get(name).await {
            Ok(secret) => logins.extend(find(&secret, image)),
            Err(error) => debug!(secret = name, %error, "cannot be read"),
        }
    }
    logins
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    username: Option<String>,
    password: Option<SecretString>,
    auth: Option<SecretString>,
}

/// The login in one Secret, if it has one for `image`: that of the longest key.
fn find(secret: &Secret, image: &Reference) -> Option<Credentials> {
    let data = secret.data.as_ref()?;
    let json = &data.get(".dockerconfigjson")?.0;
    let config: DockerConfig = serde_json::from_slice(json).ok()?;
    let fitting = config.auths.into_iter().filter(|(key, _)| is_for(key, image));
    let (_, entry) = fitting.max_by_key(|(key, _)| key.len())?;
    let login = match (entry.username, entry.password, entry.auth) {
        (Some(username), Some(password), _) => Login { username, password },
        (_, _, Some(auth)) => decode(&auth)?,
        _ => return None,
    };
    Some(Credentials::of_login(login))
}

fn decode(auth: &SecretString) -> Option<Login> {
    let text = SecretString::from(String::from_utf8(STANDARD.decode(auth.expose_secret()).ok()?).ok()?);
    let (username, password) = text.expose_secret().split_once(':')?;
    Some(Login { username: username.to_owned(), password: password.into() })
}

/// Whether the key of an entry, a host with or without a path or a URL, is about `image`.
fn is_for(key: &str, image: &Reference) -> bool {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_end_matches('/');
    if HUB.contains(&host) && HUB.contains(&image.host.as_str()) {
        return matches!(path, "" | "v1" | "v2");
    }
    let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
    host == image.host
        && (matches!(path, "" | "v1" | "v2") || image.repository.strip_prefix(path).is_some_and(below))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use k8s_openapi::api::core::v1::Secret;

    use super::{Reference, find};

    fn user(json: &str, image: &str) -> Option<String> {
        let content = ByteString(json.as_bytes().to_vec());
        let data = Some([(".dockerconfigjson".to_owned(), content)].into());
        let secret = Secret { data, ..Secret::default() };
        Some(find(&secret, &Reference::parse(image).unwrap())?.login?.username)
    }

    #[test]
    fn a_login_is_found_by_host_and_path_in_either_form() {
        let both = r#"{"auths": {
            "h.test:5000/team": {"username": "team", "password": "p"},
            "h.test:5000": {"auth": "dTpw"}
        }}"#;
        assert_eq!(user(both, "h.test:5000/app:1").as_deref(), Some("u"));
        assert_eq!(user(both, "h.test:5000/team/app:1").as_deref(), Some("team"));
        assert_eq!(user(both, "h.test:5000/teams/app:1").as_deref(), Some("u"));
        assert_eq!(user(both, "other.test/app:1"), None);
        let hub = r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"}}}"#;
        assert_eq!(user(hub, "nginx").as_deref(), Some("u"));
    }

    #[test]
    fn what_holds_no_login_is_left_out() {
        for json in
            ["", "[]", "{}", r#"{"auths": {"h.test": {}}}"#, r#"{"auths": {"h.test": {"auth": "?"}}}"#]
        {
            assert_eq!(user(json, "h.test/app"), None, "{json}");
        }
    }
}
