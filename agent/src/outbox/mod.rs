//! Durable records on their way to the groups of exporters: numbered, on disk, and freed when every group has them.
//!
//! A record is appended to its kind's log (`crates/spool`), which the keeper syncs within a second. What goes to the broker
//! and when, and what may be forgotten, says [`delivery::Sender`]. Nobody who puts a record waits for the disk to sync or for
//! the network.

mod audit;
mod halve;
mod keeper;
mod open;
mod positions;
mod shelf;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use delivery::sender::{MOST_GROUPS, WINDOW};
use delivery::{Millis, Sender};
use spool::AppendError;
use tokio::sync::Notify;
use tracing::warn;
use wire::messages::{Confirmation, Logs, Loss, LossReason, TierStatus};
use wire::{Body, BootId, GroupName, Head, HostName, Kind, MemberName, Record, Timestamp, VERSION};

use audit::Audit;
use halve::{HALF, Whole};
use keeper::Bell;
pub use keeper::{Gone, Keeping};
pub use open::{OpenError, open};
pub use positions::Moves;
use positions::Positions;
use shelf::{SET_CLOCK, Shelf, Unreadable};

/// The most bytes that one record may have.
pub const MAX_RECORD: usize = 4 << 20;

/// Log inputs fill at most this part of the spool: what they have not read yet is safe in their files, and other kinds keep
/// their room.
const INPUTS_SHARE: u64 = 2;

/// Records of this host that some group, or the broker, has yet to take.
#[derive(Debug)]
pub struct Outbox {
    host: HostName,
    boot: BootId,
    began: Instant,
    max_bytes: u64,
    max_age: Duration,
    /// In the order of [`Kind::ALL`].
    shelves: Vec<Shelf>,
    sender: Sender,
    counts: [Counts; Kind::ALL.len()],
    /// The most valuable kind that found no room since the keeper looked.
    pressed: Option<Kind>,
    /// Records that can't be passed over before their loss is on disk: version, kind, indices.
    missing: Vec<(u64, Kind, u64, u64)>,
    /// Records that the keeper halves.
    to_halve: Vec<Whole>,
    /// Why records can't be read now; said once.
    unreadable: Option<String>,
    /// A group that is one too many; said once.
    turned_away: Option<GroupName>,
    /// The spool was removed: why nothing more is taken.
    gone: Option<String>,
    /// Up to where inputs have read.
    positions: Positions,
    audit: Audit,
}

/// What became of the records of one kind since the agent started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Made.
    pub made: u64,
    /// Handed to the broker again, because no group confirmed them in time.
    pub retransmitted: u64,
    /// Publishes that the broker acknowledged. That is not their delivery.
    pub acknowledged: u64,
    /// Committed by every group that takes the kind; where there is no group, taken by the broker.
    pub freed: u64,
    /// Declared lost.
    pub declared: u64,
    /// Never got into the spool.
    pub refused: u64,
}

/// A record to hand to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Names the publish.
    pub id: u64,
    /// The run that made it.
    pub boot: BootId,
    /// Its kind.
    pub kind: Kind,
    /// Its number.
    pub seq: u64,
    /// The encoded record.
    pub payload: Bytes,
}

/// What becomes of a record that the broker never takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its halves go instead.
    Halved,
    /// It is declared lost.
    Declared,
    /// No more losses can be declared before groups have booked those that are: it stays, and is tried again.
    Waits,
}

/// A record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// The spool is at its bound, or the disk is full.
    #[error("the spool is full ({0}); try again when the exporters have caught up, or raise `spool.max_bytes`")]
    Full(String),
    /// It alone is larger than a record may be.
    #[error("a record of {0} bytes is larger than {1}, the most that one may have; send less at a time")]
    Large(usize, usize),
    /// The disk does not take it.
    #[error("{0}")]
    Disk(String),
}

/// A kind's part of the spool, for `/metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Depth {
    /// Bytes on disk.
    pub bytes: u64,
    /// Records that some group, or the broker, has yet to take.
    pub records: u64,
    /// How old the oldest one is, in seconds.
    pub oldest_seconds: f64,
}

