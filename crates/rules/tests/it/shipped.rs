//! `config/rules.d` and the rule files of `config/examples`: they load, their unit tests pass, and every
//! alert has the texts that people need and a test in which it fires and one in which it does not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use test_servers::promtool;
use utilizer_rules::Rules;
use utilizer_rules::file::Action;
use utilizer_rules::testing::unit::UnitTests;

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").canonicalize().unwrap()
}

/// All YAML files below a folder, sorted.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(below(&path)),
            false if path.extension().is_some_and(|extension| extension == "yml") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn is_test(path: &Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("tests"))
}

/// Every shipped rule file, and every file with tests of them.
fn shipped() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let all = [below(&config().join("rules.d")), below(&config().join("examples"))].concat();
    let (tests, rules): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| is_test(path));
    let is_rules = |path: &PathBuf| fs::read_to_string(path).unwrap().lines().any(|line| line == "groups:");
    (rules.into_iter().filter(is_rules).collect(), tests)
}

fn read(paths: &[PathBuf]) -> Vec<(String, String)> {
    let text = |path: &PathBuf| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    paths.iter().map(|path| (path.display().to_string(), text(path))).collect()
}

fn load(paths: &[PathBuf]) -> Rules {
    Rules::load(&read(paths)).unwrap_or_else(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        panic!("{}", faults.join("\n"))
    })
}

#[test]
fn all_rules_load() {
    let (rules, tests) = shipped();
    assert!(rules.len() >= 6 && !tests.is_empty(), "{rules:?}, {tests:?}");
    let loaded = load(&rules);
    let alerts = loaded.groups.iter().flat_map(|group| &group.rules).filter(|rule| rule.is_alert()).count();
    assert!(alerts >= 100, "{alerts} alerts");
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do() {
    let mut faults = Vec::new();
    for rule in load(&shipped().0).groups.iter().flat_map(|group| &group.rules) {
        let Action::Alert { annotations, .. } = &rule.action else { continue };
        let labels: BTreeMap<_, _> = rule.labels().into_iter().collect();
        if !labels.get("severity").is_some_and(|severity| ["info", "warning", "critical"].contains(severity)) {
            faults.push(format!("{}: severity is info, warning or critical", rule.name));
        }
        for wanted in ["summary", "description", "action"] {
            let text = annotations.iter().find(|(name, _)| name == wanted).map_or("", |(_, text)| text.text());
            // A summary is a heading.
            if text.is_empty() || text.ends_with('.') == (wanted == "summary") {
                faults.push(format!("{}: the annotation {wanted} is missing, or no sentence", rule.name));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn their_unit_tests_pass() {
    let mut faults = Vec::new();
    for path in shipped().1 {
        let (name, text) = (path.display().to_string(), fs::read_to_string(&path).unwrap());
        let tests = UnitTests::read(&name, &text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let folder = path.parent().unwrap();
        let rules: Vec<_> = tests.rule_files().iter().map(|file| folder.join(file)).collect();
        faults.extend(tests.run(&load(&rules)).iter().map(ToString::to_string));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

// Their tests take promtool a minute: `make check-rules` runs those.
#[test]
fn promtool_takes_the_rules() {
    let files = shipped().0;
    let arguments: Vec<_> =
        ["check", "rules"].into_iter().chain(files.iter().map(|file| file.to_str().unwrap())).collect();
    if let Err(report) = promtool(&arguments) {
        panic!("{report}");
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    tests: Vec<Test>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Test {
    alert_rule_test: Vec<AlertTest>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AlertTest {
    alertname: String,
    exp_alerts: Vec<serde_json::Value>,
}

#[test]
fn every_alert_fires_in_a_test_and_is_silent_in_one() {
    let (rules, tests) = shipped();
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for path in tests {
        let file: File = config::yaml::load(&path).unwrap().value;
        for test in file.tests.into_iter().flat_map(|test| test.alert_rule_test) {
            if test.exp_alerts.is_empty() { &mut silent } else { &mut fires }.insert(test.alertname);
        }
    }
    let all = load(&rules);
    let alerts = all.groups.iter().flat_map(|group| &group.rules).filter(|rule| rule.is_alert());
    let faults: Vec<_> = alerts
        .filter(|rule| !fires.contains(&rule.name) || !silent.contains(&rule.name))
        .map(|rule| format!("{}: no test in which it fires, or none in which it does not", rule.name))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
