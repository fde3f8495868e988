//! How well rules find planted anomalies, and how often they cry wolf.
//!
//! `cargo run --release -p utilizer-rules --example anomaly -- [--seed N] [--hosts N] [--days N] [--only ALERT] FILE…`
//!
//! Made-up hosts of four kinds (web, batch, database, idle) run for days, a sample every 15 s: a daily wave, noise
//! that remembers, jobs each 5 to 60 minutes, spikes of up to two minutes, and a nightly job of half an hour. About
//! three times a day something is planted, 15 to 45 minutes long, that a person would call unusual. The files are
//! evaluated each minute. An anomaly is found if an alert of its signal and host begins to fire while it lasts; an alert
//! is right if it overlaps one (or the 15 minutes after). Everything is decided by the seed.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use utilizer_rules::Rules;
use utilizer_rules::group::{Due, Engine, Settings, State};
use utilizer_rules::testing::Random;
use utilizer_rules::window::{Limits, Window};

const STEP: i64 = 15_000;
const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
/// How long after an anomaly an alert still counts as its own.
const TAIL: i64 = 15 * MINUTE;
const SIGNALS: [&str; 5] = ["cpu", "memory", "network_receive", "network_transmit", "disk"];
const MEMORY: f64 = 32e9;

/// How things are drawn.
trait Draw {
    fn between(&mut self, low: f64, high: f64) -> f64;
    fn minutes(&mut self, low: f64, high: f64) -> i64;
    fn normal(&mut self) -> f64;
}

impl Draw for Random {
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    fn minutes(&mut self, low: f64, high: f64) -> i64 {
        (self.between(low, high) * MINUTE as f64) as i64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().max(1e-12).ln()).sqrt() * (TAU * self.unit()).cos()
    }
}

/// What is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A process that spins: 40 to 60 points more.
    CpuStuck,
    /// 30 to 45 points more memory, gained within 5 to 15 minutes.
    MemoryLeak,
    /// Traffic times 4 to 10, and at least 8 MB/s more.
    TrafficSurge,
    /// Hardly any traffic any more.
    TrafficGone,
    /// Disk traffic times 6 to 12, and at least 80 MB/s more.
    DiskFlood,
}

impl Kind {
    fn signal(self) -> &'static str {
        match self {
            Self::CpuStuck => "cpu",
            Self::MemoryLeak => "memory",
            Self::TrafficSurge | Self::TrafficGone => "network_receive",
            Self::DiskFlood => "disk",
        }
    }
}

/// An anomaly of a host.
struct Planted {
    kind: Kind,
    from: i64,
    to: i64,
    /// How strong.
    by: f64,
    /// How long a slow one takes to get there.
    rise: i64,
    found: Option<i64>,
}

/// Work that comes by itself.
struct Job {
    every: i64,
    at: i64,
    long: i64,
    cpu: f64,
    disk: f64,
}

struct Host {
    instance: String,
    random: Random,
    /// Of each signal: its base, the height of its daily wave, the noise. Percent and bytes a second.
    base: [f64; 5],
    wave: [f64; 5],
    noise: [f64; 5],
    state: [f64; 5],
    peak: f64,
    jobs: Vec<Job>,
    spike: (i64, f64),
    planted: Vec<Planted>,
    counters: [f64; 6],
    now: [f64; 5],
}

