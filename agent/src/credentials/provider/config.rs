//! The kubelet's own file of credential providers: `CredentialProviderConfig` of `kubelet.config.k8s.io`.
//!
//! What the kubelet refuses is refused here, by file and field.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use secrecy::SecretString;
use serde::Deserialize;

use drop_credentials::place::Place;

/// Versions of the file, which say the same.
const CONFIG_VERSIONS: [&str; 3] =
    ["kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1"];
/// Versions of what plugins are asked and answer, which say the same.
const PLUGIN_VERSIONS: [&str; 3] = [
    "credentialprovider.kubelet.k8s.io/v1",
    "credentialprovider.kubelet.k8s.io/v1beta1",
    "credentialprovider.kubelet.k8s.io/v1alpha1",
];
/// Longest file that is read, in bytes.
const LONGEST_FILE: u64 = 1024 * 1024;

/// Why the credential providers can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory can't be read.
    #[error(
        "--image-credential-provider-config: cannot read {path}: {source}; agents run as user 65532 of group 0"
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Longer than any such file.
    #[error("--image-credential-provider-config: {0} is longer than 1 MiB")]
    TooLong(PathBuf),
    /// The directory holds no file of that kind.
    #[error("--image-credential-provider-config: no .json, .yaml or .yml file in {0}")]
    NoFiles(PathBuf),
    /// What a file says can't be used.
    #[error("--image-credential-provider-config: {path}: {problem}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and in which field.
        problem: String,
    },
    /// A plugin can't be run.
    #[error("--image-credential-provider-bin-dir: {0} is not a program that the agent may run")]
    NoProgram(PathBuf),
}

/// One plugin, as the file describes it. Its environment may hold secrets.
#[derive(Debug)]
pub struct Provider {
    /// Name of its program in the directory of plugins.
    pub name: String,
    /// For which images it is asked.
    pub images: Vec<Place>,
    /// How long an answer is kept that says nothing of it.
    pub default_cache_duration: Duration,
    /// Version of what it is asked and has to answer.
    pub api_version: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, SecretString)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    providers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<Variable>,
    token_attributes: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    name: String,
    #[serde(default)]
    value: SecretString,
}

/// Reads `path`, a file or a directory of files, and looks for the programs in `bin_dir`.
///
/// # Errors
/// If a file can't be read, says something that can't be used, or names a program that is not there.
pub fn read(path: &Path, bin_dir: &Path) -> Result<Vec<Provider>, ConfigError> {
    let mut providers: Vec<Provider> = Vec::new();
    for path in files(path)? {
        let invalid = |problem| ConfigError::Invalid { path: path.clone(), problem };
        for provider in parse(&text(&path)?).map_err(invalid)? {
            if providers.iter().any(|other| other.name == provider.name) {
                return Err(invalid(format!("providers: there are two of the name {}", provider.name)));
            }
            let program = bin_dir.join(&provider.name);
            let executable = nix::unistd::access(&program, nix::unistd::AccessFlags::X_OK).is_ok();
            if !program.is_file() || !executable {
                return Err(ConfigError::NoProgram(program));
            }
            providers.push(provider);
        }
    }
    Ok(providers)
}

/// The files in their order: `path` itself, or those of a directory by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(unreadable)?.collect::<Result<Vec<_>, _>>();
    let is_config = |path: &PathBuf| {
        let extension = path.extension().and_then(std::ffi::OsStr::to_str);
        matches!(extension, Some("json" | "yaml" | "yml")) && !path.is_dir()
    };
    let mut files: Vec<PathBuf> =
        entries.map_err(unreadable)?.into_iter().map(|entry| entry.path()).filter(is_config).collect();
    files.sort();
    if files.is_empty() { Err(ConfigError::NoFiles(path.to_owned())) } else { Ok(files) }
}

fn text(path: &Path) -> Result<String, ConfigError> {
    use std::io::Read as _;
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LONGEST_FILE { Err(ConfigError::TooLong(path.to_owned())) } else { Ok(text) }
}

