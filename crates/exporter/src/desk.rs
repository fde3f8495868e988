//! What the tier's threads know together: the delivery protocol's state, and how far the spool is written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use delivery::ledger::{Entry, Key};
use delivery::receiver::{Arrived, Settings};
use delivery::{Identity, Millis, Receiver};
use wire::messages::{Confirmation, Loss, Status};
use wire::{BootId, HostName, Ranges};

/// Hosts whose status named its runs, at most.
const MOST_HOSTS: usize = 200_000;

/// Shared by all threads; each call is short and waits for nothing.
#[derive(Debug)]
pub(crate) struct Desk {
    begun: Instant,
    settings: Settings,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    receiver: Receiver,
    /// Hosts that have told their status.
    hosts: BTreeSet<HostName>,
    /// The losses that they declared, each number counted once.
    declared: BTreeMap<Key, Ranges>,
    /// All records of the spool below this are written.
    cursor: u64,
    /// And these.
    done: Ranges,
    /// What stands in the spool is to be looked through (again).
    rescan: bool,
}

/// What to do with a message that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Spool it.
    Store,
    /// It is in the spool.
    Known,
}

impl Desk {
    /// `cursor`: the first index of the spool that is not written.
    pub(crate) fn new(settings: Settings, cursor: u64) -> Self {
        let receiver = Receiver::new(settings.clone());
        let state = State {
            receiver,
            hosts: BTreeSet::new(),
            declared: BTreeMap::new(),
            cursor,
            done: Ranges::default(),
            rescan: true,
        };
        Self { begun: Instant::now(), settings, state: Mutex::new(state) }
    }

    /// Nothing runs under this lock that could leave the state half changed.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now, by the protocol's clock.
    pub(crate) fn now(&self) -> Millis {
        Millis(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether a host is this member's.
    pub(crate) fn takes(&self, host: &HostName) -> bool {
        self.settings.shard.is_none_or(|shard| shard.takes(host))
    }

    /// A record of ours came.
    pub(crate) fn received(&self, record: &Identity) -> Verdict {
        match self.state().receiver.received(record, self.now()) {
            Arrived::Known => Verdict::Known,
            Arrived::Store | Arrived::Foreign | Arrived::Unnumbered => Verdict::Store,
        }
    }

    /// Records are in the spool, and the spool on disk.
    pub(crate) fn stored(&self, records: &[Identity]) {
        let (mut state, now) = (self.state(), self.now());
        for record in records {
            state.receiver.stored(record, now);
        }
    }

    /// A record was found in the spool, at this index.
    pub(crate) fn restored(&self, index: u64, record: &Identity) {
        let mut state = self.state();
        // It may have been written since the look at the spool began.
        if index >= state.cursor && !state.done.contains(index) {
            state.receiver.restored(record, self.now());
        }
    }

    /// Records are in the store and its ledger.
    pub(crate) fn committed(&self, records: &[Identity]) {
        self.state().receiver.committed(records, self.now());
    }

    /// These indices of the spool are done with. Gives the index below which all are.
    pub(crate) fn done(&self, indices: &[u64], gaps: &Ranges) -> u64 {
        let mut state = self.state();
        // Neighbours come in runs.
        for run in indices.chunk_by(|a, b| a + 1 == *b) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                state.done.insert_range(*first, *last);
            }
        }
        for (from, to) in gaps.iter() {
            state.done.insert_range(from, to);
        }
        let cursor = state.cursor;
        if let Some((_, end)) = state.done.range_of(cursor) {
            state.cursor = end + 1;
        }
        let cursor = state.cursor;
        if let Some(below) = cursor.checked_sub(1) {
            state.done.remove_range(0, below);
        }
        state.cursor
    }

    /// The first index that is not written.
    pub(crate) fn cursor(&self) -> u64 {
        self.state().cursor
    }

    /// Something in the spool can't be read, and nobody knows of which hosts it was: nothing counts as held that a new
    /// look at the spool does not find.
    pub(crate) fn damaged(&self) {
        let mut state = self.state();
        state.receiver = Receiver::new(self.settings.clone());
        state.rescan = true;
    }

