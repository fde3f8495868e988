//! What may happen, how often, and when it ends.

use delivery::KindSet;
use wire::Kind;

use super::broker::Broker;
use super::names::{Map, Set};
use super::{Agent, CH, Exporter, LATE, PG, Random, Rules, Store, World};

/// How bad the world is. Chances in 10,000, times in milliseconds.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    /// A message from the broker to an exporter, or a state to anyone, is dropped.
    pub(crate) drop: u64,
    pub(crate) drop_confirmation: u64,
    pub(crate) duplicates: u64,
    /// A restart of the broker loses all sessions and what was retained.
    pub(crate) forgetful: bool,
    /// Messages that wait in a session.
    pub(crate) queue: usize,
    pub(crate) agent_bytes: u64,
    pub(crate) exporter_records: usize,
    /// Records that an exporter syncs at once.
    pub(crate) intake: usize,
    pub(crate) batch: usize,
    /// A store takes one to five minutes.
    pub(crate) slow: u64,
    /// Committed, but the answer was lost.
    pub(crate) ambiguous: u64,
    /// An insert ends after a part of it.
    pub(crate) partial: u64,
    /// A request lies in a buffer.
    pub(crate) in_transit: u64,
    /// A crash at each of the points between two writes.
    pub(crate) crash_point: u64,
    /// A segment can't be read after a restart.
    pub(crate) corrupt: u64,
    pub(crate) poison: u64,
    /// Tokens that the store remembers.
    pub(crate) tokens: usize,
    pub(crate) metrics: u64,
    pub(crate) logs: u64,
    pub(crate) alerts: u64,
    /// Mean time from one fault to the next.
    pub(crate) every: u64,
    pub(crate) failover: bool,
    pub(crate) confirm_by: bool,
    weights: [u64; 9],
}

/// When what happens.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// All faults end.
    pub(crate) heal: u64,
    pub(crate) produce_until: u64,
    pub(crate) end: u64,
    /// How long it may take after that until everything is delivered.
    pub(crate) most_drain: u64,
}

pub(crate) fn kinds_of(group: u8) -> KindSet {
    match group {
        PG => [Kind::Metrics, Kind::Alerts].into_iter().collect(),
        _ => [Kind::Logs, Kind::Alerts].into_iter().collect(),
    }
}

const MINUTE: u64 = 60_000;

impl Faults {
    /// Nothing happens.
    pub(crate) fn none() -> Self {
        Self {
            drop: 0,
            drop_confirmation: 0,
            duplicates: 0,
            forgetful: false,
            queue: 1_000,
            agent_bytes: u64::MAX / 4,
            exporter_records: usize::MAX,
            intake: usize::MAX,
            batch: 20,
            slow: 0,
            ambiguous: 0,
            partial: 0,
            in_transit: 0,
            crash_point: 0,
            corrupt: 0,
            poison: 0,
            tokens: 100,
            metrics: 20_000,
            logs: 20_000,
            alerts: 100_000,
            every: 0,
            failover: false,
            confirm_by: false,
            weights: [0; 9],
        }
    }

    fn random(random: &mut Random) -> Self {
        let base = [4, 4, 3, 2, 4, 1, 1, 1, 1];
        let mut weights = [0; 9];
        for (weight, base) in weights.iter_mut().zip(base) {
            *weight = base * random.pick(&[0, 3, 10, 30]) + 1;
        }
        Self {
            drop: random.pick(&[0, 200, 3_000, 6_500]),
            drop_confirmation: random.pick(&[0, 1_000, 5_000]),
            duplicates: random.pick(&[0, 5_000]),
            forgetful: random.chance(8_000),
            queue: random.pick(&[50, 1_000]),
            agent_bytes: random.pick(&[80, 300, u64::MAX / 4, u64::MAX / 4]),
            exporter_records: random.pick(&[40, usize::MAX, usize::MAX]),
            intake: random.pick(&[5, usize::MAX, usize::MAX]),
            batch: random.pick(&[3, 20, 100]),
            slow: random.pick(&[0, 500, 3_000]),
            ambiguous: random.pick(&[0, 500]),
            partial: random.pick(&[0, 0, 300]),
            in_transit: random.pick(&[0, 1_000]),
            crash_point: random.pick(&[0, 100, 500]),
            corrupt: random.pick(&[0, 0, 1_000]),
            poison: random.pick(&[0, 0, 50]),
            tokens: random.pick(&[3, 100]),
            metrics: random.pick(&[20_000, 60_000]),
            logs: random.pick(&[15_000, 90_000]),
            alerts: random.pick(&[60_000, 600_000]),
            every: random.pick(&[600_000, 200_000, 60_000]),
            failover: random.chance(1_500),
            confirm_by: random.chance(2_000),
            weights,
        }
    }
}

