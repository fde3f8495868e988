//! From rows back to the series that the agent's rules see.

use std::collections::BTreeSet;

use rules::Rules;
use rules::labels::MatchOp;
use rules::sample::NAME;
use serde_json::{Map, Value as Json};
use utilizer_agent::gauges;
use wire::Stage;

use super::history::Row;

/// Gauges without labels of their own: what their rows have as labels, all rows of that reading have.
const PLAIN: [&str; 5] = ["cpu_percent", "memory_percent", "memory_used_bytes", "memory_total_bytes", "load1"];

/// How rows of processes begin on `/metrics`.
const PROCESS: &str = "utilizer_process_";

/// A label's name and value.
pub(super) type Pair = (String, String);

/// A sample of a host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    /// The family, as it is on `/metrics`.
    pub(super) name: String,
    /// Without `job` and `instance`.
    pub(super) labels: Vec<Pair>,
    /// In the unit that the name ends with.
    pub(super) value: f64,
}

/// All samples of one moment.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Sorted by name, when it is finished.
    pub(super) samples: Vec<Sample>,
    /// The host's external labels, if this reading tells them.
    pub(super) external: Option<Vec<Pair>>,
}

impl Reading {
    /// Takes up a row. `false`: it is none of the host's own.
    pub(super) fn add(&mut self, host: &str, row: Row<'_>) -> bool {
        let metadata: Option<Map<String, Json>> = row.metadata.and_then(|text| serde_json::from_str(text).ok());
        let metadata = metadata.unwrap_or_default();
        // A job may call itself as it likes; the exporter wrote who passed it on.
        if metadata.get("host").is_some_and(|by| by != host) {
            return false;
        }
        let process = row.stage == Stage::Process.as_str() && metadata.contains_key("pid");
        let name = match gauges::exposed_name(row.name) {
            _ if process => format!("{PROCESS}{}", row.name),
            Some(exposed) => exposed.to_owned(),
            None => row.name.to_owned(),
        };
        let labels = labels(metadata);
        if !process && self.external.is_none() && PLAIN.contains(&row.name) {
            self.external = Some(labels.clone());
        }
        self.samples.push(Sample { name, labels, value: row.value });
        true
    }

    /// Takes off the external labels, which the agent's rules do not see, and puts families together.
    pub(super) fn finish(&mut self, external: &[Pair]) {
        for sample in &mut self.samples {
            sample.labels.retain(|pair| !external.contains(pair));
        }
        self.samples.sort_by(|a, b| a.name.cmp(&b.name));
    }
}

/// The labels that a row's metadata came from.
fn labels(mut metadata: Map<String, Json>) -> Vec<Pair> {
    metadata.remove("host");
    metadata.remove("original_time");
    // A label `host` had to move aside for ours.
    if let Some(theirs) = metadata.remove("exported_host") {
        metadata.insert("host".to_owned(), theirs);
    }
    let text = |value: Json| match value {
        Json::String(text) => text,
        other => other.to_string(),
    };
    metadata.into_iter().map(|(name, value)| (name, text(value))).collect()
}

/// The names that rows can have which rules look at. `None`: any, since a selector names no metric.
pub(super) fn names(rules: &Rules) -> Option<Vec<String>> {
    let mut names: BTreeSet<String> = PLAIN.iter().map(|name| (*name).to_owned()).collect();
    for need in rules.needs() {
        let named = |op, name: &str, value: &str| op == MatchOp::Equal && name == NAME && !value.is_empty();
        let name = need.selector.matchers.iter().find(|m| named(m.op, &m.name, &m.value)).map(|m| &m.value)?;
        for prefix in [PROCESS, "utilizer_"] {
            names.extend(name.strip_prefix(prefix).map(str::to_owned));
        }
        names.insert(name.clone());
    }
    Some(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(stage: &'a str, name: &'a str, metadata: &'a str) -> Row<'a> {
        Row { time: 0, stage, name, value: 1.0, metadata: Some(metadata) }
    }

    #[test]
    fn rows_become_what_the_agent_had() {
        let mut reading = Reading::default();
        assert!(!reading.add("a", row("cpu", "cpu_percent", r#"{"host":"b"}"#)), "another passed it on");
        for (stage, name, metadata) in [
            ("process", "cpu_percent", r#"{"host":"a","cluster":"eu","pid":7,"name":"x"}"#),
            ("cpu", "cpu_percent", r#"{"host":"a","cluster":"eu","original_time":"2026-01-31T12:00:00Z"}"#),
            ("disk", "disk_percent", r#"{"host":"a","cluster":"eu","mountpoint":"/"}"#),
            ("system", "app_up", r#"{"host":"a","exported_host":"theirs","cluster":"us"}"#),
        ] {
            assert!(reading.add("a", row(stage, name, metadata)));
        }
        let external = reading.external.clone().unwrap();
        assert_eq!(external, [("cluster".to_owned(), "eu".to_owned())]);
        reading.finish(&external);
        let shown = |sample: &Sample| format!("{} {:?}", sample.name, sample.labels);
        assert_eq!(
            reading.samples.iter().map(shown).collect::<Vec<_>>(),
            [
                r#"app_up [("cluster", "us"), ("host", "theirs")]"#,
                "utilizer_cpu_percent []",
                r#"utilizer_disk_percent [("mountpoint", "/")]"#,
                r#"utilizer_process_cpu_percent [("name", "x"), ("pid", "7")]"#,
            ]
        );
    }

    #[test]
    fn rows_are_asked_for_by_their_own_names() {
        let rules = |expr: &str| {
            let text = format!("groups: [{{name: g, rules: [{{record: r, expr: '{expr}'}}]}}]");
            Rules::load(&[("f", text)]).unwrap()
        };
        let found = names(&rules("utilizer_disk_percent > utilizer_process_memory_percent + node_load1")).unwrap();
        for name in ["disk_percent", "memory_percent", "node_load1", "load1"] {
            assert!(found.iter().any(|found| found == name), "{name}: {found:?}");
        }
        assert_eq!(names(&rules("{job=\"node\"}")), None);
    }
}
