//! How samples come in.

use thiserror::Error;

use super::store::Id;
use super::table::Table;
use super::{Kept, SWEEP_EVERY, Window};
use crate::Labels;
use crate::ast::Millis;
use crate::sample::{NAME, Sample, is_stale};

/// Bytes that the names and values of a sample's labels may have together.
const LONGEST_LABELS: usize = 16 << 10;

/// Rules select more series than the window may hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the rules select more than {limit} series, {left_out} are left out; {selector} matches most, {matched}: narrow \
     it, or raise the limit on series"
)]
pub struct TooMany {
    /// How many there may be.
    pub limit: usize,
    /// How many of the round there was no room for.
    pub left_out: usize,
    /// The selector that matches most.
    pub selector: String,
    /// How many it matches.
    pub matched: usize,
}

/// What came of a round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Samples that were taken.
    pub taken: usize,
    /// Series that were not there in the round before.
    pub new: usize,
    /// Series that were there in the round before and have ended.
    pub ended: usize,
    /// If there was no room for all.
    pub left_out: Option<TooMany>,
}

/// A family as a source had it before.
#[derive(Debug)]
struct Family {
    name: Box<str>,
    /// The needs that its samples may be kept for.
    needs: Box<[u32]>,
}

/// What becomes of a sample.
#[derive(Debug, Clone, Copy)]
enum Target {
    Kept(Id),
    /// No selector matches it.
    Unwanted,
    /// There was no room. The first need that matches it.
    LeftOut(u32),
}

/// A source, as the window knows it.
#[derive(Debug)]
pub(super) struct Origin {
    labels: Labels,
    last: Option<Millis>,
    families: Table<Family>,
    samples: Table<Target>,
}

impl Origin {
    pub(super) fn new(labels: &Labels) -> Self {
        Self { labels: labels.clone(), last: None, families: Table::default(), samples: Table::default() }
    }

    /// The time of its last round.
    pub(super) fn last(&self) -> Option<Millis> {
        self.last
    }

    /// Forgets what it had.
    pub(super) fn restart(&mut self) {
        self.last = None;
        self.samples.clear(drop);
    }

    /// All of its series have ended.
    pub(super) fn fail(&mut self, kept: &mut Kept, time: Millis) {
        let time = self.last.map_or(time, |last| time.max(last.saturating_add(1)));
        self.last = Some(time);
        kept.newest = kept.newest.max(Some(time));
        self.samples.clear(|target| _ = target.end(kept, time));
    }

    /// The needs are others.
    pub(super) fn retarget(&mut self, kept: &Kept) {
        self.families.retain(|family| {
            family.needs = kept.needs.of_name(&family.name).collect();
            true
        });
        // What nobody wanted may be wanted now: it is looked at again when it comes.
        self.samples.retain(|target| matches!(target, Target::Kept(id) if kept.store.get(*id).is_some()));
    }

    /// Bytes on the heap, about.
    pub(super) fn size(&self) -> usize {
        self.families.size() + self.samples.size()
    }
}

impl Target {
    /// A series that is not there any more gets a stale marker.
    fn end(self, kept: &mut Kept, time: Millis) -> bool {
        matches!(self, Self::Kept(id) if kept.store.end(id, time))
    }
}

/// A round that is being given. See [`Window::round`](super::Window::round).
///
/// What is given counts at once; but what is missing is noticed by [`Round::end`] only.
#[derive(Debug)]
pub struct Round<'w> {
    origin: &'w mut Origin,
    kept: &'w mut Kept,
    time: Millis,
    /// With this one, each source has had a round.
    all_have_come: bool,
    /// The family begun last, if it is wanted.
    family: Option<u32>,
    left_out: usize,
    ended: Ended,
}

impl<'w> Round<'w> {
    pub(super) fn begin(origin: &'w mut Origin, kept: &'w mut Kept, time: Millis, all_have_come: bool) -> Self {
        let now = kept.newest.unwrap_or(time).max(time);
        if now.saturating_sub(kept.swept) >= SWEEP_EVERY {
            kept.sweep(now);
        }
        origin.last = Some(time);
        origin.families.begin();
        origin.samples.begin();
        Self { origin, kept, time, all_have_come, family: None, left_out: 0, ended: Ended::default() }
    }

