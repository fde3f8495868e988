//! How long rule files take to load, and an evaluation of all their rules over the samples of a host.
//!
//! `cargo run --release -p utilizer-rules --example engine [FILE…]`; without a file 500 rules of common kinds are made up.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use utilizer_rules::Rules;
use utilizer_rules::group::{Due, Engine, Settings};
use utilizer_rules::window::{Limits, Window};

const SECOND: i64 = 1000;
/// As many processors and mounts has the host.
const EACH: usize = 16;

fn made_up() -> String {
    let mut text = String::from("groups:\n");
    for at in 0..500 {
        if at % 50 == 0 {
            writeln!(text, "- name: g{at}\n  rules:").expect("a text");
        }
        let expr = match at % 5 {
            0 => format!("node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.{:02}", at % 90),
            1 => format!("sum by (instance) (rate(node_cpu_seconds_total{{mode!=\"idle\"}}[5m])) > {at}"),
            2 => {
                format!("predict_linear(node_filesystem_avail_bytes[1h], {at}) < 0 and node_filesystem_size_bytes > 0")
            }
            3 => format!("node_load1 > {at}"),
            _ => format!("max_over_time(node_load1[{}m]) / on (instance) count by (instance) (up) > 9", 5 + at % 30),
        };
        let texts = "labels: {severity: warning}\n    annotations: {text: '{{ $labels.instance }} has {{ $value | humanize }}'}";
        writeln!(text, "  - alert: A{at}\n    expr: {expr}\n    for: 5m\n    {texts}").expect("a text");
    }
    text
}

/// A name, its label, and how many there are.
const FAMILIES: &[(&str, &str, usize)] = &[
    ("node_filesystem_avail_bytes", "mountpoint", EACH),
    ("node_filesystem_size_bytes", "mountpoint", EACH),
    ("node_cpu_seconds_total", "cpu", EACH),
    ("node_load1", "", 1),
    ("up", "", 1),
];

fn main() {
    let mut files: Vec<(String, String)> = Vec::new();
    for file in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&file).expect("a file that can be read");
        files.push((file, text));
    }
    if files.is_empty() {
        files.push(("made up".to_owned(), made_up()));
    }
    let start = Instant::now();
    let loaded = Rules::load(&files).unwrap_or_else(|faults| {
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        panic!("{}", faults.join("\n"))
    });
    let took = start.elapsed();
    let needs = loaded.needs();
    eprintln!(
        "{} rules in {} groups loaded in {took:?}; {} selectors",
        loaded.count(),
        loaded.groups.len(),
        needs.len()
    );

    let mut window = Window::new(needs, Limits::default()).expect("rules that look back a week at most");
    let source = window.source([("instance", "host"), ("job", "node")]);
    let mut engine = Engine::new(loaded.clone(), Settings::default());
    let (mut slowest, mut all, mut rounds) = (Duration::ZERO, Duration::ZERO, 0);
    for step in 1..=420_i64 {
        let time = step * 10 * SECOND;
        let mut round = window.round(source, time).expect("time goes on");
        for (name, label, count) in FAMILIES {
            if !round.family(name) {
                continue;
            }
            for at in 0..*count {
                let text = at.to_string();
                let labels = [(*label, text.as_str()), ("mode", "user")];
                round.sample(labels.into_iter().filter(|(name, _)| !name.is_empty()), (step * 7 + at as i64) as f64);
            }
        }
        round.end();
        // Each minute, the last ones of an hour and more, as windows are full then.
        if step % 6 == 0 {
            let start = Instant::now();
            for group in 0..loaded.groups.len() {
                engine.evaluate(&Due { group, at: time, missed: 0 }, &mut window);
            }
            let took = start.elapsed();
            if step > 360 {
                (slowest, all, rounds) = (slowest.max(took), all + took, rounds + 1);
            }
        }
    }
    eprintln!("a round: {:?} on average, {slowest:?} at most", all / rounds);
    eprintln!("{} series, {} alerts; {:?}", window.usage().series, engine.alerts().count(), engine.counts());
}
