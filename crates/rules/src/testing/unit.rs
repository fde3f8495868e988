//! Unit tests of rules, in the form of promtool's (`promtool test rules`): series go in, and at given times alerts have to
//! fire and expressions to have values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use config::{ConfigError, Loaded, Place};
use serde::Deserialize;

use super::{Memory, series};
use crate::ast::Millis;
use crate::eval::{self, Options};
use crate::file::{Fault, Rules};
use crate::group::{Alert, Due, Engine, Settings, State};
use crate::parse::{self, duration};
use crate::{Labels, Sample, Value};

/// A test that evaluates more often is a mistake.
const MAX_STEPS: Millis = 1_000_000;
/// How often rules are evaluated where the file does not say so.
const INTERVAL: Millis = 60_000;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenFile {
    rule_files: Vec<String>,
    evaluation_interval: Option<String>,
    group_eval_order: Vec<String>,
    tests: Vec<WrittenTest>,
    fuzzy_compare: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenTest {
    name: String,
    interval: Option<String>,
    input_series: Vec<WrittenSeries>,
    alert_rule_test: Vec<WrittenAlertTest>,
    promql_expr_test: Vec<WrittenExprTest>,
    external_labels: BTreeMap<String, String>,
    external_url: String,
    start_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenSeries {
    series: String,
    values: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenAlertTest {
    eval_time: Option<String>,
    alertname: String,
    exp_alerts: Vec<WrittenAlert>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenAlert {
    exp_labels: BTreeMap<String, String>,
    exp_annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenExprTest {
    expr: String,
    eval_time: Option<String>,
    exp_samples: Vec<WrittenSample>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenSample {
    labels: String,
    value: Option<String>,
    histogram: String,
}

/// A file with tests.
#[derive(Debug)]
pub struct UnitTests {
    file: String,
    loaded: Loaded<WrittenFile>,
    interval: Millis,
    fuzzy: bool,
    tests: Vec<Test>,
}

/// One element of `tests`, with what is relied upon.
#[derive(Debug)]
struct Test {
    path: String,
    interval: Millis,
    start: Millis,
    series: Vec<series::Description>,
    alerts: Vec<AlertTest>,
    exprs: Vec<ExprTest>,
}

#[derive(Debug)]
struct AlertTest {
    path: String,
    /// From the test's start.
    at: Millis,
    name: String,
    /// Labels and annotations.
    expected: Vec<(Labels, Labels)>,
}

#[derive(Debug)]
struct ExprTest {
    path: String,
    at: Millis,
    expected: Vec<(Labels, f64)>,
}

impl UnitTests {
    /// Reads a file. All faults of it, or its tests.
    pub fn read(file: &str, text: &str) -> Result<Self, Vec<Fault>> {
        let whole = |message| vec![Fault { file: file.to_owned(), line: 0, column: 0, message, construct: None }];
        let loaded: Loaded<WrittenFile> = match config::yaml::load_texts(Path::new(file), text) {
            Ok(loaded) => loaded,
            Err(ConfigError::Faults { faults, .. }) => {
                return Err(faults.into_iter().map(|fault| placed(file, Some(&fault.place), fault.message)).collect());
            }
            Err(error) => return Err(whole(error.to_string())),
        };
        let mut reader = Reader { file, loaded: &loaded, faults: Vec::new() };
        let interval = reader.duration("evaluation_interval", loaded.value.evaluation_interval.as_deref());
        let interval = if interval == 0 { INTERVAL } else { interval };
        let fuzzy = reader.switch("fuzzy_compare", loaded.value.fuzzy_compare.as_deref());
        let mut names = BTreeSet::new();
        for (at, name) in loaded.value.group_eval_order.iter().enumerate() {
            if !names.insert(name) {
                reader.fault(
                    &format!("group_eval_order[{at}]"),
                    format!("group name repeated in evaluation order: {name}"),
                );
            }
        }
        let tests = loaded.value.tests.iter().zip(0..);
        let tests = tests.map(|(test, at)| reader.test(test, format!("tests[{at}]"), interval)).collect();
        let faults = reader.faults;
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { file: file.to_owned(), loaded, interval, fuzzy, tests })
    }

    /// The files with the rules, as written: paths from the folder of the tests' file, perhaps with `*`.
    pub fn rule_files(&self) -> &[String] {
        &self.loaded.value.rule_files
    }

    /// Runs all tests over rules; what does not come out as expected.
    pub fn run(&self, rules: &Rules) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (test, written) in self.tests.iter().zip(&self.loaded.value.tests) {
            let settings = Settings {
                interval: test.interval,
                external_labels: Labels::new(&written.external_labels),
                external_url: written.external_url.clone(),
                options: Options { step: self.interval, ..Options::default() },
                ..Settings::default()
            };
            self.run_test(test, written, rules, settings, &mut faults);
        }
        faults
    }

    fn run_test(&self, test: &Test, written: &WrittenTest, rules: &Rules, settings: Settings, faults: &mut Vec<Fault>) {
        let context = if written.name.is_empty() { String::new() } else { format!("{}: ", written.name) };
        let mut fail = |path: &str, message: String| {
            faults.push(placed(&self.file, self.loaded.place(path), format!("{context}{message}")));
        };
        let options = settings.options.clone();
        let mut engine = Engine::new(self.ordered(rules), settings);
        let groups = engine.groups().count();
        let mut feed = Feed::new(test);
        let mut memory = Memory::new();

        let times = test.alerts.iter().map(|alert| alert.at).chain(test.exprs.iter().map(|expr| expr.at));
        let last = times.max().unwrap_or(0);
        if last / self.interval > MAX_STEPS {
            return fail(&test.path, format!("the rules would be evaluated more than {MAX_STEPS} times"));
        }
        let mut at = 0;
        while at <= last {
            let now = test.start.saturating_add(at);
            feed.until(now, &mut memory);
            for group in 0..groups {
                engine.evaluate(&Due { group, at: now, missed: 0 }, &mut memory);
            }
            let mut failed = false;
            for health in engine.health() {
                if let Some(error) = health.error {
                    fail(&test.path, format!("rule {} at {}: {error}", health.rule.name, duration::format(at)));
                    failed = true;
                }
            }
            if failed {
                return;
            }
            for alert in test.alerts.iter().filter(|alert| (at..at + self.interval).contains(&alert.at)) {
                let fires =
                    |fired: &&Alert| fired.state == State::Firing && fired.labels.get("alertname") == alert.name;
                let fired: Vec<&Alert> = engine.alerts().filter(fires).collect();
                if let Some(difference) = difference(&alert.expected, &fired) {
                    let time = duration::format(alert.at);
                    fail(&alert.path, format!("alert {} at {time}:{difference}", alert.name));
                }
            }
            at += self.interval;
        }
        for (expr, written) in test.exprs.iter().zip(&written.promql_expr_test) {
            let result = evaluated(&written.expr, &memory, test.start.saturating_add(expr.at), &options);
            let difference = result.and_then(|result| self.compare(&expr.expected, result));
            if let Err(why) = difference {
                fail(&expr.path, format!("{:?} at {}: {why}", written.expr, duration::format(expr.at)));
            }
        }
    }

    /// As `group_eval_order` wants it. All groups are evaluated at the tests' interval.
    fn ordered(&self, rules: &Rules) -> Rules {
        let mut rules = rules.clone();
        let place = |name: &str| self.loaded.value.group_eval_order.iter().position(|other| other == name);
        rules.groups.sort_by_key(|group| place(&group.name).unwrap_or(0));
        rules.groups.iter_mut().for_each(|group| group.interval = Some(self.interval));
        rules
    }

    fn compare(&self, expected: &[(Labels, f64)], mut got: Vec<(Labels, f64)>) -> Result<(), String> {
        let near = |a: f64, b: f64| self.fuzzy && (a.next_down() == b || a.next_up() == b);
        let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || near(a, b);
        let mut text = String::new();
        for (labels, wanted) in expected {
            match got.iter().position(|(other, _)| other == labels) {
                Some(at) => {
                    let (_, value) = got.remove(at);
                    if !same(*wanted, value) {
                        let _ = write!(text, "\n    - {labels} {wanted}\n    + {labels} {value}");
                    }
                }
                None => {
                    let _ = write!(text, "\n    - {labels} {wanted}");
                }
            }
        }
        for (labels, value) in got {
            let _ = write!(text, "\n    + {labels} {value}");
        }
        if text.is_empty() { Ok(()) } else { Err(format!("expected (-) and got (+):{text}")) }
    }
}

fn evaluated(text: &str, memory: &Memory, at: Millis, options: &Options) -> Result<Vec<(Labels, f64)>, String> {
    let expr = parse::parse(text).map_err(|error| {
        let (line, column) = error.line_column(text);
        format!("{line}:{column}: {error}")
    })?;
    match eval::evaluate(&expr, memory, at, options).map_err(|error| error.to_string())? {
        Value::Scalar(value) => Ok(vec![(Labels::none(), value)]),
        Value::Vector(elements) => Ok(elements),
        Value::Text(_) | Value::Matrix(_) => Err("only a number or an instant vector can be compared".to_owned()),
    }
}

/// Alerts that are missing (-), that are too many (+), and annotations that differ. `None`: all is as expected.
fn difference(expected: &[(Labels, Labels)], got: &[&Alert]) -> Option<String> {
    let mut got = got.to_vec();
    let mut missing = Vec::new();
    for wanted in expected {
        match got.iter().position(|alert| alert.labels == wanted.0 && alert.annotations == wanted.1) {
            Some(at) => drop(got.remove(at)),
            None => missing.push(wanted),
        }
    }
    let mut text = String::new();
    for (labels, annotations) in missing {
        match got.iter().position(|alert| alert.labels == *labels) {
            Some(at) => {
                let other = &got.remove(at).annotations;
                let _ = write!(text, "\n      {labels}, annotations:");
                let names: BTreeSet<&str> = annotations.iter().chain(other.iter()).map(|(name, _)| name).collect();
                for name in names.into_iter().filter(|name| annotations.get(name) != other.get(name)) {
                    let _ = write!(text, "\n        - {name}: {:?}", annotations.get(name));
                    let _ = write!(text, "\n        + {name}: {:?}", other.get(name));
                }
            }
            None => {
                let _ = write!(text, "\n    - {labels} {annotations}");
            }
        }
    }
    for alert in got {
        let _ = write!(text, "\n    + {} {}", alert.labels, alert.annotations);
    }
    (!text.is_empty()).then(|| format!(" expected (-) and got (+):{text}"))
}

/// Samples in the order of time: a rule sees none that is not there yet.
struct Feed<'a> {
    samples: Vec<(Millis, &'a Labels, f64)>,
    next: usize,
}

impl<'a> Feed<'a> {
    fn new(test: &'a Test) -> Self {
        let mut samples = Vec::new();
        for series in &test.series {
            for (value, step) in series.values.iter().zip(0..) {
                let time = test.interval.saturating_mul(step).saturating_add(test.start);
                samples.extend(value.map(|value| (time, &series.labels, value)));
            }
        }
        samples.sort_by_key(|(time, ..)| *time);
        Self { samples, next: 0 }
    }

    fn until(&mut self, now: Millis, memory: &mut Memory) {
        while let Some((time, labels, value)) = self.samples.get(self.next).filter(|(time, ..)| *time <= now) {
            memory.add(labels, Sample { time: *time, value: *value });
            self.next += 1;
        }
    }
}

fn placed(file: &str, place: Option<&Place>, message: String) -> Fault {
    let (line, column) = match place {
        Some(Place::Line(line, column)) => (*line, *column),
        _ => (0, 0),
    };
    Fault { file: file.to_owned(), line, column, message, construct: None }
}

struct Reader<'a> {
    file: &'a str,
    loaded: &'a Loaded<WrittenFile>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, path: &str, message: impl Into<String>) {
        // What is missing stands nowhere: then the place of what it is missing from.
        let parents = std::iter::successors(Some(path), |path| path.rfind(['.', '[']).and_then(|at| path.get(..at)));
        let place = parents.into_iter().find_map(|path| self.loaded.place(path));
        self.faults.push(placed(self.file, place, message.into()));
    }

    /// 0 where there is none.
    fn duration(&mut self, path: &str, written: Option<&str>) -> Millis {
        written.map_or(Ok(0), duration::parse).unwrap_or_else(|message| {
            self.fault(path, message);
            0
        })
    }

    fn switch(&mut self, path: &str, written: Option<&str>) -> bool {
        if written.is_some_and(|word| !["true", "false"].contains(&word)) {
            self.fault(path, "expected true or false");
        }
        written == Some("true")
    }

    fn test(&mut self, written: &WrittenTest, path: String, interval: Millis) -> Test {
        let own = self.duration(&format!("{path}.interval"), written.interval.as_deref());
        let start = written.start_timestamp.as_deref().map_or(Some(0), timestamp);
        if start.is_none() {
            self.fault(
                &format!("{path}.start_timestamp"),
                "expected seconds since 1970 or a time like 2026-01-31T00:00:00Z",
            );
        }
        let mut test = Test {
            interval: if own == 0 { interval } else { own },
            start: start.unwrap_or(0),
            series: Vec::new(),
            alerts: Vec::new(),
            exprs: Vec::new(),
            path,
        };
        for (at, input) in written.input_series.iter().enumerate() {
            let path = format!("{}.input_series[{at}]", test.path);
            let labels = series::labels(&input.series).map_err(|error| (format!("{path}.series"), error));
            let values = series::values(&input.values).map_err(|error| (format!("{path}.values"), error));
            match labels.and_then(|labels| values.map(|values| series::Description { labels, values })) {
                Ok(series) => test.series.push(series),
                Err((path, error)) => self.fault(&path, error.to_string()),
            }
        }
        for (at, written) in written.alert_rule_test.iter().enumerate() {
            let path = format!("{}.alert_rule_test[{at}]", test.path);
            let at = self.duration(&format!("{path}.eval_time"), written.eval_time.as_deref());
            if written.alertname.is_empty() {
                self.fault(&path, "alertname is missing: the name of the rule whose alerts are expected");
            }
            let expected = written.exp_alerts.iter().map(|alert| {
                let labels = Labels::new(&alert.exp_labels).with("alertname", &written.alertname);
                (labels, Labels::new(&alert.exp_annotations))
            });
            test.alerts.push(AlertTest { path, at, name: written.alertname.clone(), expected: expected.collect() });
        }
        for (at, written) in written.promql_expr_test.iter().enumerate() {
            let path = format!("{}.promql_expr_test[{at}]", test.path);
            let at = self.duration(&format!("{path}.eval_time"), written.eval_time.as_deref());
            let mut expected = Vec::new();
            for (number, sample) in written.exp_samples.iter().enumerate() {
                let path = format!("{path}.exp_samples[{number}]");
                if !sample.histogram.is_empty() {
                    self.fault(&format!("{path}.histogram"), "native histograms are not supported");
                }
                let labels = match sample.labels.trim() {
                    "" => Ok(Labels::none()),
                    labels => series::labels(labels),
                };
                let value = sample.value.as_deref().map_or(Some(0.0), value);
                match (labels, value) {
                    (Ok(labels), Some(value)) => expected.push((labels, value)),
                    (Err(error), _) => self.fault(&format!("{path}.labels"), error.to_string()),
                    (_, None) => self.fault(&format!("{path}.value"), "expected a number"),
                }
            }
            test.exprs.push(ExprTest { path, at, expected });
        }
        test
    }
}

/// As YAML has numbers, `.inf` and `.nan` too.
fn value(text: &str) -> Option<f64> {
    let plain = text.replace('_', "");
    match plain.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|number| number as f64),
        None => match plain.trim_start_matches(['+', '-']) {
            ".inf" | ".Inf" | ".INF" if plain.starts_with('-') => Some(f64::NEG_INFINITY),
            ".inf" | ".Inf" | ".INF" => Some(f64::INFINITY),
            ".nan" | ".NaN" | ".NAN" => Some(f64::NAN),
            _ => series::number(&plain),
        },
    }
}

