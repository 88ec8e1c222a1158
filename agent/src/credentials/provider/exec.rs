//! Runs one plugin: no shell, no environment but the configured one, a bounded answer, and an end in bounded time.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use secrecy::{ExposeSecret as _, SecretSlice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::config::Provider;

/// A plugin that has not answered by then is ended, as by the kubelet.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Longest answer, in bytes: one login takes a few thousand.
const LONGEST: u64 = 1024 * 1024;

/// Why a plugin gave no answer. What it wrote is never quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecError {
    /// It can't be started. Linux says "not found" also of programs whose loader is missing.
    #[error(
        "cannot be started ({0}): the agent's image runs static programs and such as need only a C library"
    )]
    Start(String),
    /// It failed.
    #[error("failed ({0}); run it by hand on the node to see what it says")]
    Failed(String),
    /// It takes too long.
    #[error("did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// It says too much.
    #[error("answered more than {} KiB", LONGEST / 1024)]
    TooLong,
    /// Its answer can't be read.
    #[error("could not be read from ({0})")]
    Io(std::io::ErrorKind),
}

/// A running plugin in a process group of its own, which ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Once it has been waited for there is no id, and no group that could be another's by now.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Asks the program of `provider` in `bin_dir`; dropping the future ends it.
///
/// # Errors
/// If it can't be started, fails, takes longer than `timeout`, or says more than a login.
pub async fn ask(
    bin_dir: &Path,
    provider: &Provider,
    request: &str,
    timeout: Duration,
) -> Result<SecretSlice<u8>, ExecError> {
    let child = Command::new(bin_dir.join(&provider.name))
        .args(&provider.args)
        .env_clear()
        .envs(provider.env.iter().map(|(name, value)| (name, value.expose_secret())))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| ExecError::Start(error.kind().to_string()))?;
    let mut running = Running(child);
    tokio::time::timeout(timeout, converse(&mut running.0, request)).await.unwrap_or(Err(ExecError::Timeout))
}

async fn converse(child: &mut Child, request: &str) -> Result<SecretSlice<u8>, ExecError> {
    let io = |error: std::io::Error| ExecError::Io(error.kind());
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that knows its answer without reading the question closes the pipe.
        let _ = stdin.write_all(request.as_bytes()).await;
    }
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST + 1).read_to_end(&mut answer).await.map_err(io)?;
    }
    let answer = SecretSlice::from(answer);
    if answer.expose_secret().len() as u64 > LONGEST {
        return Err(ExecError::TooLong);
    }
    let status = child.wait().await.map_err(io)?;
    if status.success() { Ok(answer) } else { Err(ExecError::Failed(status.to_string())) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

    use tempfile::TempDir;

    use super::*;

    /// A plugin that is this shell script.
    fn plugin(script: &str) -> (TempDir, Provider) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("plugin");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let provider = Provider {
            name: "plugin".to_owned(),
            images: Vec::new(),
            default_cache_duration: Duration::ZERO,
            api_version: String::new(),
            args: vec!["one".to_owned(), "two; three".to_owned()],
            env: vec![("GIVEN".to_owned(), "hunter2".into())],
        };
        (directory, provider)
    }

    fn run(script: &str, timeout: Duration) -> Result<String, ExecError> {
        let (directory, provider) = plugin(script);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = runtime.block_on(ask(directory.path(), &provider, "the question", timeout))?;
        Ok(String::from_utf8(answer.expose_secret().to_vec()).unwrap())
    }

    #[test]
    fn a_plugin_gets_its_question_arguments_and_environment_and_nothing_else() {
        let answer = run(r#"echo "$(cat) $#:$2 $GIVEN"; /usr/bin/env"#, TIMEOUT).unwrap();
        assert!(answer.starts_with("the question 2:two; three hunter2\n"), "{answer}");
        assert!(!answer.contains("CARGO") && !answer.contains("HOME="), "{answer}");
    }

    #[test]
    fn a_plugin_that_reads_nothing_may_answer() {
        assert_eq!(run("exec <&-; echo yes", TIMEOUT).unwrap(), "yes\n");
    }

    #[test]
    fn a_failure_names_no_output() {
        let error = run("echo hunter2; echo hunter2 >&2; exit 7", TIMEOUT).unwrap_err().to_string();
        assert!(error.contains('7') && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn an_endless_answer_is_cut_off() {
        assert_eq!(run("exec /usr/bin/yes hunter2", TIMEOUT), Err(ExecError::TooLong));
    }

    #[test]
    fn a_plugin_that_hangs_is_ended_with_its_children() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("child");
        let script = format!("/bin/sleep 600 & echo $! > {}; wait", file.display());
        let started = Instant::now();
        assert_eq!(run(&script, Duration::from_millis(500)), Err(ExecError::Timeout));
        let child = std::fs::read_to_string(&file).unwrap();
        let process = format!("/proc/{}/stat", child.trim());
        // Gone, or dead and waiting for its parent.
        let lives = || std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(started.elapsed() < Duration::from_secs(10), "the child lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_program_that_is_none_is_told() {
        let (directory, provider) = plugin("");
        std::fs::write(directory.path().join("plugin"), "#!/no/such/loader\n").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let error = runtime.block_on(ask(directory.path(), &provider, "", TIMEOUT)).unwrap_err();
        assert!(error.to_string().contains("static programs"), "{error}");
    }
}