/// Reads the text of a file, JSON or YAML.
///
/// # Errors
/// What is wrong and in which field. Never quotes a value of `env`.
pub fn parse(text: &str) -> Result<Vec<Provider>, String> {
    let file: File = serde_saphyr::from_str(text).map_err(|error| located(&error))?;
    if !CONFIG_VERSIONS.contains(&file.api_version.as_str()) || file.kind != "CredentialProviderConfig" {
        return Err(format!(
            "apiVersion and kind: {:?} {:?} is not {} CredentialProviderConfig",
            file.api_version, file.kind, CONFIG_VERSIONS[0]
        ));
    }
    if file.providers.is_empty() {
        return Err("providers: at least one is needed".to_owned());
    }
    let entries = file.providers.into_iter().enumerate();
    entries
        .map(|(number, entry)| {
            entry.check().map_err(|(field, problem)| format!("providers[{number}].{field}: {problem}"))
        })
        .collect()
}

/// The error without the excerpt of the file that the parser adds, and without what it quotes: either may show a value.
fn located(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = match (line.find('"'), line.rfind('"')) {
        (Some(first), Some(last)) if first < last => without(line, first, last),
        _ => line.to_owned(),
    };
    // The name of a field that is none: where a quote is missing, a value sticks to it.
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    match (line.find('`'), line.rfind('`')) {
        (Some(first), Some(last)) if !line.get(first + 1..last).is_none_or(is_name) => {
            without(&line, first, last)
        }
        _ => line,
    }
}

/// `line` with three dots for all between the places of two quotes.
fn without(line: &str, first: usize, last: usize) -> String {
    let (before, after) = (line.get(..=first), line.get(last..));
    format!("{}…{}", before.unwrap_or_default(), after.unwrap_or_default())
}

impl Entry {
    fn check(self) -> Result<Provider, (String, String)> {
        let wrong = |field: &str, problem: String| Err((field.to_owned(), problem));
        let unnamed = self.name.is_empty() || matches!(self.name.as_str(), "." | "..");
        if unnamed || self.name.contains(['/', ' ']) {
            return wrong("name", format!("{:?} is not the name of a program", self.name));
        }
        if self.token_attributes.is_some() {
            return wrong(
                "tokenAttributes",
                format!(
                    "{} wants tokens of a Pod's service account, and pulls ahead of time have no Pod",
                    self.name
                ),
            );
        }
        if !PLUGIN_VERSIONS.contains(&self.api_version.as_str()) {
            let known = PLUGIN_VERSIONS.join(", ");
            return wrong("apiVersion", format!("{:?} is none of {known}", self.api_version));
        }
        if self.match_images.is_empty() {
            return wrong("matchImages", "at least one is needed".to_owned());
        }
        let mut images = Vec::with_capacity(self.match_images.len());
        for (number, pattern) in self.match_images.iter().enumerate() {
            match Place::of_images(pattern) {
                Some(place) => images.push(place),
                None => {
                    return wrong(&format!("matchImages[{number}]"), format!("{pattern:?} matches no image"));
                }
            }
        }
        let Some(duration) = self.default_cache_duration else {
            return wrong("defaultCacheDuration", "is needed".to_owned());
        };
        let Some(default_cache_duration) = parse_duration(&duration) else {
            return wrong("defaultCacheDuration", format!("{duration:?} is not a duration such as 12h"));
        };
        let env = self.env.into_iter().map(|variable| (variable.name, variable.value));
        Ok(Provider {
            name: self.name,
            images,
            default_cache_duration,
            api_version: self.api_version,
            args: self.args,
            env: env.collect(),
        })
    }
}

/// A duration as Kubernetes writes it; `None`: it is malformed or negative.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    text.parse::<SignedDuration>().ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: ecr-credential-provider
    matchImages: ["*.dkr.ecr.*.amazonaws.com", "registry.test:5000/team"]
    defaultCacheDuration: 12h0m0s
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    args: [get-credentials]
    env: [{name: AWS_PROFILE, value: hunter2}]
