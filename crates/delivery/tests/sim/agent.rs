//! A host: its spool, its connection, and the real [`Sender`].

use std::collections::{BTreeMap, VecDeque};

use delivery::sender::{DiskState, Freed, Sender, Settings, Timing};
use wire::messages::{Confirmation, HostState, Loss, LossReason, Status};
use wire::{GroupName, Kind, Ranges, SeqByBoot, VERSION};

use super::broker::ToAgent;
use super::names::{GROUPS, KINDS, Rec, boot, boot_number, host};
use super::{Fault, World};

/// Records in a segment of the spool.
const SEGMENT: u32 = 12;

/// Records of one run and kind, on disk as far as they are synced.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    boot: u16,
    from: u32,
    to: u32,
    /// What would be there after a crash.
    synced: u32,
    bytes: u64,
    /// Known to be freed; forgotten in a crash but for the first ones of the spool, which the cursor keeps.
    freed: Ranges,
    /// It goes when this version is on disk.
    going: Option<u64>,
    /// It can't be read.
    bad: bool,
}

pub(crate) struct Agent {
    pub(crate) host: u8,
    /// Tells two agents of one name apart.
    twin: u8,
    pub(crate) alive: bool,
    pub(crate) stopped: bool,
    pub(crate) connected: bool,
    pub(crate) epoch: u64,
    pub(crate) life: u64,
    pub(crate) boot: u16,
    boots: u16,
    pub(crate) cut_until: u64,
    will: bool,
    spool: BTreeMap<Kind, VecDeque<Segment>>,
    seqs: BTreeMap<Kind, u32>,
    state: DiskState,
    state_version: u64,
    writing: bool,
    syncing: bool,
    pub(crate) sender: Option<Sender>,
    pump_at: Option<u64>,
    declared: Vec<Loss>,
    pub(crate) refused: u64,
}

impl Agent {
    pub(crate) fn new(host: u8, twin: u8) -> Self {
        Self {
            host,
            twin,
            alive: false,
            stopped: false,
            connected: false,
            epoch: 0,
            life: 0,
            boot: 0,
            boots: 0,
            cut_until: 0,
            will: false,
            spool: KINDS.into_iter().map(|kind| (kind, VecDeque::new())).collect(),
            seqs: BTreeMap::new(),
            state: DiskState::default(),
            state_version: 0,
            writing: false,
            syncing: false,
            sender: None,
            pump_at: None,
            declared: Vec::new(),
            refused: 0,
        }
    }

    /// What it freed may wait for its state to be on disk.
    pub(crate) fn is_writing(&self) -> bool {
        self.writing
    }

    fn bytes(&self) -> u64 {
        self.spool.values().flatten().map(|segment| segment.bytes).sum()
    }

