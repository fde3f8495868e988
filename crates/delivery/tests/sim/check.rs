//! What must never be.

use super::names::Rec;
use super::{CH, World};

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// Records never leave an agent's spool.
    Stuck,
    /// A record that is owed to a group is not in its store, though its agent still has it.
    Undelivered,
    /// Twice in a store.
    Doubled,
    /// In the store, and booked as lost.
    Ghost,
    /// Owed, in no store, in no spool, and nobody said so.
    Lost,
    /// Booked as lost, though its agent never gave it up.
    FalselyLost,
    /// Declared for ever.
    Declared,
    /// Freed before a group that it is owed to had it.
    FreedEarly,
    /// More records out than the window has.
    Window,
    /// A machine's ranges say something else than the records one by one.
    Representation,
    /// It took too long after everything was well again.
    Late,
}

impl World {
    fn booked_lost(&self, group: u8, record: Rec) -> bool {
        let lost = |ledger: &delivery::ledger::Ledger| {
            let key = record.key();
            ledger.iter().any(|(of, entry, _)| *of == key && entry.lost.contains(u64::from(record.seq)))
        };
        if group == CH {
            self.exporters.iter().filter(|exporter| exporter.group == CH).any(|exporter| lost(&exporter.ledger))
        } else {
            lost(&self.stores[group as usize].ledger)
        }
    }

    /// A record was freed by an agent.
    pub(crate) fn check_freed(&mut self, a: usize, record: Rec) {
        let owed = self.owed.get(&record).copied().unwrap_or(0);
        for group in 0..self.stores.len() as u8 {
            let retired = self.stores[group as usize].retired && self.retired.contains(&a);
            if owed & (1 << group) == 0
                || retired
                || self.stores[group as usize].has(record)
                || self.given_up.contains(&record)
                || self.undone.contains(&(group, record))
                || self.booked_lost(group, record)
            {
                continue;
            }
            self.found(Fault::FreedEarly, || format!("{record:?} for group {group}"));
        }
    }

    /// Ranges against records.
    pub(crate) fn check_representation(&mut self) {
        for e in 0..self.exporters.len() {
            let exporter = &self.exporters[e];
            if exporter.alive && !exporter.legacy && exporter.receiver.held() != exporter.naive.len() as u64 {
                let (held, naive) = (exporter.receiver.held(), exporter.naive.len());
                self.found(Fault::Representation, || format!("exporter {e} holds {held}, really {naive}"));
            }
        }
        for a in 0..self.agents.len() {
            for kind in super::KINDS {
                let agent = &self.agents[a];
                if agent.is_writing() {
                    continue;
                }
                let Some(sender) = &agent.sender else { continue };
                let (says, really) = (sender.unfreed(kind), agent.unfreed(kind));
                if says != really {
                    self.found(Fault::Representation, || format!("agent {a} owes {says} {kind}, really {really}"));
                }
            }
        }
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.now > self.plan.produce_until
            && self.agents.iter().all(|agent| agent.stopped || (agent.records().next().is_none() && !agent.declares()))
            && self.exporters.iter().all(|exporter| exporter.gone || exporter.legacy || exporter.is_empty())
            && !self.agents.iter().any(|agent| agent.stopped && agent.records().next().is_some())
    }

    pub(crate) fn check_end(&mut self) {
        self.check_representation();
        if self.drained.is_none() || self.drained.is_some_and(|after| after > self.plan.most_drain) {
            let after = self.drained;
            self.found(Fault::Late, || format!("drained after {after:?} ms"));
        }
        let mut in_spool = super::names::Set::default();
        for a in 0..self.agents.len() {
            let records: Vec<Rec> = self.agents[a].records().collect();
            if let (None, Some(first)) = (self.drained, records.first()) {
                self.found(Fault::Stuck, || format!("{} records of agent {a}, first {first:?}", records.len()));
            }
            in_spool.extend(records);
            if self.drained.is_none() && self.agents[a].declares() {
                let dropped = self.agents[a].dropped();
                self.found(Fault::Declared, || format!("agent {a} still declares {dropped:?}"));
            }
        }
        for group in 0..self.stores.len() as u8 {
            if self.wiped.contains(&group) || self.exporters.iter().any(|e| e.legacy && e.group == group) {
                continue;
            }
            let twice = self.stores[group as usize].rows.iter().find(|(_, rows)| **rows > 1);
            if let Some((record, rows)) = twice.map(|(record, rows)| (*record, *rows)) {
                self.found(Fault::Doubled, || format!("{record:?} {rows} times in group {group}"));
            }
        }
        let owed: Vec<(Rec, u8)> = self.owed.iter().map(|(record, owed)| (*record, *owed)).collect();
        for (record, owed) in owed {
            for group in 0..self.stores.len() as u8 {
                let store = &self.stores[group as usize];
                if owed & (1 << group) == 0 || store.retired {
                    continue;
                }
                let has = store.has(record);
                let given_up = self.given_up.contains(&record);
                // Asked only where it decides something: it looks through all ledgers.
                let lost = (!has || given_up) && self.booked_lost(group, record);
                // Members of an earlier version write what no ledger knows.
                let legacy = self.exporters.iter().any(|e| e.legacy && e.group == group);
                let what = || format!("{record:?} for group {group}");
                // What was declared to a ledger that is gone, or that has forgotten it in time.
                let forgotten = self.wiped.contains(&group)
                    || self.faults.failover && group == super::PG
                    || given_up && self.forgotten.contains(&(group, record.key()));
                match (has, lost) {
                    (false, false) if in_spool.contains(&record) => self.found(Fault::Undelivered, what),
                    (false, false) if self.undone.contains(&(group, record)) => {}
                    (false, false) if given_up && forgotten => {}
                    (false, false) => self.found(Fault::Lost, what),
                    (true, true) if !self.wiped.contains(&group) && !legacy => self.found(Fault::Ghost, what),
                    (false, true) if !given_up => self.found(Fault::FalselyLost, what),
                    _ => {}
                }
            }
        }
    }
}
