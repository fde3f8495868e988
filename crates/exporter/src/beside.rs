//! The ledger and the fixed batch of a store that has no transaction over its rows and a ledger.
//!
//! In the folder `ledger` of the spool stands a log of changes ([`spool::Log`]), each a JSON object: a batch that was
//! fixed, one that was booked, losses, entries that were forgotten. Each is synced before anything follows from it. Beside
//! it, `ledger.state` holds all of it up to one of these changes; it is written anew when the log has grown, which is
//! then trimmed. Reading the state and then the changes after it gives the ledger as it was.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use delivery::Identity;
use delivery::fixed::{Candidate, Fixed, FixedBatch};
use delivery::ledger::{Entry, Key, Ledger};
use serde::{Deserialize, Serialize};
use spool::{AppendError, Log, Reader};
use wire::messages::Loss;
use wire::{BootId, HostName, Kind, Ranges, Timestamp};

use crate::frame::Frame;
use crate::intake;
use crate::map::Rules;
use crate::rows::Record;

/// The state's name.
const STATE: &str = "ledger";

/// The log of changes is folded into the state when it has so many bytes.
const FOLD_BYTES: u64 = 8 << 20;

/// A change that is larger is cut: entries of one batch are not.
const MOST_CHANGE: usize = 32 << 20;

/// A change in the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// A batch, before anything of it is sent.
    Fixed(FixedBatch),
    /// It is written: these are committed, and everything below this index of the spool is done with.
    Booked { at: Timestamp, below: u64, committed: Vec<(HostName, BootId, Kind, Ranges)> },
    /// Declared losses.
    Lost { at: Timestamp, lost: Vec<(HostName, Loss)> },
    /// Entries that are gone.
    Forgotten(Vec<(HostName, BootId, Kind)>),
}

/// Everything up to a change.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// The first change that is not in it.
    changes: u64,
    /// Everything in the spool below this is written.
    pub(crate) below: u64,
    pub(crate) fixed: Option<FixedBatch>,
    /// Committed, lost, and when it was touched.
    entries: Vec<(HostName, BootId, Kind, Ranges, Ranges, Timestamp)>,
}

impl State {
    /// The index of the spool that nothing in here goes beyond.
    fn end(&self) -> u64 {
        self.below.max(self.fixed.as_ref().map_or(0, |batch| batch.to))
    }