impl Outbox {
    fn now(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn shelf(&mut self, kind: Kind) -> &mut Shelf {
        // One for each kind, in their order.
        &mut self.shelves[kind as usize]
    }

    fn bytes(&self) -> u64 {
        self.shelves.iter().map(|shelf| shelf.log.bytes()).sum()
    }

    fn largest_record(&self) -> usize {
        MAX_RECORD.min(usize::try_from(self.max_bytes / 4).unwrap_or(usize::MAX))
    }

    fn put<B: Body>(&mut self, time: Timestamp, mut body: B) -> Result<u64, PutError> {
        let kind = B::KIND;
        let seq = self.shelf(kind).next_seq();
        let head = Head { v: VERSION, host: self.host.clone(), boot: Some(self.boot.clone()), seq: Some(seq), time };
        let chain = self.audit.chain(body.log_records());
        let put = self.put_numbered(kind, seq, &wire::encode(&Record { head, body }));
        if let (Ok(_), Some(chain)) = (&put, chain) {
            self.audit.put(chain, time);
        }
        put
    }

    fn put_numbered(&mut self, kind: Kind, seq: u64, payload: &[u8]) -> Result<u64, PutError> {
        let put = self.put_encoded(kind, b"", payload);
        let counts = &mut self.counts[kind as usize];
        match put {
            Ok(()) => counts.made += 1,
            Err(_) => counts.refused += 1,
        }
        put?;
        self.sender.appended(kind, seq);
        Ok(seq)
    }

    /// `records`: log records as JSON, with commas between them.
    fn put_read(&mut self, time: Timestamp, records: &[u8], moves: &Moves) -> Result<u64, PutError> {
        let kind = Kind::Logs;
        let seq = self.shelf(kind).next_seq();
        let head = Head { v: VERSION, host: self.host.clone(), boot: Some(self.boot.clone()), seq: Some(seq), time };
        let chained = self.audit.chain_encoded(records);
        let records = chained.as_ref().map_or(records, |(records, _)| records);
        let mut payload = wire::encode(&Record { head, body: Logs { records: Vec::new() } });
        // Between the brackets of the empty list, which is the last that there is.
        payload.truncate(payload.len().saturating_sub(2));
        payload.reserve_exact(records.len() + 2);
        payload.extend_from_slice(records);
        payload.extend_from_slice(b"]}");
        let share = self.max_bytes / INPUTS_SHARE;
        if self.shelf(kind).log.bytes() + payload.len() as u64 > share {
            return Err(PutError::Full(format!("log inputs have {share} bytes of it")));
        }
        let index = self.shelf(kind).log.next();
        self.put_encoded(kind, &positions::header(moves), &payload)?;
        self.counts[kind as usize].made += 1;
        self.positions.appended(index, moves);
        self.sender.appended(kind, seq);
        if let Some((_, chain)) = chained {
            self.audit.put(chain, time);
        }
        Ok(seq)
    }

    /// A kind found no room.
    fn press(&mut self, kind: Kind) {
        if self.pressed.is_none_or(|pressed| pressed.worth() < kind.worth()) {
            self.pressed = Some(kind);
        }
    }

    fn put_encoded(&mut self, kind: Kind, head: &[u8], payload: &[u8]) -> Result<(), PutError> {
        if let Some(gone) = &self.gone {
            return Err(PutError::Disk(gone.clone()));
        }
        let most = self.largest_record();
        let bytes = head.len() + payload.len();
        if bytes > most {
            return Err(PutError::Large(bytes, most));
        }
        if self.bytes() + bytes as u64 > self.max_bytes {
            // What inputs read stays where they read it.
            if !positions::is_header(head) {
                self.press(kind);
            }
            return Err(PutError::Full(format!("{} bytes", self.max_bytes)));
        }
        self.shelf(kind).put(head, payload).map_err(|error| match error {
            AppendError::NoSpace(_) => {
                // Who fills the disk also takes what is given up here, until nothing is left; who pushes can try again.
                if head == HALF || !matches!(kind, Kind::Logs | Kind::Pipeline) {
                    self.press(kind);
                }
                PutError::Full(error.to_string())
            }
            AppendError::TooLarge { bytes, most } => PutError::Large(bytes, most),
            AppendError::Io { .. } => PutError::Disk(error.to_string()),
        })
    }

    /// The next record for the broker, if one is due.
    pub fn take(&mut self) -> Option<Outgoing> {
        let now = self.now();
        while let Some(publish) = self.sender.next(now) {
            match self.shelf(publish.kind).read(&publish.boot, publish.seq) {
                Ok(payload) => {
                    self.unreadable = None;
                    self.counts[publish.kind as usize].retransmitted += u64::from(publish.again);
                    let delivery::sender::Publish { id, boot, kind, seq, .. } = publish;
                    return Some(Outgoing { id, boot, kind, seq, payload });
                }
                Err(Unreadable::Gone(from, to)) => {
                    warn!(
                        "{} records of the spool are damaged: {} of them are declared lost",
                        publish.kind,
                        to - from + 1
                    );
                    self.missing(publish.kind, from, to);
                }
                Err(Unreadable::Later(error)) => {
                    // As one that the broker did not answer: it is due again after a while.
                    let why = error.to_string();
                    if self.unreadable.as_ref() != Some(&why) {
                        warn!("{why}; it is tried again");
                    }
                    self.unreadable = Some(why);
                }
            }
        }
        None
    }

    /// Declares records that are no longer there.
    fn missing(&mut self, kind: Kind, from: u64, to: u64) {
        for (boot, from, to) in self.shelves[kind as usize].seqs(from, to) {
            let _version = self.sender.missing(&Loss { boot, kind, from, to, reason: LossReason::Corrupt });
            self.counts[kind as usize].declared += to - from + 1;
        }
        self.missing.push((self.sender.version(), kind, from, to));
    }

    /// Whether the moment has come to say the host's status anew.
    pub fn status_due(&self) -> bool {
        self.sender.status_due(self.now())
    }

    /// It was said.
    pub fn status_sent(&mut self) {
        let now = self.now();
        self.sender.status_sent(now);
    }

    /// What the host's status says of delivery.
    pub fn status(&self) -> delivery::sender::Waiting {
        self.sender.status()
    }

    /// When [`Outbox::take`] or [`Outbox::status_due`] may have something, if nothing happens before.
    pub fn wake_at(&self) -> Option<Instant> {
        let at = self.sender.wake_at(self.now());
        (at != Millis::NEVER).then(|| self.began + Duration::from_millis(at.0.min(1 << 40)))
    }

    /// The connection stands.
    pub fn connected(&mut self) {
        self.sender.connected();
    }

    /// What the broker knows of groups arrives now.
    pub fn subscribed(&mut self) {
        let now = self.now();
        self.sender.subscribed(now);
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        let now = self.now();
        self.sender.disconnected(now);
    }

    /// The broker took a publish.
    pub fn acknowledged(&mut self, id: u64, kind: Option<Kind>) {
        if let Some(kind) = kind {
            self.counts[kind as usize].acknowledged += 1;
        }
        let now = self.now();
        self.sender.puback(id, now);
    }

    /// A publish did not reach the broker.
    pub fn lost(&mut self, id: u64) {
        let now = self.now();
        self.sender.lost(id, now);
    }

    /// An exporter announced itself.
    pub fn tier_status(&mut self, status: &TierStatus) {
        self.sender.tier_status(status);
        let unknown = |name: &GroupName| self.sender.groups().all(|(known, _)| known != name);
        if status.durable
            && self.turned_away.is_none()
            && self.sender.groups().count() >= MOST_GROUPS
            && unknown(&status.group)
        {
            warn!(
                "{MOST_GROUPS} groups of exporters are waited for, and no more can be: the group {} is not; `utilizer group \
                 retire` gives up those that are gone, and the broker's access rules should let only exporters announce one",
                status.group
            );
            self.turned_away = Some(status.group.clone());
        }
    }

    /// An exporter says what it has.
    pub fn confirmed(&mut self, group: &GroupName, member: &MemberName, said: &Confirmation) {
        let now = self.now();
        self.sender.confirmation(group, member, said, now);
    }

    /// A group is gone for good.
    pub fn retire(&mut self, group: &GroupName, at: Timestamp) {
        self.sender.retire(group, at);
    }

    /// The broker never takes this record: its halves go under numbers of their own, and the number is declared lost.
    ///
    /// Halves reach every group. What one has taken already, from a broker that takes larger packets, would come to it
    /// twice, so that such a record is lost to the others.
    pub fn refused(&mut self, boot: &BootId, kind: Kind, seq: u64, reason: LossReason) -> Refused {
        if !self.sender.can_declare() {
            return Refused::Waits;
        }
        let large = reason == LossReason::TooLarge && !self.sender.arrived(boot, kind, seq);
        if large && self.has_halves(boot, kind, seq) {
            let whole = (boot.clone(), kind, seq);
            if self.to_halve.len() < WINDOW && !self.to_halve.contains(&whole) {
                self.to_halve.push(whole);
            }
            return Refused::Halved;
        }
        self.note_lost(boot, kind, seq, seq);
        self.give_up(&Loss { boot: boot.clone(), kind, from: seq, to: seq, reason });
        Refused::Declared
    }

    /// Declares records that stand in the spool, and has them passed over once that is on disk.
    fn give_up(&mut self, loss: &Loss) {
        let Loss { boot, kind, from, to, .. } = loss;
        let before = self.sender.unfreed(*kind);
        let _version = self.sender.evicted(loss);
        self.counts[*kind as usize].declared += before.saturating_sub(self.sender.unfreed(*kind));
        let shelf = &self.shelves[*kind as usize];
        if let (Some(from), Some(to)) = (shelf.index_of(boot, *from), shelf.index_of(boot, *to)) {
            self.missing.push((self.sender.version(), *kind, from, to));
        }
    }

    /// Records that were not freed.
    pub fn len(&self) -> u64 {
        Kind::ALL.into_iter().map(|kind| self.sender.unfreed(kind)).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bound of all kinds together, in bytes.
    pub fn limit(&self) -> u64 {
        self.max_bytes
    }

    /// What became of the records of a kind.
    pub fn counts(&self, kind: Kind) -> Counts {
        self.counts[kind as usize]
    }

    /// How much of a kind there is.
    pub fn depth(&mut self, kind: Kind, now: Timestamp) -> Depth {
        let records = self.sender.unfreed(kind);
        let shelf = self.shelf(kind);
        let made = if records > 0 { shelf.oldest_ms().filter(|made| *made >= SET_CLOCK) } else { None };
        let age = made.map_or(0, |made| (now.as_millis().max(0) as u64).saturating_sub(made));
        Depth { bytes: shelf.log.bytes(), records, oldest_seconds: age as f64 / 1000.0 }
    }

    /// The groups that are waited for, and whether each looks online.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupName, bool)> {
        self.sender.groups()
    }

    /// The host that the records are of.
    pub fn host(&self) -> &HostName {
        &self.host
    }

    /// This run of the agent.
    pub fn boot(&self) -> &BootId {
        &self.boot
    }
}

/// The outbox as everyone sees it: put into from anywhere, emptied by the publisher, kept on disk by the keeper.
#[derive(Clone)]
pub struct Post {
    outbox: Arc<Mutex<Outbox>>,
    wake: Arc<Notify>,
    bell: Arc<Bell>,
}

impl Post {
    /// Numbers a record and puts it into the spool. Without room, the oldest metrics go, for the next one; a push gets
    /// [`PutError::Full`], since whoever pushes can try again. At the spool's bound what is less valuable makes room for
    /// it; on a full disk nothing does.
    pub fn put<B: Body>(&self, time: Timestamp, body: B) -> Result<u64, PutError> {
        let put = self.lock().put(time, body);
        self.bell.ring();
        self.wake.notify_one();
        put
    }