    /// Records that its disk still has and that were not freed, without those that are being given up.
    pub(crate) fn unfreed(&self, kind: Kind) -> u64 {
        let segments = self.spool[&kind].iter().filter(|segment| segment.going.is_none());
        segments.map(|segment| u64::from(segment.to + 1 - segment.from) - segment.freed.count()).sum()
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Rec> {
        self.spool.iter().flat_map(move |(kind, segments)| {
            segments.iter().flat_map(move |segment| {
                let unfreed = (segment.from..=segment.to).filter(|seq| !segment.freed.contains(u64::from(*seq)));
                unfreed.map(move |seq| Rec { host: self.host, boot: segment.boot, kind: *kind, seq })
            })
        })
    }

    pub(crate) fn waits_for(&self, group: &GroupName) -> bool {
        self.state.groups.contains_key(group)
            || self.sender.as_ref().is_some_and(|sender| sender.groups().any(|(name, _)| name == group))
    }

    pub(crate) fn declares(&self) -> bool {
        !self.state.dropped.is_empty() || self.sender.as_ref().is_some_and(|sender| !sender.disk().0.dropped.is_empty())
    }

    pub(crate) fn dropped(&self) -> Vec<Loss> {
        self.sender.as_ref().map(|sender| sender.disk().0.dropped).unwrap_or_default()
    }

    /// What is declared lost as of this version.
    fn given_up(&self, version: u64) -> Vec<Rec> {
        let mut given_up = Vec::new();
        for (kind, segments) in &self.spool {
            for segment in segments.iter().filter(|segment| segment.going.is_some_and(|going| going <= version)) {
                let lost = (segment.from..=segment.to).filter(|seq| !segment.freed.contains(u64::from(*seq)));
                given_up.extend(lost.map(|seq| Rec { host: self.host, boot: segment.boot, kind: *kind, seq }));
            }
        }
        given_up
    }

    /// The groups on its disk that take a kind, as bits.
    fn owed(&self, kind: Kind) -> u8 {
        (0..GROUPS.len()).fold(0, |bits, group| {
            let name: GroupName = GROUPS[group].parse().unwrap();
            let takes = self.state.groups.get(&name).is_some_and(|m| m.values().any(|kinds| kinds.contains(&kind)));
            if takes { bits | 1 << group } else { bits }
        })
    }
}

impl World {
    pub(crate) fn agent_start(&mut self, a: usize) {
        if self.agents[a].alive || self.agents[a].stopped {
            return;
        }
        let mut timing = Timing::default();
        if self.rules.no_cap {
            timing.cap = u64::MAX / 4;
        }
        if self.rules.endless_lease {
            timing.lease = u64::MAX / 4;
        }
        if self.rules.no_probe {
            timing.probe = u64::MAX / 4;
        }
        let confirm_by = if self.faults.confirm_by { vec![GROUPS[0].parse().unwrap()] } else { Vec::new() };
        let seed = self.random.next();
        let settings = Settings { timing, confirm_by, backlog_rate: 25, seed };
        let corrupt = self.random.chance(self.faults.corrupt);
        let chosen = self.random.next() as usize;
        let agent = &mut self.agents[a];
        agent.alive = true;
        agent.life += 1;
        agent.boots += 1;
        agent.boot = agent.boots | u16::from(agent.twin) << 8;
        agent.seqs.clear();
        (agent.writing, agent.syncing, agent.pump_at, agent.state_version) = (false, false, None, 0);
        let mut sender = Sender::new(&settings, boot(agent.boot), agent.state.clone());
        if corrupt {
            let segments: Vec<&mut Segment> = agent.spool.values_mut().flatten().collect();
            let count = segments.len().max(1);
            segments.into_iter().skip(chosen % count).take(1).for_each(|segment| segment.bad = true);
        }
        for (kind, segments) in &mut agent.spool {
            for segment in segments {
                let (from, to) = (u64::from(segment.from) + segment.freed.count(), u64::from(segment.to));
                segment.going = None;
                let name = boot(segment.boot);
                if segment.bad {
                    let from = u64::from(segment.from);
                    let loss = Loss { boot: name, kind: *kind, from, to, reason: LossReason::Corrupt };
                    segment.freed = Ranges::default();
                    segment.going = Some(sender.missing(&loss));
                } else if from <= to {
                    sender.restored(&name, *kind, from, to);
                }
            }
        }
        agent.sender = Some(sender);
        let life = agent.life;
        for kind in KINDS {
            let gap = self.production_gap(kind);
            self.after(gap, move |world| world.agent_produces(a, life, kind));
        }
        self.agent_settle(a);
        self.agent_connect(a, life);
    }

    fn production_gap(&mut self, kind: Kind) -> u64 {
        match kind {
            Kind::Metrics => self.faults.metrics,
            Kind::Logs => self.random.gap(self.faults.logs),
            _ => self.random.gap(self.faults.alerts),
        }
    }

    pub(crate) fn agent_crash(&mut self, a: usize) {
        self.trace(
            Rec {
                host: self.agents[a].host,
                ..self.traced.unwrap_or(Rec { host: 0, boot: 0, kind: Kind::Logs, seq: 0 })
            },
            "its agent crashes",
        );
        if !self.agents[a].alive {
            return;
        }
        self.agent_disconnected(a);
        let mut random = self.random.clone();
        let agent = &mut self.agents[a];
        agent.alive = false;
        agent.life += 1;
        agent.sender = None;
        for segments in agent.spool.values_mut() {
            for (n, segment) in segments.iter_mut().enumerate() {
                // The tail of what was not synced is torn.
                let length = segment.to + 1 - segment.from;
                segment.to = random.range(u64::from(segment.synced), u64::from(segment.to) + 1) as u32;
                segment.synced = segment.to;
                segment.bytes = segment.bytes * u64::from(segment.to + 1 - segment.from) / u64::from(length);
                let start = u64::from(segment.from);
                let cursor = segment.freed.range_of(start).filter(|_| n == 0).map(|(_, to)| to.min(segment.to.into()));
                segment.freed = cursor.map(|to| Ranges::of(start, to)).unwrap_or_default();
            }
            segments.retain(|segment| segment.to >= segment.from);
        }
        self.random = random;
    }

