//! An alert of the host's own rules is a row in every store.

use rusqlite::Connection;
use serde_json::{Value, json};

use super::site::{HOST, Site, clickhouse, postgres, wait_for};

const RULES: &str = "groups:
- name: g
  interval: 200ms
  rules:
  - alert: DiskHigh
    expr: t_used_ratio > 0.9
    labels: {severity: page}
    annotations: {summary: '{{ $labels.disk }} is {{ $value | humanizePercentage }} full'}
";

#[test]
fn a_rule_that_fires_and_resolves_is_two_rows_in_each_store() {
    let site = Site::new();
    let database = postgres().create_database();
    let store = site.path("metrics.db");
    let _exporters = [
        site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter("a", &postgres().url(&database))),
        site.start_ready("utilizer-exporter-clickhouse", &site.clickhouse_exporter()),
        site.start_ready("utilizer-exporter-sqlite", &site.sqlite_exporter(&store)),
    ];
    let textfiles = site.path("textfiles");
    std::fs::create_dir(&textfiles).unwrap();
    let used = |share: &str| {
        let unfinished = site.path("unfinished");
        std::fs::write(&unfinished, format!("t_used_ratio{{disk=\"sda\"}} {share}\n")).unwrap();
        std::fs::rename(unfinished, format!("{textfiles}/used.prom")).unwrap();
    };
    used("0.95");
    let rules = site.path("disk.yml");
    std::fs::write(&rules, RULES).unwrap();
    let file = site.agent().set("interval", "200ms").set("path.textfile", textfiles.as_str());
    let _agent = site.start_ready("utilizer-agent", &file.set("rules.files", vec![rules]));

    // All that is looked at, as one text in each store's own words.
    const COLUMNS: &str = "host, alert_name, state, severity, value, fingerprint";
    let in_postgres = || {
        let sql = format!(
            "SELECT json_build_array({COLUMNS}, labels, annotations, resolved_at IS NULL, active_at <= time) \
             FROM alerts ORDER BY state"
        );
        rows(&postgres().psql(&database, &sql))
    };
    let in_clickhouse = || {
        let sql = format!(
            "SELECT {COLUMNS}, labels, annotations, resolved_at IS NULL, active_at <= time FROM alerts ORDER BY state \
             FORMAT JSONCompactEachRow"
        );
        rows(&clickhouse().query(&site.clickhouse_database, &sql))
    };
    let in_sqlite = || {
        let sql = format!(
            "SELECT json_array({COLUMNS}, json(labels), json(annotations), resolved_at IS NULL, active_at <= time) \
             FROM alerts ORDER BY state"
        );
        let sqlite = Connection::open(&store).unwrap();
        let mut statement = sqlite.prepare(&sql).unwrap();
        let lines = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
        rows(&lines.map(Result::unwrap).collect::<Vec<_>>().join("\n"))
    };
    let all = [&in_postgres as &dyn Fn() -> Vec<Value>, &in_clickhouse, &in_sqlite];
    for rows in all {
        wait_for("the row of the alert that fires", || (rows().len() == 1).then_some(()));
    }
    used("0.1");
    let labels = json!({
        "alertname": "DiskHigh", "disk": "sda", "instance": HOST, "job": "node", "severity": "page",
    });
    for rows in all {
        let rows = wait_for("both rows", || Some(rows()).filter(|rows| rows.len() == 2));
        for (row, (state, open)) in rows.iter().zip([("firing", true), ("resolved", false)]) {
            assert_eq!(row.as_array().unwrap()[..4], [HOST, "DiskHigh", state, "page"].map(Value::from), "{row}");
            assert_eq!((&row[4], &row[6]), (&json!(0.95), &labels), "{row}");
            assert_eq!(row[7], json!({"summary": "sda is 95% full"}));
            // Not every store has a type for yes and no.
            assert_eq!([&row[8], &row[9]].map(|bit| *bit == json!(true) || *bit == json!(1)), [open, true], "{row}");
        }
        assert!(rows[0][5] == rows[1][5] && rows[0][5].as_str().unwrap().len() == 16, "{rows:?}");
    }
    let times = "SELECT bool_and(abs(extract(epoch FROM now() - time)) < 600) FROM alerts";
    assert_eq!(postgres().psql(&database, times), "t");
}

/// A JSON array a line.
fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}
