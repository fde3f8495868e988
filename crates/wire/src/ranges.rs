//! Sets of record numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{BootId, Kind};

/// A set of record numbers as sorted, disjoint, inclusive ranges: `[[1, 40], [42, 42]]` in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transparent))]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

/// Record numbers by run of the agent and by kind.
pub type SeqByBoot<T> = BTreeMap<BootId, BTreeMap<Kind, T>>;

/// A range runs backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range [{from}, {to}] ends before it begins")]
pub struct RangeError {
    from: u64,
    to: u64,
}

impl Ranges {
    /// Adds one number.
    pub fn insert(&mut self, seq: u64) {
        self.insert_range(seq, seq);
    }

    /// Adds all numbers from `from` to `to`, both included; nothing if `to` is smaller.
    pub fn insert_range(&mut self, from: u64, to: u64) {
        if to < from {
            return;
        }
        // Everything that overlaps or touches [from, to] melts into it.
        let start = self.0.partition_point(|&(_, end)| end.saturating_add(1) < from);
        let stop = self.0.partition_point(|&(begin, _)| begin <= to.saturating_add(1));
        let melted = &self.0[start..stop.max(start)];
        let from = melted.first().map_or(from, |&(begin, _)| begin.min(from));
        let to = melted.last().map_or(to, |&(_, end)| end.max(to));
        self.0.splice(start..stop.max(start), [(from, to)]);
    }

    /// Takes out all numbers from `from` to `to`, both included.
    pub fn remove_range(&mut self, from: u64, to: u64) {
        if to < from {
            return;
        }
        let start = self.0.partition_point(|&(_, end)| end < from);
        let stop = self.0.partition_point(|&(begin, _)| begin <= to).max(start);
        let cut = &self.0[start..stop];
        let before = cut.first().filter(|&&(begin, _)| begin < from).map(|&(begin, _)| (begin, from - 1));
        let after = cut.last().filter(|&&(_, end)| end > to).map(|&(_, end)| (to + 1, end));
        self.0.splice(start..stop, before.into_iter().chain(after));
    }

    /// Whether the number is in the set.
    pub fn contains(&self, seq: u64) -> bool {
        let at = self.0.partition_point(|&(_, end)| end < seq);
        self.0.get(at).is_some_and(|&(begin, _)| begin <= seq)
    }

    /// The ranges, sorted, disjoint and not touching.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// Whether it holds no number.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers it holds.
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0u64, |sum, &(from, to)| sum.saturating_add((to - from).saturating_add(1)))
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ranges = Ranges::default();
        for (from, to) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            if to < from {
                return Err(serde::de::Error::custom(RangeError { from, to }));
            }
            ranges.insert_range(from, to);
        }
        Ok(ranges)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Ranges;

    #[test]
    fn ranges_melt_when_they_touch() {
        let mut ranges = Ranges::default();
        for seq in [5, 3, 4, 9, 1] {
            ranges.insert(seq);
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 1), (3, 5), (9, 9)]);
        ranges.insert_range(2, 8);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 9)]);
        ranges.insert_range(u64::MAX, u64::MAX);
        ranges.insert_range(u64::MAX - 1, u64::MAX);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 9), (u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn agrees_with_a_set_of_numbers() {
        // A fixed multiplicative sequence instead of a random one: every run tests the same 2,000 histories.
        let mut state = 1u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % bound
        };
        for _ in 0..2000 {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for _ in 0..12 {
                let from = next(30);
                let to = from + next(6);
                if next(3) == 0 {
                    ranges.remove_range(from, to);
                    set.retain(|seq| !(from..=to).contains(seq));
                } else {
                    ranges.insert_range(from, to);
                    set.extend(from..=to);
                }
            }
            assert_eq!(ranges.count(), set.len() as u64);
            assert!((0..40).all(|seq| ranges.contains(seq) == set.contains(&seq)));
            let pairs: Vec<_> = ranges.iter().collect();
            assert!(pairs.windows(2).all(|w| w[0].1 + 1 < w[1].0), "{pairs:?} must be sorted and apart");
        }
    }

    #[test]
    fn a_backward_range_is_refused() {
        let error = serde_json::from_str::<Ranges>("[[3, 2]]").unwrap_err();
        assert!(error.to_string().contains("[3, 2] ends before it begins"), "{error}");
    }
}
