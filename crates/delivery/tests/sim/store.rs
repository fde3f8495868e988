//! Stores: one with transactions over rows and ledger, one without, which knows tokens.

use std::collections::VecDeque;

use delivery::KindSet;
use delivery::ledger::Ledger;
use wire::Timestamp;

use super::World;
use super::names::{Map, Rec, Set};

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) kinds: KindSet,
    pub(crate) down: bool,
    /// How often the rows of a record are there.
    pub(crate) rows: Map<Rec, u8>,
    /// The ledger of a store that has one.
    pub(crate) ledger: Ledger,
    /// Records that went to the dead letters of some member, as long as that is booked. The letter lies with the member.
    pub(crate) dead: Set<Rec>,
    /// The last tokens that it remembers.
    pub(crate) tokens: VecDeque<String>,
    /// Inserts that run, and until when.
    pub(crate) running: Vec<(String, u64)>,
    /// When a member first announced the group.
    pub(crate) born: Option<u64>,
    pub(crate) retired: bool,
    /// What a failover would go back to, and what was written since.
    pub(crate) snapshot: Option<(u64, Ledger)>,
    pub(crate) since: Vec<Rec>,
}

impl Store {
    pub(crate) fn has(&self, record: Rec) -> bool {
        self.rows.get(&record).is_some_and(|rows| *rows > 0) || self.dead.contains(&record)
    }

    pub(crate) fn runs(&self, token: &str, now: u64) -> bool {
        self.running.iter().any(|(of, until)| of == token && *until >= now)
    }

    pub(crate) fn write(&mut self, record: Rec) {
        *self.rows.entry(record).or_default() += 1;
    }
}

impl World {
    /// One transaction of the store with a ledger: what is new is written, all is booked.
    pub(crate) fn transact(&mut self, group: u8, batch: &[Rec], legacy: bool) {
        let time = Timestamp::from_millis(self.now as i64);
        let (no_ledger, not_booked) = (self.rules.no_ledger || legacy, self.rules.dead_letter_not_booked);
        let (now, failover) = (self.now, self.faults.failover);
        let poison = &self.poison;
        let store = &mut self.stores[group as usize];
        if failover && store.snapshot.as_ref().is_none_or(|(at, _)| now - at > 60_000) {
            store.snapshot = Some((now, store.ledger.clone()));
            store.since.clear();
        }
        for record in batch {
            let identity = record.identity();
            if !no_ledger && !store.ledger.is_new(&identity) {
                continue;
            }
            if poison.contains(record) {
                store.dead.insert(*record);
                if not_booked || legacy {
                    continue;
                }
            } else {
                store.write(*record);
            }
            if failover {
                store.since.push(*record);
            }
            if !legacy {
                store.ledger.commit(&identity, time);
            }
        }
    }

    /// A standby takes over that had not received the last transactions. That a record is a dead letter was booked in one of
    /// them: the letter stays, but the ledger is as it was before, and may have the record as lost.
    pub(crate) fn fail_over(&mut self, group: u8) {
        let store = &mut self.stores[group as usize];
        let Some((_, ledger)) = store.snapshot.take() else { return };
        store.ledger = ledger;
        for record in store.since.drain(..) {
            if let Some(rows) = store.rows.get_mut(&record) {
                *rows = rows.saturating_sub(1);
            }
            store.dead.remove(&record);
            self.undone.insert((group, record));
        }
    }
}