impl Host {
    fn new(number: usize, seed: u64, days: i64) -> Self {
        let mut random = Random(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        for _ in 0..4 {
            random.next();
        }
        let r = &mut random;
        let (base, wave) = match number % 4 {
            0 => (
                [r.between(15.0, 35.0), r.between(40.0, 60.0), r.between(3e6, 2e7), r.between(5e6, 3e7), 3e6],
                [20.0, 5.0, 4e6, 8e6, 1e6],
            ),
            1 => (
                [r.between(5.0, 15.0), r.between(20.0, 40.0), 5e5, 3e5, r.between(2e6, 1e7)],
                [3.0, 3.0, 1e5, 1e5, 1e6],
            ),
            2 => (
                [r.between(10.0, 25.0), r.between(55.0, 65.0), 4e6, 6e6, r.between(2e7, 6e7)],
                [12.0, 2.0, 2e6, 3e6, 1.5e7],
            ),
            _ => ([r.between(1.0, 4.0), r.between(10.0, 30.0), 3e4, 2e4, 1e5], [0.5, 0.5, 1e4, 1e4, 2e4]),
        };
        let share = r.between(0.05, 0.15);
        let noise = [base[0] * share, 0.5, base[2] * share * 2.0, base[3] * share * 2.0, base[4] * share * 3.0];
        let mut jobs =
            vec![Job { every: DAY, at: r.minutes(60.0, 300.0), long: r.minutes(20.0, 40.0), cpu: 25.0, disk: 1e8 }];
        for _ in 0..2 + number % 3 {
            let every = [5, 10, 15, 30, 60][(r.next() % 5) as usize] * MINUTE;
            let job = Job {
                every,
                at: r.minutes(0.0, 60.0) % every,
                long: r.minutes(0.5, 3.0),
                cpu: r.between(3.0, 30.0),
                disk: r.between(1e6, 3e7),
            };
            jobs.push(job);
        }
        let mut planted = Vec::new();
        let mut at = 3 * 60 * MINUTE;
        loop {
            at += r.minutes(150.0, 700.0);
            let to = at + r.minutes(15.0, 45.0);
            if to + 60 * MINUTE > days * DAY {
                break;
            }
            // An idle host has no traffic that could go.
            let kind = match r.next() % 5 {
                0 => Kind::CpuStuck,
                1 => Kind::MemoryLeak,
                2 => Kind::TrafficSurge,
                3 if number % 4 != 3 && number % 4 != 1 => Kind::TrafficGone,
                3 => Kind::TrafficSurge,
                _ => Kind::DiskFlood,
            };
            let by = match kind {
                Kind::CpuStuck => r.between(40.0, 60.0),
                Kind::MemoryLeak => r.between(30.0, 45.0),
                Kind::TrafficSurge => r.between(4.0, 10.0),
                Kind::TrafficGone => r.between(0.0, 0.05),
                Kind::DiskFlood => r.between(6.0, 12.0),
            };
            let rise = if kind == Kind::MemoryLeak { r.minutes(5.0, 15.0) } else { 0 };
            planted.push(Planted { kind, from: at, to, by, rise, found: None });
            at = to;
        }
        let peak = r.between(0.4, 0.7);
        let instance = format!("host-{number:03}:9100");
        let (state, spike, counters, now) = ([0.0; 5], (0, 0.0), [0.0; 6], [0.0; 5]);
        Self { instance, random, base, wave, noise, state, peak, jobs, spike, planted, counters, now }
    }

    /// The values of this moment, and what the counters count until then.
    fn step(&mut self, time: i64) {
        let day = (time % DAY) as f64 / DAY as f64;
        let wave = (1.0 + (TAU * (day - self.peak + 0.25)).sin()) / 2.0;
        let mut now = [0.0; 5];
        for (at, now) in now.iter_mut().enumerate() {
            let noise = self.noise[at];
            // A minute and a half of memory.
            self.state[at] = 0.85 * self.state[at] + noise * (1.0_f64 - 0.85 * 0.85).sqrt() * self.random.normal();
            *now = (self.base[at] + self.wave[at] * wave + self.state[at]).max(self.base[at] * 0.02);
        }
        for job in &self.jobs {
            if (time - job.at).rem_euclid(job.every) < job.long {
                now[0] += job.cpu;
                now[4] += job.disk;
            }
        }
        // Four spikes a day.
        if time >= self.spike.0 && self.random.unit() < 4.0 * STEP as f64 / DAY as f64 {
            self.spike = (time + self.random.minutes(0.25, 2.0), self.random.between(20.0, 60.0));
        }
        if time < self.spike.0 {
            now[0] += self.spike.1;
            now[2] *= 3.0;
        }
        for planted in self.planted.iter().filter(|planted| (planted.from..planted.to).contains(&time)) {
            let by = planted.by;
            match planted.kind {
                Kind::CpuStuck => now[0] += by,
                Kind::MemoryLeak => now[1] += by * ((time - planted.from) as f64 / planted.rise as f64).min(1.0),
                Kind::TrafficSurge => {
                    now[2] = (now[2] * by).max(now[2] + 8e6);
                    now[3] *= 1.3;
                }
                Kind::TrafficGone => {
                    now[2] *= by;
                    now[3] *= by;
                }
                Kind::DiskFlood => now[4] = (now[4] * by).max(now[4] + 8e7),
            }
        }
        now[0] = now[0].clamp(0.0, 100.0);
        now[1] = now[1].clamp(0.0, 97.0);
        let seconds = STEP as f64 / 1000.0;
        let busy = seconds * now[0] / 100.0;
        let grown =
            [seconds - busy, busy, now[2] * seconds, now[3] * seconds, now[4] * seconds * 0.4, now[4] * seconds * 0.6];
        for (counter, grown) in self.counters.iter_mut().zip(grown) {
            *counter += grown;
        }
        self.now = now;
    }

    /// As an agent shows it.
    fn samples(&self) -> [Shown; 8] {
        let [idle, user, ..] = self.counters.map(|seconds| (seconds * 100.0).round() / 100.0);
        let [_, _, receive, transmit, read, written] = self.counters.map(f64::round);
        [
            ("node_cpu_seconds_total", &[("cpu", "0"), ("mode", "idle")], idle),
            ("node_cpu_seconds_total", &[("cpu", "0"), ("mode", "user")], user),
            ("node_disk_read_bytes_total", &[("device", "sda")], read),
            ("node_disk_written_bytes_total", &[("device", "sda")], written),
            ("node_memory_MemAvailable_bytes", &[], (MEMORY * (1.0 - self.now[1] / 100.0)).round()),
            ("node_memory_MemTotal_bytes", &[], MEMORY),
            ("node_network_receive_bytes_total", &[("device", "eth0")], receive),
            ("node_network_transmit_bytes_total", &[("device", "eth0")], transmit),
        ]
    }
}

/// Name, labels and value.
type Shown = (&'static str, &'static [(&'static str, &'static str)], f64);

/// An alert that fired.
struct Episode {
    alert: String,
    host: usize,
    signal: String,
    from: i64,
    to: i64,
}

struct Arguments {
    seed: u64,
    hosts: usize,
    days: i64,
    /// Count this alert only.
    only: Option<String>,
    files: Vec<(String, String)>,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { seed: 1, hosts: 40, days: 4, only: None, files: Vec::new() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse::<u32>().ok()).expect("a number behind the switch");
        match word.as_str() {
            "--only" => arguments.only = words.next(),
            "--seed" => arguments.seed = number().into(),
            "--hosts" => arguments.hosts = number() as usize,
            "--days" => arguments.days = number().into(),
            _ => arguments.files.push((word.clone(), std::fs::read_to_string(&word).expect("a file that can be read"))),
        }
    }
    arguments
}

