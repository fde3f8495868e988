//! Things found again by what they were called in the round before.
//!
//! A pass over a host brings the same samples in the same order, but for a few. So each entry remembers which one came
//! after it: comparing with that one finds nearly all, without hashing or allocating.

use std::collections::HashMap;
use std::sync::Arc;

/// No entry.
const NONE: u32 = u32::MAX;

/// Ends a part of a key. No text in UTF-8 holds it.
const END: u8 = 0xff;

#[derive(Debug)]
struct Entry<T> {
    key: Arc<[u8]>,
    /// The entry that came after this one.
    next: u32,
    /// The round that had it last.
    seen: u64,
    value: T,
}

/// Entries by key.
#[derive(Debug)]
pub(super) struct Table<T> {
    entries: Vec<Option<Entry<T>>>,
    free: Vec<u32>,
    index: HashMap<Arc<[u8]>, u32>,
    /// The entry that came first.
    first: u32,
    /// The entry that came last so far.
    cursor: u32,
    /// The number of the round.
    round: u64,
    /// How many of this round were found.
    seen: usize,
    /// A key while it is looked for.
    key: Vec<u8>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            first: NONE,
            cursor: NONE,
            round: 0,
            seen: 0,
            key: Vec::new(),
        }
    }
}

/// Whether a key has these parts, in this order.
fn is_key<'p>(mut key: &[u8], parts: impl Iterator<Item = &'p str>) -> bool {
    for part in parts {
        match key.strip_prefix(part.as_bytes()) {
            Some([END, rest @ ..]) => key = rest,
            _ => return false,
        }
    }
    key.is_empty()
}

impl<T> Table<T> {
    /// Begins a round.
    pub(super) fn begin(&mut self) {
        self.cursor = NONE;
        self.round += 1;
        self.seen = 0;
    }

    /// Finds the entry of a key, which is the given parts one after the other.
    pub(super) fn find<'p>(&mut self, parts: impl Iterator<Item = &'p str> + Clone) -> Option<u32> {
        let expected = self.entry(self.cursor).map_or(self.first, |entry| entry.next);
        if self.entry(expected).is_some_and(|entry| is_key(&entry.key, parts.clone())) {
            self.cursor = expected;
            return Some(expected);
        }
        self.key.clear();
        for part in parts {
            self.key.extend_from_slice(part.as_bytes());
            self.key.push(END);
        }
        let found = *self.index.get(self.key.as_slice())?;
        self.follow(found);
        Some(found)
    }

    /// Remembers that an entry came next.
    fn follow(&mut self, next: u32) {
        match self.entry_mut(self.cursor) {
            Some(before) => before.next = next,
            None => self.first = next,
        }
        self.cursor = next;
    }

    /// Adds an entry under the key that was not found last.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        let key: Arc<[u8]> = self.key.as_slice().into();
        // What was expected here is expected after the new one.
        let next = self.entry(self.cursor).map_or(self.first, |entry| entry.next);
        let entry = Some(Entry { key: key.clone(), next, seen: 0, value });
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.entries.push(None);
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        if let Some(slot) = self.entries.get_mut(at as usize) {
            *slot = entry;
            self.index.insert(key, at);
            self.follow(at);
        }
        at
    }

    /// The length of the key that was not found last.
    pub(super) fn key_length(&self) -> usize {
        self.key.len()
    }

    fn entry(&self, at: u32) -> Option<&Entry<T>> {
        self.entries.get(at as usize)?.as_ref()
    }

    fn entry_mut(&mut self, at: u32) -> Option<&mut Entry<T>> {
        self.entries.get_mut(at as usize)?.as_mut()
    }

    /// What an entry holds.
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.entry(at).map(|entry| &entry.value)
    }

    /// The same, to change.
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.entry_mut(at).map(|entry| &mut entry.value)
    }

    /// Notes that this round has an entry; `false` if it had it before.
    pub(super) fn see(&mut self, at: u32) -> bool {
        let round = self.round;
        let Some(entry) = self.entry_mut(at) else { return false };
        let first = std::mem::replace(&mut entry.seen, round) != round;
        self.seen += usize::from(first);
        first
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Removes what this round did not have.
    pub(super) fn remove_unseen(&mut self, gone: impl FnMut(T)) {
        if self.seen < self.len() {
            let round = self.round;
            self.remove_where(|entry| entry.seen != round, gone);
        }
    }

    /// Removes what is not to be kept.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        self.remove_where(|entry| !keep(&mut entry.value), drop);
    }

    /// Removes everything.
    pub(super) fn clear(&mut self, gone: impl FnMut(T)) {
        self.remove_where(|_| true, gone);
    }

    fn remove_where(&mut self, mut remove: impl FnMut(&mut Entry<T>) -> bool, mut gone: impl FnMut(T)) {
        for (at, slot) in (0..).zip(&mut self.entries) {
            if slot.as_mut().is_some_and(&mut remove)
                && let Some(entry) = slot.take()
            {
                self.index.remove(&entry.key);
                self.free.push(at);
                gone(entry.value);
            }
        }
        if self.index.len() * 4 < self.entries.len() {
            self.close_ranks();
        }
    }

    /// Gives back memory. What comes after what is found out anew.
    fn close_ranks(&mut self) {
        let left = std::mem::take(&mut self.entries).into_iter().flatten();
        self.entries = left.map(|entry| Some(Entry { next: NONE, ..entry })).collect();
        self.entries.shrink_to_fit();
        let keys = self.entries.iter().flatten().map(|entry| entry.key.clone());
        self.index = keys.zip(0..).collect();
        self.free = Vec::new();
        (self.first, self.cursor) = (NONE, NONE);
    }

    /// Bytes on the heap, about.
    pub(super) fn size(&self) -> usize {
        let keys: usize = self.entries.iter().flatten().map(|entry| entry.key.len() + 2 * size_of::<usize>()).sum();
        let indexed = size_of::<(Arc<[u8]>, u32)>() + 1;
        keys + self.entries.capacity() * size_of::<Option<Entry<T>>>() + self.index.capacity() * indexed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(table: &mut Table<String>, names: &[&str]) -> usize {
        let mut new = 0;
        table.begin();
        for name in names {
            let parts = || ["n", *name].into_iter();
            let at = table.find(parts()).unwrap_or_else(|| {
                new += 1;
                table.insert((*name).to_owned())
            });
            assert_eq!(table.get(at).map(String::as_str), Some(*name));
            assert!(table.see(at) && !table.see(at));
        }
        new
    }

    #[test]
    fn everything_is_found_in_any_order() {
        let mut table = Table::default();
        assert_eq!(round(&mut table, &["a", "b", "c"]), 3);
        assert_eq!(round(&mut table, &["a", "b", "x", "c"]), 1);
        assert_eq!(round(&mut table, &["c", "b", "a"]), 0);
        let mut gone = Vec::new();
        table.remove_unseen(|name| gone.push(name));
        assert_eq!((gone, table.len()), (vec!["x".to_owned()], 3));
        assert_eq!(round(&mut table, &["y", "c", "b", "", "a"]), 2);
        table.clear(drop);
        assert_eq!((table.len(), table.entries.len()), (0, 0));
        assert_eq!(round(&mut table, &["a"]), 1);
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let mut table = Table::default();
        for parts in [&["ab", "c"][..], &["a", "bc"], &["abc"], &["abc", ""], &[]] {
            table.begin();
            assert_eq!(table.find(parts.iter().copied()), None);
            let at = table.insert(());
            table.begin();
            assert_eq!(table.find(parts.iter().copied()), Some(at));
        }
    }
}
