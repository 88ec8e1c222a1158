//! Leaving nothing behind, whatever becomes of a test.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt as _;

/// Runs `body`, then `clean_up`, also if `body` fails or panics; then goes on with what became of `body`.
///
/// # Errors
/// What either of them returns, that of `body` first.
pub async fn always<T>(
    body: impl Future<Output = anyhow::Result<T>>,
    clean_up: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<T> {
    let outcome = AssertUnwindSafe(body).catch_unwind().await;
    let cleaned = clean_up().await;
    match outcome {
        Ok(outcome) => outcome.and_then(|value| cleaned.map(|()| value)),
        Err(panic) => resume_unwind(panic),
    }
}
