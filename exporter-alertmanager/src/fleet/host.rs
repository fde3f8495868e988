use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use notify::feed::Key;
use wire::messages::Status;
use wire::{BootId, Kind, LabelSet, Timestamp};

use super::judge::NAMES;

/// Differences between a host's clock and ours that are kept.
const LAGS: usize = 8;

/// Before there are as many, nothing is said of a clock.
const LEAST_LAGS: usize = 5;

/// Runs and kinds whose losses are remembered.
const MOST_LOSSES: usize = 256;

/// What is known of one host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) known: Option<Known>,
    /// When we heard of its present state.
    pub(super) since: Timestamp,
    /// Of its status.
    pub(super) labels: LabelSet,
    pub(super) interval: Option<Duration>,
    /// When something live came last, by our clock,
    pub(super) heard: Timestamp,
    /// and the greatest time of the host's own that it said, if it said any.
    pub(super) life: Option<Timestamp>,
    /// The connection in which the broker had something of it.
    pub(super) seen: u64,
    /// Its alerts.
    pub(super) alerts: HashSet<Key>,
    /// The time of its last word on which alerts fire.
    pub(super) active: Option<Timestamp>,
    /// When it came and went.
    pub(super) changes: VecDeque<Timestamp>,
    /// How far its clock was ahead of ours, in milliseconds, in its last messages.
    lags: VecDeque<i64>,
    /// The newest record of its present run.
    newest: Option<(BootId, u64)>,
    /// What it declares lost: how many and up to which number.
    lost: Option<BTreeMap<(BootId, Kind), (u64, u64)>>,
    /// When that grew last: by our clock, and by the host's.
    pub(super) grew: Option<(Timestamp, Timestamp)>,
    /// Alerts about it.
    pub(super) own: [Option<Key>; NAMES.len()],
}

/// Its last status.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) is_online: bool,
    pub(super) stopped: bool,
    pub(super) boot: BootId,
    pub(super) time: Timestamp,
}

impl Host {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            known: None,
            since: now,
            labels: LabelSet::default(),
            interval: None,
            heard: now,
            life: None,
            seen: 0,
            alerts: HashSet::new(),
            active: None,
            changes: VecDeque::new(),
            lags: VecDeque::new(),
            newest: None,
            lost: None,
            grew: None,
            own: Default::default(),
        }
    }

    /// A message that was made at this time, by the host's clock, and came without delay.
    pub(super) fn heard(&mut self, time: Timestamp, now: Timestamp) {
        self.heard = now;
        self.life = Some(time);
        if self.lags.len() >= LAGS {
            self.lags.pop_front();
        }
        self.lags.push_back(time.as_millis().saturating_sub(now.as_millis()));
    }

    /// How far its clock is ahead of ours, in milliseconds. A message may be late, which looks like a clock that is
    /// behind: so the least difference of several counts.
    pub(super) fn skew(&self) -> Option<i64> {
        if self.lags.len() < LEAST_LAGS { None } else { self.lags.iter().copied().min_by_key(|lag| lag.unsigned_abs()) }
    }

    /// Whether a record was never seen and is newer than those that were.
    pub(super) fn is_new(&mut self, boot: &BootId, seq: u64) -> bool {
        if self.newest.as_ref().is_some_and(|(known, newest)| known == boot && *newest >= seq) {
            return false;
        }
        // A record of an earlier run is late.
        if self.known.as_ref().is_some_and(|known| known.boot != *boot) {
            return false;
        }
        self.newest = Some((boot.clone(), seq));
        true
    }

    /// Our clock went on without us or was put back: nothing was heard later than now, and what was said of the host's clock was
    /// said by another.
    pub(super) fn clock_was_set(&mut self, now: Timestamp) {
        (self.since, self.heard) = (self.since.min(now), self.heard.min(now));
        self.changes.retain(|at| *at <= now);
        self.grew = self.grew.map(|(at, time)| (at.min(now), time));
        self.lags.clear();
    }

    /// It came or went. So many changes and one more are remembered.
    pub(super) fn changed(&mut self, now: Timestamp, most: usize, window: Duration) {
        while self.changes.len() > most || self.changes.front().is_some_and(|at| at.plus(window) <= now) {
            self.changes.pop_front();
        }
        self.changes.push_back(now);
    }

    /// Whether it was stopped on purpose for so long.
    pub(super) fn is_put_away(&self, after: Duration, now: Timestamp) -> bool {
        self.known.as_ref().is_some_and(|known| known.stopped && now >= known.time.min(now).plus(after))
    }

    /// Looks whether it declares more lost than before. What it declared before it was first seen counts if it is fresh.
    pub(super) fn losses(&mut self, status: &Status, now: Timestamp, hold: Duration) {
        let mut lost: BTreeMap<(BootId, Kind), (u64, u64)> = BTreeMap::new();
        for loss in &status.dropped {
            if lost.len() >= MOST_LOSSES {
                break;
            }
            let (count, last) = lost.entry((loss.boot.clone(), loss.kind)).or_default();
            *count = count.saturating_add(loss.to.saturating_sub(loss.from).saturating_add(1));
            *last = loss.to.max(*last);
        }
        let grown = match &self.lost {
            None => !lost.is_empty() && status.time.plus(hold) > now,
            Some(before) => lost.iter().any(|(of, (count, last))| {
                before.get(of).is_none_or(|(counted, before)| count > counted || last > before)
            }),
        };
        if grown {
            self.grew = Some((now, status.time));
        }
        self.lost = Some(lost);
    }
}
