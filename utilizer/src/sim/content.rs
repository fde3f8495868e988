//! What the records hold: the size and shape of what agents send, made from templates.
//!
//! The values are those of the plan's seed, so that a record is the same however often it is made, and so that the sum of
//! what stands in a store can be held against it.

use std::fmt::Write;

use wire::{BootId, HostName, Kind, Timestamp};

use super::plan::{Plan, RecordId};

/// The gauge whose value is the record's number.
pub(super) const NUMBER: &str = "sim_record";

/// Rows that a metrics record makes.
pub(super) const GAUGES: usize = 40;

/// Rows that a pipeline record makes.
pub(super) const PIPELINE_ROWS: usize = 5;

const PROCESSES: usize = 20;

/// Numbers that look random, from a seed (splitmix64).
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64, record: RecordId) -> Self {
        let place = u64::from(record.host) << 32 ^ (record.kind as u64) << 56 ^ (record.run as u64) << 48 ^ record.seq;
        let mut dice = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ place);
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// A gauge of the template: its text up to the value, and the bound of its value in hundredths.
struct Gauge {
    before: String,
    below: u64,
    /// Whole numbers, as bytes are.
    whole: bool,
}

/// A process of the template: the texts between its values.
struct Process {
    before: String,
    after: String,
}

/// Makes payloads.
pub(super) struct Content {
    interval_seconds: f64,
    log_lines: u32,
    seed: u64,
    gauges: Vec<Gauge>,
    processes: Vec<Process>,
}

