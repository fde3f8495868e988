//! One kind's log: whose records stand where in it, and which of them may go.

use bytes::Bytes;
use spool::{AppendError, Log, ReadError, Reader};
use wire::{BootId, Kind, Ranges};

/// A clock that says less was not set: boards without a battery begin in 1970. 2025-01-01, in ms since then.
pub(super) const SET_CLOCK: u64 = 1_735_689_600_000;

/// Whether a record that was appended at a time is from before another one, both in ms since 1970.
pub(super) fn is_older(appended: u64, than: u64) -> bool {
    (SET_CLOCK..than).contains(&appended)
}

/// A record that can't be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// These never can: first and last index.
    Gone(u64, u64),
    /// The disk may give it later.
    Later(ReadError),
}

#[derive(Debug)]
pub(super) struct Shelf {
    pub(super) kind: Kind,
    pub(super) log: Log,
    /// Runs of the agent with the index of their first record, in order; the present one is the last.
    runs: Vec<(BootId, u64)>,
    /// Indices that may go and are not trimmed yet.
    freed: Ranges,
    /// Reads what was just appended, in order.
    live: Reader,
    live_at: u64,
    /// Reads everything older.
    past: Reader,
    buffer: Vec<u8>,
    /// Index and time of the oldest record, as last looked up.
    oldest: (u64, Option<u64>),
}

impl Shelf {
    /// Over an open log. `runs` of it; the present one begins at its end.
    pub(super) fn new(kind: Kind, log: Log, mut runs: Vec<(BootId, u64)>, boot: &BootId) -> Self {
        let end = log.next();
        runs.retain(|(of, first)| of != boot && *first <= end);
        runs.push((boot.clone(), end));
        let (live, past) = (log.reader(), log.reader());
        let mut shelf = Self {
            kind,
            log,
            runs,
            freed: Ranges::default(),
            live,
            live_at: end,
            past,
            buffer: Vec::new(),
            oldest: (u64::MAX, None),
        };
        shelf.forget_runs();
        // Of records before the first known run nobody can say what they are.
        let (first, known) = (shelf.log.first(), shelf.runs.first().map_or(end, |(_, first)| *first));
        if let Some(last) = known.checked_sub(1).filter(|last| first <= *last) {
            shelf.free_indices(first, last);
        }
        shelf
    }

    /// Forgets runs of which no record is left.
    pub(super) fn forget_runs(&mut self) {
        let first = self.log.first();
        let gone = self.runs.iter().skip(1).take_while(|(_, next)| *next <= first).count();
        self.runs.drain(..gone);
    }

    /// Runs and the index of the first record of each.
    pub(super) fn runs(&self) -> &[(BootId, u64)] {
        &self.runs
    }

    /// The number that the next record gets.
    pub(super) fn next_seq(&self) -> u64 {
        let own = self.runs.last().map_or(0, |(_, first)| *first);
        self.log.next().saturating_sub(own) + 1
    }

    pub(super) fn put(&mut self, head: &[u8], payload: &[u8]) -> Result<(), AppendError> {
        self.log.append(head, payload).map(drop)
    }

    /// Where each part of these indices belongs: run, first and last number.
    pub(super) fn seqs(&self, from: u64, to: u64) -> Vec<(BootId, u64, u64)> {
        let ends = self.runs.iter().skip(1).map(|(_, first)| *first).chain([u64::MAX]);
        let parts = self.runs.iter().zip(ends).filter_map(|((boot, first), end)| {
            let (from, to) = (from.max(*first), to.min(end - 1));
            (from <= to).then(|| (boot.clone(), from - first + 1, to - first + 1))
        });
        parts.collect()
    }

    /// Where a record stands.
    pub(super) fn index_of(&self, boot: &BootId, seq: u64) -> Option<u64> {
        let run = self.runs.iter().rposition(|(of, _)| of == boot)?;
        let index = self.runs.get(run)?.1.checked_add(seq)?.checked_sub(1)?;
        // What a crash of the machine took from the end of a run is another one's place.
        (self.runs.get(run + 1).is_none_or(|(_, next)| index < *next)).then_some(index)
    }

    pub(super) fn read(&mut self, boot: &BootId, seq: u64) -> Result<Bytes, Unreadable> {
        let Some(index) = self.index_of(boot, seq) else { return Err(Unreadable::Later(ReadError::Gone { first: 0 })) };
        let reader = if index >= self.live_at {
            self.live_at = index + 1;
            &mut self.live
        } else {
            &mut self.past
        };
        let read = match reader.read(index, &mut self.buffer) {
            Ok(Some(entry)) => Ok(Bytes::copy_from_slice(entry.body)),
            Ok(None) => Err(Unreadable::Gone(index, index)),
            Err(ReadError::Gone { first }) => Err(Unreadable::Gone(index, first.saturating_sub(1).max(index))),
            Err(ReadError::Gap { from, to }) => Err(Unreadable::Gone(from, to)),
            Err(error @ ReadError::Io { .. }) => Err(Unreadable::Later(error)),
        };
        // One large record does not make the agent large for ever.
        self.buffer.clear();
        self.buffer.shrink_to(64 << 10);
        read
    }

    /// These may go.
    pub(super) fn free(&mut self, boot: &BootId, seqs: &Ranges) {
        for (from, to) in seqs.iter() {
            if let (Some(from), Some(to)) = (self.index_of(boot, from), self.index_of(boot, to)) {
                self.freed.insert_range(from, to);
            }
        }
    }

    /// The same by index.
    pub(super) fn free_indices(&mut self, from: u64, to: u64) {
        self.freed.insert_range(from, to);
    }

    /// Up to where the log may be trimmed.
    pub(super) fn trim_to(&mut self) -> u64 {
        let first = self.log.first();
        if first > 0 {
            self.freed.remove_range(0, first - 1);
        }
        self.freed.range_of(first).map_or(first, |(_, to)| to + 1)
    }

    /// When the oldest record was made, in ms since 1970; `None` without one, or if it can't be read now.
    pub(super) fn oldest_ms(&mut self) -> Option<u64> {
        let first = self.log.first();
        if first >= self.log.next() {
            return None;
        }
        if self.oldest.0 != first || self.oldest.1.is_none() {
            let made = self.past.read(first, &mut self.buffer).ok().flatten().map(|entry| entry.appended_ms);
            self.oldest = (first, made);
        }
        self.oldest.1
    }

    /// Whether a record was appended before a time. One that never can be read was, and one that can't be read now was not.
    /// Neither was one of a clock that was not set: nobody knows how old it is.
    pub(super) fn is_before(&mut self, index: u64, ms: u64) -> bool {
        match self.past.read(index, &mut self.buffer) {
            Ok(entry) => entry.is_none_or(|entry| is_older(entry.appended_ms, ms)),
            Err(ReadError::Io { .. }) => false,
            Err(ReadError::Gone { .. } | ReadError::Gap { .. }) => true,
        }
    }
}
