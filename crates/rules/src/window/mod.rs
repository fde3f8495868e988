//! The samples that the rules look at, in memory: only the series that some selector matches, each as long as the
//! selector that looks back furthest.
//!
//! [`Source`]s give their samples in rounds. What a source had in its round before and does not have now has ended, and
//! gets a stale marker. Series are found again by the order in which they came before, so that a round like the one
//! before costs no allocation.
//!
//! Time comes with the rounds. If it goes back by no more than [`PATIENCE`], rounds are refused until it has caught up;
//! if it goes back by more, the window starts empty: samples of a time that has not come yet are worse than none. If it
//! jumps ahead, there is a gap.
//!
//! Memory is bounded by [`Limits`]: on the number of series, on the bytes of their samples, and on how far back may be
//! looked. What is left out is counted, and [`Ended::left_out`] names the selector to blame.

mod needs;
mod round;
mod samples;
mod store;
mod table;

use std::collections::BTreeMap;

use thiserror::Error;

use self::needs::Needs;
pub use self::needs::TooLong;
use self::round::Origin;
pub use self::round::{Ended, Round, TooMany};
pub use self::samples::{Budget, Samples};
use self::store::{Held, Id, Store};
use crate::Labels;
use crate::ast::{Millis, Selector};
use crate::needs::Need;
use crate::sample::{NAME, Sample, Series, Storage};

/// A round this much older than the one before is waited for; an older one means that the clock was set back.
pub const PATIENCE: Millis = 60_000;

/// Samples are kept this much longer than needed: an evaluation may come late.
const SLACK: Millis = 15_000;

/// How often old samples of series that get no new ones are looked for.
const SWEEP_EVERY: Millis = 60_000;

/// What bounds a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Series.
    pub series: usize,
    /// Bytes of their samples. When they are used up, series that grow lose their oldest samples.
    pub bytes: usize,
    /// How far back a rule may look.
    pub max_age: Millis,
}

impl Default for Limits {
    /// 10,000 series, 64 MiB, 8 days.
    fn default() -> Self {
        Self { series: 10_000, bytes: 64 << 20, max_age: 8 * 24 * 3_600_000 }
    }
}

/// Who gives rounds: a collector of the host, a target that is scraped, a recording rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(u32);

/// Why a round is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// The clock was set back a little.
    #[error("samples of {time} ms are not newer than the last ones of their source, of {last} ms: the clock went back")]
    NotNewer {
        /// The time of the round.
        time: Millis,
        /// The time of the last round.
        last: Millis,
    },
    /// The source was removed.
    #[error("BUG: samples of a source that was removed")]
    NoSource,
}

/// What was not taken, since the window is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rounds that were not newer than the one before.
    pub rounds_refused: u64,
    /// Times that the window started empty because the clock was set back.
    pub restarts: u64,
    /// Samples of a label set that the round had already.
    pub duplicates: u64,
    /// Samples not newer than what another source had given for the same series.
    pub not_newer: u64,
    /// Samples whose labels are longer than a series may have.
    pub labels_too_long: u64,
    /// Samples of series that there was no room for.
    pub left_out: u64,
    /// Old samples that were given up before their time, for lack of room.
    pub forgotten_early: u64,
}

/// How full a window is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Series.
    pub series: usize,
    /// Their samples.
    pub samples: u64,
    /// Bytes of the samples.
    pub sample_bytes: usize,
    /// Bytes of everything else: labels, lists, what finds series again. About.
    pub other_bytes: usize,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Window {
    kept: Kept,
    sources: BTreeMap<Source, Origin>,
    next_source: u32,
}

/// What all sources share.
#[derive(Debug)]
struct Kept {
    limits: Limits,
    needs: Needs,
    store: Store,
    counts: Counts,
    /// The time of the newest round.
    newest: Option<Millis>,
    /// When old samples were last looked for.
    swept: Millis,
    /// Samples up to this time were given up early since the last round's end.
    forgotten: Option<Millis>,
}

impl Window {
    /// An empty window.
    pub fn new(needs: impl IntoIterator<Item = Need>, limits: Limits) -> Result<Self, TooLong> {
        let kept = Kept {
            limits,
            needs: Needs::new(needs, limits.max_age)?,
            store: Store::new(limits.bytes),
            counts: Counts::default(),
            newest: None,
            swept: Millis::MIN,
            forgotten: None,
        };
        Ok(Self { kept, sources: BTreeMap::new(), next_source: 0 })
    }

    /// Takes over the needs of rules that were read anew. What they still need stays. On an error all is as before.
    pub fn retarget(&mut self, needs: impl IntoIterator<Item = Need>) -> Result<(), TooLong> {
        let kept = &mut self.kept;
        let mut needs = Needs::new(needs, kept.limits.max_age)?;
        needs.take_over(&kept.needs, kept.newest);
        let mut unneeded = Vec::new();
        let ids: Vec<Id> = kept.store.all().collect();
        for id in ids {
            let Some(held) = kept.store.get_mut(id) else { continue };
            let among: Vec<u32> = needs.of_name(held.labels.get(NAME)).collect();
            let matching = needs.matching(&among, |name| held.labels.get(name));
            if matching.is_empty() {
                unneeded.push(id);
                continue;
            }
            held.keep = needs.keep(&matching);
            needs.add(&matching, id, &kept.store);
        }
        kept.store.remove(&unneeded);
        kept.needs = needs;
        if let Some(newest) = kept.newest {
            kept.sweep(newest);
        }
        for origin in self.sources.values_mut() {
            origin.retarget(kept);
        }
        Ok(())
    }

