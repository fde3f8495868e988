//! Where the series are kept.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::samples::{Budget, Samples};
use crate::Labels;
use crate::ast::Millis;
use crate::sample::{NAME, Sample, is_stale};

/// A series, unless it was removed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id {
    at: u32,
    /// Where a series was removed, another may stand: no two have the same number.
    number: u64,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) labels: Labels,
    pub(super) samples: Samples,
    /// How long samples are kept.
    pub(super) keep: Millis,
}

#[derive(Debug, Default)]
struct Slot {
    number: u64,
    held: Option<Held>,
}

/// All series.
#[derive(Debug)]
pub(super) struct Store {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The series of each metric, sorted by labels.
    named: BTreeMap<Arc<str>, Vec<Id>>,
    /// Names and values of labels, which series share.
    texts: HashSet<Arc<str>>,
    pub(super) budget: Budget,
    /// The number of the series added last.
    number: u64,
}

impl Store {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            named: BTreeMap::new(),
            texts: HashSet::new(),
            budget: Budget { used: 0, limit: bytes },
            number: 0,
        }
    }

    /// How many series there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&self, id: Id) -> Option<&Held> {
        self.slots.get(id.at as usize).filter(|slot| slot.number == id.number)?.held.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Held> {
        self.slots.get_mut(id.at as usize).filter(|slot| slot.number == id.number)?.held.as_mut()
    }

    /// Everything held.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &Held)> {
        (0..).zip(&self.slots).filter_map(|(at, slot)| Some((Id { at, number: slot.number }, slot.held.as_ref()?)))
    }

    /// The series of a metric, sorted by labels.
    pub(super) fn of_name(&self, name: &str) -> &[Id] {
        self.named.get(name).map_or(&[], Vec::as_slice)
    }

    /// All series, sorted by labels within each metric.
    pub(super) fn all(&self) -> impl Iterator<Item = Id> {
        self.named.values().flatten().copied()
    }

    /// Where a series stands or would stand in a list that is sorted by labels.
    pub(super) fn position(&self, ids: &[Id], labels: &Labels) -> Result<usize, usize> {
        ids.binary_search_by(|id| self.get(*id).map(|held| &held.labels).cmp(&Some(labels)))
    }

    pub(super) fn find(&self, labels: &Labels) -> Option<Id> {
        let ids = self.of_name(labels.get(NAME));
        ids.get(self.position(ids, labels).ok()?).copied()
    }

    /// Labels whose texts are shared with those of other series.
    pub(super) fn labels<'l>(&mut self, pairs: impl Iterator<Item = (&'l str, &'l str)>) -> Labels {
        let mut text = |text: &str| match self.texts.get(text) {
            Some(known) => known.clone(),
            None => {
                let new: Arc<str> = text.into();
                self.texts.insert(new.clone());
                new
            }
        };
        Labels::of(pairs.map(|(name, value)| (text(name), text(value))).collect())
    }

    /// Adds a series that is not there yet.
    pub(super) fn insert(&mut self, labels: Labels, first: Sample, keep: Millis) -> Id {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.number += 1;
        let id = Id { at, number: self.number };
        let name = labels.get(NAME);
        let place = self.position(self.of_name(name), &labels).unwrap_or_else(|place| place);
        match self.named.get_mut(name) {
            Some(ids) => ids.insert(place, id),
            None => _ = self.named.insert(name.into(), vec![id]),
        }
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = Slot { number: id.number, held: Some(Held { labels, samples: Samples::new(first), keep }) };
        }
        id
    }

    /// Removes series, and the lists' entries for them.
    pub(super) fn remove(&mut self, ids: &[Id]) {
        for id in ids {
            let slot = self.slots.get_mut(id.at as usize).filter(|slot| slot.number == id.number);
            let Some(slot) = slot else { continue };
            let Some(held) = slot.held.take() else { continue };
            slot.number = 0;
            self.free.push(id.at);
            self.budget.used = self.budget.used.saturating_sub(held.samples.size());
        }
        if ids.is_empty() {
            return;
        }
        // What stands first is used again first, so that the end becomes free.
        while self.slots.pop_if(|slot| slot.held.is_none()).is_some() {}
        self.free.retain(|at| (*at as usize) < self.slots.len());
        self.free.sort_unstable_by(|a, b| b.cmp(a));
        if self.slots.len() * 4 < self.slots.capacity() {
            self.slots.shrink_to_fit();
            self.free.shrink_to_fit();
        }
        let slots = &self.slots;
        let is_there = |id: &Id| slots.get(id.at as usize).is_some_and(|slot| slot.number == id.number);
        self.named.retain(|_, ids| {
            ids.retain(is_there);
            if ids.len() * 4 < ids.capacity() {
                ids.shrink_to_fit();
            }
            !ids.is_empty()
        });
        self.texts.retain(|text| Arc::strong_count(text) > 1);
        if self.texts.len() * 4 < self.texts.capacity() {
            self.texts.shrink_to_fit();
        }
    }

    /// Adds a sample to a series. `None` if it is not newer than what is there; else how many made room for it.
    pub(super) fn push(&mut self, id: Id, sample: Sample) -> Option<u32> {
        let slot = self.slots.get_mut(id.at as usize).filter(|slot| slot.number == id.number)?;
        let held = slot.held.as_mut()?;
        if sample.time <= held.samples.newest().time {
            return None;
        }
        let forgotten = held.samples.push(sample, &mut self.budget);
        held.samples.forget(sample.time.saturating_sub(held.keep));
        Some(forgotten)
    }

    /// Says that a series has ended, unless it says so already.
    pub(super) fn end(&mut self, id: Id, time: Millis) -> bool {
        let goes_on = self.get(id).is_some_and(|held| !is_stale(held.samples.newest().value));
        goes_on && self.push(id, Sample { time, value: crate::sample::STALE }).is_some()
    }

    /// Forgets what is too old, also of series that get no samples any more, and gives back memory. Returns those that
    /// have nothing left.
    pub(super) fn sweep(&mut self, now: Millis) -> Vec<Id> {
        let mut empty = Vec::new();
        for (at, slot) in (0..).zip(&mut self.slots) {
            let Some(held) = &mut slot.held else { continue };
            let until = now.saturating_sub(held.keep);
            held.samples.forget(until);
            held.samples.shrink(&mut self.budget);
            if held.samples.newest().time <= until {
                empty.push(Id { at, number: slot.number });
            }
        }
        empty
    }

    /// Bytes on the heap, about: samples, and everything else.
    pub(super) fn size(&self) -> (usize, usize) {
        const COUNTS: usize = 2 * size_of::<usize>();
        let texts: usize = self.texts.iter().map(|text| text.len() + COUNTS + size_of::<Arc<str>>() + 1).sum();
        let labels = |held: &Held| held.labels.len() * 2 * size_of::<Arc<str>>() + COUNTS;
        let labels: usize = self.iter().map(|(_, held)| labels(held)).sum();
        let ids: usize = self.named.values().map(|ids| ids.capacity() * size_of::<Id>()).sum();
        (self.budget.used, texts + labels + ids + self.slots.capacity() * size_of::<Slot>())
    }
}
