//! Durable records on their way to the broker: numbered, bounded, freed by a PUBACK.
//!
//! In memory, until the spool takes its place: what is here when the agent dies is gone, and what did not fit is
//! declared lost. Pure state: time comes in as a parameter, the publisher does the sending.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::messages::{Loss, LossReason};
use wire::{Body, BootId, Head, HostName, Kind, Record, Timestamp, VERSION};

/// Records that may wait. At one metrics message in 10 s, an hour and a half of outage.
pub const MAX_RECORDS: usize = 512;

/// Bytes that may wait: with the agent itself the bound of its memory.
pub const MAX_BYTES: usize = 4 << 20;

/// Losses that are named one by one; older ones melt together.
const MAX_LOSSES: usize = 64;

/// Records of this host, not yet acknowledged by the broker.
#[derive(Debug)]
pub struct Outbox {
    host: HostName,
    boot: BootId,
    queue: VecDeque<Entry>,
    bytes: usize,
    counts: [Counts; Kind::ALL.len()],
    losses: Vec<Loss>,
    /// Grows with each change of `losses`.
    losses_version: u64,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    seq: u64,
    payload: Bytes,
    out: bool,
}

/// What became of the records of one kind since the agent started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Made; also the last number given.
    pub made: u64,
    /// Acknowledged by the broker.
    pub acknowledged: u64,
    /// Given up.
    pub dropped: u64,
}

/// A record to hand to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its kind.
    pub kind: Kind,
    /// Its number.
    pub seq: u64,
    /// The encoded record.
    pub payload: Bytes,
}

/// There is no room for another record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// Too much waits for the broker.
    #[error("the queue to the broker is full; try again when the broker is back")]
    Full,
    /// It alone is larger than the queue.
    #[error("a record of {0} bytes is larger than the whole queue of {MAX_BYTES} bytes; send less at a time")]
    Large(usize),
}

impl Outbox {
    /// An empty one for this run of the agent.
    pub fn new(host: HostName, boot: BootId) -> Self {
        Self {
            host,
            boot,
            queue: VecDeque::new(),
            bytes: 0,
            counts: Default::default(),
            losses: Vec::new(),
            losses_version: 0,
        }
    }

    /// Numbers a record and queues it.
    ///
    /// Without room, the oldest records of less valuable kinds go, then, for metrics only, the oldest metrics: the
    /// sampler must not wait, and a new reading is worth more than an old one. A push gets [`PutError::Full`] instead
    /// of displacing its own kind: whoever pushes can try again. The number of a refused record is not used up, but for
    /// a reading that finds no room at all: nobody can try that again, so it is declared lost like any other.
    pub fn put<B: Body>(&mut self, time: Timestamp, body: B) -> Result<u64, PutError> {
        let kind = B::KIND;
        let seq = self.counts[kind as usize].made + 1;
        let head = Head { v: VERSION, host: self.host.clone(), boot: Some(self.boot.clone()), seq: Some(seq), time };
        let payload = Bytes::from(wire::encode(&Record { head, body }));
        let room = if payload.len() > MAX_BYTES {
            Err((PutError::Large(payload.len()), LossReason::TooLarge))
        } else {
            self.make_room(kind, payload.len()).map_err(|error| (error, LossReason::Full))
        };
        if let Err((error, reason)) = room {
            if kind == Kind::Metrics {
                self.counts[kind as usize].made = seq;
                self.counts[kind as usize].dropped += 1;
                self.declare(kind, seq, reason);
            }
            return Err(error);
        }
        self.counts[kind as usize].made = seq;
        self.bytes += payload.len();
        self.queue.push_back(Entry { kind, seq, payload, out: false });
        Ok(seq)
    }

    fn make_room(&mut self, kind: Kind, bytes: usize) -> Result<(), PutError> {
        let fits = |records: usize, held: usize| records < MAX_RECORDS && held + bytes <= MAX_BYTES;
        let may_go = |entry: &Entry| !entry.out && (entry.kind < kind || (kind == Kind::Metrics && entry.kind == kind));
        // Look first, so that nothing goes if room can't be made anyway.
        let (records, held) =
            self.queue.iter().filter(|e| !may_go(e)).fold((0, 0), |(n, b), e| (n + 1, b + e.payload.len()));
        if !fits(records, held) {
            return Err(PutError::Full);
        }
        while !fits(self.queue.len(), self.bytes) {
            let oldest = |kind| self.queue.iter().position(|e| e.kind == kind && may_go(e));
            let Some(at) = Kind::ALL.into_iter().find_map(oldest) else { break };
            self.drop_at(at, LossReason::Full);
        }
        Ok(())
    }