    /// Adds a source, whose series all get these labels (`job`, `instance`). A sample that has one of them itself keeps
    /// it under `exported_` and the name, as in Prometheus.
    pub fn source<N: AsRef<str>, V: AsRef<str>>(&mut self, labels: impl IntoIterator<Item = (N, V)>) -> Source {
        let source = Source(self.next_source);
        self.next_source += 1;
        self.sources.insert(source, Origin::new(&Labels::new(labels)));
        source
    }

    /// Removes a source. Its series have ended.
    pub fn remove(&mut self, source: Source, time: Millis) {
        self.fail(source, time);
        self.sources.remove(&source);
    }

    /// Says that a source could not be read: its series have ended. Who would rather go on with what was there last
    /// does not say so.
    pub fn fail(&mut self, source: Source, time: Millis) {
        if let Some(origin) = self.sources.get_mut(&source) {
            origin.fail(&mut self.kept, time);
        }
    }

    /// Begins a round: all samples that a source has at one time.
    pub fn round(&mut self, source: Source, time: Millis) -> Result<Round<'_>, Refused> {
        let last = self.sources.get(&source).ok_or(Refused::NoSource)?.last();
        if let Some(last) = last.filter(|last| time <= *last) {
            if last.saturating_sub(time) <= PATIENCE {
                self.kept.counts.rounds_refused += 1;
                return Err(Refused::NotNewer { time, last });
            }
            self.restart();
            self.kept.counts.restarts += 1;
        }
        let all_have_come = self.sources.iter().all(|(other, origin)| *other == source || origin.last().is_some());
        let origin = self.sources.get_mut(&source).ok_or(Refused::NoSource)?;
        Ok(Round::begin(origin, &mut self.kept, time, all_have_come))
    }

    /// Forgets all samples.
    fn restart(&mut self) {
        let kept = &mut self.kept;
        kept.store = Store::new(kept.limits.bytes);
        for wanted in &mut kept.needs.all {
            (wanted.series, wanted.since) = (Vec::new(), None);
        }
        kept.needs.fresh = true;
        (kept.newest, kept.swept, kept.forgotten) = (None, Millis::MIN, None);
        self.sources.values_mut().for_each(Origin::restart);
    }

    /// Since when every sample that a need's selector matches is there, as far back as the need looks; but for what
    /// [`Counts`] tells. `None` before each source had its first round, and if no need has that selector.
    pub fn covered_since(&self, selector: &Selector) -> Option<Millis> {
        self.kept.needs.of_selector(selector)?.since
    }

    /// How many series a need's selector matches.
    pub fn matched(&self, selector: &Selector) -> usize {
        self.kept.needs.of_selector(selector).map_or(0, |wanted| wanted.series.len())
    }

    /// What was not taken.
    pub fn counts(&self) -> Counts {
        self.kept.counts
    }

    /// How full it is. Walks over everything.
    pub fn usage(&self) -> Usage {
        let store = &self.kept.store;
        let (sample_bytes, rest) = store.size();
        let lists: usize = self.kept.needs.all.iter().map(|wanted| wanted.series.capacity() * size_of::<Id>()).sum();
        Usage {
            series: store.len(),
            samples: store.iter().map(|(_, held)| u64::from(held.samples.count())).sum(),
            sample_bytes,
            other_bytes: rest + lists + self.sources.values().map(Origin::size).sum::<usize>(),
        }
    }

    /// The series that a selector matches, sorted by labels.
    fn select(&self, selector: &Selector, mut found: impl FnMut(&Held)) {
        let store = &self.kept.store;
        if let Some(wanted) = self.kept.needs.of_selector(selector) {
            return wanted.series.iter().filter_map(|id| store.get(*id)).for_each(found);
        }
        let matches = |held: &&Held| selector.matchers.iter().all(|m| m.matches(held.labels.get(&m.name)));
        match selector.metric() {
            Some(name) => store.of_name(name).iter().filter_map(|id| store.get(*id)).filter(matches).for_each(found),
            None => {
                let mut all: Vec<&Held> = store.iter().map(|(_, held)| held).filter(matches).collect();
                crate::order::sort_by(&mut all, &|a, b| a.labels.cmp(&b.labels));
                all.into_iter().for_each(&mut found);
            }
        }
    }
}

impl Storage for Window {
    fn series(&self, selector: &Selector, after: Millis, until: Millis, most: usize) -> Vec<Series> {
        let mut all = Vec::new();
        let mut count = 0;
        self.select(selector, |held| {
            if count > most {
                return;
            }
            let samples = held.samples.list(after, until);
            count += samples.len();
            if !samples.is_empty() {
                all.push(Series { labels: held.labels.clone(), samples });
            }
        });
        all
    }

    fn latest(&self, selector: &Selector, after: Millis, until: Millis) -> Vec<(Labels, Sample)> {
        let mut all = Vec::new();
        self.select(selector, |held| {
            all.extend(held.samples.latest(after, until).map(|sample| (held.labels.clone(), sample)));
        });
        all
    }

    fn examined(&self, selector: &Selector) -> usize {
        let store = &self.kept.store;
        match (self.kept.needs.of_selector(selector), selector.metric()) {
            (Some(wanted), _) => wanted.series.len(),
            (None, Some(name)) => store.of_name(name).len(),
            (None, None) => store.len(),
        }
    }
}

impl Kept {
    /// Forgets what is too old, and series of which nothing is left.
    fn sweep(&mut self, now: Millis) {
        self.swept = now;
        let empty = self.store.sweep(now);
        if !empty.is_empty() {
            self.store.remove(&empty);
        }
        self.needs.forget_removed(&self.store);
    }
}

#[cfg(test)]
mod tests;