    pub(crate) fn agent_connect(&mut self, a: usize, life: u64) {
        let now = self.now;
        if self.agents[a].life != life || !self.agents[a].alive || self.agents[a].connected {
            return;
        }
        if !self.broker.up || now < self.agents[a].cut_until {
            let retry = self.random.range(2_000, 10_000);
            self.after(retry, move |world| world.agent_connect(a, life));
            return;
        }
        // One client id, one session: who comes later takes it.
        let twin = (0..self.agents.len())
            .find(|b| *b != a && self.agents[*b].host == self.agents[a].host && self.agents[*b].connected);
        if let Some(twin) = twin {
            self.agent_disconnected(twin);
        }
        let agent = &mut self.agents[a];
        agent.connected = true;
        agent.epoch += 1;
        agent.will = false;
        let epoch = agent.epoch;
        if let Some(sender) = &mut agent.sender {
            sender.connected();
        }
        let delay = self.latency();
        self.after(delay, move |world| {
            let now = world.millis();
            if world.agents[a].epoch != epoch {
                return;
            }
            if let Some(sender) = &mut world.agents[a].sender {
                sender.subscribed(now);
            }
            let tiers: Vec<_> = world.broker.tiers.values().cloned().collect();
            tiers.into_iter().for_each(|status| world.tell(a, ToAgent::Tier(status), 0));
            world.agent_settle(a);
        });
        self.agent_settle(a);
    }

    pub(crate) fn agent_disconnected(&mut self, a: usize) {
        let now = self.millis();
        let agent = &mut self.agents[a];
        if !agent.connected {
            return;
        }
        agent.connected = false;
        agent.epoch += 1;
        agent.will = true;
        if let Some(sender) = &mut agent.sender {
            sender.disconnected(now);
        }
        let (life, epoch) = (agent.life, agent.epoch);
        let retry = self.random.range(1_000, 10_000);
        self.after(retry, move |world| world.agent_connect(a, life));
        let late = self.random.pick(&[100, 45_000]);
        self.after(late, move |world| {
            if world.agents[a].will && world.agents[a].epoch == epoch && world.broker.up {
                world.agents[a].will = false;
                // It was written at the connection, and says what was known then: nothing of the spool.
                let will = world.host_status(a, HostState::Offline);
                world.publish_status(will);
            }
        });
    }

    fn host_status(&self, a: usize, state: HostState) -> Status {
        let agent = &self.agents[a];
        Status {
            v: VERSION,
            host: host(agent.host),
            state,
            boot: boot(agent.boot),
            time: self.timestamp(),
            version: String::new(),
            stopped: false,
            interval_seconds: None,
            labels: Default::default(),
            inventory: None,
            groups: Vec::new(),
            lowest_unconfirmed: SeqByBoot::new(),
            dropped: Vec::new(),
        }
    }

    fn agent_produces(&mut self, a: usize, life: u64, kind: Kind) {
        if self.agents[a].life != life || self.now > self.plan.produce_until {
            return;
        }
        let gap = self.production_gap(kind);
        self.after(gap, move |world| world.agent_produces(a, life, kind));
        let size = self.random.range(1, 4);
        let poison = self.random.chance(self.faults.poison);
        let sync_in = self.random.range(0, 1_000);
        let bound = self.faults.agent_bytes;
        let agent = &mut self.agents[a];
        // The bound, or a disk that is full: nothing is appended, and the record gets no number.
        if agent.bytes() + size > bound + bound / 8 {
            agent.refused += 1;
            self.agent_evicts(a);
            self.agent_settle(a);
            return;
        }
        let seq = agent.seqs.entry(kind).or_default();
        *seq += 1;
        let record = Rec { host: agent.host, boot: agent.boot, kind, seq: *seq };
        let segments = agent.spool.get_mut(&kind).unwrap();
        match segments.back_mut() {
            Some(last)
                if last.boot == record.boot
                    && last.to + 1 == record.seq
                    && last.to + 1 - last.from < SEGMENT
                    && last.going.is_none() =>
            {
                last.to = record.seq;
                last.bytes += size;
            }
            _ => segments.push_back(Segment {
                boot: record.boot,
                from: record.seq,
                to: record.seq,
                synced: record.seq - 1,
                bytes: size,
                freed: Ranges::default(),
                going: None,
                bad: false,
            }),
        }
        agent.sender.as_mut().unwrap().appended(kind, u64::from(record.seq));
        if poison {
            self.poison.insert(record);
        }
        if !std::mem::replace(&mut self.agents[a].syncing, true) {
            self.after(sync_in, move |world| world.agent_synced(a, life));
        }
        self.agent_evicts(a);
        self.agent_settle(a);
    }

