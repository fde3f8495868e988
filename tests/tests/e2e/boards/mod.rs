//! Grafana's boards: what their files are, and that each of their queries finds something in the real stores.
//!
//! No Grafana runs here. Variables and macros are filled in as Grafana and its data sources do.

mod fill;
mod prometheus;
mod shape;
mod stores;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use test_servers::workspace;

use fill::Choices;

/// A dashboard, by its file.
struct Board {
    file: String,
    json: Value,
}

/// A query of a panel.
struct Query<'a> {
    /// For messages: the board's file and the panel's title.
    place: String,
    json: &'a Value,
}

fn boards() -> Vec<Board> {
    let root = workspace().join("config/grafana/dashboards");
    let mut boards: Vec<_> = files(&root)
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            Board { file: path.strip_prefix(&root).unwrap().display().to_string(), json }
        })
        .collect();
    boards.sort_by(|a, b| a.file.cmp(&b.file));
    assert!(!boards.is_empty(), "no dashboards in {}", root.display());
    boards
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

impl Board {
    fn list(&self, pointer: &str) -> &[Value] {
        self.json.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn panels(&self) -> impl Iterator<Item = &Value> {
        self.list("/panels").iter().filter(|panel| panel["type"] != "row")
    }

    fn variables(&self) -> &[Value] {
        self.list("/templating/list")
    }

    /// The queries to data sources of this kind.
    fn queries(&self, kind: &str) -> Vec<Query<'_>> {
        let mut found = Vec::new();
        for panel in self.panels() {
            for json in panel["targets"].as_array().into_iter().flatten() {
                if json["datasource"]["type"] == kind {
                    found.push(Query { place: format!("{}: {}", self.file, string(panel, "title")), json });
                }
            }
        }
        found
    }

    /// What the reader can choose: everything, and one of each. `ask` gives the values of a variable's query.
    fn choices(&self, kind: &str, ask: impl Fn(&str, &str) -> Vec<String>) -> [Choices; 2] {
        let (mut all, mut one) = (Choices::default(), Choices::default());
        for variable in self.variables() {
            let name = string(variable, "name");
            match string(variable, "type") {
                "textbox" => {
                    all.set(name, &[""]);
                    // Texts and trace ids of the lines have it at their beginnings.
                    one.set(name, &["t"]);
                }
                "query" if variable["datasource"]["type"] == kind => {
                    let place = format!("{}: the variable {name}", self.file);
                    let values = ask(&place, variable_query(variable));
                    assert!(!values.is_empty(), "{place} has no values");
                    let chosen = values.iter().find(|value| *value == "ERROR").or(values.first()).unwrap();
                    one.set(name, &[chosen]);
                    match variable["multi"] == true {
                        true => all.set_all(name, &values),
                        false => all.set(name, &[chosen]),
                    }
                }
                _ => {}
            }
        }
        [all, one]
    }
}

fn variable_query(variable: &Value) -> &str {
    let query = &variable["query"];
    query.as_str().unwrap_or_else(|| string(query, "query"))
}

fn string<'a>(json: &'a Value, key: &str) -> &'a str {
    json[key].as_str().unwrap_or_default()
}

#[test]
fn the_files_are_what_their_definitions_make() {
    let tool = workspace().join("tools/boards");
    let output = Command::new("python3").arg(tool).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn links_lead_to_boards_and_choose_their_variables() {
    let boards = boards();
    let uids: BTreeSet<_> = boards.iter().map(|board| string(&board.json, "uid")).collect();
    let mut links = 0;
    for board in &boards {
        let text = board.json.to_string();
        for (at, _) in text.match_indices("\"/d/") {
            let link = text[at + 4..].split('"').next().unwrap();
            let (uid, query) = link.split_once('?').unwrap();
            assert!(uids.contains(uid), "{}: no board has the uid {uid}", board.file);
            let target = boards.iter().find(|board| board.json["uid"] == uid).unwrap();
            for name in query.split('&').filter_map(|part| part.strip_prefix("var-")?.split('=').next()) {
                let known = target.variables().iter().any(|variable| variable["name"] == name);
                assert!(known, "{}: {uid} has no variable {name}", board.file);
            }
            links += 1;
        }
    }
    assert!(links > 0, "no link was found");
}

#[test]
fn provisioned_sources_are_those_of_the_boards_and_hold_no_secret() {
    let sources = fs::read_to_string(workspace().join("config/grafana/provisioning/datasources/utilizer.yml")).unwrap();
    let values = |key: &str| -> BTreeSet<String> {
        sources.lines().filter_map(|line| Some(line.trim().strip_prefix(key)?.trim().to_owned())).collect()
    };
    let boards = boards();
    let used = boards.iter().flat_map(Board::variables).filter(|variable| variable["type"] == "datasource");
    let used: BTreeSet<_> = used.map(|variable| string(variable, "query").to_owned()).collect();
    assert_eq!(values("type:"), used);
    let passwords = values("password:");
    assert!(passwords.len() == 2 && passwords.iter().all(|password| password.starts_with("$__file{")), "{passwords:?}");
}
