//! What a host declared lost, until every group that takes it has booked it.

use wire::messages::Loss;
use wire::{BootId, Kind, Ranges};

/// Beyond this, losses of one (boot, kind, reason) become one even where records between them were not lost, if all of those
/// were freed: a ledger books as lost only what it has not committed. What is lost by room or age is the oldest of its
/// kind, so that nothing before it is owed any more. What a broker refuses, or a disk has damaged, may have records
/// before it that are still owed to a group that is away; to declare those would have them freed without a copy.
const MOST_LOSSES: usize = 256;

/// With so many, no record is given up that could wait as well: each is a part of the host's status, which has to be
/// small enough for a broker.
const FULL_OF_LOSSES: usize = 1_024;

#[derive(Debug)]
struct Declared {
    loss: Loss,
    /// On disk with this version.
    version: u64,
    /// What each group has booked.
    booked: Vec<(u32, Ranges)>,
}

#[derive(Debug, Default)]
pub(super) struct Losses(Vec<Declared>);

impl Losses {
    /// From the disk.
    pub(super) fn new(dropped: Vec<Loss>) -> Self {
        Self(dropped.into_iter().map(|loss| Declared { loss, version: 0, booked: Vec::new() }).collect())
    }

    pub(super) fn declare(&mut self, loss: Loss, version: u64) {
        self.0.push(Declared { loss, version, booked: Vec::new() });
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Loss> {
        self.0.iter().map(|declared| &declared.loss)
    }

    /// Those that are on disk.
    pub(super) fn durable(&self, durable: u64) -> impl Iterator<Item = &Loss> {
        self.0.iter().filter(move |declared| declared.version <= durable).map(|declared| &declared.loss)
    }

    pub(super) fn any_durable(&self, durable: u64) -> bool {
        self.0.iter().any(|declared| declared.version <= durable)
    }

    /// All numbers that were declared.
    pub(super) fn of(&self, boot: &BootId, kind: Kind) -> Ranges {
        let of = self.all().filter(|loss| loss.kind == kind && loss.boot == *boot);
        of.map(|loss| (loss.from, loss.to)).collect()
    }

    /// A group has booked these; whether that says something new.
    pub(super) fn book(&mut self, group: u32, boot: &BootId, kind: Kind, ranges: &Ranges) -> bool {
        let mut news = false;
        for declared in self.0.iter_mut().filter(|d| d.loss.kind == kind && d.loss.boot == *boot) {
            let booked = ranges.intersection(&Ranges::of(declared.loss.from, declared.loss.to));
            if booked.is_empty() {
                continue;
            }
            news = true;
            match declared.booked.iter_mut().find(|(id, _)| *id == group) {
                Some((_, sofar)) => sofar.add(&booked),
                None => declared.booked.push((group, booked)),
            }
        }
        news
    }

    /// Forgets what every group that takes the kind has booked, and, if `certain`, what no group takes. Whether
    /// something went.
    pub(super) fn settle(&mut self, takers: impl Fn(Kind) -> Vec<u32>, certain: bool) -> bool {
        let before = self.0.len();
        self.0.retain(|Declared { loss, booked, .. }| {
            let takers = takers(loss.kind);
            let has = |id: &u32| booked.iter().any(|(of, ranges)| of == id && ranges.covers(loss.from, loss.to));
            if takers.is_empty() { !certain } else { !takers.iter().all(has) }
        });
        before != self.0.len()
    }

    pub(super) fn forget(&mut self, group: u32) {
        self.0.iter_mut().for_each(|declared| declared.booked.retain(|(id, _)| *id != group));
    }

    /// Whether another loss can be declared.
    pub(super) fn have_room(&self) -> bool {
        self.0.len() < FULL_OF_LOSSES
    }

    /// Makes one of neighbours that are on disk. `owed`: whether one of these records still is.
    pub(super) fn melt(&mut self, durable: u64, owed: impl Fn(&BootId, Kind, u64, u64) -> bool) {
        if self.0.len() < 2 {
            return;
        }
        fn key(of: &Declared) -> (&BootId, Kind, u8, u64) {
            (&of.loss.boot, of.loss.kind, of.loss.reason as u8, of.loss.from)
        }
        // Nearly in order, and few.
        for next in std::mem::take(&mut self.0) {
            let at = self.0.partition_point(|before| key(before) <= key(&next));
            self.0.insert(at, next);
        }
        let crowded = self.0.len() > MOST_LOSSES;
        let mut melted: Vec<Declared> = Vec::with_capacity(self.0.len());
        for next in self.0.drain(..) {
            match melted.last_mut() {
                Some(last)
                    if last.version <= durable
                        && next.version <= durable
                        && last.loss.reason == next.loss.reason
                        && last.loss.kind == next.loss.kind
                        && last.loss.boot == next.loss.boot
                        && (next.loss.from <= last.loss.to.saturating_add(1)
                            || (crowded
                                && !owed(&next.loss.boot, next.loss.kind, last.loss.to + 1, next.loss.from - 1))) =>
                {
                    last.loss.to = last.loss.to.max(next.loss.to);
                    for (id, ranges) in next.booked {
                        match last.booked.iter_mut().find(|(of, _)| *of == id) {
                            Some((_, sofar)) => sofar.add(&ranges),
                            None => last.booked.push((id, ranges)),
                        }
                    }
                }
                _ => melted.push(next),
            }
        }
        self.0 = melted;
    }

    pub(super) fn size(&self) -> usize {
        self.0.iter().map(|d| 1 + d.booked.iter().map(|(_, ranges)| ranges.len()).sum::<usize>()).sum()
    }
}
