//! A fleet in simulated time around the real machines: agents with their spools, a lossy and forgetful broker, exporters
//! with theirs, stores, and everything that may happen to them. A seed decides all; the same seed is the same history.
//!
//! What stands on a disk is kept apart from what a crash forgets. Every event is one step.

mod agent;
mod broker;
mod check;
mod exporter;
mod faults;
mod names;
mod store;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use delivery::Millis;

pub(crate) use agent::Agent;
pub(crate) use check::Fault;
pub(crate) use exporter::Exporter;
pub(crate) use faults::{Faults, Plan};
pub(crate) use names::{CH, KINDS, LATE, PG, Rec};
pub(crate) use store::Store;

/// The rules, each of which a mutant breaks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    /// A PUBACK frees the record.
    pub(crate) free_on_puback: bool,
    /// The PostgreSQL group writes what arrives, whatever its ledger says.
    pub(crate) no_ledger: bool,
    /// What is in an exporter's spool is confirmed as committed.
    pub(crate) confirm_before_commit: bool,
    /// `held` never ends.
    pub(crate) endless_lease: bool,
    /// Never a whole confirmation.
    pub(crate) delta_only: bool,
    /// Losses name the present run, whichever made the records.
    pub(crate) dropped_without_boot: bool,
    /// After a doubt a batch is sent again as if nothing had been found.
    pub(crate) no_look_up: bool,
    /// The time to the next try doubles for ever.
    pub(crate) no_cap: bool,
    /// What enters a batch is not compared with the ledger, nor with the batch itself.
    pub(crate) no_check_of_outstanding: bool,
    /// The store takes an insert that it is still running, and a look-up does not ask whether one runs.
    pub(crate) no_query_id: bool,
    /// What is declared lost is booked as committed.
    pub(crate) lost_is_final: bool,
    /// A segment goes before its declaration is on disk.
    pub(crate) declared_after_eviction: bool,
    /// A loss is declared in one status only.
    pub(crate) declared_once: bool,
    /// A full exporter drops its oldest records.
    pub(crate) exporter_evicts: bool,
    /// A dead letter is not booked as committed.
    pub(crate) dead_letter_not_booked: bool,
    /// A group that looks offline is not probed, and members announce themselves only when they connect.
    pub(crate) no_probe: bool,
    /// A group is retired by one command.
    pub(crate) retire_once: bool,
    /// The members of a sharded group share one subscription.
    pub(crate) share_shards: bool,
    /// New shards begin with the ledger of their own predecessor only.
    pub(crate) reshard_without_ledgers: bool,
    /// A ledger forgets by age alone.
    pub(crate) forget_by_age: bool,
}

impl Rules {
    pub(crate) const RIGHT: Rules = Rules {
        free_on_puback: false,
        no_ledger: false,
        confirm_before_commit: false,
        endless_lease: false,
        delta_only: false,
        dropped_without_boot: false,
        no_look_up: false,
        no_cap: false,
        no_check_of_outstanding: false,
        no_query_id: false,
        lost_is_final: false,
        declared_after_eviction: false,
        declared_once: false,
        exporter_evicts: false,
        dead_letter_not_booked: false,
        no_probe: false,
        retire_once: false,
        share_shards: false,
        reshard_without_ledgers: false,
        forget_by_age: false,
    };
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to below `high`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low).max(1)
    }

    /// True so many times in 10,000.
    pub(crate) fn chance(&mut self, per_myriad: u64) -> bool {
        per_myriad > 0 && self.next() % 10_000 < per_myriad
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }

    /// Exponentially distributed with this mean.
    pub(crate) fn gap(&mut self, mean: u64) -> u64 {
        let unit = ((self.next() >> 11) as f64 + 1.0) / (1u64 << 53) as f64;
        (-unit.ln() * mean as f64) as u64 + 1
    }
}

type Action = Box<dyn FnOnce(&mut World)>;