    /// Begins a family. `false` if no rule looks at it: its samples need not be given.
    pub fn family(&mut self, name: &str) -> bool {
        let families = &mut self.origin.families;
        let found = families.find(std::iter::once(name)).or_else(|| {
            // Beyond that it is no use to remember more names: there is not so much room for series.
            let room = families.len() < self.kept.limits.series.max(1024);
            let needs = room.then(|| self.kept.needs.of_name(name).collect());
            needs.map(|needs| families.insert(Family { name: name.into(), needs }))
        });
        let Some(at) = found else {
            self.family = None;
            let wanted = self.kept.needs.of_name(name).next();
            wanted.into_iter().for_each(|need| self.leave_out(need));
            return false;
        };
        families.see(at);
        let wanted = families.get(at).is_some_and(|family| !family.needs.is_empty());
        self.family = wanted.then_some(at);
        wanted
    }

    /// Gives a sample of the family begun last. Labels in any order; a name among them is passed over.
    pub fn sample<'l>(&mut self, labels: impl Iterator<Item = (&'l str, &'l str)> + Clone, value: f64) {
        let Origin { families, samples, .. } = &mut *self.origin;
        let Some(family) = self.family.and_then(|at| families.get(at)) else { return };
        let labels = labels.filter(|(name, _)| *name != NAME);
        let parts = labels.clone().flat_map(|(name, value)| [name, value]);
        let sample = Sample { time: self.time, value };
        let Some(at) = samples.find(std::iter::once(&*family.name).chain(parts)) else {
            return self.first_seen(labels, sample);
        };
        if !samples.see(at) {
            self.kept.counts.duplicates += 1;
            return;
        }
        match samples.get(at).copied() {
            None | Some(Target::Unwanted) => {}
            Some(Target::Kept(id)) if self.kept.store.get(id).is_some() => self.push(id, sample),
            Some(Target::LeftOut(need)) if self.kept.store.len() >= self.kept.limits.series => self.leave_out(need),
            // It was forgotten, or there is room now.
            Some(_) => {
                let target = self.adopt(labels, sample);
                if let Some(known) = self.origin.samples.get_mut(at) {
                    *known = target;
                }
            }
        }
    }

    fn push(&mut self, id: Id, sample: Sample) {
        match self.kept.store.push(id, sample) {
            None => self.kept.counts.not_newer += 1,
            Some(forgotten) => {
                self.ended.taken += 1;
                if forgotten > 0 {
                    self.kept.forgot_early(id, forgotten);
                }
            }
        }
    }

    fn leave_out(&mut self, need: u32) {
        self.left_out += 1;
        if let Some(wanted) = self.kept.needs.all.get_mut(need as usize) {
            wanted.left_out += 1;
        }
    }

    /// A sample that the round before did not have.
    fn first_seen<'l>(&mut self, labels: impl Iterator<Item = (&'l str, &'l str)> + Clone, sample: Sample) {
        if self.origin.samples.key_length() > LONGEST_LABELS {
            self.kept.counts.labels_too_long += 1;
            return;
        }
        let target = self.adopt(labels, sample);
        // What is not kept is remembered too, to pass over it quickly, but not without end.
        let room = self.origin.samples.len() < self.kept.limits.series.saturating_mul(2).max(1024);
        if room || matches!(target, Target::Kept(_)) {
            let at = self.origin.samples.insert(target);
            self.origin.samples.see(at);
        }
    }

    /// Finds out what becomes of a sample, and takes it.
    fn adopt<'l>(&mut self, labels: impl Iterator<Item = (&'l str, &'l str)>, sample: Sample) -> Target {
        let Self { origin, kept, .. } = self;
        let Some(family) = self.family.and_then(|at| origin.families.get(at)) else { return Target::Unwanted };
        let mut renamed = Vec::new();
        let mut pairs: Vec<(&str, &str)> = vec![(NAME, &family.name)];
        for (name, value) in labels {
            if origin.labels.get(name).is_empty() || value.is_empty() {
                pairs.push((name, value));
            } else {
                renamed.push((format!("exported_{name}"), value));
            }
        }
        for (name, _) in &mut renamed {
            while pairs.iter().any(|(taken, _)| taken == name) || !origin.labels.get(name).is_empty() {
                name.insert_str(0, "exported_");
            }
        }
        pairs.extend(renamed.iter().map(|(name, value)| (name.as_str(), *value)));
        pairs.extend(origin.labels.iter());
        let value = |name: &str| pairs.iter().rev().find(|(of, _)| *of == name).map_or("", |(_, value)| *value);
        let matching = kept.needs.matching(&family.needs, value);
        let Some(first) = matching.first().copied() else { return Target::Unwanted };
        let full = kept.store.len() >= kept.limits.series;
        let labels = if full { Labels::new(pairs) } else { kept.store.labels(pairs.into_iter()) };
        if let Some(id) = kept.store.find(&labels) {
            self.ended.new += 1;
            self.push(id, sample);
            return Target::Kept(id);
        }
        if full {
            self.leave_out(first);
            return Target::LeftOut(first);
        }
        let id = kept.store.insert(labels, sample, kept.needs.keep(&matching));
        kept.needs.add(&matching, id, &kept.store);
        self.ended.new += 1;
        self.ended.taken += 1;
        Target::Kept(id)
    }

    /// Ends the round: what it did not have and the one before had, has ended.
    pub fn end(self) -> Ended {
        let Self { origin, kept, time, all_have_come, left_out, mut ended, .. } = self;
        origin.families.remove_unseen(drop);
        origin.samples.remove_unseen(|target| ended.ended += usize::from(target.end(kept, time)));
        // What was given before a need was there may be missing.
        let since = kept.newest.map_or(time, |newest| time.max(newest.saturating_add(1)));
        kept.newest = kept.newest.max(Some(time));
        let forgotten = kept.forgotten.take();
        // As long as one source has given nothing, nobody knows what is not there.
        let fresh = all_have_come && std::mem::take(&mut kept.needs.fresh);
        if fresh || forgotten.is_some() {
            for wanted in &mut kept.needs.all {
                let known = wanted.since.or(fresh.then_some(since));
                wanted.since = known.map(|known| known.max(forgotten.unwrap_or(Millis::MIN)));
            }
        }
        if left_out > 0 {
            kept.counts.left_out += left_out as u64;
            ended.left_out = Some(kept.too_many(left_out));
        }
        ended
    }
}