    fn drop_at(&mut self, at: usize, reason: LossReason) {
        let Some(entry) = self.queue.remove(at) else { return };
        self.bytes -= entry.payload.len();
        self.counts[entry.kind as usize].dropped += 1;
        self.declare(entry.kind, entry.seq, reason);
    }

    fn declare(&mut self, kind: Kind, seq: u64, reason: LossReason) {
        self.losses_version += 1;
        if let Some(last) =
            self.losses.iter_mut().rev().find(|l| l.kind == kind && l.reason == reason && l.to + 1 == seq)
        {
            last.to = seq;
            return;
        }
        if self.losses.len() == MAX_LOSSES {
            // Name too much rather than too little: two neighbours of one kind become one range.
            let pair = self.losses.iter().enumerate().find_map(|(i, a)| {
                let j = self.losses[i + 1..].iter().position(|b| b.kind == a.kind)?;
                Some((i, i + 1 + j))
            });
            if let Some((i, j)) = pair {
                let later = self.losses.remove(j);
                self.losses[i].from = self.losses[i].from.min(later.from);
                self.losses[i].to = self.losses[i].to.max(later.to);
            }
        }
        self.losses.push(Loss { boot: self.boot.clone(), kind, from: seq, to: seq, reason });
    }

    /// Takes the oldest record that is not on its way, and marks it as on its way.
    pub fn take(&mut self) -> Option<Outgoing> {
        let entry = self.queue.iter_mut().find(|e| !e.out)?;
        entry.out = true;
        Some(Outgoing { kind: entry.kind, seq: entry.seq, payload: entry.payload.clone() })
    }

    /// The broker has it.
    pub fn acknowledged(&mut self, kind: Kind, seq: u64) {
        if let Some(at) = self.position(kind, seq)
            && let Some(entry) = self.queue.remove(at)
        {
            self.bytes -= entry.payload.len();
            self.counts[kind as usize].acknowledged += 1;
        }
    }

    /// It was not acknowledged: it goes again.
    pub fn lost(&mut self, kind: Kind, seq: u64) {
        if let Some(at) = self.position(kind, seq) {
            self.queue[at].out = false;
        }
    }

    /// The broker never takes it: it is declared lost.
    pub fn refused(&mut self, kind: Kind, seq: u64, reason: LossReason) {
        if let Some(at) = self.position(kind, seq) {
            self.drop_at(at, reason);
        }
    }

    fn position(&self, kind: Kind, seq: u64) -> Option<usize> {
        self.queue.iter().position(|e| e.kind == kind && e.seq == seq)
    }

    /// Records that wait or are on their way.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes that wait or are on their way.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What became of the records of a kind.
    pub fn counts(&self, kind: Kind) -> Counts {
        self.counts[kind as usize]
    }

    /// Everything given up in this run, for the host's status, and a number that changes when it does.
    pub fn losses(&self) -> (&[Loss], u64) {
        (&self.losses, self.losses_version)
    }

    /// The host that the records are of.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// The run that the records are of.
    pub fn boot(&self) -> &BootId {
        &self.boot
    }
}

#[cfg(test)]
mod tests {
    use wire::messages::{LogRecord, Logs, Metrics, Pipeline};
    use wire::{LabelSet, decode_head};

    use super::*;

    fn outbox() -> Outbox {
        Outbox::new("h".parse().unwrap(), "b".parse().unwrap())
    }

    fn metrics() -> Metrics {
        Metrics {
            interval_seconds: 1.0,
            labels: LabelSet::default(),
            gauges: vec![],
            families: vec![],
            processes: vec![],
        }
    }

    fn logs(bytes: usize) -> Logs {
        let record: LogRecord = serde_json::from_value(serde_json::json!({
            "timestamp": "2026-01-01T00:00:00Z", "level": "INFO", "message": "x".repeat(bytes),
        }))
        .unwrap();
        Logs { records: vec![record] }
    }

    fn now() -> Timestamp {
        Timestamp::from_millis(0)
    }

    #[test]
    fn records_are_numbered_per_kind_and_freed_by_their_acknowledgement() {
        let mut outbox = outbox();
        assert_eq!(outbox.put(now(), metrics()), Ok(1));
        assert_eq!(outbox.put(now(), metrics()), Ok(2));
        assert_eq!(outbox.put(now(), Pipeline { records: vec![] }), Ok(1));
        let first = outbox.take().unwrap();
        assert_eq!((first.kind, first.seq), (Kind::Metrics, 1));
        let head = decode_head(&first.payload).unwrap();
        assert_eq!((head.seq, head.boot.unwrap().as_str()), (Some(1), "b"));
        let second = outbox.take().unwrap();
        outbox.lost(Kind::Metrics, 1);
        assert_eq!(outbox.take().unwrap(), first, "a lost record goes again, before what came later");
        outbox.acknowledged(second.kind, second.seq);
        outbox.acknowledged(second.kind, second.seq);
        assert_eq!(outbox.len(), 2);
        assert_eq!(outbox.counts(Kind::Metrics), Counts { made: 2, acknowledged: 1, dropped: 0 });
    }