"#;

    #[test]
    fn the_kubelets_file_is_read_as_yaml_and_as_json() {
        let json = r#"{"apiVersion": "kubelet.config.k8s.io/v1", "kind": "CredentialProviderConfig", "providers": [
            {"name": "ecr-credential-provider", "matchImages": ["*.dkr.ecr.*.amazonaws.com", "registry.test:5000/team"],
             "defaultCacheDuration": "12h", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
             "args": ["get-credentials"], "env": [{"name": "AWS_PROFILE", "value": "hunter2"}]}]}"#;
        for text in [GOOD, json] {
            let provider = parse(text).unwrap().remove(0);
            assert_eq!(provider.name, "ecr-credential-provider");
            assert_eq!(provider.default_cache_duration, Duration::from_secs(12 * 3600));
            assert_eq!((provider.images.len(), provider.args), (2, vec!["get-credentials".to_owned()]));
            assert_eq!(provider.env[0].0, "AWS_PROFILE");
        }
    }

    #[test]
    fn what_is_wrong_is_told_by_its_field() {
        for (good, bad, told) in [
            ("kubelet.config.k8s.io/v1\n", "kubelet.config.k8s.io/v2\n", "apiVersion and kind"),
            ("CredentialProviderConfig", "KubeletConfiguration", "apiVersion and kind"),
            ("ecr-credential-provider", "../../bin/sh", "providers[0].name"),
            ("ecr-credential-provider", "'..'", "providers[0].name"),
            ("ecr-credential-provider", "'a b'", "providers[0].name"),
            ("12h0m0s", "soon", "providers[0].defaultCacheDuration"),
            ("12h0m0s", "-1h", "providers[0].defaultCacheDuration"),
            ("    defaultCacheDuration: 12h0m0s\n", "", "providers[0].defaultCacheDuration"),
            (
                "credentialprovider.kubelet.k8s.io/v1",
                "credentialprovider.kubelet.k8s.io/v9",
                "providers[0].apiVersion",
            ),
            (r#"["*.dkr.ecr.*.amazonaws.com", "registry.test:5000/team"]"#, "[]", "providers[0].matchImages"),
            ("registry.test:5000/team", "registry test", "providers[0].matchImages[1]"),
            (
                "    args: [get-credentials]",
                "    tokenAttributes: {serviceAccountTokenAudience: a}",
                "providers[0].tokenAttributes",
            ),
            ("    args: [get-credentials]", "    arguments: [get-credentials]", "arguments"),
            ("    args: [get-credentials]", "    args: {", "line"),
            ("hunter2", "[hunter2]", "line"),
        ] {
            assert!(GOOD.contains(good), "{good}");
            let error = parse(&GOOD.replace(good, bad)).unwrap_err();
            assert!(error.contains(told) && !error.contains("hunter2"), "{bad}: {error}");
        }
        assert!(parse(&GOOD[..GOOD.find("  - name").unwrap()]).is_err());
    }

    #[test]
    fn a_directory_is_read_by_name_and_names_are_given_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let read = || read(directory.path(), directory.path());
        assert!(matches!(read(), Err(ConfigError::NoFiles(_))));
        std::fs::write(at("20-other.yml"), GOOD.replace("ecr-credential-provider", "true")).unwrap();
        std::fs::write(at("10-first.yaml"), GOOD.replace("ecr-credential-provider", "false")).unwrap();
        std::fs::write(at("README.md"), "not a config").unwrap();
        let missing = read().unwrap_err().to_string();
        assert!(missing.contains("bin-dir") && missing.contains("/false"), "{missing}");
        for name in ["true", "false"] {
            std::os::unix::fs::symlink(format!("/bin/{name}"), at(name)).unwrap();
        }
        let names: Vec<String> = read().unwrap().into_iter().map(|provider| provider.name).collect();
        assert_eq!(names, ["false", "true"]);
        std::fs::write(at("30-again.json"), GOOD.replace("ecr-credential-provider", "true")).unwrap();
        let twice = read().unwrap_err().to_string();
        assert!(twice.contains("30-again.json") && twice.contains("true"), "{twice}");
    }
}
