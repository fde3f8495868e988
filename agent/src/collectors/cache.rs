//! What a collector keeps per device from pass to pass: labels above all.

/// Values by key, for keys that come in much the same order at every pass. Finding one is then a single comparison.
/// What a pass did not ask for is forgotten at its end, so that devices which come and go leave nothing behind.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    entries: Vec<(Box<[u8]>, T)>,
    /// Entries before it were asked for in this pass.
    cursor: usize,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), cursor: 0 }
    }
}

impl<T> Cache<T> {
    /// A pass begins.
    pub(crate) fn begin(&mut self) {
        self.cursor = 0;
    }

    /// The value of `key`, made by `make` if the last pass did not have it.
    pub(crate) fn get(&mut self, key: &[u8], make: impl FnOnce(&str) -> T) -> &mut T {
        let at = self.cursor;
        let found = self.entries[at..].iter().position(|(name, _)| name.as_ref() == key);
        let position = found.map_or_else(
            || {
                self.entries.push((key.into(), make(&String::from_utf8_lossy(key))));
                self.entries.len() - 1
            },
            |offset| at + offset,
        );
        self.entries.swap(at, position);
        self.cursor = at + 1;
        &mut self.entries[at].1
    }

    /// The values asked for since [`Cache::begin`], in that order.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &T> {
        self.entries[..self.cursor].iter().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub(crate) fn asked_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries[..self.cursor].iter_mut().map(|(_, value)| value)
    }

    /// A pass ends: forgets what it did not ask for.
    pub(crate) fn end(&mut self) {
        self.entries.truncate(self.cursor);
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
}
