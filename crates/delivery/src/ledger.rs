//! What a group has of a host: the numbers that are in its store, and those that the host declared lost.

use std::collections::{BTreeMap, BTreeSet};

use wire::messages::Loss;
use wire::{BootId, HostName, Kind, Ranges, Timestamp};

use crate::Identity;

/// The largest number that a ledger holds: stores count in signed 64-bit integers, and name the end of a range by the
/// number after it. A record with a larger number has no identity.
pub const MOST_SEQ: u64 = i64::MAX as u64 - 1;

/// The least id that a run can have, of the least character that stands in one.
const FIRST_BOOT: &str = "-";

/// What an [`Entry`] is kept for. Sorted by host first, as stores sort it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The host.
    pub host: HostName,
    /// The agent's run.
    pub boot: BootId,
    /// The kind.
    pub kind: Kind,
}

impl Identity {
    /// The entry that it belongs to.
    pub fn key(&self) -> Key {
        Key { host: self.host.clone(), boot: self.boot.clone(), kind: self.kind }
    }
}

/// The numbers of one (host, boot, kind). The two sets have no number in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// In the store.
    pub committed: Ranges,
    /// Declared lost, and not in the store. A copy that arrives all the same is written, and leaves this set.
    pub lost: Ranges,
}

impl Entry {
    /// Whether a record of this number is still to be written.
    pub fn is_new(&self, seq: u64) -> bool {
        !self.committed.contains(seq)
    }

    /// Books a record as written; `false` if it was booked before.
    pub fn commit(&mut self, seq: u64) -> bool {
        let new = self.is_new(seq);
        self.committed.insert(seq);
        self.lost.remove_range(seq, seq);
        new
    }

    /// Books the numbers from `from` to `to`, both included, as lost, but those that are in the store.
    pub fn lose(&mut self, from: u64, to: u64) {
        self.lost.insert_range(from, to);
        self.lost.subtract(&self.committed);
    }

    /// What a host need not keep any longer.
    pub fn union(&self) -> Ranges {
        let mut union = self.committed.clone();
        union.add(&self.lost);
        union
    }
}

/// Whether a run has left the spool of its host, so that nothing of it will be sent again: a status of a later run is known
/// and does not name it. Without a status nothing can be said, and an old status says nothing of a run that came after it.
/// `named` are the runs that the status names, its own among them; ids of runs are ordered by time.
pub fn gone(named: Option<&BTreeSet<BootId>>, boot: &BootId) -> bool {
    named.is_some_and(|named| named.last().is_some_and(|latest| latest > boot) && !named.contains(boot))
}

/// A ledger that a member keeps beside its spool, for stores without transactions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeMap<Key, (Entry, Timestamp)>,
}

impl Ledger {
    /// An entry as it stood on disk, and when it was last changed. Sets of the same key are united.
    pub fn restore(&mut self, key: Key, entry: &Entry, touched: Timestamp) {
        let (into, at) = self.entries.entry(key).or_insert_with(|| (Entry::default(), touched));
        into.committed.add(&entry.committed);
        into.lost.add(&entry.lost);
        into.lost.subtract(&into.committed);
        *at = touched.max(*at);
    }

    /// Takes over what another ledger has.
    pub fn unite(&mut self, other: &Ledger) {
        other.iter().for_each(|(key, entry, touched)| self.restore(key.clone(), entry, touched));
    }

    /// All entries, and when each was last changed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Entry, Timestamp)> {
        self.entries.iter().map(|(key, (entry, touched))| (key, entry, *touched))
    }

    /// Whether a record is still to be written.
    pub fn is_new(&self, record: &Identity) -> bool {
        self.entries.get(&record.key()).is_none_or(|(entry, _)| entry.is_new(record.seq))
    }

    /// Books a record as written; `false` if it was booked before.
    pub fn commit(&mut self, record: &Identity, now: Timestamp) -> bool {
        let (entry, touched) = self.entries.entry(record.key()).or_insert_with(|| (Entry::default(), now));
        *touched = now;
        entry.commit(record.seq)
    }

    /// Books a host's loss, but for what is in the store; `false` if that was booked before.
    pub fn lose(&mut self, host: &HostName, loss: &Loss, now: Timestamp) -> bool {
        let key = Key { host: host.clone(), boot: loss.boot.clone(), kind: loss.kind };
        let (entry, touched) = self.entries.entry(key).or_insert_with(|| (Entry::default(), now));
        let before = entry.lost.clone();
        entry.lose(loss.from, loss.to);
        *touched = now;
        before != entry.lost
    }

    /// The entries of a host.
    pub fn of(&self, host: &HostName) -> Vec<(Key, Entry)> {
        // Sorted by host first; no boot id is less than the first one.
        let Ok(boot) = FIRST_BOOT.parse() else { return Vec::new() };
        let first = Key { host: host.clone(), boot, kind: Kind::ALL.into_iter().min().unwrap_or(Kind::Metrics) };
        let of_host = self.entries.range(first..).take_while(|(key, _)| key.host == *host);
        of_host.map(|(key, (entry, _))| (key.clone(), entry.clone())).collect()
    }

    /// Forgets entries that nothing has changed since `until` and of which `gone` says that their run is in no spool any
    /// more ([`gone`]). Gives their keys.
    pub fn forget(&mut self, until: Timestamp, gone: impl Fn(&HostName, &BootId) -> bool) -> Vec<Key> {
        let mut forgotten = Vec::new();
        self.entries.retain(|key, (_, touched)| {
            let forget = *touched < until && gone(&key.host, &key.boot);
            if forget {
                forgotten.push(key.clone());
            }
            !forget
        });
        forgotten
    }

    /// How many ranges it keeps: what its memory depends on.
    pub fn size(&self) -> usize {
        self.entries.values().map(|(entry, _)| 1 + entry.committed.len() + entry.lost.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(ranges: &Ranges) -> Vec<(u64, u64)> {
        ranges.iter().collect()
    }

    #[test]
    fn a_run_is_gone_when_a_later_one_says_so() {
        let named = |boots: &[&str]| boots.iter().map(|boot| boot.parse().unwrap()).collect::<BTreeSet<BootId>>();
        let boot = |boot: &str| boot.parse::<BootId>().unwrap();
        assert!(!gone(None, &boot("b2")), "no status is no evidence");
        assert!(!gone(Some(&named(&["b1"])), &boot("b2")), "an old status says nothing of a later run");
        assert!(!gone(Some(&named(&["b2", "b3"])), &boot("b2")));
        assert!(gone(Some(&named(&["b3"])), &boot("b2")));
    }

    #[test]
    fn a_late_copy_leaves_the_lost() {
        let mut entry = Entry::default();
        assert!(entry.commit(1));
        assert!(entry.commit(5));
        assert!(!entry.commit(5));
        entry.lose(1, 7);
        assert_eq!((pairs(&entry.committed), pairs(&entry.lost)), (vec![(1, 1), (5, 5)], vec![(2, 4), (6, 7)]));
        assert!(entry.is_new(3), "what is lost may still come");
        assert!(entry.commit(3));
        assert_eq!(pairs(&entry.lost), [(2, 2), (4, 4), (6, 7)]);
        assert_eq!(pairs(&entry.union()), [(1, 7)]);
    }
}
