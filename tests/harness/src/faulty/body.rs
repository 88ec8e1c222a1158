//! Bodies of layers, spoiled: one that stops, crawls, or holds something else than it should.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::Response;
use futures::stream::{self, Stream, StreamExt as _};

use super::access::Entry;
use super::{Fault, Shared};

/// What is smaller is a configuration and no layer.
const LAYER_BYTES: u64 = 64 * 1024;
/// So much of a layer comes before it stops.
const BEGINNING: usize = 32 * 1024;
/// Pieces a second that a slow layer comes in.
const PIECES: u32 = 4;

/// Counts a layer as being sent for as long as it lives.
struct Sending {
    shared: Arc<Shared>,
    _entry: Entry,
}

impl Sending {
    fn begin(shared: Arc<Shared>, entry: Entry) -> Self {
        shared.downloads.fetch_add(1, Ordering::SeqCst);
        entry.is_layer();
        Self { shared, _entry: entry }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.shared.downloads.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The registry's answer with its body as `fault` has it, if that body is a layer.
pub(super) fn spoil(answer: Response, fault: Option<&Fault>, shared: Arc<Shared>, entry: Entry) -> Response {
    let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if length.and_then(|text| text.parse().ok()).is_none_or(|bytes: u64| bytes < LAYER_BYTES) {
        return answer;
    }
    let sending = Sending::begin(shared, entry);
    let (head, body) = answer.into_parts();
    let bytes = body.into_data_stream();
    let body = match fault {
        Some(Fault::Stuck) => counted(beginning(bytes).chain(stream::pending()), sending),
        Some(Fault::Slow(pace)) => counted(slowly(bytes, *pace), sending),
        Some(Fault::Corrupt) => counted(bytes.map(|bytes| bytes.map(|bytes| flipped(&bytes))), sending),
        Some(Fault::Status(..) | Fault::Token(_)) | None => counted(bytes, sending),
    };
    Response::from_parts(head, body)
}

type Piece = Result<Bytes, axum::Error>;

fn counted(bytes: impl Stream<Item = Piece> + Send + 'static, sending: Sending) -> Body {
    Body::from_stream(bytes.inspect(move |_| {
        let _counts = &sending;
    }))
}

fn beginning(bytes: impl Stream<Item = Piece> + Send + 'static) -> impl Stream<Item = Piece> + Send {
    bytes.take(1).map(|piece| piece.map(|bytes| bytes.slice(..bytes.len().min(BEGINNING))))
}

fn slowly(bytes: impl Stream<Item = Piece> + Send + 'static, pace: u32) -> impl Stream<Item = Piece> + Send {
    let size = usize::try_from(pace / PIECES).unwrap_or(usize::MAX).max(1);
    let pieces = bytes.flat_map(move |bytes| {
        stream::iter(match bytes {
            Ok(bytes) => bytes.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect(),
            Err(error) => vec![Err(error)],
        })
    });
    pieces.then(|piece| async {
        // The pace of the download, not a wait for anything.
        tokio::time::sleep(Duration::from_secs(1) / PIECES).await;
        piece
    })
}

fn flipped(bytes: &Bytes) -> Bytes {
    bytes.iter().map(|byte| !byte).collect()
}