fn main() {
    let Arguments { seed, hosts, days, only, files } = arguments();
    let rules = Rules::load(&files).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{}", faults.join("\n"))
    });
    let limits = Limits { series: 1_000_000, bytes: 1 << 30, ..Limits::default() };
    let mut window = Window::new(rules.needs(), limits).expect("rules that look back a week at most");
    let groups = rules.groups.len();
    let mut engine = Engine::new(rules, Settings::default());
    let mut hosts: Vec<_> = (0..hosts).map(|number| Host::new(number, seed, days)).collect();
    let sources: Vec<_> =
        hosts.iter().map(|host| window.source([("instance", host.instance.as_str()), ("job", "node")])).collect();
    let mut open: BTreeMap<(String, usize, String), i64> = BTreeMap::new();
    let mut episodes: Vec<Episode> = Vec::new();
    for step in 1..=days * DAY / STEP {
        let time = step * STEP;
        for (host, source) in hosts.iter_mut().zip(&sources) {
            host.step(time);
            let mut round = window.round(*source, time).expect("time goes on");
            let mut family = "";
            for (name, labels, value) in host.samples() {
                if name != family {
                    round.family(name);
                    family = name;
                }
                round.sample(labels.iter().copied(), value);
            }
            round.end();
        }
        if time % MINUTE != 0 {
            continue;
        }
        for group in 0..groups {
            let round = engine.evaluate(&Due { group, at: time, missed: 0 }, &mut window);
            assert!(round.faults.is_empty(), "{:?}", round.faults);
            for alert in round.transitions {
                let host = hosts.iter().position(|host| host.instance == alert.labels.get("instance")).expect("a host");
                let key = (alert.labels.get("alertname").to_owned(), host, alert.labels.get("signal").to_owned());
                if alert.state == State::Firing {
                    open.insert(key, time);
                } else if let Some(from) = open.remove(&key) {
                    episodes.push(Episode { alert: key.0, host, signal: key.2, from, to: time });
                }
            }
        }
    }
    for ((alert, host, signal), from) in open {
        episodes.push(Episode { alert, host, signal, from, to: days * DAY });
    }
    episodes.retain(|episode| only.as_ref().is_none_or(|only| *only == episode.alert));
    report(&mut hosts, &episodes, days);
}