impl World {
    /// A fleet of two groups of two members, without any fault, which directed tests then bring about.
    pub(crate) fn plain(seed: u64, rules: &Rules, hosts: u8, faults: Faults) -> World {
        let kinds = [PG, CH, LATE].map(kinds_of);
        let stores = kinds.map(|kinds| Store { kinds, ..Store::default() }).into_iter().collect();
        let hour = 60 * MINUTE;
        World {
            now: 0,
            random: Random::new(seed),
            rules: rules.clone(),
            faults,
            plan: Plan { heal: hour, produce_until: hour, end: 9 * hour, most_drain: 90 * MINUTE },
            agents: (0..hosts).map(|host| Agent::new(host, 0)).collect(),
            exporters: vec![
                Exporter::new(PG, "m0", None, false),
                Exporter::new(PG, "m1", None, false),
                Exporter::new(CH, "s0", Some("0/2"), false),
                Exporter::new(CH, "s1", Some("1/2"), false),
            ],
            stores,
            broker: Broker { up: true, forgets_after: 60_000, ..Broker::default() },
            events: Default::default(),
            order: 0,
            steps: 0,
            faults_found: Default::default(),
            owed: Map::default(),
            given_up: Set::default(),
            poison: Set::default(),
            undone: Set::default(),
            forgotten: Default::default(),
            wiped: Default::default(),
            retired: Default::default(),
            published: 0,
            republished: 0,
            drained: None,
            healed: false,
            traced: super::names::traced(),
            most_sender: 0,
            most_receiver: 0,
        }
    }

    /// Everybody starts.
    pub(crate) fn start_all(&mut self, exporters_after: u64) {
        for e in 0..self.exporters.len() {
            if self.exporters[e].group != LATE {
                let delay = self.random.range(0, 3_000) + exporters_after;
                self.after(delay, move |world| world.exporter_start(e));
            }
        }
        for a in 0..self.agents.len() {
            let delay = self.random.range(2_000, 6_000);
            self.after(delay, move |world| world.agent_start(a));
        }
    }

    /// The world of a seed.
    pub(crate) fn seeded(seed: u64, rules: &Rules) -> World {
        let mut random = Random::new(seed.wrapping_mul(7_919).wrapping_add(1));
        let faults = Faults::random(&mut random);
        let hosts = random.pick(&[1, 2, 3]);
        let (late, twin, legacy, reshard) =
            (random.chance(5_000), random.chance(800), random.chance(600), random.chance(1_500));
        let legacy = legacy && !twin;
        let retire = late && random.chance(5_000);
        let exporters_after = random.pick(&[0, 0, 400_000]);
        let heal = random.pick(&[20, 40, 80]) * MINUTE;
        let produce_until = heal + random.pick(&[0, 0, 20]) * MINUTE;
        let mut world = World::plain(seed, rules, hosts, faults);
        world.plan = Plan { heal, produce_until, end: produce_until + 6 * 60 * MINUTE, most_drain: 75 * MINUTE };
        if twin {
            // A second host of the same name.
            world.agents.push(Agent::new(0, 1));
            world.plan.most_drain *= 3;
        }
        if legacy {
            // One copy in three ends there.
            world.plan.most_drain *= 3;
            world.exporters.push(Exporter::new(PG, "old", None, true));
        }
        if late {
            world.exporters.push(Exporter::new(LATE, "l0", None, false));
            let e = world.exporters.len() - 1;
            world.after(heal * 3 / 10, move |world| world.exporter_start(e));
        }
        world.start_all(exporters_after);
        if retire {
            world.plan.most_drain += 30 * MINUTE;
            world.after(heal * 7 / 10, |world| {
                world.stores[LATE as usize].retired = true;
                for e in 0..world.exporters.len() {
                    if world.exporters[e].group == LATE {
                        world.exporters[e].gone = true;
                        world.exporter_disconnected(e);
                        world.exporters[e].alive = false;
                        world.exporters[e].life += 1;
                        world.exporters[e].will = false;
                    }
                }
                world.retire_late();
            });
        }
        if reshard {
            world.after(heal / 2, World::drain_shards);
        }
        world.after(MINUTE, World::next_fault);
        world.after(heal, World::heal);
        world
    }

