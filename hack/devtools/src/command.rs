//! Running other programs to their end, with errors that show the command line and what the program said.

use std::io;
use std::process::{Command, Output, Stdio};

/// A program that could not be run or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program could not be started.
    #[error("cannot run `{line}`: {source}")]
    Start {
        /// The command line.
        line: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The program ended with an error.
    #[error("`{line}` failed ({status}):\n{said}")]
    Failed {
        /// The command line.
        line: String,
        /// Exit code or signal.
        status: String,
        /// The last lines of its standard error.
        said: String,
    },
}

/// Runs a program to its end and returns its standard output.
pub fn output(command: &mut Command) -> Result<String, Error> {
    let done = finish(command)?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Runs a program to its end, for its effect.
pub fn run(command: &mut Command) -> Result<(), Error> {
    finish(command).map(drop)
}

/// Whether the program can be run and ends well; what it says is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The command line as a user would type it (without quoting).
#[must_use]
pub fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn finish(command: &mut Command) -> Result<Output, Error> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start { line: line(command), source })?;
    if done.status.success() {
        return Ok(done);
    }
    let mut said = String::from_utf8_lossy(&done.stderr).into_owned();
    if said.trim().is_empty() {
        said = String::from_utf8_lossy(&done.stdout).into_owned();
    }
    Err(Error::Failed { line: line(command), status: done.status.to_string(), said: last_lines(&said, 15) })
}

/// The last `count` lines of a text.
#[must_use]
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error =
            run(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c"), "{error}");
        assert!(error.contains("no such luck"), "{error}");
        assert!(error.contains('3'), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output(&mut Command::new("no-such-program-here")).unwrap_err().to_string();
        assert!(error.contains("no-such-program-here"), "{error}");
    }
}