/// Seconds since 1970, or `2026-01-31T12:00:00Z`.
fn timestamp(text: &str) -> Option<Millis> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.abs() < 1e12).then_some((seconds * 1000.0).round() as Millis);
    }
    let (date, time) = text.split_once(['T', 't', ' '])?;
    let numbers = |text: &str, by: char| -> Option<Vec<i64>> { text.split(by).map(|part| part.parse().ok()).collect() };
    let [year, month @ 1..=12, day @ 1..=31] = numbers(date, '-')?[..] else { return None };
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = time.split_at(zone);
    let (time, part) = time.split_once('.').unwrap_or((time, "0"));
    let [hour @ 0..=23, minute @ 0..=59, second @ 0..=60] = numbers(time, ':')?[..] else { return None };
    let shift = match zone.strip_prefix(['+', '-']) {
        Some(shift) => {
            let [hours, minutes] = numbers(shift, ':')?[..] else { return None };
            (hours * 60 + minutes) * if zone.starts_with('-') { 1 } else { -1 }
        }
        None => 0,
    };
    // Days since 1970, a year beginning in March, so that a leap day is its last.
    let (shifted, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted + shifted.div_euclid(4) - shifted.div_euclid(100) + shifted.div_euclid(400);
    let days = days + (153 * month + 2) / 5 + day - 1 - 719_468;
    let millis = format!("0.{part}").parse::<f64>().ok()? * 1000.0;
    Some((((days * 24 + hour) * 60 + minute + shift) * 60 + second) * 1000 + millis.round() as Millis)
}

#[cfg(test)]
mod tests;
