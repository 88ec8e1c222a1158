//! The body of an answer, read within a limit: as a whole, or as a stream by a thread of its own.

use std::io::{self, Read};

use tokio::sync::mpsc;

use crate::failure::{Failure, Reason};

/// So many pieces of a body wait for whoever reads them.
const PIECES: usize = 4;

/// A body that has not been read yet.
#[derive(Debug)]
pub struct Body {
    response: reqwest::Response,
    host: String,
}

impl Body {
    pub(super) fn new(response: reqwest::Response, host: String) -> Self {
        Self { response, host }
    }

    /// All of it.
    ///
    /// # Errors
    /// If it is longer than `limit` bytes or breaks off.
    pub async fn bytes(mut self, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let mut left = limit;
        while let Some(piece) = self.next(&mut left, limit).await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// What `parse` makes of it. It runs on a thread of its own, because reading many megabytes takes a while, and reads
    /// while the rest is still on its way.
    ///
    /// # Errors
    /// If the body is longer than `limit` bytes or breaks off.
    pub async fn parse<T: Send + 'static>(
        mut self,
        limit: u64,
        parse: impl FnOnce(Reader) -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (pieces, received) = mpsc::channel(PIECES);
        let parsing =
            tokio::task::spawn_blocking(move || parse(Reader { pieces: received, piece: Vec::new(), at: 0 }));
        let feed = async {
            let mut left = limit;
            while let Some(piece) = self.next(&mut left, limit).await? {
                // The reader knows enough.
                if pieces.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let fed = feed.await;
        drop(pieces);
        let parsed = parsing.await;
        fed?;
        parsed.map_err(|_| Failure::new(Reason::SyncFailed, "reading the answer was broken off"))
    }

    async fn next(&mut self, left: &mut u64, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
        let piece = self.response.chunk().await.map_err(|error| broken(&error, &self.host))?;
        let Some(piece) = piece else { return Ok(None) };
        *left = left.checked_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX)).ok_or_else(|| {
            Failure::new(
                Reason::InvalidResponse,
                format!("the answer is longer than {} MiB: ask for less", limit.div_ceil(1 << 20)),
            )
        })?;
        Ok(Some(piece.into()))
    }
}

fn broken(error: &reqwest::Error, host: &str) -> Failure {
    if error.is_timeout() {
        Failure::new(Reason::Timeout, format!("{host} did not finish its answer in time"))
    } else {
        Failure::new(Reason::InvalidResponse, format!("the answer of {host} broke off"))
    }
}

/// A body as a thread reads it.
#[derive(Debug)]
pub struct Reader {
    pieces: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(piece) = self.pieces.blocking_recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let rest = &self.piece[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}
