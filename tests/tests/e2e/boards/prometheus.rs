//! Queries to Prometheus: over a real one, and every metric is one that somebody makes.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use test_servers::{Prometheus, workspace};

use super::fill::{Dialect, FROM, INTERVAL, TO, filled};
use super::{Query, boards, files, string, variable_query};

const KIND: &str = "prometheus";

/// Between two samples, in seconds.
const EVERY: u64 = 15;

/// What the agent of a frozen host shows, with real labels.
const GOLDEN: &str = "agent/tests/golden/metrics.txt";

/// Series that the frozen host does not have: what the agent says of itself and of GPUs, exporters, applications.
const SERIES: &str = include_str!("series.txt");

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every query of panels and variables with its place.
fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for board in boards() {
        let of_panels =
            board.queries(KIND).into_iter().map(|Query { place, json }| (place, string(json, "expr").to_owned()));
        found.extend(of_panels);
        for variable in board.variables().iter().filter(|v| v["type"] == "query" && v["datasource"]["type"] == KIND) {
            let place = format!("{}: the variable {}", board.file, string(variable, "name"));
            found.push((place, variable_query(variable).to_owned()));
        }
    }
    found
}

/// Names of metrics in an expression: words outside of strings, selectors, ranges and lists of labels that are neither
/// functions nor keywords.
fn metrics(expression: &str) -> BTreeSet<&str> {
    const KEYWORDS: &[&str] = &["and", "or", "unless", "bool", "offset"];
    let mut names = BTreeSet::new();
    let mut rest = expression;
    // `label_values(metric, label)`: the label is none.
    if let Some((metric, _)) = rest.strip_prefix("label_values(").and_then(|inside| inside.rsplit_once(',')) {
        rest = metric;
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let after = |text: &'static str, close: char| move |rest: &str| rest.find(close).map_or(0, |at| at + text.len());
    while let Some(first) = rest.chars().next() {
        let skip = match first {
            '{' => end_of_selector(rest),
            '[' => after("]", ']')(rest),
            c if c.is_ascii_digit() || c == '$' => rest[1..].find(|c| !word(c)).map_or(rest.len(), |at| at + 1),
            c if word(c) => {
                let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
                let (name, following) = rest.split_at(end);
                let following = following.trim_start();
                if ["by", "without", "on", "ignoring"].contains(&name) {
                    rest.len() - following.find(')').map_or("", |at| &following[at + 1..]).len()
                } else {
                    let function = ["(", "by ", "by(", "without "].iter().any(|begins| following.starts_with(begins));
                    if !function && !KEYWORDS.contains(&name) {
                        names.insert(name);
                    }
                    end
                }
            }
            c => c.len_utf8(),
        };
        rest = &rest[skip.max(1)..];
    }
    names
}

fn end_of_selector(rest: &str) -> usize {
    let mut quoted = false;
    for (at, c) in rest.char_indices() {
        quoted ^= c == '"';
        if c == '}' && !quoted {
            return at + 1;
        }
    }
    rest.len()
}

#[test]
fn names_are_told_from_what_is_around_them() {
    let found =
        metrics("sum by (le, job) (rate(a_bucket{x=\"}b\",c=~\"$d\"}[5m])) / on (e) f:g or vector(0) > bool 0.93e2");
    assert_eq!(found, BTreeSet::from(["a_bucket", "f:g"]));
    assert_eq!(metrics("label_values(h{i=~\"j\"}, k)"), BTreeSet::from(["h"]));
    assert_eq!(metrics("avg_over_time((min(l) >= bool 1)[$__range:1m])"), BTreeSet::from(["l"]));
}

/// Strings in sources, and what rules record.
fn texts(folders: &[&str], ending: &str) -> String {
    let all = folders.iter().flat_map(|folder| files(&workspace().join(folder)));
    let wanted = all.filter(|path| path.to_string_lossy().ends_with(ending));
    wanted.map(|path| fs::read_to_string(path).unwrap() + "\n").collect()
}

/// `a_seconds_bucket` as it is registered: `a`.
fn registered(name: &str) -> &str {
    let ends = ["_bucket", "_total", "_seconds", "_bytes"];
    ends.iter().fold(name, |name, end| name.strip_suffix(end).unwrap_or(name))
}

#[test]
fn every_metric_is_shown_recorded_or_documented() {
    let golden: BTreeSet<String> = (read(GOLDEN).lines())
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned))
        .collect();
    let agent = texts(&["agent/src", "crates/logs/src"], ".rs");
    let exporters = texts(&["crates/exporter/src"], "metrics.rs");
    let recorded = texts(&["config"], ".yml");
    let documented = read("docs/grafana.md");
    // What users' applications are said to show must be in what they gave us; that may lie beside a checkout.
    let given: PathBuf = workspace().join("../shared/fixtures");
    let given = given
        .exists()
        .then(|| files(&given).into_iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>());

    let mut faults = Vec::new();
    let mut names = 0;
    for (place, expression) in expressions() {
        for name in metrics(&expression) {
            names += 1;
            let in_rows = name.strip_prefix("utilizer_").unwrap_or(name);
            let ours = golden.contains(name)
                || agent.contains(&format!("\"{name}\""))
                || agent.contains(&format!("= \"{in_rows}\", "))
                || recorded.contains(&format!("record: {name}\n"))
                || name.strip_prefix("utilizer_exporter_").is_some_and(|name| exporters.contains(&format!("\"{}\"", registered(name))))
                // Prometheus' and the rules' own.
                || ["up", "ALERTS"].contains(&name);
            let theirs = || {
                let base = name.strip_suffix("_bucket").unwrap_or(name);
                let known = |text: &String| text.contains(base) || recorded.contains(base);
                documented.contains(&format!("`{base}")) && given.as_ref().is_none_or(known)
            };
            if !ours && !theirs() {
                faults.push(format!("{place}: nobody shows {name}; what applications show stands in docs/grafana.md"));
            }
        }
    }
    assert!(names > 200, "only {names} names were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Samples of an hour for each series: of the frozen host those that boards look at, and all of [`SERIES`].
fn samples() -> String {
    let wanted: BTreeSet<String> =
        expressions().iter().flat_map(|(_, text)| metrics(text)).map(str::to_owned).collect();
    let mut text = String::new();
    let mut series = |name: &str, start: f64, step: f64| {
        for number in 0..=(TO - FROM) / EVERY {
            writeln!(text, "{name} {} {}", start + step * number as f64, FROM + number * EVERY).unwrap();
        }
    };
    let golden = read(GOLDEN);
    let mut rising = false;
    for line in golden.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            rising = !kind.ends_with(" gauge");
        }
        let (Some((name, value)), false) = (line.rsplit_once(' '), line.starts_with('#')) else { continue };
        let (metric, labels) = name.split_once('{').unwrap_or((name, "}"));
        if wanted.contains(metric) {
            let separator = if labels == "}" { "" } else { "," };
            // A file system of the frozen host has no blocks; one will do.
            let value: f64 = value.parse().unwrap();
            let start = if value == 0.0 { 1.0 } else { value };
            let name = format!("{metric}{{job=\"node\",instance=\"web-01.example:9100\"{separator}{labels}");
            series(&name, start, if rising { 1.0 } else { 0.0 });
        }
    }
    for line in SERIES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.rsplitn(3, ' ');
        let (step, start, name) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap());
        series(name, start.parse().unwrap(), step.parse().unwrap());
    }
    text + "# EOF\n"
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn results(prometheus: &Prometheus, place: &str, path: &str) -> Vec<Value> {
    let answer = prometheus.get(path);
    assert_eq!(answer.status, 200, "{place}: {}", answer.body);
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    let data = &body["data"];
    data.as_array().or_else(|| data["result"].as_array()).unwrap_or_else(|| panic!("{place}: {body}")).clone()
}

