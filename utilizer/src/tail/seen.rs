//! Which numbered records came, so that repeated ones are left out and missing ones are told.

use std::collections::HashMap;

use wire::{BootId, HostName, Kind, Ranges, Timestamp};

/// Streams of records that are remembered: five kinds of 20,000 hosts.
const MOST_STREAMS: usize = 100_000;

/// Separate ranges that are remembered of one stream.
const MOST_RANGES: usize = 64;

/// What a record's number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// It is new, and follows what came.
    New,
    /// It is new, and these before it did not come: first and last number.
    After(u64, u64),
    /// It came already: the host sends until it is told that a record is stored.
    Again,
}

/// The numbers of all streams since the start.
#[derive(Debug)]
pub(super) struct Seen {
    /// Missing records are told only between two that were made after this: what a host still had to send when we began to
    /// look comes in any order.
    since: Timestamp,
    streams: HashMap<(HostName, BootId, Kind), Stream>,
    count: u64,
}

#[derive(Debug, Default)]
struct Stream {
    came: Ranges,
    /// The highest number made after the start.
    highest: Option<u64>,
    /// When it was last used, counted in records.
    used: u64,
}

impl Seen {
    /// Nothing came yet.
    pub(super) fn new(since: Timestamp) -> Self {
        Self { since, streams: HashMap::new(), count: 0 }
    }

    /// A record came.
    pub(super) fn note(&mut self, host: &HostName, boot: &BootId, kind: Kind, seq: u64, time: Timestamp) -> Sight {
        self.count += 1;
        let key = (host.clone(), boot.clone(), kind);
        if !self.streams.contains_key(&key) && self.streams.len() >= MOST_STREAMS {
            // Half of them go at once, so that the search for the oldest is rare.
            let mut used: Vec<u64> = self.streams.values().map(|stream| stream.used).collect();
            let (_, middle, _) = used.select_nth_unstable(MOST_STREAMS / 2);
            let middle = *middle;
            self.streams.retain(|_, stream| stream.used > middle);
        }
        let stream = self.streams.entry(key).or_default();
        stream.used = self.count;
        if stream.came.contains(seq) {
            return Sight::Again;
        }
        let below = stream.came.iter().take_while(|&(from, _)| from < seq).last().map(|(_, to)| to);
        stream.came.insert(seq);
        if stream.came.iter().len() > MOST_RANGES {
            let mut kept = Ranges::default();
            stream.came.iter().skip(MOST_RANGES / 2).for_each(|(from, to)| kept.insert_range(from, to));
            stream.came = kept;
        }
        if time < self.since || stream.highest.is_some_and(|highest| seq < highest) {
            return Sight::New;
        }
        match (stream.highest.replace(seq), below) {
            (Some(_), Some(below)) if below + 1 < seq => Sight::After(below + 1, seq - 1),
            _ => Sight::New,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(seen: &mut Seen, seq: u64, millis: i64) -> Sight {
        let (host, boot) = ("web-01".parse().unwrap(), "b1".parse().unwrap());
        seen.note(&host, &boot, Kind::Logs, seq, Timestamp::from_millis(millis))
    }

    #[test]
    fn repeated_records_are_known_and_missing_ones_told_once() {
        let mut seen = Seen::new(Timestamp::from_millis(0));
        let sights: Vec<_> = [7, 8, 8, 12, 10, 13, 10, 7, 11].map(|seq| note(&mut seen, seq, 1)).into();
        use Sight::{After, Again, New};
        assert_eq!(sights, [New, New, Again, After(9, 11), New, New, Again, Again, New]);
    }

    #[test]
    fn what_was_made_before_the_start_is_not_missed() {
        let mut seen = Seen::new(Timestamp::from_millis(1000));
        assert_eq!(note(&mut seen, 3, 10), Sight::New);
        assert_eq!(note(&mut seen, 90, 1000), Sight::New);
        assert_eq!(note(&mut seen, 50, 500), Sight::New);
        assert_eq!(note(&mut seen, 92, 1010), Sight::After(91, 91));
    }

    #[test]
    fn other_streams_are_other_numbers_and_all_of_it_is_bounded() {
        let mut seen = Seen::new(Timestamp::from_millis(0));
        let boot: BootId = "b".parse().unwrap();
        for host in 0..MOST_STREAMS + 10 {
            let host: HostName = format!("h{host}").parse().unwrap();
            assert_eq!(seen.note(&host, &boot, Kind::Logs, 5, Timestamp::from_millis(1)), Sight::New);
        }
        assert!(seen.streams.len() <= MOST_STREAMS);
        for seq in (1..1000).step_by(2) {
            note(&mut seen, seq, 1);
        }
        assert!(seen.streams.values().all(|stream| stream.came.iter().len() <= MOST_RANGES));
    }
}
