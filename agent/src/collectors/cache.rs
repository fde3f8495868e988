//! What a collector keeps per device from pass to pass: labels above all.

use std::collections::HashMap;

/// So many entries are searched one by one; beyond, an index is cheaper.
const SEARCHED: usize = 32;

/// Values by key, for keys that come in much the same order at every pass. Finding one is then a single comparison; a
/// pass in another order builds an index once, so that it stays linear in thousands of devices.
/// What a pass did not ask for is forgotten at its end, so that devices which come and go leave nothing behind.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    entries: Vec<(Box<[u8]>, T)>,
    /// Entries before it were asked for in this pass.
    cursor: usize,
    /// Where the keys stand that were not asked for yet, since the order was first found to differ in this pass.
    index: Option<HashMap<Box<[u8]>, usize>>,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), cursor: 0, index: None }
    }
}

impl<T> Cache<T> {
    /// A pass begins.
    pub(crate) fn begin(&mut self) {
        self.cursor = 0;
        self.index = None;
    }

    /// The value of `key`, made by `make` if the last pass did not have it.
    pub(crate) fn get(&mut self, key: &[u8], make: impl FnOnce(&str) -> T) -> &mut T {
        let at = self.cursor;
        if self.entries.get(at).is_none_or(|(name, _)| name.as_ref() != key) {
            let position = self.find(key).unwrap_or_else(|| {
                self.entries.push((key.into(), make(&String::from_utf8_lossy(key))));
                self.entries.len() - 1
            });
            self.entries.swap(at, position);
            if let Some(index) = &mut self.index
                && position > at
                && let Some(displaced) = index.get_mut(&self.entries[position].0)
            {
                *displaced = position;
            }
        }
        self.cursor = at + 1;
        &mut self.entries[at].1
    }

    /// Where `key` stands behind the cursor.
    fn find(&mut self, key: &[u8]) -> Option<usize> {
        let at = self.cursor;
        let rest = &self.entries[at..];
        if self.index.is_none() && rest.len() <= SEARCHED {
            return rest.iter().position(|(name, _)| name.as_ref() == key).map(|offset| at + offset);
        }
        let index = self.index.get_or_insert_with(|| {
            // Of a key that stands there twice, the first is found.
            rest.iter().enumerate().rev().map(|(offset, (name, _))| (name.clone(), at + offset)).collect()
        });
        // What was asked for already stays in the index, and is not meant.
        let found = *index.get(key)?;
        (found >= at && self.entries.get(found).is_some_and(|(name, _)| name.as_ref() == key)).then_some(found)
    }

    /// The values asked for since [`Cache::begin`], in that order.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &T> + Clone {
        self.entries[..self.cursor].iter().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub(crate) fn asked_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries[..self.cursor].iter_mut().map(|(_, value)| value)
    }

    /// That which was asked for as the one of this number, from 0.
    pub(crate) fn nth(&mut self, number: usize) -> Option<&mut T> {
        self.entries[..self.cursor].get_mut(number).map(|(_, value)| value)
    }

    /// A pass ends: forgets what it did not ask for.
    pub(crate) fn end(&mut self) {
        self.entries.truncate(self.cursor);
        self.index = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(cache: &mut Cache<u32>, keys: &[&str], made: &mut u32) -> Vec<u32> {
        cache.begin();
        for key in keys {
            cache.get(key.as_bytes(), |_| {
                *made += 1;
                *made
            });
        }
        let values = cache.asked().copied().collect();
        cache.end();
        values
    }

    #[test]
    fn remembers_in_any_order_and_forgets_the_gone() {
        let (mut cache, mut made) = (Cache::default(), 0);
        assert_eq!(pass(&mut cache, &["a", "b", "c"], &mut made), [1, 2, 3]);
        assert_eq!(pass(&mut cache, &["c", "a", "b"], &mut made), [3, 1, 2]);
        assert_eq!(pass(&mut cache, &["b"], &mut made), [2]);
        assert_eq!(pass(&mut cache, &["a", "b"], &mut made), [4, 2]);
        assert_eq!(cache.entries.len(), 2);
    }

    #[test]
    fn thousands_in_another_order_stay_linear() {
        let keys: Vec<String> = (0..100_000).map(|n| format!("veth{n}")).collect();
        let (mut cache, mut made) = (Cache::default(), 0);
        let mut names: Vec<&str> = keys.iter().map(String::as_str).collect();
        pass(&mut cache, &names, &mut made);
        // A new one in front pushes all others along; searching for each would take minutes.
        names.insert(0, "eth0");
        let values = pass(&mut cache, &names, &mut made);
        assert_eq!((values[0], values[1], values[100_000]), (100_001, 1, 100_000));
        names.reverse();
        let values = pass(&mut cache, &names, &mut made);
        assert_eq!((values[0], values[99_999], values[100_000]), (100_000, 1, 100_001));
        assert_eq!(made, 100_001);
    }

    #[test]
    fn a_key_twice_in_a_pass_has_two_values() {
        let keys: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let (mut cache, mut made) = (Cache::default(), 0);
        let mut names: Vec<&str> = keys.iter().map(String::as_str).collect();
        names.extend(["7", "7"]);
        pass(&mut cache, &names, &mut made);
        assert_eq!(made, 102);
        names.reverse();
        let mut values = pass(&mut cache, &names, &mut made);
        assert_eq!(values.len(), 102);
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 102, "no value stands for two");
    }
}
