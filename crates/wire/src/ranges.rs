//! Sets of record numbers.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{BootId, Kind};

/// A set of record numbers as sorted, disjoint, inclusive ranges: `[[1, 40], [42, 42]]` in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(transparent))]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

/// Record numbers by run of the agent and by kind.
pub type SeqByBoot<T> = BTreeMap<BootId, BTreeMap<Kind, T>>;

/// Reads a [`SeqByBoot`] and skips kinds that this version does not have: what it does know still counts.
pub fn by_boot<'de, D, T>(deserializer: D) -> Result<SeqByBoot<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Boots<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Boots<T> {
        type Value = SeqByBoot<T>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SeqByBoot<T>, A::Error> {
            let mut boots = SeqByBoot::new();
            while let Some((boot, Known(kinds))) = map.next_entry()? {
                boots.insert(boot, kinds);
            }
            Ok(boots)
        }
    }
    deserializer.deserialize_map(Boots(PhantomData))
}

struct Known<T>(BTreeMap<Kind, T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Known<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kinds<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Kinds<T> {
            type Value = Known<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Known<T>, A::Error> {
                let mut kinds = BTreeMap::new();
                while let Some((kind, value)) = map.next_entry::<String, T>()? {
                    if let Ok(kind) = kind.parse() {
                        kinds.insert(kind, value);
                    }
                }
                Ok(Known(kinds))
            }
        }
        deserializer.deserialize_map(Kinds(PhantomData))
    }
}

/// A range runs backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range [{from}, {to}] ends before it begins")]
pub struct RangeError {
    from: u64,
    to: u64,
}

impl Ranges {
    /// How many ranges a set may have that comes from outside. A member that has more of a host says so in parts.
    pub const LIMIT: usize = 65_536;

    /// The numbers from `from` to `to`, both included; none if `to` is smaller.
    pub fn of(from: u64, to: u64) -> Self {
        if to < from { Self::default() } else { Self(vec![(from, to)]) }
    }

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

    /// Takes away one number.
    pub fn remove(&mut self, seq: u64) {
        self.remove_range(seq, seq);
    }

    /// Takes away all numbers from `from` to `to`, both included; nothing if `to` is smaller.
    pub fn remove_range(&mut self, from: u64, to: u64) {
        if to < from {
            return;
        }
        let start = self.0.partition_point(|&(_, end)| end < from);
        let stop = self.0.partition_point(|&(begin, _)| begin <= to).max(start);
        let cut = &self.0[start..stop];
        let (Some(&(first, _)), Some(&(_, last))) = (cut.first(), cut.last()) else { return };
        let before = (first < from).then(|| (first, from - 1));
        let after = (last > to).then(|| (to + 1, last));
        self.0.splice(start..stop, before.into_iter().chain(after));
    }

    /// Adds all numbers of another set.
    pub fn add(&mut self, other: &Ranges) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
        } else {
            other.iter().for_each(|(from, to)| self.insert_range(from, to));
        }
    }

    /// Takes away all numbers of another set.
    pub fn subtract(&mut self, other: &Ranges) {
        other.iter().for_each(|(from, to)| self.remove_range(from, to));
    }

    /// The numbers that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Ranges) -> Ranges {
        let (mut a, mut b) = (self.iter().peekable(), other.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&(from_a, to_a)), Some(&(from_b, to_b))) = (a.peek(), b.peek()) {
            let (from, to) = (from_a.max(from_b), to_a.min(to_b));
            if from <= to {
                both.push((from, to));
            }
            if to_a < to_b {
                a.next()
            } else {
                b.next()
            };
        }
        Ranges(both)
    }

    /// The range that holds the number, if any does.
    pub fn range_of(&self, seq: u64) -> Option<(u64, u64)> {
        let at = self.0.partition_point(|&(_, end)| end < seq);
        self.0.get(at).copied().filter(|&(begin, _)| begin <= seq)
    }

    /// The smallest number of the set that is not below `seq`.
    pub fn next_from(&self, seq: u64) -> Option<u64> {
        let at = self.0.partition_point(|&(_, end)| end < seq);
        self.0.get(at).map(|&(begin, _)| begin.max(seq))
    }

    /// Whether all numbers from `from` to `to` are in the set.
    pub fn covers(&self, from: u64, to: u64) -> bool {
        self.range_of(from).is_some_and(|(_, end)| to <= end)
    }

    /// The smallest number.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|&(begin, _)| begin)
    }

    /// The largest number.
    pub fn last(&self) -> Option<u64> {
        self.0.last().map(|&(_, end)| end)
    }

    /// How many ranges it has: what it costs.
    pub fn len(&self) -> usize {
        self.0.len()
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

impl FromIterator<(u64, u64)> for Ranges {
    /// From ranges in any order; backward ones are left out.
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|(from, to)| from <= to).collect();
        // Sorted first: to insert one after the other costs the square of their number where they come from a foe.
        ranges.sort_unstable();
        let mut melted: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match melted.last_mut() {
                Some((_, end)) if from <= end.saturating_add(1) => *end = to.max(*end),
                _ => melted.push((from, to)),
            }
        }
        Ranges(melted)
    }
}

impl<'de> Deserialize<'de> for Ranges {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Ranges;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("[[from, to], …]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ranges, A::Error> {
                let mut pairs = Vec::new();
                while let Some((from, to)) = seq.next_element::<(u64, u64)>()? {
                    if to < from {
                        return Err(A::Error::custom(RangeError { from, to }));
                    }
                    if pairs.len() == Ranges::LIMIT {
                        return Err(A::Error::custom(format_args!("more than {} ranges in one set", Ranges::LIMIT)));
                    }
                    pairs.push((from, to));
                }
                Ok(pairs.into_iter().collect())
            }
        }
        deserializer.deserialize_seq(Pairs)
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
    fn the_ends_of_the_numbers_hold() {
        let mut ranges = Ranges::of(0, u64::MAX);
        ranges.remove(0);
        ranges.remove(u64::MAX);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, u64::MAX - 1)]);
        assert_eq!(Ranges::of(0, u64::MAX).count(), u64::MAX, "saturates");
        let many = (0..=Ranges::LIMIT as u64).map(|n| format!("[{0},{0}]", n * 2)).collect::<Vec<_>>().join(",");
        let error = serde_json::from_str::<Ranges>(&format!("[{many}]")).unwrap_err();
        assert!(error.to_string().contains("more than 65536 ranges"), "{error}");
    }

    #[test]
    fn a_backward_range_is_refused() {
        let error = serde_json::from_str::<Ranges>("[[3, 2]]").unwrap_err();
        assert!(error.to_string().contains("[3, 2] ends before it begins"), "{error}");
    }
}
