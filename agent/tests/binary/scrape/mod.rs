//! Scraping by the running agent: what it makes of real servers, of those that misbehave, and what rules and records get.

mod bad;
mod feeds;
mod pages;
mod reload;
mod same;

use std::collections::BTreeMap;

use serde_json::Value;
use tempfile::TempDir;
use test_servers::wait_for;

use super::support::{Agent, Setup};

/// A rule file that selects every series of jobs whose names begin with `app`, so that queries see all of them.
const ALL: &str = "- {name: g, rules: [{record: 'all:count', expr: 'count({job=~\"app.*\"})'}]}\n";

/// Files around an agent.
struct Files(TempDir);

impl Files {
    fn new(rules: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        std::fs::write(files.path("rules.yml"), format!("groups:\n{rules}")).unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    /// An agent without a broker that scrapes; `tables` is TOML.
    fn setup(&self, tables: &str) -> Setup {
        Setup::new()
            .set("rules.files", vec![self.path("rules.yml")])
            .set("rules.interval", "100ms")
            .set("scrape", tables_of(tables))
    }
}

/// The tables `[[scrape]]` of a TOML text.
fn tables_of(text: &str) -> toml::Value {
    let table: toml::Table = toml::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    table["scrape"].clone()
}

/// What a query of Prometheus' interface answers: values by series.
fn series(answer: &str) -> BTreeMap<String, f64> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer["status"], "success", "{answer}");
    let result = answer["data"]["result"].as_array().unwrap();
    let value = |one: &Value| one["value"][1].as_str().unwrap().parse().unwrap();
    result.iter().map(|one| (one["metric"].to_string(), value(one))).collect()
}

fn encoded(expression: &str) -> String {
    expression.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// Asks the agent.
fn query(agent: &Agent, expression: &str) -> BTreeMap<String, f64> {
    series(&agent.get(&format!("/api/v1/query?query={}", encoded(expression))).body)
}

/// Waits until an expression gives these values, in whatever order.
fn becomes(agent: &Agent, expression: &str, values: &[f64]) {
    wait_for(&format!("{expression} is {values:?}"), || {
        let mut found: Vec<f64> = query(agent, expression).into_values().collect();
        found.sort_by(f64::total_cmp);
        (found == values).then_some(())
    });
}
