//! The shipped rules look at metrics that there are: one that is misspelled, or was renamed, would never fire.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rules::Rules;
use rules::labels::MatchOp;
use rules::sample::NAME;

/// What others make, by the beginning of its name, and who.
const OF_OTHERS: &[(&str, &str)] = &[
    ("up", "whoever scrapes"),
    ("scrape_", "whoever scrapes"),
    ("ALERTS", "rules"),
    ("aisemble_", "the application of examples/aisemble"),
    ("cloudflare_workers_", "applications of examples/autoforge"),
    ("llm_", "applications of examples/autoforge"),
    ("turso_", "applications of examples/autoforge"),
    ("data_quality_", "applications of examples/daytrade"),
    ("daytrade_", "applications of examples/daytrade"),
    ("ml_ensemble_", "applications of examples/daytrade"),
    ("scheduler_task_", "applications of examples/daytrade"),
    ("adult_matching_", "applications of examples/matching"),
];

fn files_below(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                files_below(&path, ending, found);
            }
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
}

fn texts(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), ending, &mut found);
    found.into_iter().map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

#[test]
fn shipped_rules_look_at_metrics_that_there_are() {
    let mut files = texts("../config/rules.d", ".yml");
    files.extend(texts("../config/examples", ".yml"));
    let golden: BTreeSet<&str> = include_str!("../golden/metrics.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    let mut sources = texts("src", ".rs");
    sources.extend(texts("../crates/exporter/src", ".rs"));
    let is_spelled = |name: &str| sources.iter().any(|(_, text)| text.contains(&format!("\"{name}\"")));
    // The exporters' names get their beginning and end when they are shown.
    let spelled = |name: &str| {
        let shown = name.strip_prefix("utilizer_exporter_").is_some_and(|name| {
            let name = ["_total", "_bucket"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            is_spelled(name) || name.strip_suffix("_seconds").is_some_and(is_spelled)
        });
        is_spelled(name) || shown
    };
    let of_others = |name: &str| OF_OTHERS.iter().any(|(beginning, _)| name.starts_with(beginning));
    let loaded: Vec<(&str, Rules)> =
        files.iter().map(|(path, text)| (path.as_str(), Rules::load(&[(path, text)]).unwrap())).collect();
    let recorded: BTreeSet<&str> = loaded
        .iter()
        .flat_map(|(_, rules)| rules.groups.iter().flat_map(|group| &group.rules))
        .filter(|rule| !rule.is_alert())
        .map(|rule| rule.name.as_str())
        .collect();
    let mut unknown = BTreeSet::new();
    let mut seen = 0;
    for (path, rules) in &loaded {
        for need in rules.needs() {
            let named = |m: &&rules::labels::Matcher| m.name == NAME && m.op == MatchOp::Equal;
            let Some(name) = need.selector.matchers.iter().find(named).map(|m| m.value.clone()) else { continue };
            seen += 1;
            let known = golden.contains(name.as_str()) || recorded.contains(name.as_str()) || spelled(&name);
            if !known && !of_others(&name) {
                unknown.insert(format!("{}: {name}", path.rsplit("/config/").next().unwrap_or(path)));
            }
        }
    }
    assert!(seen > 100, "{seen} names");
    assert!(unknown.is_empty(), "nothing makes these; if somebody else does, OF_OTHERS says who: {unknown:#?}");
}
