//! Doubling delays.

use std::time::Duration;

/// `min(initial · 2^(attempts − 1), max)`; zero before the first attempt.
#[must_use]
pub(crate) fn delay(initial: Duration, max: Duration, attempts: u32) -> Duration {
    let Some(doublings) = attempts.checked_sub(1) else { return Duration::ZERO };
    let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
    initial.checked_mul(factor).map_or(max, |delay| delay.min(max))
}

#[cfg(test)]
mod tests {
    use super::delay;
    use std::time::Duration;

    const INITIAL: Duration = Duration::from_secs(30);
    const MAX: Duration = Duration::from_secs(300);

    #[test]
    fn the_delay_doubles_from_the_initial_one_up_to_the_maximum() {
        let seconds: Vec<u64> = (0..7).map(|n| delay(INITIAL, MAX, n).as_secs()).collect();
        assert_eq!(seconds, [0, 30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn very_many_attempts_stay_at_the_maximum() {
        for attempts in [32, 33, 34, 65, u32::MAX] {
            assert_eq!(delay(INITIAL, MAX, attempts), MAX, "{attempts}");
        }
    }
}
