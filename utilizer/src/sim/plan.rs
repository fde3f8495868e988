//! What the simulated hosts make, and when: all of it follows from a few numbers, so that nothing has to be kept.
//!
//! A host takes a reading every interval, and each reading makes a record of some kinds. A run of the simulation gives each
//! host a boot of its own, as a restarted agent has; a later run goes on where the earlier ones ended.

use serde::{Deserialize, Serialize};
use wire::{BootId, HostName, Kind, Timestamp};

/// The kinds that are simulated.
pub(super) const KINDS: [Kind; 4] = [Kind::Metrics, Kind::Logs, Kind::Alerts, Kind::Pipeline];

/// What is simulated. Two plans that are equal make the same records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// How the hosts' names begin.
    pub(super) prefix: String,
    /// How many hosts.
    pub(super) hosts: u32,
    /// Milliseconds between two readings of a host.
    pub(super) interval: u64,
    /// Readings of each host, over all runs.
    pub(super) count: u32,
    /// The kinds that are made.
    pub(super) kinds: Vec<Kind>,
    /// Log records in a batch.
    pub(super) log_lines: u32,
    /// Decides the values.
    pub(super) seed: u64,
}

/// One run of the simulation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// Differs from all others: the boots begin with it.
    pub(super) id: String,
    /// When it began, in ms since 1970.
    pub(super) start: i64,
    /// Readings up to this moment may have been made, in ms since 1970.
    pub(super) until: i64,
}

/// One record of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RecordId {
    /// The host's place.
    pub(super) host: u32,
    /// The run's place.
    pub(super) run: usize,
    /// Its kind.
    pub(super) kind: Kind,
    /// Its number.
    pub(super) seq: u64,
}

impl Plan {
    /// A host's name.
    pub(super) fn host(&self, host: u32) -> HostName {
        let name = format!("{}-{host:05}", self.prefix);
        name.parse().unwrap_or_else(|error| unreachable!("BUG: the prefix was checked: {error}"))
    }

    /// The place of a host by its name.
    pub(super) fn host_of(&self, name: &str) -> Option<u32> {
        let place = name.strip_prefix(&self.prefix)?.strip_prefix('-')?.parse().ok()?;
        (place < self.hosts).then_some(place)
    }

    /// A host's boot in a run.
    pub(super) fn boot(&self, run: &Run, host: u32) -> BootId {
        let name = format!("{}-{host:05}", run.id);
        name.parse().unwrap_or_else(|error| unreachable!("BUG: the run was named by us: {error}"))
    }

    /// How long after a run's start the host takes its first reading: hosts are spread over the interval.
    fn phase(&self, host: u32) -> i64 {
        (u64::from(host) * self.interval / u64::from(self.hosts.max(1))) as i64
    }

    /// When a host takes the reading of this place, from 0, in ms since 1970.
    pub(super) fn time(&self, run: &Run, host: u32, reading: u32) -> i64 {
        run.start + self.phase(host) + i64::from(reading) * self.interval as i64
    }

    /// The reading of a host that has this time.
    pub(super) fn reading_at(&self, run: &Run, host: u32, time: i64) -> Option<u32> {
        let since = time - run.start - self.phase(host);
        let interval = self.interval as i64;
        (since >= 0 && since % interval == 0).then_some(since / interval)?.try_into().ok()
    }

    /// How many readings of a host have a time up to `until`, if nothing else ends them.
    fn readings_until(&self, run: &Run, host: u32, until: i64) -> u32 {
        let since = until - run.start - self.phase(host);
        if since < 0 { 0 } else { (since / self.interval as i64 + 1).try_into().unwrap_or(u32::MAX) }
    }

    /// The readings of a host in each of these runs, as far as they may have been made.
    pub(super) fn readings(&self, runs: &[Run], host: u32) -> Vec<u32> {
        let mut left = self.count;
        let made = runs.iter().map(|run| {
            let made = self.readings_until(run, host, run.until).min(left);
            left -= made;
            made
        });
        made.collect()
    }

    /// Every how many readings a kind is made, and at which first.
    fn rhythm(kind: Kind, host: u32) -> (u32, u32) {
        match kind {
            Kind::Metrics | Kind::Logs => (1, 0),
            Kind::Pipeline => (6, host % 6),
            Kind::Alerts | Kind::Jobs => (60, host.wrapping_mul(37) % 60),
        }
    }

    /// The number of the record of this kind that a reading makes, if it makes one.
    pub(super) fn made_at(&self, kind: Kind, host: u32, reading: u32) -> Option<u64> {
        let (every, first) = Self::rhythm(kind, host);
        let since = reading.checked_sub(first)?;
        (self.kinds.contains(&kind) && since % every == 0).then_some(u64::from(since / every) + 1)
    }

    /// How many records of a kind so many readings make.
    pub(super) fn made(&self, kind: Kind, host: u32, readings: u32) -> u64 {
        let (every, first) = Self::rhythm(kind, host);
        if !self.kinds.contains(&kind) || readings <= first { 0 } else { u64::from((readings - 1 - first) / every) + 1 }
    }

    /// The reading that makes a record.
    pub(super) fn reading_of(kind: Kind, host: u32, seq: u64) -> u32 {
        let (every, first) = Self::rhythm(kind, host);
        let before = u32::try_from(seq.saturating_sub(1)).unwrap_or(u32::MAX);
        before.saturating_mul(every).saturating_add(first)
    }

    /// When a record was made.
    pub(super) fn record_time(&self, run: &Run, host: u32, kind: Kind, seq: u64) -> Timestamp {
        Timestamp::from_millis(self.time(run, host, Self::reading_of(kind, host, seq)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            prefix: "sim".into(),
            hosts: 7,
            interval: 1000,
            count: 200,
            kinds: KINDS.to_vec(),
            log_lines: 3,
            seed: 1,
        }
    }

    #[test]
    fn records_readings_and_times_agree() {
        let plan = plan();
        let run = Run { id: "r".into(), start: 1_000_000, until: 1_000_000 };
        for host in 0..plan.hosts {
            assert_eq!(plan.host_of(plan.host(host).as_str()), Some(host));
            for kind in KINDS {
                let mut seqs = 0;
                for reading in 0..plan.count {
                    if let Some(seq) = plan.made_at(kind, host, reading) {
                        seqs += 1;
                        assert_eq!((seq, Plan::reading_of(kind, host, seq)), (seqs, reading));
                    }
                    assert_eq!(plan.made(kind, host, reading + 1), seqs, "{kind} {reading}");
                    let time = plan.time(&run, host, reading);
                    assert_eq!(plan.reading_at(&run, host, time), Some(reading));
                    assert_eq!(plan.reading_at(&run, host, time + 1), None);
                }
            }
        }
        assert_eq!(
            (plan.host_of("sim-00007"), plan.host_of("sim2-00001"), plan.made(Kind::Jobs, 0, 200)),
            (None, None, 0)
        );
    }

    #[test]
    fn later_runs_make_what_earlier_ones_left() {
        let plan = plan();
        let run = |start, until| Run { id: "r".into(), start, until };
        let runs = [run(0, 999), run(5000, 4999), run(10_000, 19_000), run(50_000, i64::MAX)];
        assert_eq!(plan.readings(&runs, 0), [1, 0, 10, 189]);
        assert_eq!(plan.readings(&runs, 6), [1, 0, 9, 190]);
    }
}
