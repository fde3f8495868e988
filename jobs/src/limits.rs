//! How often a job may run. Values only: the time comes in, in milliseconds.

use std::collections::VecDeque;
use std::time::Duration;

/// At most this many starts within this span, and this long between an end and the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// 0: as often as one likes.
    pub(crate) count: usize,
    pub(crate) per: Duration,
    pub(crate) cooldown: Duration,
}

/// When a job was started and ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Oldest first; no more than the largest count that a configuration may have.
    starts: VecDeque<u64>,
    ended: Option<u64>,
}

impl Pace {
    /// The most starts that are remembered, and so the largest count.
    pub(crate) const MOST: usize = 1000;

    /// How long the next start has to wait; `None`: it need not.
    pub(crate) fn wait(&self, limits: &Limits, now: u64) -> Option<Duration> {
        let after =
            |then: u64, span: Duration| Duration::from_millis(then.saturating_add(millis(span)).saturating_sub(now));
        let by_rate = limits.count.checked_sub(1).and_then(|back| {
            let before = self.starts.len().checked_sub(back + 1)?;
            self.starts.get(before).map(|then| after(*then, limits.per))
        });
        let by_cooldown = self.ended.map(|then| after(then, limits.cooldown));
        [by_rate, by_cooldown].into_iter().flatten().max().filter(|wait| !wait.is_zero())
    }

    pub(crate) fn started(&mut self, at: u64) {
        self.starts.push_back(at);
        if self.starts.len() > Self::MOST {
            self.starts.pop_front();
        }
    }

    /// Takes back the last start: nothing was started after all.
    pub(crate) fn not_started(&mut self, at: u64) {
        if let Some(index) = self.starts.iter().rposition(|start| *start == at) {
            self.starts.remove(index);
        }
    }

    pub(crate) fn ended(&mut self, at: u64) {
        self.ended = Some(self.ended.map_or(at, |before| before.max(at)));
    }

    pub(crate) fn starts(&self) -> impl Iterator<Item = u64> + '_ {
        self.starts.iter().copied()
    }

    pub(crate) fn last_end(&self) -> Option<u64> {
        self.ended
    }

    /// Whether nothing of it matters any more to a limit over `span`.
    pub(crate) fn is_over(&self, span: Duration, now: u64) -> bool {
        let old = |at: u64| at.saturating_add(millis(span)) <= now;
        self.starts.back().is_none_or(|at| old(*at)) && self.ended.is_none_or(old)
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1000;

    fn limits(count: usize, per: u64, cooldown: u64) -> Limits {
        Limits { count, per: Duration::from_secs(per), cooldown: Duration::from_secs(cooldown) }
    }

    #[test]
    fn a_rate_is_a_sliding_window() {
        let (mut pace, limits) = (Pace::default(), limits(2, 10, 0));
        assert_eq!(pace.wait(&limits, 0), None);
        pace.started(0);
        pace.started(4 * S);
        assert_eq!(pace.wait(&limits, 5 * S), Some(Duration::from_secs(5)));
        assert_eq!(pace.wait(&limits, 10 * S), None);
        pace.started(10 * S);
        assert_eq!(pace.wait(&limits, 10 * S), Some(Duration::from_secs(4)));
        pace.not_started(10 * S);
        assert_eq!(pace.wait(&limits, 10 * S), None);
        assert_eq!(pace.wait(&super::tests::limits(0, 10, 0), 4 * S), None);
    }

    #[test]
    fn a_cooldown_counts_from_the_end() {
        let (mut pace, limits) = (Pace::default(), limits(0, 10, 60));
        pace.started(0);
        assert_eq!(pace.wait(&limits, S), None);
        pace.ended(30 * S);
        assert_eq!(pace.wait(&limits, 31 * S), Some(Duration::from_secs(59)));
        assert_eq!(pace.wait(&limits, 90 * S), None);
        assert!(!pace.is_over(Duration::from_secs(60), 89 * S) && pace.is_over(Duration::from_secs(60), 90 * S));
    }
}
