//! One simulated host: a real sender over a spool that needs no room, since every record can be made again.

use std::collections::BTreeMap;

use bytes::Bytes;
use delivery::Millis;
use delivery::sender::{Sender, Settings};
use mqtt::Message;
use wire::messages::{Confirmation, HostState, Inventory, Loss, LossReason, Status};
use wire::{BootId, CONTENT_TYPE, GroupName, HostName, Kind, MemberName, Ranges, Timestamp, Topic, VERSION};

use super::content::Content;
use super::plan::{KINDS, Plan, RecordId, Run};
use super::state::{Left, StateFile};
use super::totals::Totals;
use crate::command::CommandError;

/// When the spool is full, this share of it is given up at once: one in so many.
const EVICTED_SHARE: u64 = 20;

/// See the [module](self).
pub(super) struct Host {
    /// Its place in the plan.
    pub(super) place: u32,
    /// Its name.
    pub(super) name: HostName,
    /// The machine that an agent runs, too.
    pub(super) sender: Sender,
    /// What was declared lost, by run and kind.
    pub(super) declared: BTreeMap<(usize, Kind), Ranges>,
    /// Its boots, one a run; the last is the present one.
    boots: Vec<BootId>,
    /// Records made in each run, by the kind's place in [`KINDS`].
    made: Vec<[u64; KINDS.len()]>,
    /// The next reading of the present run, and how many there are to be.
    next: u32,
    readings: u32,
    /// The version of the sender's state that was written down.
    written: u64,
    /// Records that the spool takes.
    spool: u64,
    committed: BTreeMap<GroupName, BTreeMap<(usize, Kind), Ranges>>,
}

impl Host {
    /// A host of the plan, with what earlier runs left. `runs`: all runs, the last is the present one.
    pub(super) fn new(plan: &Plan, runs: &[Run], place: u32, settings: &Settings, spool: u64, left: &mut Left) -> Self {
        let boots: Vec<BootId> = runs.iter().map(|run| plan.boot(run, place)).collect();
        let earlier = runs.split_last().map_or(runs, |(_, earlier)| earlier);
        let readings = plan.readings(earlier, place);
        let made = |readings: u32| KINDS.map(|kind| plan.made(kind, place, readings));
        let mut made: Vec<_> = readings.iter().map(|readings| made(*readings)).collect();
        let settings = Settings { seed: settings.seed ^ u64::from(place) << 20, ..settings.clone() };
        let disk = left.disks.remove(&place).unwrap_or_default();
        let own = boots.last().cloned().unwrap_or_else(|| unreachable!("BUG: there is no present run"));
        let mut sender = Sender::new(&settings, own, disk);
        for (run, (boot, made)) in boots.iter().zip(&made).enumerate() {
            for (kind, made) in KINDS.into_iter().zip(made) {
                let from = left.low.get(&(place, run, kind)).copied().unwrap_or(1);
                if from <= *made {
                    sender.restored(boot, kind, from, *made);
                }
            }
        }
        made.push([0; KINDS.len()]);
        let declared = (0..runs.len()).flat_map(|run| KINDS.map(|kind| (run, kind)));
        let declared =
            declared.filter_map(|(run, kind)| Some(((run, kind), left.declared.remove(&(place, run, kind))?)));
        Self {
            place,
            name: plan.host(place),
            sender,
            declared: declared.collect(),
            boots,
            made,
            next: 0,
            readings: plan.count - readings.iter().sum::<u32>().min(plan.count),
            written: 0,
            spool,
            committed: BTreeMap::new(),
        }
    }

    /// How many records of a kind were made in a run.
    pub(super) fn made(&self, run: usize, kind: Kind) -> u64 {
        let place = KINDS.iter().position(|of| *of == kind);
        place.and_then(|place| self.made.get(run)?.get(place).copied()).unwrap_or(0)
    }

    /// When the next reading is due, in ms since 1970; `None` if it was the last.
    pub(super) fn next_reading(&self, plan: &Plan, run: &Run) -> Option<i64> {
        (self.next < self.readings).then(|| plan.time(run, self.place, self.next))
    }

