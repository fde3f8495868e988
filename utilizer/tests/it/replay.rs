//! `utilizer check rules --replay`: what would have fired.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;
use test_servers::Postgres;
use wire::Timestamp;

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

const RULES: &str = r#"groups:
  - name: hosts
    rules:
      - {alert: DiskFull, expr: utilizer_disk_percent > 90, for: 5m, labels: {severity: warning}}
      - {alert: DiskFull, expr: utilizer_disk_percent > 99, labels: {severity: critical}}
      - {record: 'instance:load:max', expr: 'max_over_time(node_load1[5m])'}
      - {alert: Loaded, expr: 'instance:load:max{job="node"} > 3'}
      - {alert: Grouped, expr: 'count by (cluster) (node_load1{cluster!=""}) > 0'}
      - {alert: ClockOff, expr: node_timex_offset_seconds > 1}
      - {alert: Restless, expr: 'changes(node_load1[1m]) > 0'}
      - {alert: Gone, expr: absent(up)}
"#;

/// When the history begins.
const START: i64 = 1_700_006_400_000;
const MINUTE: i64 = 60_000;

fn time(minute: i64) -> Timestamp {
    Timestamp::from_millis(START + minute * MINUTE + 137)
}

/// Two hours of two hosts, a reading a minute. The disk of web-01 is nearly full from minute 30 to 50, its load high once, at
/// minute 80; web-02 was away from minute 60 to 90, with a disk that was nearly full before and after.
fn rows() -> String {
    let mut sql = "INSERT INTO recap_system_metrics (job_id, stage, metric_name, metric_value, metadata, recorded_at) \
                   VALUES ('import', 'load', 'node_load1', 9, '{\"host\": \"web-01\"}', '2023-11-14T23:00:00.000Z')"
        .to_owned();
    for (host, minute) in ["web-01", "web-02"].into_iter().flat_map(|host| (0..120).map(move |minute| (host, minute))) {
        let first = host == "web-01";
        if !first && (60..90).contains(&minute) {
            continue;
        }
        let disk = if if first { (30..50).contains(&minute) } else { (50..100).contains(&minute) } { 95 } else { 40 };
        let load = if first && minute == 80 { 4.5 } else { 0.5 };
        let metadata = format!(r#"{{"cluster": "eu", "host": "{host}"}}"#);
        let of_disk = format!(r#"{{"cluster": "eu", "host": "{host}", "mountpoint": "/"}}"#);
        for (stage, name, value, metadata) in [
            ("cpu", "cpu_percent", 12.5, &metadata),
            ("disk", "disk_percent", f64::from(disk), &of_disk),
            ("cpu", "node_load1", load, &metadata),
        ] {
            let time = time(minute);
            write!(sql, ", ('host:{host}', '{stage}', '{name}', {value}, '{metadata}', '{time}')").unwrap();
        }
    }
    sql
}

fn migration(store: &str) -> String {
    let file = format!("../exporter-{store}/migrations/0001_first_tables.sql");
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

/// Exit code, stdout and stderr.
fn replay(folder: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    replay_rules(folder, RULES, words)
}

fn replay_rules(folder: &Path, rules: &str, words: &[&str]) -> (Option<i32>, String, String) {
    std::fs::write(folder.join("r.yml"), rules).unwrap();
    let mut command = Command::new(UTILIZER);
    let output =
        command.args(["check", "rules", "r.yml", "--replay"]).args(words).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn sqlite() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let database = Connection::open(folder.path().join("h.db")).unwrap();
    database.execute_batch(&migration("sqlite")).unwrap();
    database.execute_batch(&rows()).unwrap();
    folder
}

/// The lines of a kind.
fn of<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

/// The minute of a time.
fn minute(time: &Value) -> f64 {
    let time: Timestamp = time.as_str().unwrap().parse().unwrap();
    (time.as_millis() - START) as f64 / MINUTE as f64
}

#[test]
fn alerts_fire_when_they_would_have() {
    let folder = sqlite();
    let (code, text, errors) = replay(folder.path(), &["2h", "--sqlite", "h.db", "--json"]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(code, Some(0), "{text}{errors}");
    let head = of(&lines, "history")[0];
    assert_eq!((&head["hosts"], &head["readings"], &head["outages"]), (&2.into(), &210.into(), &1.into()), "{head}");
    assert_eq!(head["seconds_between"], 60);

    let alerts = of(&lines, "alert");
    let summary: Vec<_> =
        alerts.iter().map(|a| (a["host"].as_str().unwrap(), a["labels"]["alertname"].as_str().unwrap())).collect();
    assert_eq!(summary, [("web-01", "DiskFull"), ("web-01", "Loaded"), ("web-02", "DiskFull")], "{text}");
    let between = |time: &Value, from: f64, to: f64| assert!((from..to).contains(&minute(time)), "{time}: {text}");
    // A group is evaluated each 10 s. `for` counts from the evaluation that saw it first.
    between(&alerts[0]["from"], 35.0, 35.4);
    between(&alerts[0]["to"], 50.0, 50.4);
    assert_eq!(alerts[0]["value"], 95.0);
    let labels = &alerts[0]["labels"];
    assert_eq!(
        (&labels["cluster"], &labels["instance"], &labels["mountpoint"]),
        (&"eu".into(), &"web-01".into(), &"/".into())
    );
    between(&alerts[1]["from"], 80.0, 80.4);
    between(&alerts[1]["to"], 85.0, 85.4);
    // While its agent was away nothing was resolved.
    between(&alerts[2]["from"], 55.0, 55.4);
    between(&alerts[2]["to"], 100.0, 100.4);

    let sums: Vec<_> = of(&lines, "sum").iter().map(|sum| (sum["alert"].clone(), sum["times"].clone())).collect();
    assert_eq!(sums, [("DiskFull".into(), 2.into()), ("Loaded".into(), 1.into())]);
    let quiet: Vec<_> = of(&lines, "quiet").iter().map(|line| line["alert"].as_str().unwrap()).collect();
    // The second DiskFull too.
    assert_eq!(quiet, ["DiskFull", "Gone"]);
    let doubts: Vec<_> = of(&lines, "doubt").iter().map(|line| format!("{}{}", line["rule"], line["why"])).collect();
    assert_eq!(
        doubts,
        [
            r#""Grouped"["no series node_load1{cluster!=\"\"}"]"#,
            r#""ClockOff"["no series node_timex_offset_seconds"]"#,
            r#""Restless"["[1m] does not always hold two readings"]"#,
        ]
    );
}

#[test]
fn people_get_a_table_and_may_choose_hosts_and_times() {
    let folder = sqlite();
    let words = ["10m", "--sqlite", "h.db", "--host", "*-01", "--at", &time(45).to_string()];
    let (code, text, errors) = replay(folder.path(), &words);
    assert_eq!(code, Some(0), "{errors}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("2023-11-15T00:35:00Z to 2023-11-15T00:45:00Z, 1 host of the SQLite file h.db: "),
        "{text}"
    );
    assert!(lines[2].starts_with("ALERT     HOST    FIRES FROM"), "{text}");
    assert!(lines[3].starts_with("DiskFull  web-01  2023-11-15T00:35:"), "{text}");
    assert!(
        lines[3].contains("  fires on  ")
            && lines[3].ends_with(r#"{cluster="eu", mountpoint="/", severity="warning"}"#),
        "{text}"
    );
    assert!(text.contains("\ndid not fire: "), "{text}");
    assert!(text.contains("\n  r.yml:9:9: ClockOff: no series node_timex_offset_seconds\n"), "{text}");
    for (words, part) in [
        (&["1h", "--sqlite", "none.db"][..], "can't read the SQLite file none.db: No such file"),
        (&["1h", "--sqlite", "r.yml"], "can't read history from the SQLite file r.yml"),
        (&["1h", "--sqlite", "h.db", "--host", "db-*"], "no history of such hosts"),
    ] {
        let (code, _, errors) = replay(folder.path(), words);
        assert!(code == Some(1) && errors.contains(part), "{errors}");
    }
    for words in [&["soon"][..], &["0s", "--sqlite", "h.db"], &["1h", "--test"]] {
        assert_eq!(replay(folder.path(), words).0, Some(2), "{words:?}");
    }
}

#[test]
fn rules_that_fail_are_told() {
    let folder = sqlite();
    let twice = r#"label_replace({__name__=~"node_load1|utilizer_cpu_percent"}, "__name__", "x", "", "")"#;
    let rules = format!("groups: [{{name: g, rules: [{{alert: A, expr: '{twice}'}}]}}]");
    let (code, text, _) = replay_rules(folder.path(), &rules, &["1h", "--sqlite", "h.db"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("\nr.yml: rule A of group g fails on web-01: "), "{text}");
    let (code, text, _) =
        replay_rules(folder.path(), &rules.replace("label_replace", "label"), &["1h", "--sqlite", "h.db"]);
    assert!(code == Some(1) && text.starts_with("r.yml:1:") && text.ends_with("1 fault in 1 file\n"), "{text}");
}

#[test]
fn postgres_gives_what_sqlite_gives() {
    let folder = sqlite();
    let server = Postgres::start();
    let database = server.create_database();
    server.psql(&database, &migration("postgres"));
    server.psql(&database, &rows());
    let (_, sqlite, _) = replay(folder.path(), &["90m", "--sqlite", "h.db"]);
    let (code, postgres, errors) = replay(folder.path(), &["90m", "--postgres", &server.url(&database)]);
    assert_eq!(code, Some(0), "{errors}");
    let below = |text: &str| text.split_once('\n').unwrap().1.to_owned();
    assert_eq!(below(&postgres), below(&sqlite));
    assert!(postgres.contains(&format!("of the PostgreSQL database {database}: ")), "{postgres}");
    let (code, _, errors) = replay(folder.path(), &["90m", "--postgres", &server.url("none")]);
    assert!(code == Some(1) && errors.contains("none") && !errors.contains(server.password()), "{errors}");
}
