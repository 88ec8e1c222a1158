//! Servers that tests of discovery ask: Debian's own Prometheus, VictoriaMetrics and docker-registry, each on a port of
//! this machine's loopback, with its state in a directory that the test gives, and ended with the value that stands for it.

use crate::{command, files, packages, wait};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

mod metrics;
mod registry;

pub use metrics::{Prometheus, Sample, VictoriaMetrics};
pub use registry::{Access, Registry};

/// Packages of all of them, with the tool that makes password files.
pub const PACKAGES: &[&str] =
    &["apache2-utils", "docker-registry", "openssl", "prometheus", "victoria-metrics"];

/// A server that did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its package is missing.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// Its files could not be written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A tool that prepares them failed.
    #[error(transparent)]
    Command(#[from] command::Error),
    /// It could not be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// Its program.
        program: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// It does not answer.
    #[error("{program} does not listen on {address}; the end of its log is\n{said}")]
    Silent {
        /// Its program.
        program: String,
        /// Where it should listen.
        address: SocketAddr,
        /// The last lines of its log.
        said: String,
    },
}

/// A running process that is ended when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts `command`, which is to listen on `address`, with its log in `state`, and waits until it does.
    fn start(mut command: Command, address: SocketAddr, state: &Path) -> Result<Self, Error> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |source| Error::Start { program: program.clone(), source };
        let log = state.join("log");
        let output = fs::File::create(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn().map_err(failed)?;
        let mut server = Self { child, address };
        let (mut listens, mut ended) = (false, false);
        wait::until(Duration::from_secs(60), || {
            listens = TcpStream::connect(address).is_ok();
            ended = !matches!(server.child.try_wait(), Ok(None));
            listens || ended
        });
        if listens && !ended {
            return Ok(server);
        }
        let said = command::last_lines(&files::read(&log).unwrap_or_default(), 15);
        Err(Error::Silent { program, address, said })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of the loopback that nobody listens on.
///
/// # Errors
/// If there is none.
pub fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn reserve(program: &str) -> Result<SocketAddr, Error> {
    free_address().map_err(|source| Error::Start { program: program.to_owned(), source })
}

fn directory(state: &Path, name: &str) -> Result<PathBuf, Error> {
    let directory = state.join(name);
    files::create_dir(&directory)?;
    Ok(directory)
}

/// Sends a body and tells whether the answer was a success.
fn post(address: SocketAddr, path: &str, body: &str) -> bool {
    let send = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer.split(' ').nth(1).is_some_and(|code| code.starts_with('2')))
    };
    send().unwrap_or(false)
}
