//! Debian's Prometheus in the cluster's network, which measures by rule: a file says what it is to see, so that metrics
//! change when somebody wants them to.

use crate::daemon::{self, Daemons};
use crate::network::{GATEWAY, http_ok, inside};
use crate::state::ClusterInfo;
use crate::{files, packages};
use nix::sys::signal::Signal;
use std::fmt::Write as _;
use std::time::Duration;

/// Name of Prometheus among the parts.
pub const PROMETHEUS: &str = "prometheus";

const PORT: u16 = 9090;

/// Prometheus did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its package is missing.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// Its configuration could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// Its process could not be started.
    #[error(transparent)]
    Daemon(#[from] daemon::Error),
}

/// URL of Prometheus for everything in the cluster's network.
#[must_use]
pub fn url() -> String {
    format!("http://{GATEWAY}:{PORT}")
}

/// Has it measure `metric` for these values of the label `image`, from within a second on; starts it if it does not run.
pub fn measure(info: &ClusterInfo, metric: &str, values: &[(&str, u32)]) -> Result<(), Error> {
    packages::ensure(&["prometheus"])?;
    let place = info.state.join(PROMETHEUS);
    files::write(&place.join("rules.yml"), rules(metric, values))?;
    let config = place.join("prometheus.yml");
    files::write(&config, "global: {evaluation_interval: 1s}\nrule_files: [rules.yml]\n")?;
    let daemons = Daemons::new(&info.state);
    if let Some(running) = daemons.running(PROMETHEUS) {
        running.signal(Signal::SIGHUP);
        return Ok(());
    }
    let mut prometheus = inside(&info.netns, "prometheus");
    prometheus
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", place.join("data").display()))
        .arg(format!("--web.listen-address={GATEWAY}:{PORT}"));
    daemons.start(PROMETHEUS, &prometheus)?;
    let answers = || http_ok(&info.netns, &format!("{GATEWAY}:{PORT}"), "/-/ready");
    Ok(daemons.wait_until_it_answers(PROMETHEUS, Duration::from_secs(60), answers)?)
}

fn rules(metric: &str, values: &[(&str, u32)]) -> String {
    let mut text = "groups:\n- name: measured\n  rules:\n".to_owned();
    for (image, value) in values {
        let _ =
            writeln!(text, "  - {{record: {metric}, expr: vector({value}), labels: {{image: \"{image}\"}}}}");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_image_is_a_series_of_its_own() {
        let rules = super::rules("starts", &[("h:5000/a:1", 7), ("h:5000/b:1", 3)]);
        assert_eq!(
            rules,
            "groups:\n- name: measured\n  rules:\n  \
             - {record: starts, expr: vector(7), labels: {image: \"h:5000/a:1\"}}\n  \
             - {record: starts, expr: vector(3), labels: {image: \"h:5000/b:1\"}}\n"
        );
    }
}