impl Window {
    /// Adds a sample outside of rounds: of a series that a rule makes, which itself says with a stale marker that it ended.
    /// `false` if it is not kept: no selector matches it, there is no room, or it is not newer than the one before.
    pub fn add(&mut self, labels: &Labels, sample: Sample) -> bool {
        self.add_at(labels, sample, sample.time)
    }

    /// The same of a sample whose time others have set, which it came with now. It may lie ahead, but ends nothing before its
    /// time.
    pub fn add_at(&mut self, labels: &Labels, sample: Sample, now: Millis) -> bool {
        let kept = &mut self.kept;
        kept.newest = kept.newest.max(Some(sample.time.min(now)));
        if let Some(id) = kept.store.find(labels) {
            let pushed = kept.store.push(id, sample);
            match pushed {
                None => kept.counts.not_newer += 1,
                Some(0) => {}
                Some(forgotten) => kept.forgot_early(id, forgotten),
            }
            return pushed.is_some();
        }
        let among: Vec<u32> = kept.needs.of_name(labels.get(NAME)).collect();
        let matching = kept.needs.matching(&among, |name| labels.get(name));
        if matching.is_empty() || is_stale(sample.value) {
            return false;
        }
        if kept.store.len() >= kept.limits.series {
            kept.counts.left_out += 1;
            return false;
        }
        let labels = kept.store.labels(labels.iter());
        let id = kept.store.insert(labels, sample, kept.needs.keep(&matching));
        kept.needs.add(&matching, id, &kept.store);
        true
    }
}

impl Kept {
    /// Notes that a series lost its oldest samples for lack of room.
    fn forgot_early(&mut self, id: Id, forgotten: u32) {
        self.counts.forgotten_early += u64::from(forgotten);
        self.forgotten = self.forgotten.max(self.store.get(id).map(|held| held.samples.oldest().time));
    }

    fn too_many(&mut self, left_out: usize) -> TooMany {
        let limit = self.limits.series;
        let mut most = (String::new(), 0);
        for wanted in &mut self.needs.all {
            let matched = wanted.series.len() + std::mem::take(&mut wanted.left_out);
            if matched > most.1 {
                most = (wanted.selector.to_string(), matched);
            }
        }
        TooMany { limit, left_out, selector: most.0, matched: most.1 }
    }
}