    /// Whether the spool is to be looked through, once for each time.
    pub(crate) fn take_rescan(&self) -> bool {
        std::mem::take(&mut self.state().rescan)
    }

    /// A host's status came. Gives the losses to book, how many records of each were not declared before, and how many
    /// losses are not taken.
    pub(crate) fn told(&self, status: &Status) -> (Vec<(Loss, u64)>, u64) {
        let (mut state, now) = (self.state(), self.now());
        if state.hosts.len() < MOST_HOSTS && !state.hosts.contains(&status.host) {
            state.hosts.insert(status.host.clone());
        }
        let (losses, refused) = state.receiver.host_status(status, now);
        let mut counted = Vec::with_capacity(losses.len());
        for loss in losses {
            let key = Key { host: status.host.clone(), boot: loss.boot.clone(), kind: loss.kind };
            let mut new = 0;
            if state.declared.len() < MOST_HOSTS || state.declared.contains_key(&key) {
                let declared = state.declared.entry(key).or_default();
                let before = declared.count();
                declared.insert_range(loss.from, loss.to);
                new = declared.count() - before;
            }
            counted.push((loss, new));
        }
        (counted, refused)
    }

    /// Losses are in the ledger.
    pub(crate) fn booked(&self, lost: &[(HostName, Loss)]) {
        let (mut state, now) = (self.state(), self.now());
        for (host, loss) in lost {
            state.receiver.booked(host, std::slice::from_ref(loss), now);
        }
    }

    /// All runs that hosts name in their statuses.
    pub(crate) fn named_boots(&self) -> Vec<(HostName, BootId)> {
        let state = self.state();
        let boots = |host: &HostName| state.receiver.named(host).into_iter().flatten().cloned().collect::<Vec<_>>();
        state.hosts.iter().flat_map(|host| boots(host).into_iter().map(|boot| (host.clone(), boot))).collect()
    }

    /// Hosts that are to be confirmed now: those that need no look at the ledger, and those that do.
    pub(crate) fn due(&self, most: usize) -> (Vec<HostName>, Vec<HostName>) {
        let (state, now) = (self.state(), self.now());
        state.receiver.due(now, most).into_iter().partition(|host| !state.receiver.whole_due(host, now))
    }

    /// Hosts that are to be told something at some time.
    pub(crate) fn waiting(&self, most: usize) -> Vec<HostName> {
        self.state().receiver.due(Millis::NEVER, most)
    }

    /// What to tell a host that is due.
    pub(crate) fn confirmation(&self, host: &HostName, entries: Option<&[(Key, Entry)]>) -> Option<Confirmation> {
        self.state().receiver.confirmation(host, entries, self.now())
    }

    /// How many numbered records are held.
    pub(crate) fn held(&self) -> u64 {
        self.state().receiver.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seq: u64) -> Identity {
        Identity { host: "web-01".parse().unwrap(), boot: "b1".parse().unwrap(), kind: wire::Kind::Logs, seq }
    }

    #[test]
    fn the_cursor_follows_what_is_done_in_whatever_order() {
        let desk = Desk::new(Settings::default(), 10);
        let none = Ranges::default();
        assert_eq!(desk.done(&[13, 14], &none), 10);
        assert_eq!(desk.done(&[10, 11], &none), 12);
        assert_eq!(desk.done(&[], &Ranges::of(12, 12)), 15);
        // A batch that was tried before the restart, and one more.
        assert_eq!(desk.done(&[3, 4, 15], &none), 16);
    }

    #[test]
    fn what_was_written_during_a_look_at_the_spool_is_not_held() {
        let desk = Desk::new(Settings::default(), 0);
        assert!(desk.take_rescan());
        assert!(!desk.take_rescan());
        desk.committed(&[identity(1), identity(3)]);
        desk.done(&[0, 2], &Ranges::default());
        for index in 0..4 {
            desk.restored(index, &identity(index + 1));
        }
        assert_eq!(desk.held(), 2);
        assert_eq!(desk.received(&identity(2)), Verdict::Known);
        assert_eq!(desk.received(&identity(3)), Verdict::Store);
        desk.damaged();
        assert!(desk.take_rescan());
        assert_eq!(desk.held(), 0);
    }
}