    /// When the last reading is due.
    pub(super) fn last_reading(&self, plan: &Plan, run: &Run) -> Option<i64> {
        (self.next < self.readings).then(|| plan.time(run, self.place, self.readings - 1))
    }

    /// Takes the readings up to a moment.
    pub(super) fn take_readings(&mut self, plan: &Plan, run: &Run, until: i64, totals: &Totals) {
        while self.next_reading(plan, run).is_some_and(|time| time <= until) {
            let Some(made) = self.made.last_mut() else { return };
            for (kind, made) in KINDS.into_iter().zip(made) {
                if let Some(seq) = plan.made_at(kind, self.place, self.next) {
                    *made = seq;
                    self.sender.appended(kind, seq);
                    Totals::add(&totals.made, 1);
                }
            }
            self.next += 1;
        }
    }

    /// Whether nothing is left to be made or to be stored.
    pub(super) fn is_done(&self) -> bool {
        self.next >= self.readings && KINDS.iter().all(|kind| self.sender.unfreed(*kind) == 0)
    }

    /// Whether it knows a group that confirms what it stores.
    pub(super) fn waits_for_groups(&self) -> bool {
        self.sender.groups().next().is_some()
    }

    /// Records that are not stored by every group.
    pub(super) fn unfreed(&self) -> u64 {
        KINDS.iter().map(|kind| self.sender.unfreed(*kind)).sum()
    }

    /// Keeps the spool within its bound, writes down what the sender wants kept, and lets it forget what is freed.
    pub(super) fn keep(&mut self, state: Option<&StateFile>, totals: &Totals) -> Result<(), CommandError> {
        if self.unfreed() > self.spool {
            self.evict(state, totals)?;
        }
        let version = self.sender.version();
        if version != self.written {
            if let Some(state) = state {
                state.disk(self.place, self.sender.disk().0)?;
            }
            self.written = version;
            self.sender.durable(version);
        }
        for freed in self.sender.take_freed() {
            Totals::add(&totals.freed, freed.seqs.count());
        }
        Ok(())
    }

    /// Gives up the oldest records of the least valuable kind.
    fn evict(&mut self, state: Option<&StateFile>, totals: &Totals) -> Result<(), CommandError> {
        let lowest = self.sender.status().lowest_unconfirmed;
        let oldest = KINDS.into_iter().find_map(|kind| {
            let run =
                self.boots.iter().position(|boot| lowest.get(boot).is_some_and(|kinds| kinds.contains_key(&kind)))?;
            Some((run, kind, *lowest.get(self.boots.get(run)?)?.get(&kind)?))
        });
        let Some((run, kind, from)) = oldest else { return Ok(()) };
        let Some(boot) = self.boots.get(run).cloned() else { return Ok(()) };
        let to = from + (self.spool / EVICTED_SHARE).max(1) - 1;
        let to = to.min(self.made(run, kind));
        let _version = self.sender.evicted(&Loss { boot: boot.clone(), kind, from, to, reason: LossReason::Full });
        // Only what some group still lacked was declared.
        let ours = self.sender.disk().0.dropped.into_iter().filter(|loss| loss.boot == boot && loss.kind == kind);
        let known = self.declared.entry((run, kind)).or_default();
        let before = known.count();
        for loss in ours {
            if let Some(state) = state.filter(|_| !known.covers(loss.from, loss.to)) {
                state.declared((self.place, run, kind), loss.from, loss.to)?;
            }
            known.insert_range(loss.from, loss.to);
        }
        Totals::add(&totals.declared, known.count() - before);
        Ok(())
    }

    /// Below which numbers everything is stored, by run and kind.
    pub(super) fn lows(&self) -> Vec<((u32, usize, Kind), u64)> {
        let lowest = self.sender.status().lowest_unconfirmed;
        let mut lows = Vec::new();
        for (run, boot) in self.boots.iter().enumerate() {
            for kind in KINDS {
                let low = lowest.get(boot).and_then(|kinds| kinds.get(&kind).copied());
                lows.push(((self.place, run, kind), low.unwrap_or(self.made(run, kind) + 1)));
            }
        }
        lows
    }

