//! An exporter: its spool, the real [`Receiver`], and its way into the store: transactions, or the real [`Fixed`].

use std::collections::VecDeque;
use std::rc::Rc;

use delivery::fixed::{Candidate, Fixed, FixedBatch, Outcome, Step};
use delivery::ledger::{Entry, Key, Ledger};
use delivery::receiver::{Arrived, Receiver, Settings, Timing};
use delivery::{Identity, Shard};
use wire::messages::{Loss, Status, TierState, TierStatus};
use wire::{GroupName, HostName, MemberName, Ranges, Timestamp, VERSION};

use super::broker::ToAgent;
use super::names::{GROUPS, Rec, Set, boot_number, host_number};
use super::{CH, LATE, PG, World};

/// How long a ledger's entry has to rest before it may be forgotten: 30 days in earnest.
const REST: u64 = 5_400_000;

pub(crate) struct Exporter {
    pub(crate) group: u8,
    pub(crate) member: MemberName,
    pub(crate) shard: Option<Shard>,
    /// A member of an earlier version, which knows no ledger and confirms nothing.
    pub(crate) legacy: bool,
    pub(crate) alive: bool,
    pub(crate) gone: bool,
    pub(crate) connected: bool,
    pub(crate) epoch: u64,
    pub(crate) life: u64,
    pub(crate) will: bool,
    pub(crate) connected_at: Timestamp,
    pub(crate) cut_until: u64,
    /// It takes no more records, because the shards are about to change.
    pub(crate) draining: bool,
    // On disk.
    pub(crate) spool: VecDeque<Rec>,
    first: u64,
    pub(crate) ledger: Ledger,
    batch: Option<FixedBatch>,
    // In memory.
    incoming: Vec<(Rec, u64)>,
    syncing: bool,
    working: bool,
    fixed: Fixed,
    pub(crate) receiver: Receiver,
    /// What the receiver should hold, number by number.
    pub(crate) naive: Set<Rec>,
    confirm_at: Option<u64>,
}

impl Exporter {
    pub(crate) fn new(group: u8, member: &str, shard: Option<&str>, legacy: bool) -> Self {
        Self {
            group,
            member: member.parse().unwrap(),
            shard: shard.map(|shard| shard.parse().unwrap()),
            legacy,
            alive: false,
            gone: false,
            connected: false,
            epoch: 0,
            life: 0,
            will: false,
            connected_at: Timestamp::from_millis(0),
            cut_until: 0,
            draining: false,
            spool: VecDeque::new(),
            first: 0,
            ledger: Ledger::default(),
            batch: None,
            incoming: Vec::new(),
            syncing: false,
            working: false,
            fixed: Fixed::default(),
            receiver: Receiver::new(Settings::default()),
            naive: Set::default(),
            confirm_at: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.spool.is_empty() && self.batch.is_none()
    }

    pub(crate) fn announcement(&self, online: bool, time: Timestamp) -> TierStatus {
        TierStatus {
            v: VERSION,
            group: GROUPS[self.group as usize].parse::<GroupName>().unwrap(),
            member: self.member.clone(),
            state: if online { TierState::Online } else { TierState::Offline },
            time,
            sink: String::new(),
            kinds: super::faults::kinds_of(self.group).iter().collect(),
            durable: !self.legacy,
            version: String::new(),
        }
    }

    pub(crate) fn lose_disk(&mut self) {
        self.spool.clear();
        self.ledger = Ledger::default();
        self.batch = None;
    }
}

impl World {
    pub(crate) fn exporter_start(&mut self, e: usize) {
        if self.exporters[e].alive || self.exporters[e].gone {
            return;
        }
        let now = self.millis();
        let mut timing = Timing::default();
        if self.rules.delta_only {
            timing.whole = u64::MAX / 4;
        }
        let exporter = &mut self.exporters[e];
        let kinds = super::faults::kinds_of(exporter.group);
        // With a shared subscription a member can't tell a foreign host from its own record that went astray.
        let settings = Settings { timing, kinds, shard: exporter.shard };
        exporter.alive = true;
        exporter.life += 1;
        exporter.incoming.clear();
        (exporter.syncing, exporter.working, exporter.confirm_at) = (false, false, None);
        exporter.receiver = Receiver::new(settings);
        exporter.naive = exporter.spool.iter().copied().collect();
        for record in &exporter.spool {
            exporter.receiver.restored(&record.identity(), now);
        }
        exporter.fixed = match exporter.batch.clone() {
            Some(batch) => {
                let known = |place: &u64| {
                    let record = exporter.spool.get((place - exporter.first) as usize);
                    record.is_some_and(|record| !exporter.ledger.is_new(&record.identity()))
                };
                let known: Ranges = (batch.from..batch.to).filter(known).map(|place| (place, place)).collect();
                Fixed::resume(batch, &known)
            }
            None => Fixed::default(),
        };
        let life = exporter.life;
        if !self.rules.no_probe {
            self.after(300_000, move |world| world.exporter_announces(e, life));
        }
        self.after(600_000, move |world| world.exporter_forgets(e, life));
        self.exporter_connect(e, life);
        self.exporter_works(e, 1_000);
        self.exporter_schedule(e);
    }

