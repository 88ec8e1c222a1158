//! How long the nodes left will take at least.
//!
//! A function of what the status counts anyway and of the PullPolicy, so that it never makes a status differ by itself.
//! How long pulls take is not in it: that depends on images and nodes, and nobody knows it before they are over.

use std::time::Duration;

use crate::policy::Pacing;

/// What takes less than this is not worth a figure.
const WORTH_TELLING: Duration = Duration::from_secs(2);

/// What is left for `nodes` that wait for their turn: empty if there are none.
pub(super) fn left(nodes: u32, pacing: &Pacing<'_>) -> String {
    let left = match nodes {
        0 => return String::new(),
        1 => return "; 1 node left".to_owned(),
        _ => format!("; {nodes} nodes left"),
    };
    // The next may start at any moment; each one after it starts a delay later.
    let least = pacing.delay.saturating_mul(nodes - 1);
    if least < WORTH_TELLING {
        return format!("{left}, up to {} at a time", pacing.max_nodes);
    }
    format!("{left}, at least {} at 1 node per {:?}", coarse(least), pacing.delay)
}

/// In seconds, minutes or hours; never more than it is.
fn coarse(time: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    let seconds = time.as_secs();
    if seconds < 2 * MINUTE {
        format!("{seconds} s")
    } else if seconds < 2 * HOUR {
        format!("{} min", seconds / MINUTE)
    } else {
        format!("{} h", seconds / HOUR)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::coarse;

    #[test]
    fn times_are_never_rounded_up() {
        let times = [4_000, 119_999, 120_000, 2_860_000, 7_199_999, 7_200_000, 90_000_000];
        let read = times.map(Duration::from_millis).map(coarse);
        assert_eq!(read, ["4 s", "119 s", "2 min", "47 min", "119 min", "2 h", "25 h"]);
    }
}
