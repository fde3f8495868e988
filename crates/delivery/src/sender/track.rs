//! What a host has of one kind of one run, and how far each group is with it.

use std::collections::VecDeque;

use wire::Ranges;

use crate::Millis;

/// The records of one (boot, kind).
#[derive(Debug, Default)]
pub(super) struct Track {
    /// In the spool and owed to somebody.
    pub(super) live: Ranges,
    /// By the group's id.
    progress: Vec<(u32, Progress)>,
    /// Nothing below this is to be sent, until something happens that sets it back to 0.
    pub(super) hint: u64,
}

/// How far a group is with the records of a track.
#[derive(Debug, Default)]
struct Progress {
    /// Committed by the group, and still live because of another one.
    committed: Ranges,
    /// What members hold, by when they said so, oldest first. A number may stand in several: the youngest counts.
    held: VecDeque<(Millis, Ranges)>,
}

impl Track {
    fn of(&mut self, group: u32) -> &mut Progress {
        let at = match self.progress.iter().position(|(id, _)| *id == group) {
            Some(at) => at,
            None => {
                self.progress.push((group, Progress::default()));
                self.progress.len() - 1
            }
        };
        &mut self.progress[at].1
    }

    fn get(&self, group: u32) -> Option<&Progress> {
        self.progress.iter().find(|(id, _)| *id == group).map(|(_, progress)| progress)
    }

    /// Books what a group has committed; `false` if that was known.
    pub(super) fn commit(&mut self, group: u32, ranges: &Ranges) -> bool {
        let new = ranges.intersection(&self.live);
        if new.is_empty() {
            return false;
        }
        self.of(group).committed.add(&new);
        true
    }

    /// Renews the lease of what a group holds; `false` if it names nothing that is still owed to the group.
    pub(super) fn hold(&mut self, group: u32, ranges: &Ranges, now: Millis, lease: u64) -> bool {
        let mut new = ranges.intersection(&self.live);
        let progress = self.of(group);
        new.subtract(&progress.committed);
        if new.is_empty() {
            return false;
        }
        progress.held.retain(|(at, _)| now.since(*at) < lease);
        for (_, older) in &mut progress.held {
            older.subtract(&new);
        }
        progress.held.retain(|(_, held)| !held.is_empty());
        match progress.held.back_mut() {
            // A sixteenth of the lease is near enough; so there are at most 17 of these.
            Some((at, held)) if now.since(*at) <= lease / 16 => held.add(&new),
            _ => progress.held.push_back((now, new)),
        }
        true
    }

    /// Where the records end, from `seq` on, that the group needs no copy of; `None` if it needs one of `seq`.
    pub(super) fn satisfied_to(&self, group: u32, seq: u64, now: Millis, lease: u64) -> Option<u64> {
        let progress = self.get(group)?;
        let valid = progress.held.iter().filter(|(at, _)| now.since(*at) < lease).map(|(_, held)| held);
        std::iter::once(&progress.committed).chain(valid).find_map(|set| set.range_of(seq)).map(|(_, to)| to)
    }

    /// Whether some group has said that it holds or has committed a record.
    pub(super) fn arrived(&self, seq: u64) -> bool {
        let said = |progress: &Progress| {
            progress.committed.contains(seq) || progress.held.iter().any(|(_, held)| held.contains(seq))
        };
        self.progress.iter().any(|(_, progress)| said(progress))
    }

    /// What all these groups have committed.
    pub(super) fn committed_by_all(&self, groups: &[u32]) -> Ranges {
        let mut groups = groups.iter();
        let Some(mut all) = groups.next().and_then(|id| self.get(*id)).map(|p| p.committed.clone()) else {
            return Ranges::default();
        };
        for id in groups {
            all = self.get(*id).map(|p| all.intersection(&p.committed)).unwrap_or_default();
        }
        all
    }

    /// Takes records out.
    pub(super) fn remove(&mut self, ranges: &Ranges) {
        self.live.subtract(ranges);
        for (_, progress) in &mut self.progress {
            progress.committed.subtract(ranges);
            progress.held.iter_mut().for_each(|(_, held)| held.subtract(ranges));
            progress.held.retain(|(_, held)| !held.is_empty());
        }
        self.progress.retain(|(_, progress)| !progress.committed.is_empty() || !progress.held.is_empty());
    }

    /// Forgets leases that have ended; the moment at which the next one does.
    pub(super) fn expire(&mut self, now: Millis, lease: u64) -> Millis {
        let mut next = Millis::NEVER;
        for (_, progress) in &mut self.progress {
            progress.held.retain(|(at, _)| now.since(*at) < lease);
            next = progress.held.iter().map(|(at, _)| at.plus(lease)).min().unwrap_or(next).min(next);
        }
        next
    }

    /// Forgets a group.
    pub(super) fn forget(&mut self, group: u32) {
        self.progress.retain(|(id, _)| *id != group);
    }

    /// How many ranges it keeps.
    pub(super) fn size(&self) -> usize {
        let held = |p: &Progress| p.held.iter().map(|(_, held)| held.len()).sum::<usize>();
        self.live.len() + self.progress.iter().map(|(_, p)| p.committed.len() + held(p)).sum::<usize>()
    }
}