    fn next_fault(&mut self) {
        if self.now > self.plan.heal || self.healed {
            return;
        }
        let gap = self.random.gap(self.faults.every);
        self.after(gap, World::next_fault);
        let weights = self.faults.weights;
        let mut left = self.random.range(0, weights.iter().sum());
        let which = weights.iter().position(|weight| {
            let here = left < *weight;
            left = left.saturating_sub(*weight);
            here
        });
        let a = self.random.range(0, self.agents.len() as u64) as usize;
        let e = self.random.range(0, self.exporters.len() as u64) as usize;
        let now = self.now;
        match which {
            Some(0) if self.agents[a].alive => {
                self.agent_crash(a);
                let down = self.random.pick(&[1_000, 5_000, 60_000, 400_000]);
                self.after(down, move |world| world.agent_start(a));
            }
            Some(1) => {
                self.agents[a].cut_until = now + self.random.pick(&[5_000, 60_000, 1_200_000]);
                self.agent_disconnected(a);
            }
            Some(2) => {
                self.exporters[e].cut_until = now + self.random.pick(&[5_000, 50_000, 70_000, 900_000]);
                self.exporter_disconnected(e);
            }
            Some(3) => {
                let down = self.random.pick(&[2_000, 10_000, 120_000]);
                self.broker_restart(down);
            }
            Some(4) => {
                let down = self.random.pick(&[2_000, 2_000, 5_000, 30_000, 90_000]);
                self.exporter_crash(e, down);
            }
            Some(5) => {
                let down = self.random.pick(&[700_000, 1_800_000, 3_600_000]);
                self.exporter_crash(e, down);
            }
            Some(6) if self.exporters[e].alive => {
                let down = self.random.pick(&[2_000, 60_000, 900_000]);
                self.exporter_crash(e, down);
                self.exporters[e].lose_disk();
                if self.exporters[e].group == CH {
                    self.wiped.insert(CH);
                }
            }
            Some(7) => {
                let group = self.random.range(0, self.stores.len() as u64) as usize;
                let down = self.random.pick(&[30_000, 600_000, 3_600_000]);
                if !std::mem::replace(&mut self.stores[group].down, true) {
                    self.after(down, move |world| world.stores[group].down = false);
                }
            }
            Some(8) if self.faults.failover => self.fail_over(PG),
            _ => {}
        }
    }

    /// All is well from here on.
    fn heal(&mut self) {
        self.healed = true;
        let kept = self.faults.clone();
        self.faults = Faults {
            batch: kept.batch,
            tokens: kept.tokens,
            metrics: kept.metrics,
            logs: kept.logs,
            alerts: kept.alerts,
            failover: kept.failover,
            confirm_by: kept.confirm_by,
            forgetful: kept.forgetful,
            ..Faults::none()
        };
        self.stores.iter_mut().for_each(|store| store.down = false);
        for e in 0..self.exporters.len() {
            self.exporters[e].cut_until = 0;
            self.exporter_start(e);
        }
        for a in 0..self.agents.len() {
            self.agents[a].cut_until = 0;
            self.agent_start(a);
        }
        // Of two hosts with one name, the later one stops when it sees the other; the operator renames it, and its spool
        // is sent when the other one rests.
        if let Some(twin) = (0..self.agents.len()).find(|a| *a > 0 && self.agents[*a].host == self.agents[0].host) {
            self.agent_crash(twin);
            self.agents[twin].stopped = true;
            let shift = self.plan.produce_until + 75 * MINUTE - self.now;
            self.after(shift, move |world| {
                world.agent_crash(0);
                world.agents[0].stopped = true;
                world.agents[twin].stopped = false;
                world.agent_start(twin);
            });
        }
    }

    /// The shards of the sharded group are to change: its members take no more records and write what they have.
    fn drain_shards(&mut self) {
        for e in 0..self.exporters.len() {
            if self.exporters[e].group == CH {
                self.exporters[e].draining = true;
                self.broker_unsubscribe(e);
            }
        }
        self.after(10_000, World::change_shards);
    }

    /// When all are drained, each new member starts with the ledgers of all old ones.
    fn change_shards(&mut self) {
        let members: Vec<usize> = (0..self.exporters.len()).filter(|e| self.exporters[*e].group == CH).collect();
        if !members.iter().all(|e| self.exporters[*e].is_empty() && self.exporters[*e].alive) {
            self.after(10_000, World::change_shards);
            return;
        }
        let mut all = delivery::ledger::Ledger::default();
        for e in &members {
            for (key, entry, touched) in self.exporters[*e].ledger.iter() {
                all.restore(key.clone(), entry, touched);
            }
        }
        let count = members.len() + 1;
        for (n, e) in members.into_iter().enumerate() {
            self.exporter_crash(e, 1_000);
            self.exporters[e].draining = false;
            self.exporters[e].shard = Some(format!("{n}/{count}").parse().unwrap());
            if !self.rules.reshard_without_ledgers {
                self.exporters[e].ledger = all.clone();
            }
        }
        let shard = format!("{}/{count}", count - 1);
        let mut member = Exporter::new(CH, "s2", Some(&shard), false);
        if !self.rules.reshard_without_ledgers {
            member.ledger = all;
        }
        self.exporters.push(member);
        let e = self.exporters.len() - 1;
        self.after(2_000, move |world| world.exporter_start(e));
    }
}
