//! The messages that were received and are not committed yet.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use mqtt::AckToken;
use wire::{BootId, HostName, Kind};

use crate::rows::{HostRow, Origin, Record};
use crate::writer::Work;

/// What tells two copies of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    seq: u64,
    kind: Kind,
    host: HostName,
    boot: BootId,
}

impl Identity {
    fn of(origin: &Origin) -> Option<Self> {
        let (seq, boot) = (origin.seq?, origin.boot.clone()?);
        Some(Self { seq, kind: origin.kind, host: origin.host.clone(), boot })
    }
}

/// Holds records and host states from receipt to commit, in the order of receipt.
///
/// After a lost connection the broker delivers again what had no PUBACK. A copy of a record that is held, or was among
/// the last committed, makes no second row: its acknowledgement takes the place of the first one's.
#[derive(Debug)]
pub(crate) struct Hold {
    limit: usize,
    most_rows: usize,
    pending: VecDeque<(Record, AckToken)>,
    pending_rows: usize,
    hosts: BTreeMap<String, (HostRow, AckToken)>,
    since: Option<Instant>,
    writing: Option<Writing>,
    committed: VecDeque<Identity>,
}

#[derive(Debug)]
struct Writing {
    rows: usize,
    acks: Vec<(Option<Identity>, AckToken)>,
}

impl Hold {
    /// `limit`: how many messages the broker sends without an acknowledgement. `most_rows`: how many rows bound it,
    /// whatever the number of messages; the last one may take it over.
    pub(crate) fn new(limit: usize, most_rows: usize) -> Self {
        Self {
            limit,
            most_rows,
            pending: VecDeque::new(),
            pending_rows: 0,
            hosts: BTreeMap::new(),
            since: None,
            writing: None,
            committed: VecDeque::new(),
        }
    }

    /// Takes a record in; a token that comes back is to be acknowledged now. `true` with it: the record was known.
    pub(crate) fn record(&mut self, record: Record, ack: AckToken, now: Instant) -> Option<(AckToken, bool)> {
        if let Some(identity) = Identity::of(&record.origin) {
            let pending = self.pending.iter_mut().find(|(held, _)| is(&held.origin, &identity)).map(|(_, ack)| ack);
            let writing = self.writing.iter_mut().flat_map(|writing| &mut writing.acks);
            let writing = writing.filter(|(other, _)| other.as_ref() == Some(&identity)).map(|(_, ack)| ack);
            if let Some(held) = pending.into_iter().chain(writing).next() {
                // The first copy's token belongs to a connection that is gone, or the sender was impatient.
                return Some((std::mem::replace(held, ack), true));
            }
            if self.committed.contains(&identity) {
                return Some((ack, true));
            }
        }
        self.pending_rows += record.row_count();
        self.pending.push_back((record, ack));
        self.since.get_or_insert(now);
        None
    }

    /// Takes a host's state in; an older one of the same host is not written any more, and its token comes back.
    pub(crate) fn host(&mut self, host: HostRow, ack: AckToken, now: Instant) -> Option<AckToken> {
        self.since.get_or_insert(now);
        self.hosts.insert(host.host.clone(), (host, ack)).map(|(_, ack)| ack)
    }

    /// When the first of what waits came in.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Whether the writer has something of it.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.since.is_none() && self.writing.is_none()
    }

    /// Rows that wait, without those that are being written.
    pub(crate) fn pending_rows(&self) -> usize {
        self.pending_rows
    }

    /// All rows.
    pub(crate) fn rows(&self) -> usize {
        self.pending_rows + self.writing.as_ref().map_or(0, |writing| writing.rows)
    }

    /// All messages.
    pub(crate) fn messages(&self) -> usize {
        self.pending.len() + self.hosts.len() + self.writing.as_ref().map_or(0, |writing| writing.acks.len())
    }

    /// Whether more may be read. A connection that ended leaves its messages here, and the next may bring as many again.
    pub(crate) fn has_room(&self) -> bool {
        self.messages() < 2 * self.limit && self.rows() < self.most_rows
    }

    /// Whether the broker waits for acknowledgements: nothing more will come before some are given.
    pub(crate) fn is_full(&self) -> bool {
        self.messages() >= self.limit
    }

    /// Takes out what is to be written next, at least one message, until `max_rows` are reached.
    pub(crate) fn next(&mut self, max_rows: usize) -> Work {
        let mut work = Work::default();
        let mut acks = Vec::new();
        for (_, (host, ack)) in std::mem::take(&mut self.hosts) {
            work.hosts.push(host);
            acks.push((None, ack));
        }
        let mut rows = 0;
        while rows < max_rows
            && let Some((record, ack)) = self.pending.pop_front()
        {
            acks.push((Identity::of(&record.origin), ack));
            rows += record.row_count();
            work.batch.records.push(record);
        }
        self.pending_rows -= rows;
        // What stays has waited long enough to go as soon as the writer is free.
        self.since = self.since.filter(|_| !self.pending.is_empty());
        self.writing = Some(Writing { rows, acks });
        work
    }

    /// The writer committed what it had; these are to be acknowledged, in this order.
    pub(crate) fn committed(&mut self) -> Vec<AckToken> {
        let Some(writing) = self.writing.take() else { return Vec::new() };
        let mut tokens = Vec::with_capacity(writing.acks.len());
        for (identity, ack) in writing.acks {
            self.committed.extend(identity);
            tokens.push(ack);
        }
        let surplus = self.committed.len().saturating_sub(self.limit);
        self.committed.drain(..surplus);
        tokens
    }
}

fn is(origin: &Origin, identity: &Identity) -> bool {
    origin.seq == Some(identity.seq)
        && origin.kind == identity.kind
        && origin.boot.as_ref() == Some(&identity.boot)
        && origin.host == identity.host
}