    pub(crate) fn exporter_crash(&mut self, e: usize, down: u64) {
        if !self.exporters[e].alive {
            return;
        }
        self.exporter_disconnected(e);
        self.exporters[e].alive = false;
        self.exporters[e].life += 1;
        self.after(down, move |world| world.exporter_start(e));
    }

    pub(crate) fn exporter_connect(&mut self, e: usize, life: u64) {
        let now = self.now;
        let exporter = &self.exporters[e];
        if exporter.life != life || !exporter.alive || exporter.connected {
            return;
        }
        if !self.broker.up || now < exporter.cut_until {
            let retry = self.random.range(2_000, 10_000);
            self.after(retry, move |world| world.exporter_connect(e, life));
            return;
        }
        let time = self.timestamp();
        let exporter = &mut self.exporters[e];
        exporter.connected = true;
        exporter.epoch += 1;
        exporter.connected_at = time;
        if !exporter.draining {
            self.broker_connected(e);
        }
        let group = self.exporters[e].group as usize;
        self.stores[group].born.get_or_insert(now);
        let status = self.exporters[e].announcement(true, time);
        self.publish_tier(e, Some(status));
        let statuses: Vec<Rc<Status>> = self.broker.hosts.values().cloned().collect();
        statuses.into_iter().for_each(|status| self.tell_status(e, status));
    }

    pub(crate) fn exporter_disconnected(&mut self, e: usize) {
        let exporter = &mut self.exporters[e];
        if !exporter.connected {
            return;
        }
        exporter.connected = false;
        exporter.epoch += 1;
        let life = exporter.life;
        self.broker_lost(e);
        let retry = self.random.range(1_000, 5_000);
        self.after(retry, move |world| world.exporter_connect(e, life));
    }

    fn exporter_announces(&mut self, e: usize, life: u64) {
        if self.exporters[e].life != life {
            return;
        }
        if self.exporters[e].connected {
            let status = self.exporters[e].announcement(true, self.timestamp());
            self.publish_tier(e, Some(status));
        }
        self.after(300_000, move |world| world.exporter_announces(e, life));
    }

    fn exporter_forgets(&mut self, e: usize, life: u64) {
        if self.exporters[e].life != life {
            return;
        }
        self.after(600_000, move |world| world.exporter_forgets(e, life));
        // Of two hosts with one name, each says nothing of the other's runs; the rest makes up for it, if it is as long as
        // in earnest.
        let twins = (1..self.agents.len()).any(|a| self.agents[a].host == self.agents[0].host);
        let rest = if twins { u64::MAX } else { REST };
        let until = Timestamp::from_millis(self.now.saturating_sub(rest) as i64);
        let by_age = self.rules.forget_by_age;
        let (until, exporter) =
            (if by_age { Timestamp::from_millis(self.now as i64 - 600_000) } else { until }, &mut self.exporters[e]);
        let receiver = &exporter.receiver;
        let gone = |host: &HostName, boot: &wire::BootId| by_age || receiver.gone(host, boot);
        let group = exporter.group;
        let forgotten = match group {
            CH => exporter.ledger.forget(until, gone),
            group => self.stores[group as usize].ledger.forget(until, gone),
        };
        self.forgotten.extend(forgotten.into_iter().map(|key| (group, key)));
    }