struct Event {
    at: u64,
    order: u64,
    action: Action,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// Everything.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) rules: Rules,
    pub(crate) faults: Faults,
    pub(crate) plan: Plan,
    pub(crate) agents: Vec<Agent>,
    pub(crate) exporters: Vec<Exporter>,
    pub(crate) stores: Vec<Store>,
    pub(crate) broker: broker::Broker,
    events: BinaryHeap<Event>,
    order: u64,
    pub(crate) steps: u64,
    /// What went wrong, by kind: how often, and the first of each.
    pub(crate) faults_found: BTreeMap<Fault, (u64, String)>,
    /// Which groups are owed a record: those that stood on the host's disk when the record was on disk, or later.
    pub(crate) owed: names::Map<Rec, u8>,
    /// Records that the agent gave up and declared.
    pub(crate) given_up: names::Set<Rec>,
    pub(crate) poison: names::Set<Rec>,
    /// Records whose commit a failover undid: they may be missing.
    pub(crate) undone: names::Set<(u8, Rec)>,
    /// Entries that a ledger forgot.
    pub(crate) forgotten: BTreeSet<(u8, delivery::ledger::Key)>,
    /// Groups whose members lost their disk: at least once.
    pub(crate) wiped: BTreeSet<u8>,
    /// Retired by command, by agent.
    pub(crate) retired: BTreeSet<usize>,
    pub(crate) published: u64,
    pub(crate) republished: u64,
    /// When everything was drained.
    pub(crate) drained: Option<u64>,
    pub(crate) healed: bool,
    pub(crate) traced: Option<Rec>,
    /// The most entries that a sender, a receiver ever had.
    pub(crate) most_sender: usize,
    pub(crate) most_receiver: usize,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) steps: u64,
    pub(crate) found: BTreeMap<Fault, (u64, String)>,
    /// From the end of all faults and of production to the last record, in milliseconds.
    pub(crate) drained: Option<u64>,
    pub(crate) published: u64,
    pub(crate) republished: u64,
}

impl World {
    pub(crate) fn millis(&self) -> Millis {
        Millis(self.now)
    }

    /// Something happens after so many milliseconds.
    pub(crate) fn after(&mut self, delay: u64, action: impl FnOnce(&mut World) + 'static) {
        self.order += 1;
        self.events.push(Event { at: self.now + delay, order: self.order, action: Box::new(action) });
    }

    /// The time that a message takes.
    pub(crate) fn latency(&mut self) -> u64 {
        self.random.range(20, 100)
    }

    /// For a closer look at one record: UTILIZER_TRACE=host,boot,kind,seq
    pub(crate) fn trace(&self, record: Rec, what: &str) {
        if self.traced == Some(record) {
            println!("{:8.1} s  {what}", self.now as f64 / 1000.0);
        }
    }

    pub(crate) fn found(&mut self, fault: Fault, what: impl FnOnce() -> String) {
        let now = self.now;
        self.faults_found.entry(fault).or_insert_with(|| (0, format!("at {} s: {}", now / 1000, what()))).0 += 1;
    }

    /// One seed, from its first event until all is drained or time is over.
    pub(crate) fn run(seed: u64, rules: &Rules, most_steps: u64) -> Outcome {
        World::seeded(seed, rules).finish(most_steps)
    }

    pub(crate) fn finish(mut self, most_steps: u64) -> Outcome {
        let end = self.plan.end;
        let mut next_check = self.plan.heal + 60_000;
        while let Some(event) = self.events.pop() {
            if event.at >= end || self.steps >= most_steps {
                break;
            }
            self.now = event.at;
            (event.action)(&mut self);
            self.steps += 1;
            if self.steps.is_multiple_of(512) {
                self.check_representation();
            }
            if self.now > next_check {
                next_check = self.now + 20_000;
                if self.is_drained() {
                    self.drained = Some(self.now - self.plan.heal.max(self.plan.produce_until));
                    break;
                }
            }
        }
        if self.steps < most_steps {
            self.check_end();
        }
        Outcome {
            steps: self.steps,
            found: self.faults_found,
            drained: self.drained,
            published: self.published,
            republished: self.republished,
        }
    }
}
