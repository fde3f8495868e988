//! Random series: counters that start again, gauges, histograms, gaps, odd values.

use std::collections::BTreeMap;
use std::fmt::Write;

use utilizer_rules::ast::Millis;
use utilizer_rules::sample::NAME;
use utilizer_rules::testing::{Memory, Random};
use utilizer_rules::{Labels, Sample};

/// When the first samples stand. Any time will do.
pub(crate) const START: Millis = 1_700_000_000_000;
/// How many rounds there are.
const ROUNDS: i64 = 480;
/// From one round to the next.
const INTERVAL: Millis = 15_000;
/// When the last ones stand.
pub(crate) const END: Millis = START + ROUNDS * INTERVAL;

/// What follows from a seed and a number.
pub(crate) fn draw(seed: u64, number: u64) -> Random {
    let mut random = Random(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
    random.next();
    random
}

/// One of several.
pub(crate) fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.place(from.len())]
}

/// The series of a seed.
///
/// Values of counters, gauges and buckets are multiples of a quarter, so that sums of them are exact in any order.
/// Counters start high and fall by half or more: with a beginning near zero, `rate` of Prometheus 2 extrapolates otherwise.
pub(crate) fn random(seed: u64) -> Memory {
    let mut random = draw(seed, 0xfeed);
    let mut memory = Memory::new();
    for host in ["a", "b", "c"] {
        let of = |name: &str, rest: &[(&str, &str)]| {
            Labels::new([(NAME, name), ("host", host)].into_iter().chain(rest.iter().copied()))
        };
        for mode in ["idle", "user", "wait"] {
            let pace = random.below(400);
            counter(&mut random, &mut memory, &of("seconds_total", &[("mode", mode)]), pace);
        }
        for path in ["/", "/x y", "/é"] {
            let code = pick(&mut random, &["200", "500"]);
            let pace = random.below(3);
            counter(&mut random, &mut memory, &of("requests_total", &[("path", path), ("code", code)]), pace);
        }
        for mode in ["idle", "user"] {
            gauge(&mut random, &mut memory, &of("load", &[("mode", mode)]), |random, _| {
                Some(random.below(80) as f64 / 4.0)
            });
            gauge(&mut random, &mut memory, &of("drift", &[("mode", mode)]), |random, last| {
                Some(last + random.below(21) as f64 / 4.0 - 2.5)
            });
        }
        let constant = random.below(4) as f64 * 64.0;
        gauge(&mut random, &mut memory, &of("limit", &[]), |_, _| Some(constant));
        gauge(&mut random, &mut memory, &of("noise", &[]), |random, _| Some(random.unit() * 1000.0 - 300.0));
        gauge(&mut random, &mut memory, &of("up", &[("job", "node")]), |random, _| Some(random.below(8).min(1) as f64));
        let odd = [0.0, -0.0, 1.0, -1.5, 1e300, -1e300, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        gauge(&mut random, &mut memory, &of("odd", &[]), |random, _| Some(pick(random, &odd)));
        let seldom = 2 + random.below(60);
        gauge(&mut random, &mut memory, &of("seldom", &[]), |random, _| random.one_in(seldom).then_some(1.0));
        buckets(&mut random, &mut memory, &of("latency_seconds_bucket", &[]));
    }
    gauge(&mut random, &mut memory, &Labels::new([(NAME, "info"), ("host", "a"), ("version", "1")]), |_, _| Some(1.0));
    gauge(&mut random, &mut memory, &Labels::new([(NAME, "info"), ("host", "b"), ("version", "2")]), |_, _| Some(1.0));
    memory
}

/// A moment of a round: not on a whole nor on a half second.
fn moment(random: &mut Random, round: i64) -> Millis {
    START + round * INTERVAL + random.below(900) as Millis * 2 + if random.one_in(2) { 1 } else { 1001 }
}

fn counter(random: &mut Random, memory: &mut Memory, labels: &Labels, pace: u64) {
    let mut value = 100_000 + random.below(100_000);
    for round in 0..ROUNDS {
        if random.one_in(120) {
            value = 10_000 + random.below((value / 2).saturating_sub(10_000));
        }
        value += random.below(pace + 1);
        memory.add(labels, Sample { time: moment(random, round), value: value as f64 / 4.0 });
    }
}

fn gauge(random: &mut Random, memory: &mut Memory, labels: &Labels, next: impl Fn(&mut Random, f64) -> Option<f64>) {
    let mut last = 100.0;
    let mut gap = 0;
    for round in 0..ROUNDS {
        if random.one_in(50) {
            gap = random.below(40);
        }
        if gap > 0 {
            gap -= 1;
            continue;
        }
        if let Some(value) = next(random, last) {
            last = value;
            memory.add(labels, Sample { time: moment(random, round), value });
        }
    }
}

fn buckets(random: &mut Random, memory: &mut Memory, labels: &Labels) {
    let bounds = ["0.1", "0.5", "1", "2.5", "+Inf"];
    let mut counts = [1000_u64; 5];
    for round in 0..ROUNDS {
        for count in &mut counts {
            *count += random.below(9);
        }
        let time = moment(random, round);
        let mut sum = 0;
        for (bound, count) in bounds.iter().zip(counts) {
            sum += count;
            memory.add(&labels.with("le", bound), Sample { time, value: sum as f64 });
        }
    }
}

/// The same in the text format that promtool reads: the samples of a metric together.
pub(crate) fn open_metrics(memory: &Memory) -> String {
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for series in memory.all() {
        let text = names.entry(series.labels.get(NAME)).or_default();
        // No space after a comma there.
        let labels = series.labels.nameless().to_string().replace("\", ", "\",");
        for Sample { time, value } in &series.samples {
            let value = match value {
                value if value.is_nan() => "NaN".to_owned(),
                value if value.is_infinite() => if *value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
                value => format!("{value:e}"),
            };
            let _ = writeln!(text, "{}{labels} {value} {}.{:03}", series.labels.get(NAME), time / 1000, time % 1000);
        }
    }
    names.into_values().collect::<String>() + "# EOF\n"
}