    // From the broker into the spool.

    pub(crate) fn exporter_receives(&mut self, e: usize, record: Rec, id: u64) {
        self.trace(record, &format!("arrives at {}", self.exporters[e].member));
        self.exporters[e].incoming.push((record, id));
        if !std::mem::replace(&mut self.exporters[e].syncing, true) {
            let life = self.exporters[e].life;
            self.after(200, move |world| world.exporter_syncs(e, life));
        }
    }

    fn exporter_syncs(&mut self, e: usize, life: u64) {
        if self.exporters[e].life != life {
            return;
        }
        let now = self.millis();
        let (bound, evicts, confirm_early) =
            (self.faults.exporter_records, self.rules.exporter_evicts, self.rules.confirm_before_commit);
        let intake = self.faults.intake;
        let mut incoming = std::mem::take(&mut self.exporters[e].incoming);
        let later = incoming.split_off(incoming.len().min(intake));
        self.exporters[e].syncing = !later.is_empty();
        self.exporters[e].incoming = later;
        if self.exporters[e].syncing {
            self.after(200, move |world| world.exporter_syncs(e, life));
        }
        for (record, id) in incoming {
            if self.exporters[e].legacy {
                let group = self.exporters[e].group;
                self.transact(group, &[record], true);
                self.broker_acked(e, id);
                continue;
            }
            let crash = self.random.chance(self.faults.crash_point / 10);
            let exporter = &mut self.exporters[e];
            if exporter.receiver.received(&record.identity(), now) == Arrived::Store {
                if exporter.spool.len() >= bound {
                    if !evicts {
                        // Full: it is acknowledged, and nothing is said of it.
                        self.broker_acked(e, id);
                        continue;
                    }
                    // Behind what is on its way into the store.
                    let from = self.faults.batch.min(exporter.spool.len());
                    if exporter.group != CH {
                        exporter.spool.drain(from..(from + 10).min(exporter.spool.len()));
                    }
                }
                exporter.spool.push_back(record);
                if crash {
                    // In the spool, and neither said nor acknowledged.
                    self.exporter_crash(e, 2_000);
                    return;
                }
                exporter.receiver.stored(&record.identity(), now);
                exporter.naive.insert(record);
                if confirm_early {
                    exporter.receiver.committed(&[record.identity()], now);
                    exporter.naive.remove(&record);
                }
            }
            self.broker_acked(e, id);
        }
        self.most_receiver = self.most_receiver.max(self.exporters[e].receiver.size());
        let wait = self.random.range(1_000, 5_000);
        self.exporter_works(e, wait);
        self.exporter_schedule(e);
    }

    // From the spool into the store.

    fn exporter_works(&mut self, e: usize, delay: u64) {
        if self.exporters[e].legacy || std::mem::replace(&mut self.exporters[e].working, true) {
            return;
        }
        let life = self.exporters[e].life;
        self.after(delay, move |world| world.exporter_steps(e, life));
    }

    fn exporter_steps_after(&mut self, e: usize, life: u64, delay: u64) {
        self.after(delay, move |world| world.exporter_steps(e, life));
    }

    fn exporter_steps(&mut self, e: usize, life: u64) {
        if self.exporters[e].life != life {
            return;
        }
        match self.exporters[e].group {
            CH => self.step_fixed(e, life),
            _ => self.step_transaction(e, life),
        }
    }

    /// How long the store takes over something.
    fn store_takes(&mut self) -> u64 {
        if self.random.chance(self.faults.slow) {
            self.random.range(60_000, 300_000)
        } else {
            self.random.range(100, 1_000)
        }
    }