fn report(hosts: &mut [Host], episodes: &[Episode], days: i64) {
    // Traffic goes in both directions.
    let related = |planted: &Planted, signal: &str| {
        planted.kind.signal() == signal || (planted.kind == Kind::TrafficGone && signal == "network_transmit")
    };
    let mut right: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut by_signal: BTreeMap<&str, usize> = SIGNALS.iter().map(|signal| (*signal, 0)).collect();
    for episode in episodes {
        let mut hit = false;
        for planted in hosts[episode.host].planted.iter_mut().filter(|planted| related(planted, &episode.signal)) {
            if episode.from < planted.to + TAIL && episode.to > planted.from {
                hit = true;
            }
            if (planted.from..planted.to).contains(&episode.from) {
                planted.found = Some(planted.found.map_or(episode.from, |found| found.min(episode.from)));
            }
        }
        let count = right.entry(&episode.alert).or_default();
        count.0 += usize::from(hit);
        count.1 += 1;
        if !hit {
            *by_signal.entry(&episode.signal).or_default() += 1;
        }
    }
    eprintln!("{} hosts, {days} days, {} alerts", hosts.len(), episodes.len());
    for (alert, (hit, all)) in &right {
        eprintln!("{alert}: {hit} of {all} right, precision {:.3}", *hit as f64 / *all as f64);
    }
    let wrong: usize = by_signal.values().sum();
    let host_days = hosts.len() as f64 * days as f64;
    eprintln!(
        "precision {:.3}; wrong ones a host and day: {:.3} {by_signal:?}",
        1.0 - wrong as f64 / episodes.len().max(1) as f64,
        wrong as f64 / host_days
    );
    let mut kinds: BTreeMap<Kind, Vec<&Planted>> = BTreeMap::new();
    for planted in hosts.iter().flat_map(|host| &host.planted) {
        kinds.entry(planted.kind).or_default().push(planted);
    }
    let (mut found, mut all) = (0, 0);
    for (kind, planted) in kinds {
        let mut delays: Vec<i64> = planted.iter().filter_map(|planted| Some(planted.found? - planted.from)).collect();
        delays.sort_unstable();
        let median = delays.get(delays.len() / 2).map_or(0, |delay| delay / 1000);
        eprintln!(
            "{kind:?}: {} of {} found, recall {:.3}, after {median} s",
            delays.len(),
            planted.len(),
            delays.len() as f64 / planted.len() as f64
        );
        found += delays.len();
        all += planted.len();
    }
    eprintln!("recall {:.3} ({found} of {all})", found as f64 / all as f64);
}
