//! The image registry of the cluster: Debian's docker-registry, plain http, inside the cluster's network.

use crate::daemon::{self, Daemons};
use crate::files;
use crate::network::{http_ok, inside};
use crate::state::ClusterInfo;
use std::path::Path;
use std::time::Duration;

/// Name of the registry among the parts.
pub const REGISTRY: &str = "registry";

/// The registry did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its configuration could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Its process could not be started.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
}

/// Starts the registry unless it runs, and waits until it answers.
pub fn ensure(info: &ClusterInfo) -> Result<(), Error> {
    let daemons = Daemons::new(&info.state);
    if daemons.running(REGISTRY).is_none() {
        let config = info.state.join("registry/config.yml");
        files::write(&config, configuration(&info.state.join("registry/data"), &info.registry))?;
        let mut registry = inside(&info.netns, "docker-registry");
        registry.arg("serve").arg(&config);
        // Its traces would try to reach a collector.
        registry.env("OTEL_TRACES_EXPORTER", "none");
        daemons.start(REGISTRY, &registry)?;
    }
    let answers = || http_ok(&info.netns, &info.registry, "/v2/");
    Ok(daemons.wait_until_it_answers(REGISTRY, Duration::from_secs(30), answers)?)
}

/// The configuration of a registry that keeps images under `data` and listens on `address`, a host with its port.
#[must_use]
pub fn configuration(data: &Path, address: &str) -> String {
    format!(
        "version: 0.1
log:
  level: info
  accesslog:
    disabled: false
storage:
  filesystem:
    rootdirectory: {root}
  delete:
    enabled: true
http:
  addr: {address}
",
        root = data.display(),
    )
}