    fn step_transaction(&mut self, e: usize, life: u64) {
        if self.exporters[e].spool.is_empty() {
            self.exporters[e].working = false;
            return;
        }
        let batch: Vec<Rec> = self.exporters[e].spool.iter().take(self.faults.batch).copied().collect();
        let takes = self.store_takes();
        self.after(takes, move |world| {
            let group = world.exporters[e].group;
            let down = world.stores[group as usize].down;
            if world.exporters[e].life != life {
                // The COMMIT was on its way when the member died.
                if !down && world.random.chance(5_000) {
                    world.transact(group, &batch, false);
                }
                return;
            }
            if down {
                return world.exporter_steps_after(e, life, 15_000);
            }
            world.transact(group, &batch, false);
            if world.random.chance(world.faults.ambiguous) {
                return world.exporter_steps_after(e, life, 1_000);
            }
            if world.random.chance(world.faults.crash_point) {
                return world.exporter_crash(e, 2_000);
            }
            world.exporter_trims(e, batch.len());
            world.exporter_steps_after(e, life, 1_000);
        });
    }

    /// The first records of the spool are committed.
    fn exporter_trims(&mut self, e: usize, count: usize) {
        let now = self.millis();
        let not_booked = self.rules.dead_letter_not_booked;
        let poison = &self.poison;
        let exporter = &mut self.exporters[e];
        let trimmed: Vec<Rec> = exporter.spool.drain(..count.min(exporter.spool.len())).collect();
        exporter.first += trimmed.len() as u64;
        let booked = |record: &&Rec| !(not_booked && poison.contains(record));
        for record in trimmed.iter().filter(|record| self.traced == Some(**record)) {
            println!("{:8.1} s  trimmed by {} {record:?}", now.0 as f64 / 1000.0, exporter.member);
        }
        let records: Vec<Identity> = trimmed.iter().filter(booked).map(|record| record.identity()).collect();
        trimmed.iter().filter(booked).for_each(|record| {
            exporter.naive.remove(record);
        });
        exporter.receiver.committed(&records, now);
        self.exporter_schedule(e);
    }

    fn step_fixed(&mut self, e: usize, life: u64) {
        let now = self.now;
        let at = Timestamp::from_millis(now as i64);
        let batch = self.faults.batch;
        let (unchecked, no_look_up, no_query_id, not_booked) = (
            self.rules.no_check_of_outstanding,
            self.rules.no_look_up,
            self.rules.no_query_id,
            self.rules.dead_letter_not_booked,
        );
        let crash = self.random.chance(self.faults.crash_point);
        let token = self.random.next();
        let store = &mut self.stores[CH as usize];
        let exporter = &mut self.exporters[e];
        match exporter.fixed.step() {
            Step::Idle => {
                if exporter.spool.is_empty() {
                    exporter.working = false;
                    return;
                }
                let taken = exporter.spool.len().min(batch);
                let first = exporter.first;
                let candidate = |(n, record): (usize, &Rec)| {
                    let identity = (!unchecked).then(|| record.identity());
                    Candidate { place: first + n as u64, kind: record.kind, identity }
                };
                let candidates: Vec<_> = exporter.spool.iter().take(taken).enumerate().map(candidate).collect();
                let token = format!("{}-{token:x}", exporter.member);
                exporter.fixed.fix(token, at, (first, first + taken as u64), &candidates, &exporter.ledger);
                self.exporter_steps_after(e, life, 1);
            }
            Step::Save => {
                exporter.batch = exporter.fixed.batch().cloned();
                if crash {
                    return self.exporter_crash(e, 2_000);
                }
                exporter.fixed.saved();
                self.exporter_steps_after(e, life, 1);
            }
            Step::LookUp(part) => {
                if store.down || (!no_query_id && store.runs(&part.token, now)) {
                    return self.exporter_steps_after(e, life, 10_000);
                }
                let records = part.records.iter().flat_map(|(from, to)| from..=to);
                let records = records.map(|place| exporter.spool[(place - exporter.first) as usize]);
                let found: Vec<bool> =
                    records.map(|record| !no_look_up && store.rows.get(&record).is_some_and(|n| *n > 0)).collect();
                exporter.fixed.looked_up(&found);
                self.exporter_steps_after(e, life, 200);
            }
            Step::Insert(part) => {
                let records = part.records.iter().flat_map(|(from, to)| from..=to);
                let records: Vec<Rec> =
                    records.map(|place| exporter.spool[(place - exporter.first) as usize]).collect();
                let token = part.token.clone();
                self.insert(e, life, token, records);
            }
            Step::DeadLetter(place) => {
                store.dead.insert(exporter.spool[(place - exporter.first) as usize]);
                if crash {
                    return self.exporter_crash(e, 2_000);
                }
                exporter.fixed.kept();
                self.exporter_steps_after(e, life, 1);
            }
            Step::Book { from, to } => {
                let count = (to - from) as usize;
                for record in exporter.spool.iter().take(count) {
                    if !(not_booked && self.poison.contains(record)) {
                        exporter.ledger.commit(&record.identity(), at);
                    }
                }
                if crash {
                    // The ledger is on disk, the batch still there.
                    return self.exporter_crash(e, 2_000);
                }
                exporter.batch = None;
                exporter.fixed.booked();
                self.exporter_trims(e, count);
                self.exporter_steps_after(e, life, 1_000);
            }
        }
    }

