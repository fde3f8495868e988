//! How long to wait before the next attempt to connect.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The pauses between attempts to connect: from `first`, doubling to `most`, each shortened by up to a half at random,
/// so that a thousand agents do not come back to a restarted broker in one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// The longest pause after the first failure.
    pub first: Duration,
    /// The longest pause at all.
    pub most: Duration,
    /// A connection that held this long starts the pauses over. One that breaks earlier counts as another failure.
    pub stable_after: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(60), stable_after: Duration::from_secs(30) }
    }
}

/// Counts failures and turns them into pauses.
#[derive(Debug)]
pub(crate) struct Backoff {
    pauses: Pauses,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(pauses: Pauses) -> Self {
        Self { pauses, failures: 0 }
    }

    /// The pause after a connection that held for `lasted` (zero if it never came about). `random` is in `0.0..1.0`.
    pub(crate) fn pause(&mut self, lasted: Duration, random: f64) -> Duration {
        if lasted >= self.pauses.stable_after {
            self.failures = 0;
        }
        let doubled = self.pauses.first.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.pauses.most).mul_f64(1.0 - random / 2.0)
    }
}

/// A number in `0.0..1.0`, good enough to spread clients out: the hasher's keys come from the operating system.
pub(crate) fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_the_most_and_start_over_after_a_stable_connection() {
        let mut backoff = Backoff::new(Pauses::default());
        let seconds: Vec<u64> = (0..8).map(|_| backoff.pause(Duration::ZERO, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.pause(Duration::from_secs(29), 0.0), Duration::from_secs(60));
        assert_eq!(backoff.pause(Duration::from_secs(30), 0.0), Duration::from_secs(1));
    }

    #[test]
    fn jitter_takes_at_most_half_of_a_pause() {
        for _ in 0..1000 {
            let pause = Backoff::new(Pauses::default()).pause(Duration::ZERO, random());
            assert!(pause > Duration::from_millis(499) && pause <= Duration::from_secs(1), "{pause:?}");
        }
    }

    #[test]
    fn a_very_long_row_of_failures_does_not_overflow() {
        let mut backoff = Backoff { pauses: Pauses::default(), failures: u32::MAX };
        assert_eq!(backoff.pause(Duration::ZERO, 0.0), Duration::from_secs(60));
    }
}
