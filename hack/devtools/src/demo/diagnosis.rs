//! What went wrong, for someone who doesn't know the cluster: pods that aren't well, conditions, the ends of logs.

use super::install::NAMESPACE;
use crate::command;
use crate::control_plane::kubectl;
use crate::state::ClusterInfo;

/// Lines of each log that are shown.
const LINES: usize = 12;

/// The pods of Drop, what happened to them, and what they said last.
#[must_use]
pub fn of_pods(info: &ClusterInfo) -> String {
    let mut text = show(info, "pods", &["get", "pods", "--namespace", NAMESPACE, "-o", "wide"]);
    text += &show(
        info,
        "warnings",
        &["get", "events", "--namespace", NAMESPACE, "--field-selector", "type=Warning"],
    );
    for app in ["drop-coordinator", "drop-agent"] {
        let tail = format!("--tail={LINES}");
        let selector = format!("--selector=app.kubernetes.io/name={app}");
        text += &show(
            info,
            &format!("log of {app}"),
            &["logs", "--namespace", NAMESPACE, &selector, "--prefix", &tail],
        );
    }
    text
}

/// The CachedImages with the messages of their conditions, and [`of_pods`].
#[must_use]
pub fn of_images(info: &ClusterInfo) -> String {
    let conditions = "-o=jsonpath={range .items[*]}{.metadata.name}: {range .status.conditions[*]}\
                      {.type}={.status} {.reason}: {.message}; {end}{\"\\n\"}{end}";
    show(info, "conditions", &["get", "cachedimages", conditions]) + &of_pods(info)
}

fn show(info: &ClusterInfo, title: &str, arguments: &[&str]) -> String {
    let said = match command::output(kubectl(info).args(arguments)) {
        Ok(said) => command::last_lines(&said, 3 * LINES),
        Err(error) => error.to_string(),
    };
    format!("--- {title}\n{said}\n")
}