    fn agent_synced(&mut self, a: usize, life: u64) {
        let agent = &mut self.agents[a];
        if agent.life != life {
            return;
        }
        agent.syncing = false;
        let mut synced = Vec::new();
        for (kind, segments) in &mut agent.spool {
            for segment in segments.iter_mut().rev().take_while(|segment| segment.synced < segment.to) {
                for seq in segment.synced + 1..=segment.to {
                    synced.push(Rec { host: agent.host, boot: segment.boot, kind: *kind, seq });
                }
                segment.synced = segment.to;
            }
        }
        for record in synced {
            let owed = self.agents[a].owed(record.kind);
            self.trace(record, &format!("synced, owed to {owed:b}"));
            *self.owed.entry(record).or_default() |= owed;
        }
    }

    /// Over its bound, the oldest segment of the least valuable kind goes, after it was declared.
    fn agent_evicts(&mut self, a: usize) {
        let bound = self.faults.agent_bytes;
        let at_once = self.rules.declared_after_eviction;
        let agent = &mut self.agents[a];
        let going = agent.spool.values().flatten().filter(|segment| segment.going.is_some());
        if agent.bytes() - going.map(|segment| segment.bytes).sum::<u64>() <= bound {
            return;
        }
        let name = |segment: &Segment| boot(segment.boot);
        let found = agent.spool.iter_mut().find_map(|(kind, segments)| {
            segments.iter_mut().find(|segment| segment.going.is_none()).map(|segment| (*kind, segment))
        });
        let Some((kind, segment)) = found else { return };
        let (from, to) = (u64::from(segment.from), u64::from(segment.to));
        let loss = Loss { boot: name(segment), kind, from, to, reason: LossReason::Full };
        let version = agent.sender.as_mut().unwrap().evicted(&loss);
        segment.going = Some(if at_once { 0 } else { version });
    }

    /// After anything happened to its sender: what is freed goes, what must be on disk is written, what is due is sent.
    pub(crate) fn agent_settle(&mut self, a: usize) {
        if self.agents[a].sender.is_none() {
            return;
        }
        self.agent_pump(a);
        let Some(sender) = self.agents[a].sender.as_mut() else { return };
        let freed = sender.take_freed();
        self.most_sender = self.most_sender.max(sender.size());
        for freed in freed {
            self.agent_freed(a, &freed);
        }
        self.agent_drops(a);
        let agent = &mut self.agents[a];
        let version = agent.sender.as_ref().unwrap().version();
        if version != agent.state_version && !std::mem::replace(&mut agent.writing, true) {
            let life = agent.life;
            let delay = self.random.range(1, 500);
            self.after(delay, move |world| world.agent_wrote(a, life));
        }
    }

    fn agent_freed(&mut self, a: usize, freed: &Freed) {
        let number = boot_number(&freed.boot);
        if self.traced.is_some_and(|r| r.boot == number && r.kind == freed.kind && freed.seqs.contains(r.seq.into())) {
            self.trace(Rec { host: self.agents[a].host, ..self.traced.unwrap() }, "freed");
        }
        let agent = &mut self.agents[a];
        for segment in agent.spool.get_mut(&freed.kind).unwrap().iter_mut().filter(|s| s.boot == number && !s.bad) {
            segment.freed.add(&freed.seqs.intersection(&Ranges::of(segment.from.into(), segment.to.into())));
        }
        let host = agent.host;
        for seq in freed.seqs.iter().flat_map(|(from, to)| from..=to) {
            self.check_freed(a, Rec { host, boot: number, kind: freed.kind, seq: seq as u32 });
        }
        let agent = &mut self.agents[a];
        for segments in agent.spool.values_mut() {
            let whole = |s: &Segment| s.going.is_none() && s.freed.covers(s.from.into(), s.to.into());
            while segments.front().is_some_and(whole) {
                segments.pop_front();
            }
        }
    }

    /// Segments whose declaration is on disk go.
    fn agent_drops(&mut self, a: usize) {
        let agent = &mut self.agents[a];
        let durable = agent.state_version;
        let given_up = agent.given_up(durable);
        for segments in agent.spool.values_mut() {
            segments.retain(|segment| segment.going.is_none_or(|version| version > durable));
        }
        self.given_up.extend(given_up);
    }

    fn agent_wrote(&mut self, a: usize, life: u64) {
        if self.agents[a].life != life {
            return;
        }
        let crash = self.random.chance(self.faults.crash_point);
        let agent = &mut self.agents[a];
        agent.writing = false;
        let (state, version) = agent.sender.as_ref().unwrap().disk();
        let groups_changed = agent.state.groups != state.groups;
        agent.state = state;
        agent.state_version = version;
        // What is on disk is promised, also if the agent dies right here.
        if groups_changed {
            for record in agent.records().collect::<Vec<_>>() {
                let owed = self.agents[a].owed(record.kind);
                self.trace(record, &format!("now owed to {owed:b}"));
                if let Some(of) = self.owed.get_mut(&record) {
                    *of |= owed;
                }
            }
        }
        let given_up: Vec<Rec> = self.agents[a].given_up(version);
        given_up.iter().for_each(|record| self.trace(*record, "given up"));
        self.given_up.extend(given_up);
        if crash {
            self.agent_crash(a);
            self.after(2_000, move |world| world.agent_start(a));
            return;
        }
        self.agents[a].sender.as_mut().unwrap().durable(version);
        self.agent_settle(a);
    }