    /// An insert: it runs as long as it does, whoever still waits for it.
    fn insert(&mut self, e: usize, life: u64, token: String, records: Vec<Rec>) {
        let now = self.now;
        let takes = self.store_takes();
        let (ambiguous, partial) = (self.random.chance(self.faults.ambiguous), self.random.chance(self.faults.partial));
        // A request may lie in a buffer for a while before the store sees it.
        let starts = if self.random.chance(self.faults.in_transit) { self.random.range(0, 5_000) } else { 0 };
        let store = &mut self.stores[CH as usize];
        if store.runs(&token, now) && !self.rules.no_query_id {
            return self.answer(e, life, 500, Outcome::Unknown);
        }
        if records.iter().any(|record| self.poison.contains(record)) {
            let outcome = if store.down { Outcome::Unknown } else { Outcome::Refused };
            return self.answer(e, life, 500, outcome);
        }
        let patience = 100_000;
        if starts + takes > patience {
            self.answer(e, life, patience, Outcome::Unknown);
        }
        self.after(starts, move |world| {
            let until = world.now + takes;
            let store = &mut world.stores[CH as usize];
            if store.down || store.runs(&token, world.now) && !world.rules.no_query_id {
                if starts + takes <= patience {
                    world.answer(e, life, 100, Outcome::Unknown);
                }
                return;
            }
            store.running.retain(|(_, until)| *until >= world.now);
            store.running.push((token.clone(), until));
            world.after(takes, move |world| {
                let died = world.exporters[e].life != life;
                let broken = died && world.random.chance(5_000);
                let memory = world.faults.tokens;
                let store = &mut world.stores[CH as usize];
                let mut outcome = Outcome::Unknown;
                if !store.down && !broken && !store.tokens.contains(&token) {
                    // An insert of several blocks may end after the first of them.
                    let count = if partial { records.len() / 2 } else { records.len() };
                    records.iter().take(count).for_each(|record| store.write(*record));
                    if !partial {
                        store.tokens.push_back(token.clone());
                        outcome = Outcome::Written;
                    }
                    while store.tokens.len() > memory {
                        store.tokens.pop_front();
                    }
                } else if store.tokens.contains(&token) {
                    outcome = Outcome::Written;
                }
                store.running.retain(|(of, until)| *of != token || *until > world.now);
                if starts + takes <= patience {
                    world.answer(e, life, 50, if ambiguous { Outcome::Unknown } else { outcome });
                }
            });
        });
    }

