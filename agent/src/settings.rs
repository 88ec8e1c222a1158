//! What an administrator can set: flags, each with an environment variable beside it.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use drop_protocol::names;

/// Pulls images on one node when the coordinator says so, and reports what is there.
#[derive(Debug, Clone, Parser)]
#[command(name = "drop-agent", version, about, long_about = None)]
pub struct Settings {
    /// Name of the node that this agent runs on, and of its Lease.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,

    /// Namespace of Drop's own objects: node Leases, the leader Lease, the catalog and pull Secrets.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::DEFAULT_NAMESPACE)]
    pub pod_namespace: String,

    /// Uid of this Pod; stands in reports.
    #[arg(long, env = "POD_UID", default_value = "")]
    pub pod_uid: String,

    /// Socket of the container runtime. Mount its directory, not the socket itself: that goes stale when the runtime
    /// restarts.
    #[arg(long, env = "DROP_CRI_SOCKET", default_value = "/run/containerd/containerd.sock")]
    pub cri_socket: PathBuf,

    /// Any path on the file system that holds the images. In a container `/` is one: the container's own writable
    /// layer lies beside the images. Set it where images have a file system of their own.
    #[arg(long, env = "DROP_IMAGE_FS_PATH", default_value = "/")]
    pub image_fs_path: PathBuf,

    /// No pull starts while less of the image file system is free, in percent. Keep it above the kubelet's image
    /// garbage collection (15 % free) and eviction thresholds.
    #[arg(long, env = "DROP_MIN_FREE_PERCENT", default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=99))]
    pub min_free_percent: u8,

    /// How long a pull in flight may go on after SIGTERM, in seconds. Keep it below the Pod's
    /// terminationGracePeriodSeconds.
    #[arg(long, env = "DROP_SHUTDOWN_GRACE_SECONDS", default_value_t = 290)]
    pub shutdown_grace_seconds: u64,

    /// The kubelet's CredentialProviderConfig, a file or a directory of files: the agent asks the same plugins for
    /// logins, after those in imagePullSecrets. Read at start.
    #[arg(
        long,
        env = "DROP_IMAGE_CREDENTIAL_PROVIDER_CONFIG",
        requires = "image_credential_provider_bin_dir"
    )]
    pub image_credential_provider_config: Option<PathBuf>,

    /// The directory of those plugins' programs.
    #[arg(
        long,
        env = "DROP_IMAGE_CREDENTIAL_PROVIDER_BIN_DIR",
        requires = "image_credential_provider_config"
    )]
    pub image_credential_provider_bin_dir: Option<PathBuf>,

    /// Address for /healthz, /readyz and /metrics.
    #[arg(long, env = "DROP_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "DROP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, also by module (info,drop_agent::driver=debug).
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Settings;

    #[test]
    fn the_flags_are_consistent() {
        Settings::command().debug_assert();
    }
}
