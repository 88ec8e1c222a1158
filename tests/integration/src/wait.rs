//! Waiting for something to become true, without fixed sleeps and with an end.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks again until `check` returns something.
///
/// # Errors
/// When it has not done so after a minute, or when `check` fails.
pub async fn until<T>(
    what: &str,
    mut check: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = check().await? {
            return Ok(value);
        }
        if start.elapsed() > LIMIT {
            bail!("{what}: not so after {} s", LIMIT.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