    #[test]
    fn a_full_queue_gives_up_old_metrics_and_says_which() {
        let mut outbox = outbox();
        for seq in 1..=MAX_RECORDS as u64 + 3 {
            assert_eq!(outbox.put(now(), metrics()), Ok(seq));
        }
        assert_eq!(outbox.len(), MAX_RECORDS);
        let (losses, _) = outbox.losses();
        assert_eq!(losses.len(), 1);
        assert_eq!(
            (losses[0].kind, losses[0].from, losses[0].to, losses[0].reason),
            (Kind::Metrics, 1, 3, LossReason::Full)
        );
        assert_eq!(outbox.counts(Kind::Metrics).dropped, 3);
    }

    #[test]
    fn a_push_displaces_metrics_but_not_its_own_kind() {
        let mut outbox = outbox();
        outbox.put(now(), metrics()).unwrap();
        let mut taken = 0;
        let error = loop {
            match outbox.put(now(), logs(100_000)) {
                Ok(_) => taken += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error, PutError::Full);
        assert_eq!(taken, MAX_BYTES as u64 / 100_200, "what fits is taken");
        assert_eq!(outbox.counts(Kind::Metrics).dropped, 0, "a metrics message made room for nothing: it stays");
        assert!(outbox.bytes() <= MAX_BYTES);
        let next = taken + 1;
        assert_eq!(outbox.put(now(), logs(100)), Ok(next), "a refused record uses no number");
        assert!(matches!(outbox.put(now(), logs(MAX_BYTES)), Err(PutError::Large(_))));
        assert!(outbox.put(now(), Pipeline { records: vec![] }).is_ok());
    }

    #[test]
    fn a_reading_that_finds_no_room_at_all_is_declared_lost() {
        let mut outbox = outbox();
        outbox.put(now(), metrics()).unwrap();
        for bytes in [1_000_000, 100_000, 10_000, 1000, 1] {
            while outbox.put(now(), logs(bytes)).is_ok() {}
        }
        let dropped = outbox.counts(Kind::Metrics).dropped;
        assert_eq!(outbox.put(now(), metrics()), Err(PutError::Full));
        assert_eq!(outbox.counts(Kind::Metrics), Counts { made: 2, acknowledged: 0, dropped: dropped + 1 });
        assert_eq!(outbox.losses().0.last().map(|loss| (loss.kind, loss.to)), Some((Kind::Metrics, 2)));

        let labels = [("x".to_owned(), "x".repeat(MAX_BYTES))].into_iter().collect();
        assert!(matches!(outbox.put(now(), Metrics { labels, ..metrics() }), Err(PutError::Large(_))));
        let last = outbox.losses().0.last().map(|loss| (loss.kind, loss.to, loss.reason));
        assert_eq!(last, Some((Kind::Metrics, 3, LossReason::TooLarge)));
    }

    #[test]
    fn a_record_on_its_way_is_never_given_up_for_another() {
        let mut outbox = outbox();
        for _ in 0..MAX_RECORDS {
            outbox.put(now(), metrics()).unwrap();
        }
        let first = outbox.take().unwrap();
        outbox.put(now(), metrics()).unwrap();
        assert_eq!((outbox.losses().0[0].from, outbox.losses().0[0].to), (2, 2));
        outbox.refused(first.kind, first.seq, LossReason::TooLarge);
        assert_eq!(outbox.losses().0.len(), 2);
        assert_eq!(outbox.losses().1, 2);
    }

    #[test]
    fn the_list_of_losses_is_bounded_and_still_covers_them_all() {
        let mut outbox = outbox();
        for seq in 0..500 {
            outbox.put(now(), metrics()).unwrap();
            if seq % 2 == 0 {
                outbox.refused(Kind::Metrics, seq + 1, LossReason::TooLarge);
            }
        }
        let (losses, _) = outbox.losses();
        assert!(losses.len() <= MAX_LOSSES);
        assert!((0..500).step_by(2).all(|seq| losses.iter().any(|l| l.from <= seq + 1 && seq < l.to)));
    }
}