    /// A member said what it has.
    pub(super) fn confirmed(
        &mut self,
        group: &GroupName,
        member: &MemberName,
        said: &Confirmation,
        now: Millis,
        totals: &Totals,
    ) {
        self.sender.confirmation(group, member, said, now);
        if !self.committed.contains_key(group) {
            self.committed.insert(group.clone(), BTreeMap::new());
        }
        let Some(committed) = self.committed.get_mut(group) else { return };
        let mut more = 0;
        for (boot, kinds) in &said.committed {
            let Some(run) = self.boots.iter().rposition(|own| own == boot) else { continue };
            for (kind, ranges) in kinds {
                let known = committed.entry((run, *kind)).or_default();
                let before = known.count();
                known.add(ranges);
                more += known.count() - before;
            }
        }
        totals.committed(group, more);
    }

    /// The record that is to be published now.
    pub(super) fn publish(
        &mut self,
        plan: &Plan,
        runs: &[Run],
        content: &Content,
        now: Millis,
    ) -> Option<(u64, bool, Message)> {
        let publish = self.sender.next(now)?;
        let run = self.boots.iter().rposition(|boot| *boot == publish.boot)?;
        let (kind, seq) = (publish.kind, publish.seq);
        let time = plan.record_time(runs.get(run)?, self.place, kind, seq);
        let mut payload = String::with_capacity(if kind == Kind::Metrics { 9 << 10 } else { 4 << 10 });
        let record = RecordId { host: self.place, run, kind, seq };
        content.write(record, &self.name, &publish.boot, time, &mut payload);
        let message = Message {
            topic: Topic::Telemetry(self.name.clone(), kind).to_string(),
            payload: Bytes::from(payload),
            retain: false,
            content_type: Some(CONTENT_TYPE.to_owned()),
            user_properties: wire::user_properties(&self.name, Some(&publish.boot), kind, Some(seq)),
        };
        Some((publish.id, publish.again, message))
    }

    /// The host's status. `stopped`: the goodbye.
    pub(super) fn status(&self, plan: &Plan, state: HostState, now: Timestamp) -> Message {
        let waiting = self.sender.status();
        let status = Status {
            v: VERSION,
            host: self.name.clone(),
            state,
            boot: self.boots.last().cloned().unwrap_or_else(|| unreachable!("BUG: there is no present run")),
            time: now,
            version: format!("{} (simulated)", env!("CARGO_PKG_VERSION")),
            stopped: state == HostState::Offline,
            interval_seconds: Some(plan.interval as f64 / 1000.0),
            labels: [("cluster".to_owned(), "sim".to_owned())].into_iter().collect(),
            inventory: (state == HostState::Online).then(inventory),
            groups: waiting.groups,
            lowest_unconfirmed: waiting.lowest_unconfirmed,
            dropped: waiting.dropped,
        };
        Message {
            topic: Topic::Status(self.name.clone()).to_string(),
            payload: Bytes::from(wire::encode(&status)),
            retain: true,
            content_type: Some(CONTENT_TYPE.to_owned()),
            user_properties: Vec::new(),
        }
    }

    /// What the broker says for it when its connection breaks.
    pub(super) fn last_will(&self, plan: &Plan, now: Timestamp) -> Message {
        let mut will = self.status(plan, HostState::Offline, now);
        if let Ok(status) = wire::decode_state::<Status>("status", &will.payload) {
            will.payload = Bytes::from(wire::encode(&Status { stopped: false, ..status }));
        }
        will
    }
}

fn inventory() -> Inventory {
    Inventory {
        os: Some("Simulated GNU/Linux".to_owned()),
        kernel: Some("6.12.0".to_owned()),
        architecture: Some("x86_64".to_owned()),
        cpu_model: Some("Simulated CPU".to_owned()),
        cpu_count: Some(16),
        core_count: Some(8),
        memory_total_bytes: Some(64 << 30),
        gpus: Vec::new(),
    }
}