    fn answer(&mut self, e: usize, life: u64, delay: u64, outcome: Outcome) {
        let crash = self.random.chance(self.faults.crash_point);
        self.after(delay, move |world| {
            if world.exporters[e].life != life {
                return;
            }
            if crash {
                return world.exporter_crash(e, 2_000);
            }
            world.exporters[e].fixed.inserted(outcome);
            world.exporter_steps_after(e, life, if outcome == Outcome::Written { 1 } else { 5_000 });
        });
    }

    // To the hosts.

    fn entries(&self, e: usize, host: &HostName) -> Option<Vec<(Key, Entry)>> {
        let exporter = &self.exporters[e];
        let store = &self.stores[exporter.group as usize];
        match exporter.group {
            CH => Some(exporter.ledger.of(host)),
            PG | LATE if !store.down => Some(store.ledger.of(host)),
            _ => None,
        }
    }

    /// Confirms when it is time.
    fn exporter_schedule(&mut self, e: usize) {
        let now = self.now;
        let exporter = &mut self.exporters[e];
        let wake = exporter.receiver.wake_at().0;
        if wake == u64::MAX || exporter.confirm_at.is_some_and(|at| at <= wake) {
            return;
        }
        let wake = wake.max(now + 1);
        exporter.confirm_at = Some(wake);
        let life = exporter.life;
        self.after(wake - now, move |world| {
            let exporter = &mut world.exporters[e];
            if exporter.life == life && exporter.confirm_at == Some(wake) {
                exporter.confirm_at = None;
                world.exporter_confirms(e, life);
            }
        });
    }

    fn exporter_confirms(&mut self, e: usize, life: u64) {
        let now = self.millis();
        if !self.exporters[e].connected {
            self.exporters[e].confirm_at = Some(now.0 + 5_000);
            self.after(5_000, move |world| {
                if world.exporters[e].life == life {
                    world.exporters[e].confirm_at = None;
                    world.exporter_confirms(e, life);
                }
            });
            return;
        }
        for name in self.exporters[e].receiver.due(now, 100) {
            let whole = self.exporters[e].receiver.whole_due(&name, now);
            let entries = if whole { self.entries(e, &name) } else { None };
            let said = self.exporters[e].receiver.confirmation(&name, entries.as_deref(), now);
            let Some(said) = said.map(Rc::new) else { continue };
            let (group, drop) = (self.exporters[e].group, self.faults.drop_confirmation);
            let number = host_number(&name);
            for a in 0..self.agents.len() {
                if self.agents[a].host == number {
                    self.tell(a, ToAgent::Confirmed(group, e, said.clone()), drop);
                }
            }
        }
        self.exporter_schedule(e);
    }

    pub(crate) fn exporter_hears(&mut self, e: usize, status: &Rc<Status>) {
        if self.exporters[e].legacy {
            return;
        }
        let now = self.millis();
        let (losses, _refused) = self.exporters[e].receiver.host_status(status, now);
        if losses.is_empty() {
            return;
        }
        let (life, host) = (self.exporters[e].life, status.host.clone());
        let delay = self.random.range(500, 5_000);
        self.after(delay, move |world| world.exporter_books(e, life, &host, &losses));
    }

    fn exporter_books(&mut self, e: usize, life: u64, host: &HostName, losses: &[Loss]) {
        let now = self.millis();
        let at = Timestamp::from_millis(now.0 as i64);
        let is_final = self.rules.lost_is_final;
        let group = self.exporters[e].group;
        if self.exporters[e].life != life || (group != CH && self.stores[group as usize].down) {
            return;
        }
        let exporter = &mut self.exporters[e];
        let ledger = if group == CH { &mut exporter.ledger } else { &mut self.stores[group as usize].ledger };
        for loss in losses {
            if is_final {
                let number = host_number(host);
                for seq in loss.from..=loss.to {
                    let boot = boot_number(&loss.boot);
                    ledger.commit(&Rec { host: number, boot, kind: loss.kind, seq: seq as u32 }.identity(), at);
                }
            } else {
                ledger.lose(host, loss, at);
            }
        }
        exporter.receiver.booked(host, losses, now);
        self.exporter_schedule(e);
    }
}
