//! What a group has of a host: the numbers that are in its store, and those that the host declared lost.

use wire::{BootId, HostName, Kind, Ranges};

use crate::Identity;

/// The largest number that a ledger holds: stores count in signed 64-bit integers, and name the end of a range by the
/// number after it. A record with a larger number has no identity.
pub const MOST_SEQ: u64 = i64::MAX as u64 - 1;

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
        for (from, to) in self.committed.iter() {
            self.lost.remove_range(from, to);
        }
    }

    /// What a host need not keep any longer.
    pub fn union(&self) -> Ranges {
        let mut union = self.committed.clone();
        for (from, to) in self.lost.iter() {
            union.insert_range(from, to);
        }
        union
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(ranges: &Ranges) -> Vec<(u64, u64)> {
        ranges.iter().collect()
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
