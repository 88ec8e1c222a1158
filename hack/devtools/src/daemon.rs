//! Processes that outlive the command which started them: starting, finding and ending them by recorded identity.
//!
//! A record holds the process id and the start time of the process, so that an id which the system gave to somebody
//! else is never mistaken for ours.

use crate::{command, files, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A process that could not be started or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record or log could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The program could not be started.
    #[error("cannot start {part}: {source}")]
    Start {
        /// Which part of the cluster.
        part: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// Even SIGKILL did not end it.
    #[error("{part} (process {pid}) does not end: look at it with `ps -o stat,wchan {pid}`")]
    Immortal {
        /// Which part of the cluster.
        part: String,
        /// Its process id.
        pid: i32,
    },
    /// It runs and does not answer, or has ended.
    #[error("{part} does not answer: the end of {log} is\n{said}")]
    Silent {
        /// Which part of the cluster.
        part: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        said: String,
    },
}

/// One running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot.
    pub started: u64,
}

impl Process {
    /// The process that has this id now; `None` when there is none or it only waits to be collected.
    #[must_use]
    pub fn find(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program name in parentheses may hold spaces: count fields after it.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        if matches!(fields.first(), Some(&"Z" | &"X")) {
            return None;
        }
        Some(Self { pid, started: fields.get(19)?.parse().ok()? })
    }

    /// Whether this very process still runs.
    #[must_use]
    pub fn alive(self) -> bool {
        Self::find(self.pid) == Some(self)
    }

    /// Sends a signal, unless the process has ended.
    pub fn signal(self, signal: Signal) {
        if self.alive() {
            // The process may end between look and signal: that is what was wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// How waiting for a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// It does what was waited for.
    Done,
    /// It runs, and patience is over.
    Silent,
    /// It does not run any more.
    Ended,
}

/// The recorded processes of one cluster.
#[derive(Debug, Clone)]
pub struct Daemons {
    records: PathBuf,
    logs: PathBuf,
}

impl Daemons {
    /// The processes of the cluster whose state lies in `state`.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { records: state.join("pid"), logs: state.join("log") }
    }

    /// Starts a part in a session of its own, with its output appended to its log, and records it.
    pub fn start(&self, part: &str, command: &Command) -> Result<Process, Error> {
        files::create_dir(&self.records)?;
        files::create_dir(&self.logs)?;
        let log_path = self.log(part);
        let log = files::named(
            fs::OpenOptions::new().create(true).append(true).open(&log_path),
            "open",
            &log_path,
        )?;
        let errors = files::named(log.try_clone(), "open", &log_path)?;
        // setsid(1) replaces itself by the program: the child's id is the daemon's.
        let mut detached = Command::new("setsid");
        detached.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => detached.env(name, value),
                None => detached.env_remove(name),
            };
        }
        let child = detached
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|source| Error::Start { part: part.to_owned(), source })?;
        let pid = i32::try_from(child.id()).unwrap_or_default();
        let ended = || Error::Start {
            part: part.to_owned(),
            source: std::io::Error::other(format!("it ended at once: read {}", log_path.display())),
        };
        let process = Process::find(pid).ok_or_else(ended)?;
        let record = serde_json::to_string(&process).unwrap_or_default();
        files::write(&self.record(part), record)?;
        Ok(process)
    }

    /// The process of a part, while it runs.
    #[must_use]
    pub fn running(&self, part: &str) -> Option<Process> {
        self.recorded(part).filter(|process| process.alive())
    }

    /// What was recorded of a part, running or not.
    #[must_use]
    pub fn recorded(&self, part: &str) -> Option<Process> {
        let text = fs::read_to_string(self.record(part)).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Waits until the part answers, which `answers` finds out, but no longer than `patience` and no longer than it runs;
    /// the error shows the end of its log.
    pub fn wait_until_it_answers(
        &self,
        part: &str,
        patience: Duration,
        answers: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        match self.wait_for(part, patience, answers) {
            Waited::Done => Ok(()),
            Waited::Silent | Waited::Ended => {
                let log = self.log(part);
                let said = command::last_lines(&files::read(&log).unwrap_or_default(), 15);
                Err(Error::Silent { part: part.to_owned(), log, said })
            }
        }
    }

    /// Waits until `done` says yes, but no longer than `patience` and no longer than the part runs.
    fn wait_for(&self, part: &str, patience: Duration, mut done: impl FnMut() -> bool) -> Waited {
        let mut waited = Waited::Silent;
        wait::until(patience, || {
            let running = self.running(part).is_some();
            if running && done() {
                waited = Waited::Done;
            } else if !running {
                waited = Waited::Ended;
            }
            waited != Waited::Silent
        });
        waited
    }

    /// Names of all parts that were ever started and not ended by [`Daemons::stop`].
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.records) else { return Vec::new() };
        let mut parts: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(str::to_owned))
            .collect();
        parts.sort();
        parts
    }

    /// Ends a part: SIGTERM, then SIGKILL after `patience`; forgets it. A part that does not run is fine.
    pub fn stop(&self, part: &str, patience: Duration) -> Result<(), Error> {
        if let Some(process) = self.running(part) {
            process.signal(Signal::SIGTERM);
            if !wait::until(patience, || !process.alive()) {
                process.signal(Signal::SIGKILL);
            }
            if !wait::until(Duration::from_secs(20), || !process.alive()) {
                return Err(Error::Immortal { part: part.to_owned(), pid: process.pid });
            }
        }
        Ok(files::remove_file(&self.record(part))?)
    }

    fn log(&self, part: &str) -> PathBuf {
        self.logs.join(format!("{part}.log"))
    }

    fn record(&self, part: &str) -> PathBuf {
        self.records.join(format!("{part}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_part_is_found_again_and_ends() {
        let state = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(state.path());
        let process = daemons.start("sleeper", Command::new("sleep").arg("600")).unwrap();
        assert_eq!(Daemons::new(state.path()).running("sleeper"), Some(process));
        assert_eq!(daemons.parts(), ["sleeper"]);
        daemons.stop("sleeper", Duration::from_secs(5)).unwrap();
        assert!(!process.alive());
        assert_eq!(daemons.running("sleeper"), None);
        assert!(daemons.parts().is_empty());
    }

    #[test]
    fn nobody_waits_for_a_part_that_has_ended() {
        let state = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(state.path());
        daemons.start("brief", Command::new("sleep").arg("0.2")).unwrap();
        let started = std::time::Instant::now();
        assert_eq!(daemons.wait_for("brief", Duration::from_secs(60), || false), Waited::Ended);
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_part_that_ignores_sigterm_is_killed() {
        let state = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(state.path());
        let ready = state.path().join("ready");
        let script = format!("trap '' TERM; touch {}; while :; do sleep 0.1; done", ready.display());
        let process = daemons.start("stubborn", Command::new("sh").args(["-c", &script])).unwrap();
        assert!(wait::until(Duration::from_secs(5), || ready.exists()));
        daemons.stop("stubborn", Duration::from_millis(300)).unwrap();
        assert!(!process.alive());
    }

    #[test]
    fn another_process_under_the_same_id_is_not_ours() {
        let state = tempfile::tempdir().unwrap();
        let daemons = Daemons::new(state.path());
        let me = Process::find(i32::try_from(std::process::id()).unwrap()).unwrap();
        let stale = Process { started: me.started.saturating_sub(1), ..me };
        files::write(&daemons.record("recycled"), serde_json::to_string(&stale).unwrap()).unwrap();
        assert_eq!(daemons.running("recycled"), None);
        daemons.stop("recycled", Duration::from_secs(1)).unwrap();
        assert!(me.alive());
    }
}
