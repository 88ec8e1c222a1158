//! Moments that differ from node to node, without randomness.

use std::time::Duration;

/// A moment within `window`, derived from the node's name and `salt`.
pub(crate) fn spread(node: &str, salt: u64, window: Duration) -> Duration {
    let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    if window == 0 {
        return Duration::ZERO;
    }
    Duration::from_millis(hash(node, salt) % window)
}

/// FNV-1a, finished with a mix so that neighbouring names land far apart.
fn hash(node: &str, salt: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in node.bytes().chain(salt.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_answer_at_different_moments_within_the_time() {
        let within = Duration::from_secs(25);
        let mut moments: Vec<Duration> = (0..5000).map(|n| spread(&format!("node-{n}"), 7, within)).collect();
        assert!(moments.iter().all(|moment| *moment < within));
        moments.sort();
        for tenth in moments.chunks(500) {
            let width = tenth.last().unwrap().saturating_sub(*tenth.first().unwrap());
            assert!(width > Duration::from_secs(1) && width < Duration::from_secs(4), "{width:?}");
        }
    }
}
