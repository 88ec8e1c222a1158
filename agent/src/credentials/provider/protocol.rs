//! What a credential provider plugin is asked and what it answers: `credentialprovider.kubelet.k8s.io`.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::config::parse_duration;

/// Why an answer can't be used. Never quotes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// Not the JSON that is asked for.
    #[error("its answer is not the JSON of a CredentialProviderResponse")]
    Malformed,
    /// Of another version or kind.
    #[error("its answer is not of apiVersion {0} and kind CredentialProviderResponse")]
    Version(String),
    /// It does not say what the answer is good for.
    #[error("the cacheKeyType of its answer is none of Image, Registry, Global")]
    CacheKeyType,
    /// It says nothing readable of how long.
    #[error("the cacheDuration of its answer is not a duration")]
    CacheDuration,
}

/// For what an answer may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKeyType {
    /// The same image.
    Image,
    /// Every image of the registry.
    Registry,
    /// Every image.
    Global,
}

/// A plugin's answer. Its `Debug` shows no secret.
#[derive(Debug)]
pub struct Response {
    /// For what it may be used again.
    pub key: CacheKeyType,
    /// For how long; `None`: as the configuration says.
    pub cache_for: Option<Duration>,
    /// Key as in a docker configuration → user and password.
    pub logins: BTreeMap<String, (String, SecretString)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    cache_key_type: String,
    cache_duration: Option<String>,
    auth: Option<BTreeMap<String, Login>>,
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: SecretString,
}

/// The question for `image`, a repository with its host.
#[must_use]
pub fn request(image: &str, api_version: &str) -> String {
    let request =
        serde_json::json!({"apiVersion": api_version, "kind": "CredentialProviderRequest", "image": image});
    request.to_string()
}

/// Reads the answer of a plugin that speaks `api_version`.
///
/// # Errors
/// If it is not such an answer.
pub fn response(bytes: &[u8], api_version: &str) -> Result<Response, ProtocolError> {
    let answer: Answer = serde_json::from_slice(bytes).map_err(|_| ProtocolError::Malformed)?;
    if answer.api_version != api_version || answer.kind != "CredentialProviderResponse" {
        return Err(ProtocolError::Version(api_version.to_owned()));
    }
    let key = match answer.cache_key_type.as_str() {
        "Image" => CacheKeyType::Image,
        "Registry" => CacheKeyType::Registry,
        "Global" => CacheKeyType::Global,
        _ => return Err(ProtocolError::CacheKeyType),
    };
    let duration = |text: String| parse_duration(&text).ok_or(ProtocolError::CacheDuration);
    let logins = answer.auth.unwrap_or_default().into_iter();
    Ok(Response {
        key,
        cache_for: answer.cache_duration.map(duration).transpose()?,
        logins: logins.map(|(key, login)| (key, (login.username, login.password))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const V1: &str = "credentialprovider.kubelet.k8s.io/v1";
    const GOOD: &str = r#"{"apiVersion": "credentialprovider.kubelet.k8s.io/v1", "kind": "CredentialProviderResponse",
        "cacheKeyType": "Registry", "cacheDuration": "6h0m0s",
        "auth": {"*.test": {"username": "u", "password": "hunter2"}}}"#;

    #[test]
    fn the_question_is_the_kubelets() {
        let expected = r#"{"apiVersion":"credentialprovider.kubelet.k8s.io/v1","image":"h.test/app","kind":"CredentialProviderRequest"}"#;
        assert_eq!(request("h.test/app", V1), expected);
    }

    #[test]
    fn an_answer_is_read() {
        let read = response(GOOD.as_bytes(), V1).unwrap();
        assert_eq!((read.key, read.cache_for), (CacheKeyType::Registry, Some(Duration::from_secs(6 * 3600))));
        assert_eq!(read.logins["*.test"].0, "u");
        let brief = GOOD.replace(r#""cacheDuration": "6h0m0s","#, "").replace("auth", "nothing");
        let read = response(brief.as_bytes(), V1).unwrap();
        assert!(read.cache_for.is_none() && read.logins.is_empty());
    }

    #[test]
    fn an_answer_of_another_kind_is_refused() {
        for (good, bad, expected) in [
            ("Registry", "Galaxy", ProtocolError::CacheKeyType),
            ("6h0m0s", "soon", ProtocolError::CacheDuration),
            ("io/v1", "io/v1beta1", ProtocolError::Version(V1.to_owned())),
            ("CredentialProviderResponse", "Error", ProtocolError::Version(V1.to_owned())),
            ("auth", "auth\": \"hunter2\", \"", ProtocolError::Malformed),
        ] {
            let error = response(GOOD.replace(good, bad).as_bytes(), V1).unwrap_err();
            assert_eq!(error, expected, "{bad}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn no_answer_shows_its_secret(noise in "\\PC{0,6}", at in 0_usize..150) {
            let mut text = GOOD.to_owned();
            text.insert_str(at, &noise);
            let shown = format!("{:?}", response(text.as_bytes(), V1));
            prop_assert!(!shown.contains("hunter2"));
        }
    }
}