    /// Puts a record of what inputs read, together with the places up to which they have read now: after any crash both
    /// are there or neither is. `records` are encoded log records with commas between them. It displaces nothing, and log
    /// inputs have half of the spool.
    pub fn put_read(&self, time: Timestamp, records: &[u8], moves: &Moves) -> Result<u64, PutError> {
        let put = self.lock().put_read(time, records, moves);
        self.bell.ring();
        self.wake.notify_one();
        put
    }

    /// Takes down places that moved without a record; they are on the disk some seconds later, or with `urgent` within one.
    pub fn note(&self, moves: &Moves, urgent: bool) {
        self.lock().positions.note(moves, urgent);
        self.bell.ring();
    }

    /// The places of the streams whose names begin so.
    pub fn positions(&self, beginning: &str) -> Vec<(String, String)> {
        self.lock().positions.of(beginning)
    }

    /// Waits until the disk has all records of a kind.
    pub fn sync(&self, kind: Kind) -> io::Result<()> {
        let syncer = {
            let mut outbox = self.lock();
            let log = &mut outbox.shelf(kind).log;
            if log.synced() == log.next() {
                return Ok(());
            }
            log.sync_handle()
        };
        syncer.run()?;
        self.lock().shelf(kind).log.mark_synced(syncer);
        Ok(())
    }

    /// The place in its log that the next record of a kind gets. It grows over restarts for as long as the folder stays, and
    /// goes back where a crash of the machine took records that were not synced.
    pub fn next_place(&self, kind: Kind) -> u64 {
        self.lock().shelf(kind).log.next()
    }

    /// The outbox itself, for a moment.
    pub fn lock(&self) -> MutexGuard<'_, Outbox> {
        // No holder leaves it half changed on a panic: every method ends its change before anything can fail.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when there may be something to publish.
    pub async fn news(&self) {
        self.wake.notified().await;
    }

    /// There may be something for the keeper.
    pub fn ring(&self) {
        self.bell.ring();
    }
}