impl Content {
    /// For a plan.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            interval_seconds: plan.interval as f64 / 1000.0,
            log_lines: plan.log_lines,
            seed: plan.seed,
            gauges: gauges(),
            processes: (0..PROCESSES).map(process).collect(),
        }
    }

    /// A record's payload. It is appended to `out`.
    pub(super) fn write(&self, record: RecordId, host: &HostName, boot: &BootId, time: Timestamp, out: &mut String) {
        let RecordId { kind, seq, .. } = record;
        let mut dice = Dice::new(self.seed, record);
        // Names and numbers need no escapes.
        let _ = write!(out, r#"{{"v":1,"host":"{host}","boot":"{boot}","seq":{seq},"time":"{time}","#);
        match kind {
            Kind::Metrics => self.metrics(&mut dice, seq, out),
            Kind::Logs => self.logs(&mut dice, time, out),
            Kind::Alerts | Kind::Jobs => alert(&mut dice, seq, time, out),
            Kind::Pipeline => pipeline(&mut dice, host, boot, seq, out),
        }
        out.push('}');
    }

    /// The sum of a record's values in its rows, in hundredths.
    pub(super) fn sum(&self, record: RecordId) -> i64 {
        let mut dice = Dice::new(self.seed, record);
        match record.kind {
            Kind::Metrics => {
                let values: u64 = self.gauges.iter().map(|gauge| gauge.value(&mut dice)).sum();
                (values + record.seq * 100) as i64
            }
            Kind::Pipeline => (0..PIPELINE_ROWS).map(|_| dice.below(100_000) as i64).sum(),
            Kind::Logs | Kind::Alerts | Kind::Jobs => 0,
        }
    }

    fn metrics(&self, dice: &mut Dice, seq: u64, out: &mut String) {
        let _ =
            write!(out, r#""interval_seconds":{:?},"labels":{{"cluster":"sim"}},"gauges":["#, self.interval_seconds);
        for gauge in &self.gauges {
            out.push_str(&gauge.before);
            hundredths(gauge.value(dice), out);
            out.push_str("},");
        }
        let _ = write!(out, r#"{{"name":"{NUMBER}","value":{seq}}}],"processes":["#);
        for (place, process) in self.processes.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            out.push_str(&process.before);
            let _ = write!(out, r#","cpu_percent":"#);
            hundredths(dice.below(20_000) / (place as u64 + 1), out);
            out.push_str(r#","memory_percent":"#);
            hundredths(dice.below(1_000), out);
            let _ = write!(out, r#","resident_memory_bytes":{},"threads":{}"#, dice.below(1 << 31), 1 + dice.below(64));
            let _ = write!(out, r#","open_fds":{},"read_bytes_per_second":{}"#, dice.below(1024), dice.below(1 << 20));
            let _ = write!(out, r#","write_bytes_per_second":{}"#, dice.below(1 << 20));
            out.push_str(&process.after);
        }
        out.push(']');
    }

    fn logs(&self, dice: &mut Dice, time: Timestamp, out: &mut String) {
        const SERVICES: [(&str, &str); 6] = [
            ("checkout", "checkout.payment"),
            ("search", "search.query"),
            ("gateway", "gateway.access"),
            ("catalog", "catalog.store"),
            ("mailer", "mailer.queue"),
            ("auth", "auth.session"),
        ];
        const NOUNS: [&str; 4] = ["orders", "customers", "articles", "sessions"];
        out.push_str(r#""records":["#);
        for line in 0..self.log_lines {
            if line > 0 {
                out.push(',');
            }
            let level = match dice.below(100) {
                0..80 => "INFO",
                80..90 => "DEBUG",
                90..97 => "WARN",
                _ => "ERROR",
            };
            let (service, logger) = SERVICES[dice.below(6) as usize % SERVICES.len()];
            let noun = NOUNS[dice.below(4) as usize % NOUNS.len()];
            let latency = dice.below(500_000);
            let _ = write!(out, r#"{{"timestamp":"{time}","level":"{level}","service_name":"{service}","message":"#);
            let _ = write!(
                out,
                r#""GET /api/v2/{noun}/{:08} answered {} with {:06} bytes from 10.{}.{}.{}:8080, session {:012x}, tries 1","#,
                dice.below(100_000_000),
                if level == "ERROR" { 503 } else { 200 },
                dice.below(1_000_000),
                dice.below(256),
                dice.below(256),
                dice.below(256),
                dice.next() >> 16,
            );
            let _ = write!(out, r#""latency_ms":"#);
            hundredths(latency, out);
            let _ = write!(out, r#","logger":"{logger}","trace_id":"{:016x}{:016x}"}}"#, dice.next(), dice.next());
        }
        out.push(']');
    }
}

fn alert(dice: &mut Dice, seq: u64, time: Timestamp, out: &mut String) {
    let (state, resolved) = match seq % 2 {
        1 => ("firing", String::new()),
        _ => ("resolved", format!(r#","resolved_at":"{time}""#)),
    };
    let _ = write!(
        out,
        r#""state":"{state}","alert":{{"fingerprint":"5f1e2d3c4b5a6978","labels":{{"alertname":"HostDiskFull","#
    );
    let _ = write!(
        out,
        r#""severity":"critical","mountpoint":"/srv"}},"annotations":{{"summary":"/srv is almost full"}},"value":"#
    );
    hundredths(9_000 + dice.below(1_000), out);
    let _ = write!(out, r#","active_at":"{time}","fired_at":"{time}"{resolved}}}"#);
}

fn pipeline(dice: &mut Dice, host: &HostName, boot: &BootId, seq: u64, out: &mut String) {
    const METRICS: [(&str, &str); PIPELINE_ROWS] = [
        ("extraction", "articles_processed"),
        ("classification", "f1_score"),
        ("classification", "articles_per_second"),
        ("clustering", "clusters_created"),
        ("summary", "duration_seconds"),
    ];
    out.push_str(r#""records":["#);
    for (place, (stage, name)) in METRICS.into_iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        let _ = write!(out, r#"{{"job_id":"{host}-batch","stage":"{stage}","metric_name":"{name}","metric_value":"#);
        hundredths(dice.below(100_000), out);
        let _ = write!(out, r#","metadata":{{"model":"ensemble_v2","{NUMBER}":"{boot}-{seq}"}}}}"#);
    }
    out.push(']');
}

/// Writes hundredths as a JSON number, without what is nothing.
fn hundredths(value: u64, out: &mut String) {
    let (whole, part) = (value / 100, value % 100);
    let _ = if part == 0 { write!(out, "{whole}") } else { write!(out, "{whole}.{part:02}") };
}

impl Gauge {
    fn value(&self, dice: &mut Dice) -> u64 {
        let value = dice.below(self.below);
        if self.whole { value / 100 * 100 } else { value }
    }
}

/// All but the last, which has the record's number.
fn gauges() -> Vec<Gauge> {
    const GIB: u64 = 1 << 30;
    const PERCENT: (u64, bool) = (10_001, false);
    let bytes = |most: u64| (most * 100, true);
    let mut gauges = Vec::new();
    let mut add = |name: &str, labels: &str, (below, whole): (u64, bool)| {
        let labels = if labels.is_empty() { String::new() } else { format!(r#""labels":{{{labels}}},"#) };
        gauges.push(Gauge { before: format!(r#"{{"name":"{name}",{labels}"value":"#), below, whole });
    };
    for name in ["cpu_percent", "memory_percent", "swap_percent"] {
        add(name, "", PERCENT);
    }
    add("memory_used_bytes", "", bytes(64 * GIB));
    add("memory_total_bytes", "", bytes(64 * GIB));
    add("load1", "", (1_600, false));
    for name in ["cpu", "io", "memory"] {
        add(&format!("pressure_{name}_waiting_percent"), "", PERCENT);
    }
    for mount in ["/", "/boot", "/home", "/srv", "/var", "/var/lib/docker"] {
        add("disk_percent", &format!(r#""mountpoint":"{mount}""#), PERCENT);
    }
    for device in ["nvme0n1", "sda", "sdb"] {
        for name in ["disk_read_bytes_per_second", "disk_write_bytes_per_second"] {
            add(name, &format!(r#""device":"{device}""#), bytes(GIB));
        }
    }
    for device in ["eth0", "eth1", "wg0"] {
        for name in ["network_receive_bytes_per_second", "network_transmit_bytes_per_second"] {
            add(name, &format!(r#""device":"{device}""#), bytes(GIB));
        }
    }
    for gpu in 0..2 {
        let labels = format!(r#""gpu":"{gpu}","UUID":"GPU-{gpu:08x}""#);
        for name in ["gpu_load", "gpu_memory_percent"] {
            add(name, &labels, PERCENT);
        }
        add("gpu_memory_used_bytes", &labels, bytes(80 * GIB));
        add("gpu_memory_total_bytes", &labels, bytes(80 * GIB));
        add("gpu_temperature_celsius", &labels, (9_000, false));
        add("gpu_power_watts", &labels, (70_000, false));
    }
    gauges
}

fn process(place: usize) -> Process {
    const NAMES: [&str; 8] =
        ["postgres", "clickhouse", "nginx", "python3", "java", "node", "redis-server", "mosquitto"];
    let name = NAMES[place % NAMES.len()];
    Process {
        before: format!(r#"{{"pid":{},"name":"{name}""#, 1000 + place * 37),
        after: format!(
            r#","max_fds":1024,"user":"{name}","unit":"{name}.service","command_line":"/usr/bin/{name} --config /etc/{name}/main.conf --worker {place}"}}"#
        ),
    }
}

#[cfg(test)]
mod tests {
    use wire::messages::{AlertTransition, Logs, Metrics, Pipeline};
    use wire::{decode_body, decode_head};

    use super::super::plan::KINDS;
    use super::*;

    #[test]
    fn records_are_messages_of_the_promised_size_with_the_promised_sum() {
        let plan = Plan {
            prefix: "sim".into(),
            hosts: 3,
            interval: 10_000,
            count: 9,
            kinds: KINDS.to_vec(),
            log_lines: 10,
            seed: 7,
        };
        let content = Content::new(&plan);
        let (host, boot) = (plan.host(2), "19ab-00002".parse().unwrap());
        let mut sums = std::collections::BTreeSet::new();
        for seq in 1..=20 {
            for kind in KINDS {
                let record = RecordId { host: 2, run: 0, kind, seq };
                let mut text = String::new();
                content.write(record, &host, &boot, Timestamp::from_millis(1_790_000_000_000), &mut text);
                let mut again = String::new();
                content.write(record, &host, &boot, Timestamp::from_millis(1_790_000_000_000), &mut again);
                assert_eq!(text, again);
                let bytes = text.as_bytes();
                let head = decode_head(bytes).unwrap();
                assert_eq!((head.host, head.boot, head.seq), (host.clone(), Some(boot.clone()), Some(seq)));
                let sum =
                    |values: Vec<f64>| values.into_iter().map(|value| (value * 100.0).round() as i64).sum::<i64>();
                match kind {
                    Kind::Metrics => {
                        let body: Metrics = decode_body(bytes).unwrap();
                        assert_eq!((body.gauges.len(), body.processes.len()), (GAUGES, PROCESSES));
                        let names: std::collections::BTreeSet<_> =
                            body.gauges.iter().map(|gauge| format!("{}{:?}", gauge.name, gauge.labels)).collect();
                        assert_eq!(names.len(), GAUGES);
                        assert_eq!(sum(body.gauges.iter().map(|gauge| gauge.value.0).collect()), content.sum(record));
                        assert!(sums.insert(content.sum(record)));
                    }
                    Kind::Logs => {
                        let body: Logs = decode_body(bytes).unwrap();
                        let line = |record: &wire::messages::LogRecord| {
                            record.message.len()
                                + record.service_name.len()
                                + record.logger.len()
                                + record.trace_id.len()
                                + 16
                        };
                        let average = body.records.iter().map(line).sum::<usize>() / body.records.len();
                        assert!((180..200).contains(&average), "{average}");
                    }
                    Kind::Alerts => drop(decode_body::<AlertTransition>(bytes).unwrap()),
                    _ => {
                        let body: Pipeline = decode_body(bytes).unwrap();
                        assert!(body.records.iter().all(|record| record.check().is_ok()));
                        assert_eq!(
                            sum(body.records.iter().map(|record| record.metric_value.0).collect()),
                            content.sum(record)
                        );
                    }
                }
            }
        }
    }
}