/// Whether any sample of the series is a number.
fn has_number(series: &Value) -> bool {
    let one = series["value"].as_array().into_iter();
    let many = series["values"].as_array().into_iter().flatten().filter_map(Value::as_array);
    one.chain(many).any(|sample| sample[1].as_str().is_some_and(|value| value != "NaN" && !value.ends_with("Inf")))
}

#[test]
fn queries_find_something_in_prometheus() {
    let prometheus = Prometheus::over(&samples());
    let mut faults = Vec::new();
    for board in boards() {
        let ask = |place: &str, query: &str| {
            let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = inside.and_then(|inside| inside.rsplit_once(", ")).unwrap();
            // A variable's own choices don't matter here: any value will do.
            let selector: String = selector.replace("\"$job\"", "\".+\"");
            let path = format!("/api/v1/label/{label}/values?start={FROM}&end={TO}&match[]={}", encoded(&selector));
            let values = results(&prometheus, place, &path);
            values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
        };
        if board.queries(KIND).is_empty() {
            continue;
        }
        for (choices, which) in board.choices(KIND, ask).iter().zip(["all", "one"]) {
            for Query { place, json } in board.queries(KIND) {
                let expression = filled(Dialect::Prometheus, string(json, "expr"), choices);
                let query = encoded(&expression);
                let path = match json["instant"] == true {
                    true => format!("/api/v1/query?time={TO}&query={query}"),
                    false => format!("/api/v1/query_range?start={FROM}&end={TO}&step={INTERVAL}&query={query}"),
                };
                if !results(&prometheus, &format!("{place}: {expression}"), &path).iter().any(has_number) {
                    faults.push(format!("{place} ({which}): nothing for {expression}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
