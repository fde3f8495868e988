//! What every board, panel and variable has.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Board, boards, string};

/// Kinds of panels that Grafana 11 and 12 have; `graph` and `singlestat` are gone.
const PANELS: &[&str] =
    &["timeseries", "stat", "gauge", "bargauge", "piechart", "table", "state-timeline", "heatmap", "logs"];

/// What a data source's variable is called, by its kind.
const SOURCES: &[(&str, &str)] = &[
    ("prometheus", "prometheus"),
    ("postgres", "grafana-postgresql-datasource"),
    ("clickhouse", "grafana-clickhouse-datasource"),
];

fn is_source(json: &Value, board: &Board) -> bool {
    SOURCES.iter().any(|(name, kind)| {
        json["type"] == *kind
            && json["uid"] == format!("${{{name}}}")
            && board.variables().iter().any(|v| v["type"] == "datasource" && v["name"] == *name && v["query"] == *kind)
    })
}

#[test]
fn boards_and_their_panels_are_whole() {
    let mut faults = Vec::new();
    let mut uids: BTreeMap<String, String> = BTreeMap::new();
    let mut titles = BTreeSet::new();
    for board in boards() {
        let mut fault = |text: String| faults.push(format!("{}: {text}", board.file));
        let uid = string(&board.json, "uid").to_owned();
        if uid.is_empty() || uid.len() > 40 || !board.file.ends_with(&format!("/{uid}.json")) {
            fault(format!("the uid {uid:?} is not the file's name"));
        }
        if let Some(other) = uids.insert(uid, board.file.clone()) {
            fault(format!("has the uid of {other}"));
        }
        let folder = board.file.split('/').next().unwrap_or_default().to_owned();
        if !titles.insert((folder, string(&board.json, "title").to_owned())) {
            fault("has the title of another board in its folder".to_owned());
        }
        for key in ["title", "description", "refresh", "timezone"] {
            if string(&board.json, key).is_empty() {
                fault(format!("has no {key}"));
            }
        }
        if board.json["schemaVersion"].as_u64().is_none_or(|version| version < 39) {
            fault("has the form of an old Grafana".to_owned());
        }
        if !board.list("/tags").contains(&"utilizer".into()) || board.list("/links").is_empty() {
            fault("is not linked with the other boards".to_owned());
        }
        let mut ids = BTreeSet::new();
        let mut taken: BTreeMap<(u64, u64), &str> = BTreeMap::new();
        let mut names: BTreeSet<(&str, &str)> = BTreeSet::new();
        let mut row = "";
        for panel in board.list("/panels") {
            let title = string(panel, "title");
            if !ids.insert(panel["id"].as_u64()) {
                fault(format!("{title}: another panel has its id"));
            }
            let place = |key: &str| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX);
            let (x, y, w, h) = (place("x"), place("y"), place("w"), place("h"));
            if w == 0 || h == 0 || x.saturating_add(w) > 24 || h > 30 || y > 1000 {
                fault(format!("{title}: is outside the grid"));
                continue;
            }
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                if let Some(other) = taken.insert(cell, title) {
                    fault(format!("{title}: lies over {other}"));
                    break;
                }
            }
            if panel["type"] == "row" {
                row = title;
                continue;
            }
            if title.is_empty() || !names.insert((row, title)) {
                fault(format!("{row}: two panels are called {title:?}"));
            }
            let kind = string(panel, "type");
            if !PANELS.contains(&kind) {
                fault(format!("{title}: {kind} is no panel of today"));
            }
            if string(&panel["fieldConfig"]["defaults"], "unit").is_empty() {
                fault(format!("{title}: has no unit"));
            }
            let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
            let letters: BTreeSet<_> = targets.iter().map(|target| string(target, "refId")).collect();
            if targets.is_empty() || letters.len() != targets.len() || letters.contains("") {
                fault(format!("{title}: its queries have no names of their own"));
            }
            for target in [panel].into_iter().chain(targets) {
                if !is_source(&target["datasource"], &board) {
                    fault(format!("{title}: takes no data source from a variable: {}", target["datasource"]));
                }
            }
        }
        let mut variables = BTreeSet::new();
        for variable in board.variables() {
            let name = string(variable, "name");
            if !variables.insert(name) || string(variable, "label").is_empty() {
                fault(format!("the variable {name} is there twice, or without a label"));
            }
            if variable["type"] == "query" && !is_source(&variable["datasource"], &board) {
                fault(format!("the variable {name} takes no data source from a variable"));
            }
            let text = board.json.to_string();
            let used = [format!("${{{name}}}"), format!("${{{name}:"), format!("${name}")];
            if !used.iter().any(|form| text.contains(form)) {
                fault(format!("nothing uses the variable {name}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