    /// Lets go of the places from this one: other records will stand there, which must be neither taken for written nor
    /// for those of the batch.
    fn cut(&mut self, end: u64) {
        self.below = self.below.min(end);
        if let Some(batch) = &mut self.fixed {
            (batch.from, batch.to) = (batch.from.min(end), batch.to.min(end));
            for part in &mut batch.parts {
                part.records.remove_range(end, u64::MAX);
            }
            batch.parts.retain(|part| !part.records.is_empty());
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Beside {
    folder: PathBuf,
    log: Log,
    ledger: Ledger,
    /// The batch that is on its way.
    pub(crate) fixed: Fixed,
    below: u64,
    spool: Reader,
}

impl Beside {
    /// Opens what is in the folder. `spool` reads the records that a fixed batch consists of; `end` is the index that its
    /// next record gets.
    pub(crate) fn open(folder: &Path, spool: Reader, end: u64) -> Result<Self, String> {
        let (log, ledger, mut state) = load(folder)?;
        let cut = state.end() > end;
        if cut {
            tracing::error!(
                "the spool around {} lost its end, or is another one: it goes on at {end}, and was written up to {}; \
                 hosts that number their records send again what is missing",
                folder.display(),
                state.end()
            );
            state.cut(end);
        }
        let mut beside =
            Self { folder: folder.to_owned(), log, ledger, fixed: Fixed::default(), below: state.below, spool };
        if let Some(batch) = state.fixed {
            // Part of it may be booked: losses and batches share the ledger, but no batch is booked in parts.
            beside.fixed = Fixed::resume(batch, &Ranges::default());
        }
        if cut {
            // The next start finds a spool that has grown, and what stands in the changes would hold again.
            beside.fold().map_err(|error| format!("can't write the ledger in {}: {error}", folder.display()))?;
        }
        Ok(beside)
    }

    /// Nothing below this index of the spool is to be read again; a fixed batch is read by its own.
    pub(crate) fn written_below(&self) -> u64 {
        self.below.max(self.fixed.batch().map_or(0, |batch| batch.to))
    }

    /// Fixes a batch of records at these indices; nothing is on the disk yet.
    pub(crate) fn fix(&mut self, indices: &[u64], records: &[Record]) {
        let (Some(first), Some(last)) = (indices.first(), indices.last()) else { return };
        let candidates: Vec<_> = indices
            .iter()
            .zip(records)
            .map(|(place, record)| Candidate {
                place: *place,
                kind: record.origin.kind,
                identity: record.origin.identity(),
            })
            .collect();
        let token = uuid::Uuid::new_v4().simple().to_string();
        self.fixed.fix(token, SystemTime::now().into(), (*first, last + 1), &candidates, &self.ledger);
    }

    /// Puts the fixed batch on the disk.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        let Some(batch) = self.fixed.batch().cloned() else { return Ok(()) };
        self.change(&Change::Fixed(batch))?;
        self.fixed.saved();
        Ok(())
    }

    /// Books all records of the fixed batch, which ends it.
    pub(crate) fn book(&mut self, records: &[Identity], below: u64) -> io::Result<()> {
        let mut committed: BTreeMap<Key, Ranges> = BTreeMap::new();
        for record in records {
            committed.entry(record.key()).or_default().insert(record.seq);
        }
        let at: Timestamp = SystemTime::now().into();
        let committed = committed.into_iter().map(|(key, ranges)| (key.host, key.boot, key.kind, ranges)).collect();
        self.change(&Change::Booked { at, below, committed })?;
        for record in records {
            self.ledger.commit(record, at);
        }
        self.below = self.below.max(below);
        self.fixed.booked();
        if self.log.bytes() > FOLD_BYTES
            && let Err(error) = self.fold()
        {
            // The batch is booked all the same, and the next one tries it again.
            tracing::warn!("the changes of the ledger in {} were not folded: {error}", self.folder.display());
        }
        Ok(())
    }

    /// Books declared losses.
    pub(crate) fn lose(&mut self, lost: &[(HostName, Loss)]) -> io::Result<()> {
        let at: Timestamp = SystemTime::now().into();
        for lost in lost.chunks(10_000) {
            self.change(&Change::Lost { at, lost: lost.to_vec() })?;
            for (host, loss) in lost {
                self.ledger.lose(host, loss, at);
            }
        }
        Ok(())
    }

    /// The entries of these hosts.
    pub(crate) fn entries(&self, hosts: &[HostName]) -> Vec<(Key, Entry)> {
        hosts.iter().flat_map(|host| self.ledger.of(host)).collect()
    }

    /// Removes entries that nothing touched since then and whose run no status names. Gives how many.
    pub(crate) fn forget(&mut self, since: Timestamp, named: &[(HostName, BootId)]) -> io::Result<u64> {
        let mut boots: BTreeMap<&HostName, std::collections::BTreeSet<BootId>> = BTreeMap::new();
        for (host, boot) in named {
            boots.entry(host).or_default().insert(boot.clone());
        }
        let gone = self.ledger.forget(since, |host, boot| delivery::ledger::gone(boots.get(host), boot));
        let count = gone.len() as u64;
        let gone: Vec<_> = gone.into_iter().map(|key| (key.host, key.boot, key.kind)).collect();
        for gone in gone.chunks(10_000) {
            self.change(&Change::Forgotten(gone.to_vec()))?;
        }
        Ok(count)
    }

    /// The records of the fixed batch, read from the spool; those that can't be read any more are missing.
    pub(crate) fn records(&mut self, kinds: &[Kind], rules: &Rules) -> BTreeMap<u64, Record> {
        let Some((mut next, to)) = self.fixed.batch().map(|batch| (batch.from, batch.to)) else {
            return BTreeMap::new();
        };
        let mut buffer = Vec::new();
        let mut records = BTreeMap::new();
        while next < to {
            match self.spool.read(next, &mut buffer) {
                Ok(Some(entry)) => {
                    if let Ok(frame) = Frame::read(entry.head) {
                        records.insert(next, intake::take(&frame, entry.body, kinds, rules).record);
                    }
                    next += 1;
                }
                Ok(None) => break,
                Err(spool::ReadError::Gone { first }) if first > next => next = first,
                Err(spool::ReadError::Gap { to: last, .. }) if last >= next => next = last + 1,
                Err(error) => {
                    tracing::error!("record {next} of a batch that was on its way can't be read: {error}");
                    next += 1;
                }
            }
        }
        records
    }

    fn change(&mut self, change: &Change) -> io::Result<()> {
        let text = serde_json::to_vec(change).map_err(io::Error::other)?;
        // While nothing can be booked, nothing is trimmed: a disk that the spool itself has filled would stay full.
        self.log.append_in_need(&[], &text).map_err(|error| match error {
            AppendError::NoSpace(_) => io::Error::new(io::ErrorKind::StorageFull, error),
            error => io::Error::other(error),
        })?;
        // Not to be told from a full disk by whoever tries again: after a sync that failed nobody knows what is there.
        self.log.sync().map_err(io::Error::other)
    }

    /// Writes the state anew and trims the changes that are in it.
    fn fold(&mut self) -> io::Result<()> {
        let entries = self.ledger.iter().map(|(key, entry, touched)| {
            let Key { host, boot, kind } = key.clone();
            (host, boot, kind, entry.committed.clone(), entry.lost.clone(), touched)
        });
        let state = State {
            changes: self.log.next(),
            below: self.below,
            fixed: self.fixed.batch().cloned(),
            entries: entries.collect(),
        };
        let text = serde_json::to_vec(&state).map_err(io::Error::other)?;
        self.log.write_state(STATE, &text)?;
        self.log.trim(state.changes)
    }

    /// Takes over what another ledger has. Gives how many entries there are then.
    pub(crate) fn unite(&mut self, other: &Ledger) -> io::Result<usize> {
        self.ledger.unite(other);
        self.fold()?;
        Ok(self.ledger.iter().len())
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// What stands in a ledger's folder: the log, which locks it, the entries, and the rest of the state.
pub(crate) fn load(folder: &Path) -> Result<(Log, Ledger, State), String> {
    let options = spool::Options { segment_bytes: 4 << 20, reserve_bytes: 1 << 20, max_record: MOST_CHANGE };
    let (log, recovered) = Log::open(folder, options).map_err(|error| error.to_string())?;
    if recovered.torn_bytes > 0 {
        tracing::info!(
            bytes = recovered.torn_bytes,
            "cut off what a crash left unfinished at the end of the ledger in {}",
            folder.display()
        );
    }
    for bad in &recovered.bad_segments {
        tracing::error!("{} is damaged: records may be written twice", bad.path.display());
    }
    let damaged = |error: &dyn std::fmt::Display| {
        format!(
            "the ledger in {} can't be read: {error}. Moved away, the exporter starts without it, and records may be \
             written twice that hosts still send",
            folder.display()
        )
    };
    let mut state = match Log::read_state(folder, STATE).map_err(|error| damaged(&error))? {
        Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?,
        None => State::default(),
    };
    let mut ledger = Ledger::default();
    for (host, boot, kind, committed, lost, touched) in std::mem::take(&mut state.entries) {
        ledger.restore(Key { host, boot, kind }, &Entry { committed, lost }, touched);
    }
    let mut reader = log.reader();
    let mut buffer = Vec::new();
    let mut next = state.changes.max(log.first());
    while next < log.next() {
        match reader.read(next, &mut buffer) {
            Ok(Some(entry)) => {
                let change = serde_json::from_slice(entry.body).map_err(|error| damaged(&error))?;
                apply(change, &mut ledger, &mut state);
                next += 1;
            }
            Ok(None) => break,
            Err(spool::ReadError::Gone { first }) if first > next => next = first,
            Err(spool::ReadError::Gap { to, .. }) if to >= next => {
                tracing::error!("{} is damaged: records may be written twice", folder.display());
                next = to + 1;
            }
            Err(error) => return Err(damaged(&error)),
        }
    }
    Ok((log, ledger, state))
}

fn apply(change: Change, ledger: &mut Ledger, state: &mut State) {
    match change {
        Change::Fixed(batch) => state.fixed = Some(batch),
        Change::Booked { at, below, committed } => {
            for (host, boot, kind, ranges) in committed {
                ledger.restore(Key { host, boot, kind }, &Entry { committed: ranges, lost: Ranges::default() }, at);
            }
            state.below = state.below.max(below);
            state.fixed = None;
        }
        Change::Lost { at, lost } => {
            for (host, loss) in &lost {
                ledger.lose(host, loss, at);
            }
        }
        Change::Forgotten(keys) => {
            let mut kept = Ledger::default();
            let gone: std::collections::BTreeSet<_> =
                keys.into_iter().map(|(host, boot, kind)| Key { host, boot, kind }).collect();
            for (key, entry, touched) in ledger.iter().filter(|(key, ..)| !gone.contains(key)) {
                kept.restore(key.clone(), entry, touched);
            }
            *ledger = kept;
        }
    }
}

#[cfg(test)]
mod tests {
    use delivery::fixed::{Outcome, Step};

    use super::*;
    use crate::rows::{Origin, Rows};

    fn record(seq: u64) -> Record {
        let origin = Origin {
            host: "web-01".parse().unwrap(),
            kind: Kind::Logs,
            boot: Some("b1".parse().unwrap()),
            seq: Some(seq),
        };
        Record { origin, rows: Rows::Logs(crate::lines::LogRows::default()) }
    }

    fn open(folder: &Path) -> Beside {
        open_until(folder, u64::MAX)
    }

    fn open_until(folder: &Path, end: u64) -> Beside {
        let (spool, _) = Log::open(&folder.join("spool"), spool::Options::default()).unwrap();
        Beside::open(&folder.join("spool/ledger"), spool.reader(), end).unwrap()
    }

    fn committed(beside: &Beside) -> Vec<(u64, u64)> {
        let entries = beside.entries(&["web-01".parse().unwrap()]);
        entries.iter().flat_map(|(_, entry)| entry.committed.iter().collect::<Vec<_>>()).collect()
    }

    #[test]
    fn a_batch_survives_from_the_fixing_to_the_booking() {
        let folder = tempfile::tempdir().unwrap();
        let records: Vec<_> = [1, 2, 2, 3].map(record).into();
        let mut beside = open(folder.path());
        beside.fix(&[5, 6, 7, 8], &records);
        assert_eq!(beside.fixed.step(), Step::Save);
        drop(beside);
        let mut beside = open(folder.path());
        assert_eq!((beside.fixed.step(), beside.written_below()), (Step::Idle, 0));

        beside.fix(&[5, 6, 7, 8], &records);
        beside.save().unwrap();
        let Step::Insert(part) = beside.fixed.step() else { panic!("{:?}", beside.fixed.step()) };
        assert_eq!(part.records.iter().collect::<Vec<_>>(), [(5, 6), (8, 8)], "the copy is left out");
        let token = part.token.clone();
        drop(beside);
        let mut beside = open(folder.path());
        assert_eq!(beside.written_below(), 9);
        let Step::LookUp(part) = beside.fixed.step() else { panic!("{:?}", beside.fixed.step()) };
        assert_eq!(part.token, token);
        beside.fixed.looked_up(&[true; 3]);
        assert_eq!(beside.fixed.step(), Step::Book { from: 5, to: 9 });
        let identities: Vec<_> = records.iter().filter_map(|record| record.origin.identity()).collect();
        beside.book(&identities, 9).unwrap();
        drop(beside);
        let mut beside = open(folder.path());
        assert_eq!((beside.fixed.step(), beside.written_below()), (Step::Idle, 9));
        assert_eq!(committed(&beside), [(1, 3)]);
        // Everything known: booked without an insert.
        beside.fix(&[9], &[record(2)]);
        assert_eq!(beside.fixed.step(), Step::Book { from: 9, to: 10 });
    }

    #[test]
    fn the_changes_fold_into_the_state() {
        let folder = tempfile::tempdir().unwrap();
        let mut beside = open(folder.path());
        let host: HostName = "web-01".parse().unwrap();
        for seq in 1..=10 {
            beside.fix(&[seq], &[record(seq * 2)]);
            beside.save().unwrap();
            beside.fixed.inserted(delivery::fixed::Outcome::Written);
            beside.book(&[record(seq * 2).origin.identity().unwrap()], seq + 1).unwrap();
            if seq == 5 {
                beside.fold().unwrap();
            }
        }
        let loss = Loss {
            boot: "b1".parse().unwrap(),
            kind: Kind::Logs,
            from: 1,
            to: 3,
            reason: wire::messages::LossReason::Full,
        };
        beside.lose(&[(host.clone(), loss)]).unwrap();
        let before = beside.entries(std::slice::from_ref(&host));
        beside.fix(&[11], &[record(99)]);
        beside.save().unwrap();
        beside.fold().unwrap();
        drop(beside);
        let mut beside = open(folder.path());
        assert_eq!(beside.entries(std::slice::from_ref(&host)), before);
        assert_eq!(beside.written_below(), 12);
        assert!(matches!(beside.fixed.step(), Step::LookUp(_)));
        let later: Timestamp = "2099-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(beside.forget(later, &[]).unwrap(), 0, "of a host without a status nothing is known");
        assert_eq!(beside.forget(later, &[(host.clone(), "b1".parse().unwrap())]).unwrap(), 0);
        assert_eq!(beside.forget(later, &[(host.clone(), "b2".parse().unwrap())]).unwrap(), 1);
        drop(beside);
        assert!(open(folder.path()).entries(&[host]).is_empty());
    }

    /// Its places would be given to other records, which would count as written.
    #[test]
    fn a_spool_that_lost_its_end_is_written_from_where_it_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let records: Vec<_> = [1, 2, 3].map(record).into();
        let mut beside = open(folder.path());
        beside.fix(&[0, 1, 2], &records);
        beside.save().unwrap();
        beside.fixed.inserted(Outcome::Written);
        beside.book(&[], 3).unwrap();
        beside.fix(&[3, 4, 5], &[4, 5, 6].map(record));
        beside.save().unwrap();
        drop(beside);
        let beside = open_until(folder.path(), 4);
        assert_eq!(beside.written_below(), 4);
        let batch = beside.fixed.batch().unwrap();
        assert_eq!((batch.from, batch.to, &batch.parts[0].records), (3, 4, &Ranges::of(3, 3)));
        drop(beside);
        let beside = open_until(folder.path(), 2);
        assert_eq!(beside.written_below(), 2);
        assert_eq!(beside.fixed.step(), Step::Book { from: 2, to: 2 });
        drop(beside);
        let mut beside = open_until(folder.path(), 20);
        assert_eq!(beside.written_below(), 2);
        assert_eq!(beside.fixed.step(), Step::Book { from: 2, to: 2 });
        beside.book(&[], 2).unwrap();
        drop(beside);
        assert_eq!(open(folder.path()).written_below(), 2);
    }

    #[test]
    fn a_damaged_ledger_is_not_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut beside = open(folder.path());
        beside.fold().unwrap();
        drop(beside);
        let state = folder.path().join("spool/ledger/ledger.state");
        let text = std::fs::read(&state).unwrap();
        std::fs::write(&state, &text[1..]).unwrap();
        let (spool, _) = Log::open(&folder.path().join("other"), spool::Options::default()).unwrap();
        let error = Beside::open(&folder.path().join("spool/ledger"), spool.reader(), 0).unwrap_err();
        assert!(error.contains("can't be read") && error.contains("written twice"), "{error}");
    }
}
