//! What grows or does not: memory, files and threads of processes, watches at the API server, series of metrics.

use std::collections::BTreeMap;

use anyhow::Result;
use drop_harness::figure::median;
use drop_harness::processes;
use serde::Serialize;

/// One process at one moment.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Process {
    /// Its id: another process has another.
    pub(super) pid: u32,
    /// Resident memory in MB.
    pub(super) resident_mb: f64,
    /// Open files, connections among them.
    pub(super) files: usize,
    /// Threads.
    pub(super) threads: usize,
}

/// Everything at one moment.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    /// Since the churn began.
    pub(super) seconds: f64,
    /// Coordinators by the port of their pages.
    pub(super) coordinators: BTreeMap<u16, Process>,
    /// This process: all agents, and everything that is modelled.
    pub(super) agents: Process,
    /// How many nodes there are.
    pub(super) nodes: usize,
    /// Series that the coordinators show, all together.
    pub(super) series: usize,
}

impl Process {
    /// The process with this id, now.
    pub(super) fn read(pid: u32) -> Result<Self> {
        Ok(Self {
            pid,
            resident_mb: processes::resident_bytes(pid)? as f64 / 1e6,
            files: std::fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
            threads: processes::status_line(pid, "Threads")?.parse()?,
        })
    }
}

/// Medians of a quantity in the second and in the last third of a time: the first third is warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Thirds {
    /// Median of the second third.
    pub(super) middle: f64,
    /// Median of the last third.
    pub(super) last: f64,
}

impl Thirds {
    /// Of these values at these times.
    pub(super) fn of(values: impl IntoIterator<Item = (f64, f64)>, length: f64) -> Self {
        let (mut middle, mut last) = (Vec::new(), Vec::new());
        for (at, value) in values {
            match at / length * 3.0 {
                third if third >= 2.0 => last.push(value),
                third if third >= 1.0 => middle.push(value),
                _ => {}
            }
        }
        Self { middle: median(middle), last: median(last) }
    }

    /// The most that the last third may be for the quantity to be flat: a tenth and `slack` more than the middle.
    pub(super) fn bound(self, slack: f64) -> f64 {
        // In tenths, which is as fine as anybody reads it.
        ((self.middle * 1.1 + slack) * 10.0).round() / 10.0
    }
}

/// Watches that the API server holds open, by resource.
pub(super) fn watches(page: &str) -> BTreeMap<String, i64> {
    let mut watches: BTreeMap<String, i64> = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("apiserver_longrunning_requests{")) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        if series.contains("verb=\"WATCH\"")
            && let Some(resource) = crate::api_server::label(series, "resource")
        {
            let count: f64 = value.parse().unwrap_or_default();
            *watches.entry(resource.to_owned()).or_default() += count as i64;
        }
    }
    watches
}

/// How many series a page of metrics shows.
pub(super) fn series(page: &str) -> usize {
    metrics(page).count()
}

/// Series about something that is not in `known`, by a label whose values `known` lists.
pub(super) fn stale<'a>(page: &'a str, label: &str, known: impl Fn(&str) -> bool) -> Vec<&'a str> {
    metrics(page)
        .filter(|line| crate::api_server::label(line, label).is_some_and(|value| !known(value)))
        .collect()
}

fn metrics(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| line.starts_with("drop_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_third_is_warm_up() {
        let values = (0..90).map(|second| (f64::from(second), if second < 30 { 1000.0 } else { 50.0 }));
        assert_eq!(Thirds::of(values, 90.0), Thirds { middle: 50.0, last: 50.0 });
    }

    #[test]
    fn a_leak_shows_and_a_peak_does_not() {
        let of = |value: fn(f64) -> f64| {
            let thirds = Thirds::of((0..90).map(|s| (f64::from(s), value(f64::from(s)))), 90.0);
            thirds.last <= thirds.bound(2.0)
        };
        assert!(of(|_| 50.0));
        assert!(of(|second| if second == 80.0 { 500.0 } else { 50.0 }));
        assert!(!of(|second| 50.0 + second));
    }

    #[test]
    fn watches_are_counted_by_resource() {
        let page = "apiserver_longrunning_requests{component=\"apiserver\",resource=\"leases\",verb=\"WATCH\"} 3\n\
                    apiserver_longrunning_requests{resource=\"leases\",scope=\"resource\",verb=\"WATCH\"} 4\n\
                    apiserver_longrunning_requests{resource=\"pods\",verb=\"CONNECT\"} 9\n";
        assert_eq!(watches(page), [("leases".to_owned(), 7)].into());
    }

    #[test]
    fn series_of_what_is_gone_are_stale() {
        let page = "# HELP\ndrop_nodes_cached{cachedimage=\"a\"} 1\ndrop_nodes_cached{cachedimage=\"b\"} 1\ndrop_leader 1\n";
        assert_eq!(series(page), 3);
        assert_eq!(
            stale(page, "cachedimage", |name| name == "a"),
            ["drop_nodes_cached{cachedimage=\"b\"} 1"]
        );
    }
}
