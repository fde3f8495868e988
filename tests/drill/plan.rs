//! What is done to whom, and when: decided by the seed alone.

use std::fmt;
use std::time::Duration;

/// Random numbers from a seed (SplitMix64).
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

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// Between the two, in milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to.saturating_sub(from) + 1))
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Whose files lie on small disks of their own.
pub(crate) const DISKS: [&str; 3] = ["agent-0", "exporter-postgres-0", "exporter-clickhouse-0"];

/// Whom a fault hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Agent(usize),
    /// `utilizer sim`.
    Sim,
    Postgres(usize),
    ClickHouse(usize),
    Broker,
    /// A client of the broker that only listens; nothing is done to it.
    Listener,
    PostgresServer,
    ClickHouseServer,
    Network,
    /// The disk of the first agent, the first PostgreSQL exporter or the first ClickHouse exporter.
    Disk(usize),
    Everything,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Agent(number) => write!(f, "agent-{number}"),
            Target::Sim => f.write_str("sim"),
            Target::Postgres(number) => write!(f, "exporter-postgres-{number}"),
            Target::ClickHouse(number) => write!(f, "exporter-clickhouse-{number}"),
            Target::Listener => f.write_str("statuses"),
            Target::Broker => f.write_str("mosquitto"),
            Target::PostgresServer => f.write_str("postgres"),
            Target::ClickHouseServer => f.write_str("clickhouse"),
            Target::Network => f.write_str("network"),
            Target::Disk(number) => write!(f, "disk-of-{}", DISKS.get(*number).unwrap_or(&"?")),
            Target::Everything => f.write_str("everything"),
        }
    }
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// SIGKILL, and started again when the fault ends.
    Kill,
    /// SIGTERM (PostgreSQL: an immediate shutdown), and started again when the fault ends.
    Terminate,
    /// SIGSTOP, and SIGCONT when the fault ends.
    Stop,
    /// The link between agents and servers is down.
    Cut,
    /// Nothing more can be written there.
    Fill,
    /// Commits take as long as the fault lasts.
    Slow,
}

impl Fault {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Terminate => "terminate",
            Fault::Stop => "stop",
            Fault::Cut => "cut",
            Fault::Fill => "fill",
            Fault::Slow => "slow",
        }
    }
}

/// One fault of the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) fault: Fault,
    pub(crate) target: Target,
}

/// What the world allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Possible {
    pub(crate) agents: usize,
    pub(crate) sim: bool,
    /// Namespaces can be made: the network can be cut, disks can be filled.
    pub(crate) namespaces: bool,
    /// Two faults come so far apart on average.
    pub(crate) every: Duration,
    /// The time after which an agent sends again; commits are slowed past it.
    pub(crate) retry_after: Duration,
}

/// The faults of `span`, sorted by time. A target has one at a time; different ones overlap.
pub(crate) fn plan(random: &mut Random, span: Duration, possible: Possible) -> Vec<Step> {
    // The keep-alive is 30 s and a broker waits one and a half times that, which a short drill has no time for.
    let long = span >= Duration::from_secs(240);
    let mut busy: Vec<(Target, Duration)> = Vec::new();
    let mut steps = Vec::new();
    let mut at = random.millis(500, 1500);
    while at < span {
        for _ in 0..20 {
            let (fault, target) = choose(random, possible);
            let lasts = match fault {
                Fault::Kill | Fault::Terminate => random.millis(0, 3000),
                Fault::Stop if long && random.chance(50) => random.millis(46_000, 55_000),
                Fault::Stop => random.millis(1000, 6000),
                Fault::Cut if long && random.chance(25) => random.millis(46_000, 60_000),
                Fault::Cut => random.millis(1000, 8000),
                Fault::Fill => random.millis(2000, 10_000),
                Fault::Slow => possible.retry_after.mul_f64(1.2) + random.millis(0, 4000),
            };
            let until = at + lasts;
            let taken = busy.iter().any(|(of, until)| *of == target && *until >= at);
            if taken || (until > span && long) {
                continue;
            }
            busy.push((target, until));
            steps.push(Step { at, lasts: lasts.min(span.saturating_sub(at)), fault, target });
            break;
        }
        let mean = u64::try_from(possible.every.as_millis()).unwrap_or(u64::MAX);
        at += random.millis(mean / 4, mean * 7 / 4);
    }
    steps
}

fn choose(random: &mut Random, possible: Possible) -> (Fault, Target) {
    let agent = match random.below(possible.agents as u64 + u64::from(possible.sim)) as usize {
        number if number < possible.agents => Target::Agent(number),
        _ => Target::Sim,
    };
    let postgres = Target::Postgres(random.below(2) as usize);
    let clickhouse = Target::ClickHouse(random.below(2) as usize);
    let end = if random.chance(80) { Fault::Kill } else { Fault::Terminate };
    let process = match random.below(12) {
        0..3 => agent,
        3..6 => postgres,
        6..9 => clickhouse,
        9 => Target::Broker,
        10 => Target::PostgresServer,
        _ => Target::ClickHouseServer,
    };
    match random.below(100) {
        0..58 => (end, process),
        58..78 => (Fault::Stop, process),
        78..84 if possible.namespaces => (Fault::Cut, Target::Network),
        84..92 if possible.namespaces => {
            // The first is an agent's.
            let first = u64::from(possible.agents == 0);
            (Fault::Fill, Target::Disk((first + random.below(DISKS.len() as u64 - first)) as usize))
        }
        92..95 => (Fault::Slow, Target::PostgresServer),
        95..98 => (Fault::Slow, Target::ClickHouseServer),
        98.. => (Fault::Kill, Target::Everything),
        _ => (end, process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_the_plan_and_a_target_has_one_fault_at_a_time() {
        let possible = Possible {
            agents: 3,
            sim: true,
            namespaces: true,
            every: Duration::from_secs(1),
            retry_after: Duration::from_secs(3),
        };
        let make = |seed| plan(&mut Random::new(seed), Duration::from_secs(600), possible);
        let shown = |steps: &[Step]| format!("{steps:?}");
        assert_eq!(shown(&make(1)), shown(&make(1)));
        assert_ne!(shown(&make(1)), shown(&make(2)));
        let steps: Vec<Step> = (0..20).flat_map(make).collect();
        assert!(steps.len() > 20 * 400, "{}", steps.len());
        for plan in (0..20).map(make) {
            for (number, step) in plan.iter().enumerate() {
                let meets = |other: &&Step| other.target == step.target && other.at <= step.at + step.lasts;
                assert!(plan[number + 1..].iter().find(meets).is_none(), "{step:?}");
            }
        }
        // Every fault and every target comes up.
        for target in ["agent-2", "sim", "exporter-postgres-1", "mosquitto", "disk-of-agent-0", "network", "everything"]
        {
            assert!(steps.iter().any(|step| step.target.to_string() == target), "{target}");
        }
        for fault in [Fault::Kill, Fault::Terminate, Fault::Stop, Fault::Cut, Fault::Fill, Fault::Slow] {
            assert!(steps.iter().any(|step| step.fault == fault), "{fault:?}");
        }
        assert!(steps.iter().any(|s| s.fault == Fault::Stop && s.lasts > Duration::from_secs(45)));
    }
}
