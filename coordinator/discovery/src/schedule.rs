//! When a policy is due: pure, with clock and seed given.
//!
//! Every policy has its turns at fixed moments: whenever the wall clock has moved on by one interval from a starting
//! point that its seed chooses. So policies are spread over the interval instead of asking together, and a coordinator
//! that takes over, or starts again, goes on in the same rhythm: it needs no record of when sources were last asked,
//! and asks nobody only because it is new.

use std::time::Duration;

use drop_protocol::{Monotonic, Now};
use jiff::Timestamp;

use crate::status::Standing;

/// Waiting time after a first failure; it doubles with each further one, up to the interval.
const RETRY: Duration = Duration::from_secs(15);

/// A turn that lies back by less than this, when a coordinator begins, may not have been taken by the one before.
const MISSED: Duration = Duration::from_secs(60);

/// The schedule of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    seed: u64,
    interval: Duration,
    failures: u32,
    due: Monotonic,
}

/// A seed that is always the same for one object.
#[must_use]
pub fn seed(uid: &str) -> u64 {
    // FNV-1a: known, short, and spread well enough.
    uid.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Schedule {
    /// The schedule of a policy that was first seen now.
    #[must_use]
    pub fn new(seed: u64, interval: Duration, standing: Standing, now: Now) -> Self {
        let wait = match standing {
            Standing::Outdated => Duration::ZERO,
            Standing::Failing => part(seed, RETRY),
            Standing::Settled => {
                let before = now.wall.checked_sub(jiff::SignedDuration::try_from(MISSED).unwrap_or_default());
                until_turn(seed, interval, before.unwrap_or(now.wall)).saturating_sub(MISSED)
            }
        };
        Self { seed, interval, failures: 0, due: now.monotonic.after(wait) }
    }

    /// When the sources are to be asked.
    #[must_use]
    pub fn due(&self) -> Monotonic {
        self.due
    }

    /// The spec was edited: it is due now.
    pub fn edited(&mut self, interval: Duration, now: Now) {
        self.interval = interval;
        self.failures = 0;
        self.due = now.monotonic;
    }

    /// There is nothing to ask until the spec is edited.
    pub fn rest(&mut self) {
        self.failures = 0;
        self.due = Monotonic::from_start(Duration::MAX);
    }

    /// A sync has ended.
    pub fn finished(&mut self, well: bool, now: Now) {
        let wait = if well {
            self.failures = 0;
            let turn = until_turn(self.seed, self.interval, now.wall);
            // What was asked just now, after an edit for instance, is not asked again at once.
            if turn < self.interval / 2 { turn.saturating_add(self.interval) } else { turn }
        } else {
            let backoff = RETRY.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.interval);
            self.failures = self.failures.saturating_add(1);
            backoff.saturating_add(part(self.seed.wrapping_add(self.failures.into()), backoff / 5))
        };
        self.due = now.monotonic.after(wait);
    }
}

/// Time until the next turn; more than zero and at most `interval`.
fn until_turn(seed: u64, interval: Duration, wall: Timestamp) -> Duration {
    let interval = i128::try_from(interval.as_nanos()).unwrap_or(i128::MAX).max(1);
    let past = (wall.as_nanosecond() - i128::from(seed)).rem_euclid(interval);
    Duration::from_nanos(u64::try_from(interval - past).unwrap_or(u64::MAX))
}

/// A part of `whole` that `seed` chooses.
fn part(seed: u64, whole: Duration) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(seed.checked_rem(nanos).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Now {
        Now {
            // The clocks differ, as they do.
            monotonic: Monotonic::from_start(Duration::from_secs(seconds)),
            wall: Timestamp::from_second(1_700_000_000 + i64::try_from(seconds).unwrap()).unwrap(),
        }
    }

    fn wait(schedule: &Schedule, now: Now) -> Duration {
        schedule.due().since(now.monotonic)
    }

    #[test]
    fn a_new_or_edited_policy_is_due_at_once() {
        let mut schedule = Schedule::new(7, 30 * MINUTE, Standing::Outdated, at(5));
        assert_eq!(schedule.due(), at(5).monotonic);
        schedule.finished(true, at(6));
        schedule.edited(30 * MINUTE, at(9));
        assert_eq!(schedule.due(), at(9).monotonic);
    }

    #[test]
    fn failures_back_off_up_to_the_interval_and_success_ends_that() {
        let mut schedule = Schedule::new(7, 2 * MINUTE, Standing::Outdated, at(0));
        for least in [15, 30, 60, 120, 120] {
            schedule.finished(false, at(0));
            let wait = wait(&schedule, at(0));
            let least = Duration::from_secs(least);
            assert!((least..=least + least / 5).contains(&wait), "{wait:?} for {least:?}");
        }
        schedule.finished(true, at(0));
        schedule.finished(false, at(0));
        assert!(wait(&schedule, at(0)) <= Duration::from_secs(18));
    }

    #[test]
    fn a_turn_that_was_missed_while_nobody_led_is_made_up_for() {
        let mut schedule = Schedule::new(7, 30 * MINUTE, Standing::Outdated, at(0));
        schedule.finished(true, at(0));
        let turn = wait(&schedule, at(0)).as_secs();
        assert!(
            wait(&Schedule::new(7, 30 * MINUTE, Standing::Settled, at(turn + 20)), at(turn + 20)).is_zero()
        );
        assert!(
            wait(&Schedule::new(7, 30 * MINUTE, Standing::Settled, at(turn + 90)), at(turn + 90))
                > 28 * MINUTE
        );
    }

    #[test]
    fn a_thousand_policies_do_not_ask_together_after_a_restart() {
        let early = (0..1000u32)
            .map(|n| Schedule::new(seed(&format!("uid-{n}")), 30 * MINUTE, Standing::Settled, at(0)))
            .filter(|schedule| wait(schedule, at(0)) < MINUTE)
            .count();
        // A thirtieth of them for that minute, and as many whose turn may have been missed.
        assert!((30..=110).contains(&early), "{early}");
    }

    proptest! {
        #[test]
        fn a_restart_does_not_change_the_rhythm(seed in any::<u64>(), minutes in 4u64..100, restart in 0u64..100_000) {
            let interval = Duration::from_secs(minutes * 60);
            let mut schedule = Schedule::new(seed, interval, Standing::Outdated, at(0));
            schedule.finished(true, at(0));
            let (first, now) = (wait(&schedule, at(0)), at(restart));
            let restarted = wait(&Schedule::new(seed, interval, Standing::Settled, now), now);
            // Both are turns, unless one was missed just now: a multiple of the interval apart.
            let apart = (Duration::from_secs(restart) + restarted).as_nanos().abs_diff(first.as_nanos());
            prop_assert!(restarted.is_zero() || apart % interval.as_nanos() == 0);
            prop_assert!(restarted <= interval);
        }

        #[test]
        fn the_next_sync_is_neither_at_once_nor_far_away(seed in any::<u64>(), seconds in 10u64..100_000, now in 0u64..100_000) {
            let interval = Duration::from_secs(seconds);
            let mut schedule = Schedule::new(seed, interval, Standing::Outdated, at(now));
            schedule.finished(true, at(now));
            let wait = wait(&schedule, at(now));
            prop_assert!(wait >= interval / 2 && wait <= interval + interval / 2);
        }
    }
}
