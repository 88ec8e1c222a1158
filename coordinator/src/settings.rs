//! What an administrator can set: flags, each with an environment variable beside it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};
use drop_protocol::names;

/// Decides which nodes pull which images, and when.
#[derive(Debug, Clone, Parser)]
#[command(name = "drop-coordinator", version, about, long_about = None)]
pub struct Settings {
    /// Namespace of Drop's own objects: node Leases, the leader Lease, the catalog and the agents' Pods.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    pub pod_namespace: String,

    /// Name of this Pod; begins the identity under which it leads.
    #[arg(long, env = "POD_NAME", default_value = "drop-coordinator")]
    pub pod_name: String,

    /// Ask a registry once for all nodes that hold an image, instead of letting each of them pull to confirm it.
    #[arg(long, env = "DROP_REGISTRY_CHECKS", default_value_t = true, action = ArgAction::Set)]
    pub registry_checks: bool,

    /// Registries, host and port, that the coordinator speaks to in plain http, separated by commas.
    #[arg(long, env = "DROP_PLAIN_HTTP_REGISTRIES", value_delimiter = ',', value_parser = host)]
    pub plain_http_registries: Vec<String>,

    /// File with certificate authorities, PEM, that the coordinator trusts beside the system's when it asks registries.
    #[arg(long, env = "DROP_REGISTRY_CA_FILE")]
    pub registry_ca_file: Option<PathBuf>,

    /// Address for /healthz, /readyz and /metrics.
    #[arg(long, env = "DROP_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "DROP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also by module (info,drop_coordinator::lead=debug).
    #[arg(long, env = "DROP_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Settings {
    /// An identity for the election that no other process has: the Pod's name, and 64 bits from the kernel's random
    /// source (by which the standard library seeds its hash maps).
    #[must_use]
    pub fn identity(&self) -> String {
        use std::hash::{BuildHasher, Hasher, RandomState};
        format!("{}_{:016x}", self.pod_name, RandomState::new().build_hasher().finish())
    }
}

/// A registry as references name it.
fn host(text: &str) -> Result<String, &'static str> {
    let is_host = !text.is_empty() && !text.contains('/') && !text.contains(char::is_whitespace);
    is_host.then(|| text.to_owned()).ok_or("a host with its port is wanted, such as 10.0.0.1:5000")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Settings;

    #[test]
    fn the_flags_are_consistent() {
        Settings::command().debug_assert();
    }

    #[test]
    fn a_registry_is_named_as_references_name_it() {
        use clap::Parser;
        let parse = |hosts: &str| {
            Settings::try_parse_from(["drop-coordinator", "--plain-http-registries", hosts])
                .map(|settings| settings.plain_http_registries)
        };
        assert_eq!(parse("10.0.0.1:5000,r.test").unwrap(), ["10.0.0.1:5000", "r.test"]);
        assert!(parse("http://10.0.0.1:5000").unwrap_err().to_string().contains("such as 10.0.0.1:5000"));
    }

    #[test]
    fn a_restarted_process_has_another_identity() {
        use clap::Parser;
        let settings = Settings::parse_from(["drop-coordinator", "--pod-name", "a"]);
        assert!(settings.identity().starts_with("a_"));
        assert_ne!(settings.identity(), settings.identity());
    }
}