    fn agent_pump(&mut self, a: usize) {
        let now = self.millis();
        if !self.agents[a].connected {
            return;
        }
        loop {
            let agent = &mut self.agents[a];
            let sender = agent.sender.as_mut().unwrap();
            let Some(publish) = sender.next(now) else { break };
            let out = sender.out();
            let record =
                Rec { host: agent.host, boot: boot_number(&publish.boot), kind: publish.kind, seq: publish.seq as u32 };
            if out > delivery::sender::WINDOW + GROUPS.len() {
                self.found(Fault::Window, || format!("{out} records are out"));
            }
            self.trace(record, "published");
            self.published += 1;
            self.republished += u64::from(publish.again);
            self.broker_takes(record);
            let epoch = self.agents[a].epoch;
            let delay = self.latency();
            self.after(delay, move |world| world.agent_acked(a, epoch, publish.id, record));
        }
        let agent = &self.agents[a];
        if agent.sender.as_ref().unwrap().status_due(now) {
            self.agent_says_status(a);
        }
        let agent = &mut self.agents[a];
        let wake = agent.sender.as_ref().unwrap().wake_at(now).0;
        if wake < u64::MAX && agent.pump_at.is_none_or(|at| wake < at) {
            let wake = wake.max(now.0 + 1);
            agent.pump_at = Some(wake);
            let life = agent.life;
            self.after(wake - now.0, move |world| {
                let agent = &mut world.agents[a];
                if agent.life == life && agent.pump_at == Some(wake) {
                    agent.pump_at = None;
                    world.agent_settle(a);
                }
            });
        }
    }

    fn agent_acked(&mut self, a: usize, epoch: u64, id: u64, record: Rec) {
        let now = self.millis();
        let agent = &mut self.agents[a];
        if agent.epoch != epoch {
            return;
        }
        let Some(sender) = agent.sender.as_mut() else { return };
        sender.puback(id, now);
        if self.rules.free_on_puback {
            let seq = u64::from(record.seq);
            let kinds = BTreeMap::from([(record.kind, Ranges::of(seq, seq))]);
            let committed = SeqByBoot::from([(boot(record.boot), kinds)]);
            let said = Confirmation { v: VERSION, whole: false, held: SeqByBoot::new(), committed };
            let groups: Vec<GroupName> = sender.groups().map(|(name, _)| name.clone()).collect();
            groups.iter().for_each(|group| sender.confirmation(group, &"none".parse().unwrap(), &said, now));
        }
        self.agent_settle(a);
    }

    fn agent_says_status(&mut self, a: usize) {
        let now = self.millis();
        let mut status = self.host_status(a, HostState::Online);
        let (once, without_boot) = (self.rules.declared_once, self.rules.dropped_without_boot);
        let agent = &mut self.agents[a];
        let sender = agent.sender.as_mut().unwrap();
        let waiting = sender.status();
        (status.groups, status.lowest_unconfirmed) = (waiting.groups, waiting.lowest_unconfirmed);
        status.dropped = waiting.dropped;
        if once {
            let before = std::mem::replace(&mut agent.declared, status.dropped.clone());
            status.dropped.retain(|loss| !before.contains(loss));
        }
        if without_boot {
            status.dropped.iter_mut().for_each(|loss| loss.boot = boot(agent.boot));
        }
        sender.status_sent(now);
        self.publish_status(status);
    }

    pub(crate) fn agent_hears(&mut self, a: usize, message: ToAgent) {
        let now = self.millis();
        let Some(sender) = self.agents[a].sender.as_mut() else { return };
        match message {
            ToAgent::Tier(status) => sender.tier_status(&status),
            ToAgent::Confirmed(group, exporter, said) => {
                let member = self.exporters[exporter].member.clone();
                sender.confirmation(&GROUPS[group as usize].parse().unwrap(), &member, &said, now);
            }
            ToAgent::Retire(group, at) => {
                sender.retire(&GROUPS[group as usize].parse().unwrap(), at);
                self.retired.insert(a);
            }
        }
        self.agent_settle(a);
    }
}
