//! Replays recorded pages of a host through rules, at simulated times: which alerts fire, and which resolve.
//!
//! `cargo run --release -p utilizer-rules --example replay SCENARIO RULES…`
//!
//! A line of the scenario is a state of the host: for how long it lasts, two pages of `/metrics` recorded in it, and how
//! many seconds lay between them, as in `7h filling-1.prom filling-2.prom 30`. Counters, and what
//! has no type, go on with the speed that they had between the two pages, from where the state before left them; gauges go
//! from the first page to the second over the whole time.

#![allow(clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use utilizer_rules::Rules;
use utilizer_rules::group::{Engine, Settings, State};
use utilizer_rules::parse::duration;
use utilizer_rules::sample::NAME;
use utilizer_rules::testing::series;
use utilizer_rules::window::{Limits, Window};

/// From one pass to the next, and from one evaluation to the next.
const EVERY: i64 = 15_000;

/// A page: values by series, and which names are counters.
struct Page {
    values: BTreeMap<(String, Vec<(String, String)>), f64>,
    counters: HashSet<String>,
}

fn page(path: &Path) -> Result<Page, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let (mut values, mut counters) = (BTreeMap::new(), HashSet::new());
    for line in text.lines() {
        if let Some((family, "counter" | "untyped")) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            counters.insert(family.to_owned());
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (labels, rest) = series::split(line).map_err(|error| format!("{}: {line}: {error}", path.display()))?;
        let value = rest.split_whitespace().next().and_then(series::number).ok_or("a sample without a value")?;
        let pairs = labels.iter().filter(|(name, _)| *name != NAME);
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        values.insert((labels.get(NAME).to_owned(), pairs), value);
    }
    Ok(Page { values, counters })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().ok_or("replay SCENARIO RULES…")?;
    let files: Vec<(String, String)> = arguments
        .map(|file| Ok((file.clone(), std::fs::read_to_string(&file)?)))
        .collect::<Result<_, std::io::Error>>()?;
    let begun = Instant::now();
    let rules =
        Rules::load(&files).map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    println!("{} rules loaded in {:?}", rules.count(), begun.elapsed());
    let alerts = rules.groups.iter().flat_map(|group| &group.rules).filter(|rule| rule.is_alert());
    let mut silent: BTreeSet<String> = alerts
        .map(|rule| {
            format!(
                "{} {:?}",
                rule.name,
                rule.labels().into_iter().find(|(name, _)| *name == "severity").map(|(_, value)| value)
            )
        })
        .collect();
    let mut window = Window::new(rules.needs(), Limits::default())?;
    let source = window.source([("instance", "host"), ("job", "node")]);
    let mut engine = Engine::new(rules, Settings { interval: EVERY, ..Settings::default() });
    let (mut now, mut spent, mut rounds) = (1_700_000_000_000_i64, Duration::ZERO, 0_u32);
    // How far counters came.
    let mut counted: HashMap<(String, Vec<(String, String)>), f64> = HashMap::new();
    for line in std::fs::read_to_string(&scenario)?.lines().filter(|line| !line.starts_with('#')) {
        let [lasts, first, second, seconds] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("{scenario}: {line}: not a duration, two pages and the seconds between them").into());
        };
        println!("-- {first} for {lasts}");
        let folder = Path::new(&scenario).parent().unwrap_or(Path::new("."));
        let (first, second) = (page(&folder.join(first))?, page(&folder.join(second))?);
        let (lasts, seconds) = (duration::parse(lasts)?, seconds.parse::<f64>()?);
        let end = now + lasts;
        let began = now;
        while now < end {
            now += EVERY;
            let gone = (now - began) as f64 / lasts as f64;
            let mut round = window.round(source, now)?;
            let mut family: Option<(&str, bool)> = None;
            for ((name, labels), before) in &first.values {
                if family.is_none_or(|(known, _)| known != name) {
                    family = Some((name, round.family(name)));
                }
                let Some(after) = second
                    .values
                    .get(&(name.clone(), labels.clone()))
                    .filter(|_| family.is_some_and(|(_, wanted)| wanted))
                else {
                    continue;
                };
                let value = if first.counters.contains(name) {
                    let key = (name.clone(), labels.clone());
                    let value = counted.entry(key).or_insert(*before);
                    *value += (after - before).max(0.0) / seconds * (EVERY as f64 / 1000.0);
                    *value
                } else {
                    before + (after - before) * gone
                };
                round.sample(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())), value);
            }
            round.end();
            let begun = Instant::now();
            while let Some(due) = engine.due(now) {
                let round = engine.evaluate(&due, &mut window);
                for alert in &round.transitions {
                    let severity = alert.labels.get("severity");
                    silent.remove(&format!("{} {:?}", alert.labels.get("alertname"), Some(severity)));
                    if alert.state != State::Pending {
                        let after = (now - began) / 1000;
                        println!("{:>9} after {after} s: {} value {}", alert.state.as_str(), alert.labels, alert.value);
                    }
                }
                round.faults.iter().for_each(|fault| println!("{}: {}", fault.rule, fault.message));
            }
            (spent, rounds) = (spent + begun.elapsed(), rounds + 1);
        }
    }
    println!("-- never fired: {}", silent.into_iter().collect::<Vec<_>>().join(", "));
    println!("{rounds} rounds of evaluation, {:?} each; {:?}", spent / rounds.max(1), window.usage());
    Ok(())
}
