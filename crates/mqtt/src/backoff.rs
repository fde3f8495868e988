//! How long to wait before the next attempt to connect.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// The pauses between attempts to connect, chosen at random within a window that doubles with each failure, so that ten
/// thousand agents do not come back to a restarted broker in one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pauses {
    /// Sets the scale: a pause lasts from a quarter of this to four times as long after the first failure, to eight times
    /// after the second, and so on. With 1 s: from 250 ms to 4 s, to 8 s, ….
    pub first: Duration,
    /// The longest pause, but for those below.
    pub most: Duration,
    /// A connection that held this long starts the pauses over. One that breaks earlier counts as another failure.
    pub stable_after: Duration,
    /// How long the session is left to another client of the same id (see [`Cause::Rival`](crate::Cause::Rival)).
    pub rival: Duration,
    /// How long until a subscription that was refused, but need not be for ever, is asked for again.
    pub refused: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
            stable_after: Duration::from_secs(30),
            rival: Duration::from_secs(300),
            refused: Duration::from_secs(300),
        }
    }
}

/// Counts failures and turns them into pauses.
#[derive(Debug)]
pub(crate) struct Backoff {
    pauses: Pauses,
    failures: u32,
}

/// The count of failures from which the window is about as wide as it gets.
const MANY: u32 = 4;

impl Backoff {
    pub(crate) fn new(pauses: Pauses) -> Self {
        Self { pauses, failures: 0 }
    }

    /// The pause after a connection that held for `lasted` (zero if it never came about). `unwelcome`: the broker has
    /// asked for patience. `random` is in `0.0..1.0`.
    pub(crate) fn pause(&mut self, lasted: Duration, unwelcome: bool, random: f64) -> Duration {
        if lasted >= self.pauses.stable_after {
            self.failures = 0;
        }
        if unwelcome {
            self.failures = self.failures.max(MANY);
        }
        let window = self.pauses.first.saturating_mul(4 << self.failures.min(20)).min(self.pauses.most);
        self.failures = self.failures.saturating_add(1);
        let least = (self.pauses.first / 4).min(window);
        if unwelcome { window.mul_f64(0.5 + random / 2.0) } else { least + (window - least).mul_f64(random) }
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
    fn windows_double_to_the_most_and_start_over_after_a_stable_connection() {
        let mut backoff = Backoff::new(Pauses::default());
        let mut widest = |lasted| backoff.pause(Duration::from_secs(lasted), false, 1.0).as_secs();
        let seconds: Vec<u64> = (0..6).map(|_| widest(0)).collect();
        assert_eq!(seconds, [4, 8, 16, 32, 60, 60]);
        assert_eq!([widest(29), widest(30)], [60, 4]);
        assert_eq!(backoff.pause(Duration::from_secs(30), false, 0.0), Duration::from_millis(250));
    }

    #[test]
    fn a_broker_that_asks_for_patience_gets_it() {
        let mut backoff = Backoff::new(Pauses::default());
        assert_eq!(backoff.pause(Duration::from_secs(3600), true, 0.0), Duration::from_secs(30));
        assert_eq!(backoff.pause(Duration::ZERO, true, 1.0), Duration::from_secs(60));
    }

    #[test]
    fn a_very_long_row_of_failures_does_not_overflow() {
        let mut backoff = Backoff { pauses: Pauses::default(), failures: u32::MAX };
        assert_eq!(backoff.pause(Duration::ZERO, false, 1.0), Duration::from_secs(60));
    }

    /// Ten thousand clients lose one broker, which then takes 1,000 connections a second and refuses the others.
    #[test]
    fn ten_thousand_clients_spread_and_all_come_back() {
        const SLOTS: usize = 10 * 600;
        let mut due: Vec<Vec<Backoff>> = (0..SLOTS).map(|_| Vec::new()).collect();
        let slot = |pause: Duration| pause.as_millis() as usize / 100 + 1;
        for _ in 0..10_000 {
            let mut backoff = Backoff::new(Pauses::default());
            let at = slot(backoff.pause(Duration::from_secs(3600), false, random()));
            due[at].push(backoff);
        }
        let (mut most, mut back, mut last) = (0, 0, 0);
        for now in 0..SLOTS {
            let arrived = std::mem::take(&mut due[now]);
            most = most.max(arrived.len());
            for (place, mut backoff) in arrived.into_iter().enumerate() {
                if place < 100 {
                    (back, last) = (back + 1, now);
                } else {
                    let at = now + slot(backoff.pause(Duration::ZERO, false, random()));
                    due[at.min(SLOTS - 1)].push(backoff);
                }
            }
        }
        assert_eq!(back, 10_000);
        assert!(most < 600, "{most} attempts within 100 ms");
        assert!(last < 10 * 120, "the last one was back only after {} s", last / 10);
    }
}
