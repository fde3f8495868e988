//! The SQLite sink on real files.

// A test that panics has said enough.
#![allow(clippy::unwrap_used)]

mod ledger;
mod retention;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use exporter::rows::{AlertRow, Batch, HostRow, JsonObject, LogRow, MetricRow, Origin, Record, Rows};
use exporter::sink::{Sink, SinkError};
use rusqlite::{Connection, types::Value as Sql};
use rustix::process::Signal;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use utilizer_exporter_sqlite::{Sqlite, SqliteConfig};
use wire::{Kind, Timestamp};

struct Fixture {
    path: PathBuf,
    sink: Sqlite,
    _folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("not/there/yet/utilizer.db");
        let sink = Sqlite::new(SqliteConfig::new(path.clone()));
        Self { path, sink, _folder: folder }
    }

    async fn open() -> Self {
        let mut fixture = Self::new();
        fixture.sink.open().await.unwrap();
        fixture
    }

    /// The rows of a query as text, by a connection of its own: another program's view.
    fn query(&self, sql: &str) -> Vec<String> {
        let connection = Connection::open(&self.path).unwrap();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let rows = statement.query_map([], |row| {
            let values = (0..columns).map(|i| match row.get_unwrap::<_, Sql>(i) {
                Sql::Null => String::new(),
                Sql::Integer(n) => n.to_string(),
                Sql::Real(n) => n.to_string(),
                Sql::Text(text) => text,
                Sql::Blob(_) => "blob".to_owned(),
            });
            Ok(values.collect::<Vec<_>>().join("|"))
        });
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    fn execute(&self, sql: &str) {
        Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

fn row(metric_name: &str, recorded_at: Timestamp) -> MetricRow {
    MetricRow {
        job_id: "host:web-01".into(),
        stage: "cpu".into(),
        metric_name: metric_name.to_owned(),
        metric_value: 12.5,
        metadata: None,
        recorded_at,
    }
}

/// It can be written for as long as it is open, and nobody finds what it gets.
#[tokio::test]
async fn a_file_that_is_removed_is_not_written_on() {
    let mut f = Fixture::open().await;
    let metrics = || metrics(vec![row("cpu_percent", now())]);
    f.sink.write(&metrics()).await.unwrap();
    std::fs::remove_file(&f.path).unwrap();
    for result in [f.sink.write(&metrics()).await.map(drop), f.sink.open().await] {
        let error = result.unwrap_err();
        assert!(matches!(error, SinkError::Fatal { .. }) && chain(&error).contains("was removed"), "{}", chain(&error));
    }
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn record(kind: Kind, rows: Rows) -> Record {
    let origin = Origin { host: "web-01".parse().unwrap(), kind, boot: None, seq: None };
    Record { origin, rows }
}

fn metrics(rows: Vec<MetricRow>) -> Batch {
    Batch { records: vec![record(Kind::Metrics, Rows::Metrics(rows))], ..Batch::default() }
}

fn log(time: Timestamp) -> LogRow {
    LogRow {
        timestamp: time,
        level: "FATAL",
        level_original: "CRITICAL".to_owned(),
        service_name: "api".to_owned(),
        message: "it's over".to_owned(),
        latency_ms: Some(0.5),
        host: "web-01".to_owned(),
        logger: String::new(),
        environment: String::new(),
        category: "security".to_owned(),
        trace_id: "t1".to_owned(),
        request_id: String::new(),
        fields: vec![("user".to_owned(), "me".to_owned())],
        event_id: "b-1-0".to_owned(),
    }
}

fn alert(time: Timestamp) -> AlertRow {
    AlertRow {
        time,
        host: "web-01".to_owned(),
        alert_name: "DiskFull".to_owned(),
        state: "firing",
        severity: String::new(),
        labels: object(json!({"alertname": "DiskFull"})),
        annotations: Map::new(),
        value: None,
        active_at: time,
        resolved_at: None,
        fingerprint: "ff".to_owned(),
        event_id: "b-1-0".to_owned(),
    }
}

fn chain(error: &SinkError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error}: {source}")
}

#[tokio::test]
async fn rows_of_every_kind_arrive_as_they_were_sent() {
    let mut f = Fixture::open().await;
    let time: Timestamp = "2026-11-21T22:30:10.123Z".parse().unwrap();
    let mut gauge = row("cpu_percent", time);
    gauge.metadata = Some(JsonObject::from(&object(json!({"host": "web-01", "quote": "\" ü 🦀"}))));
    let (log, alert) = (log(time), alert(time));
    let batch = Batch {
        records: vec![
            record(Kind::Metrics, Rows::Metrics(vec![gauge])),
            record(Kind::Logs, Rows::Logs(vec![log].into())),
            record(Kind::Alerts, Rows::Alert(Box::new(alert))),
        ],
        ..Batch::default()
    };
    f.sink.write(&batch).await.unwrap();
    assert_eq!(
        f.query("SELECT job_id, metric_value, metadata ->> 'quote', recorded_at, strftime('%s', recorded_at) FROM recap_system_metrics"),
        ["host:web-01|12.5|\" ü 🦀|2026-11-21T22:30:10.123Z|1795300210"]
    );
    assert_eq!(
        f.query("SELECT level, level_original, message, latency_ms, fields ->> 'user', event_id FROM logs"),
        ["FATAL|CRITICAL|it's over|0.5|me|b-1-0"]
    );
    assert_eq!(f.query("SELECT alert_name, labels ->> 'alertname', value FROM alerts"), ["DiskFull|DiskFull|"]);
}

#[tokio::test]
async fn migrating_again_changes_nothing_and_what_was_written_stays() {
    let mut f = Fixture::new();
    assert_eq!(f.sink.migrate().await.unwrap(), 2);
    f.sink.write(&metrics(vec![row("one", now())])).await.unwrap();
    assert_eq!(f.sink.migrate().await.unwrap(), 0);
    let mut again = Sqlite::new(SqliteConfig::new(f.path.clone()));
    again.open().await.unwrap();
    again.write(&metrics(vec![row("two", now())])).await.unwrap();
    assert_eq!(f.query("SELECT count(*) FROM recap_system_metrics"), ["2"]);
    assert_eq!(f.query("PRAGMA journal_mode"), ["wal"]);
}

#[tokio::test]
async fn times_far_away_are_kept() {
    let mut f = Fixture::open().await;
    let times = ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2099-01-01T00:00:00Z"];
    f.sink.write(&metrics(times.map(|time| row("far", time.parse().unwrap())).to_vec())).await.unwrap();
    assert_eq!(
        f.query("SELECT strftime('%Y', recorded_at) FROM recap_system_metrics ORDER BY recorded_at"),
        ["0001", "1970", "2099"]
    );
}

#[tokio::test]
async fn a_refused_row_is_poison_and_nothing_of_its_batch_stays() {
    let mut f = Fixture::open().await;
    let mut long = row("long", now());
    long.job_id = "x".repeat(101).into();
    let mut nan = row("nan", now());
    // SQLite stores NaN as NULL, which the column refuses.
    nan.metric_value = f64::NAN;
    for bad in [long, nan] {
        let error = f.sink.write(&metrics(vec![row("ok", now()), bad])).await.unwrap_err();
        assert!(matches!(error, SinkError::Poison { .. }), "{}", chain(&error));
        assert_eq!(f.query("SELECT count(*) FROM recap_system_metrics"), ["0"]);
    }
    f.sink.write(&metrics(vec![row("ok", now())])).await.unwrap();
}

#[tokio::test]
async fn hosts_are_upserted_and_a_last_will_keeps_the_inventory() {
    let mut f = Fixture::open().await;
    let mut host = HostRow {
        host: "web-01".to_owned(),
        state: "online",
        version: "0.1.0".to_owned(),
        boot: "boot-1".parse().unwrap(),
        interval_seconds: Some(10.0),
        inventory: Some(object(json!({"os": "Debian"}))),
        seen_at: now(),
        retained: false,
    };
    f.sink.upsert_hosts(std::slice::from_ref(&host)).await.unwrap();
    host.state = "offline";
    host.interval_seconds = None;
    host.inventory = None;
    f.sink.upsert_hosts(std::slice::from_ref(&host)).await.unwrap();
    assert_eq!(
        f.query("SELECT host, state, interval_seconds, inventory ->> 'os' FROM hosts"),
        ["web-01|offline|10|Debian"]
    );
}

#[tokio::test]
async fn a_state_that_the_broker_repeats_moves_seen_at_neither_on_nor_back() {
    let mut f = Fixture::open().await;
    let mut host = HostRow {
        host: "web-01".to_owned(),
        state: "online",
        version: "0.1.0".to_owned(),
        boot: "boot-1".parse().unwrap(),
        interval_seconds: None,
        inventory: None,
        seen_at: "2026-11-14T22:30:00Z".parse().unwrap(),
        retained: true,
    };
    let seen_at = |f: &Fixture| f.query("SELECT strftime('%Y-%m-%d %H:%M', seen_at) FROM hosts").concat();
    f.sink.upsert_hosts(std::slice::from_ref(&host)).await.unwrap();
    assert_eq!(seen_at(&f), "2026-11-14 22:30");
    for (retained, time, seen) in [
        (false, "2026-11-15T22:30:00Z", "2026-11-15 22:30"),
        (true, "2026-11-14T22:30:00Z", "2026-11-15 22:30"),
        (true, "2026-11-16T22:30:00Z", "2026-11-16 22:30"),
        // A clock of ours that was wrong once is put right by the next sign of the host.
        (false, "2026-11-13T22:30:00Z", "2026-11-13 22:30"),
    ] {
        (host.retained, host.seen_at) = (retained, time.parse().unwrap());
        f.sink.upsert_hosts(std::slice::from_ref(&host)).await.unwrap();
        assert_eq!(seen_at(&f), seen, "{retained} {time}");
    }
}

#[tokio::test]
async fn files_that_are_not_ours_are_left_alone() {
    let f = Fixture::new();
    fs::create_dir_all(f.path.parent().unwrap()).unwrap();
    fs::write(
        &f.path,
        "a letter to my aunt, which is longer than any header of a file of SQLite might ever be, I hope so",
    )
    .unwrap();
    let error = Sqlite::new(SqliteConfig::new(f.path.clone())).open().await.unwrap_err();
    assert!(matches!(error, SinkError::Fatal { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("move it away") && chain(&error).contains("utilizer.db"), "{}", chain(&error));

    fs::remove_file(&f.path).unwrap();
    f.execute("CREATE TABLE bookmarks (url TEXT)");
    let before = fs::read(&f.path).unwrap();
    let error = Sqlite::new(SqliteConfig::new(f.path.clone())).open().await.unwrap_err();
    assert!(matches!(error, SinkError::Fatal { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("another program's tables"), "{}", chain(&error));
    assert_eq!(fs::read(&f.path).unwrap(), before);
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let f = Fixture::open().await;
    f.execute("INSERT INTO utilizer_schema_migrations (version, name) VALUES (1000, 'from_the_future')");
    let error = Sqlite::new(SqliteConfig::new(f.path.clone())).open().await.unwrap_err();
    assert!(matches!(error, SinkError::Fatal { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("install the newer one"), "{}", chain(&error));
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_fatal_and_named() {
    let mut sink = Sqlite::new(SqliteConfig::new("/dev/null/utilizer.db"));
    let error = sink.open().await.unwrap_err();
    assert!(matches!(error, SinkError::Fatal { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("/dev/null"), "{}", chain(&error));
}

/// The pages of the tier before once kept their port into the next one's start, which ended the program. A process of
/// its own, since tests that start programs lend them their ports for a moment.
#[test]
fn the_program_survives_reloads_on_its_port() {
    let broker = test_servers::Mosquitto::start("");
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    let environment = [
        ("UTILIZER_EXPORTER_SQLITE__MQTT__URL", broker.url()),
        ("UTILIZER_EXPORTER_SQLITE__STATE_DIR", path.to_owned()),
        ("UTILIZER_EXPORTER_SQLITE__SQLITE__PATH", format!("{path}/utilizer.db")),
        ("UTILIZER_EXPORTER_SQLITE__SERVE__LISTEN", format!("127.0.0.1:{}", test_servers::free_port())),
    ];
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let program = Path::new(env!("CARGO_BIN_EXE_utilizer-exporter-sqlite"));
    let mut program = test_servers::Program::start::<&str>(program, &[], &environment);
    program.ready();
    for reloads in 1..=5 {
        program.signal(Signal::HUP);
        program.wait_for("it reloads", |program| {
            (program.log().matches("reloaded the configuration").count() == reloads).then_some(())
        });
        program.ready();
    }
    program.stop();
}
