//! What the user asks for: which cluster, where its state lies, where built things are cached.

use std::env;
use std::path::PathBuf;

/// The name of the cluster when none is given.
pub const DEFAULT_NAME: &str = "default";

/// Names that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name would not make a file and namespace name.
    #[error(
        "`{0}` cannot name a cluster: use up to 20 lower-case letters, digits and dashes, starting with a letter"
    )]
    Name(String),
    /// A relative state directory would change its meaning with the working directory.
    #[error(
        "the state directory `{0}` must be an absolute path of at most 60 characters (sockets lie below it)"
    )]
    State(PathBuf),
    /// There is no place for the cache.
    #[error("cannot tell where to cache built programs: set DROP_CACHE or HOME")]
    Cache,
}

/// Which cluster, and where it lies.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name; tells clusters on one machine apart.
    pub name: String,
    /// Directory of everything that `down` removes.
    pub state: PathBuf,
    /// Directory of what outlives clusters: built programs and images.
    pub cache: PathBuf,
}

impl Settings {
    /// Checks the name and fills in the directories that were not given.
    pub fn new(name: &str, state: Option<PathBuf>) -> Result<Self, Error> {
        let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase());
        let made_well = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !starts_well || !made_well || name.len() > 20 {
            return Err(Error::Name(name.to_owned()));
        }
        let state = state.unwrap_or_else(|| default_state(name));
        if !state.is_absolute() || state.as_os_str().len() > 60 {
            return Err(Error::State(state));
        }
        Ok(Self { name: name.to_owned(), state, cache: cache()? })
    }

    /// Name of the cluster's network namespace, as `ip netns` knows it.
    #[must_use]
    pub fn netns_name(&self) -> String {
        format!("drop-{}", self.name)
    }

    /// File of the cluster's network namespace.
    #[must_use]
    pub fn netns(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.netns_name())
    }
}

/// Where the state of the cluster `name` lies unless told otherwise.
#[must_use]
pub fn default_state(name: &str) -> PathBuf {
    if name == DEFAULT_NAME {
        PathBuf::from("/var/tmp/drop-cluster")
    } else {
        PathBuf::from(format!("/var/tmp/drop-cluster-{name}"))
    }
}

fn cache() -> Result<PathBuf, Error> {
    let given = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given("DROP_CACHE").or_else(|| given("HOME").map(|home| home.join(".cache/drop"))).ok_or(Error::Cache)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_share_neither_state_nor_namespace() {
        let one = Settings::new("default", None).unwrap();
        let two = Settings::new("bench", None).unwrap();
        assert_ne!(one.state, two.state);
        assert_ne!(one.netns(), two.netns());
    }

    #[test]
    fn names_that_break_paths_are_refused() {
        for name in ["", "a/b", "..", "Upper", "9lives", "much-too-long-a-name-for-this"] {
            assert!(Settings::new(name, None).is_err(), "{name} was accepted");
        }
        assert!(Settings::new("x", Some(PathBuf::from("relative"))).is_err());
    }
}
